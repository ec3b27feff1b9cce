"""Reading tokens onto what was read before: by slot where the model allows it, else with transformers' own cache."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unisd.fast.slots import Slots, attention_by_slot, slots_suit
from unisd.models.head import output_head
from unisd.models.load import base_model
from unisd.models.packed import (
    PackedSequence,
    decoder_of,
    final_states,
    pack_sequences,
    predicting_states,
    shared_row,
    shares,
)
from unisd.objective.head import logits

_ROW_TOKENS = 1024


def reader_of(model: nn.Module) -> "SlotReader | PaddedReader":
    """Return a reader for one batch.

    Args:
        model: a causal language model (PEFT or plain) in evaluation mode; its weights must not change between reads.
    """
    head = getattr(base_model(model), "get_output_embeddings", lambda: None)()
    by_slot = slots_suit(decoder_of(model)) and not hasattr(head, "base_layer")
    return SlotReader(model) if by_slot else PaddedReader(model)


class SlotReader:
    """Reads the sequences of a batch token by token, or a few tokens at a time; see :func:`reader_of`."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self._slots = Slots(0)

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the prompts; return the logits ``[B, V]`` that follow each, fp32."""
        self._slots = Slots(len(prompts))
        begin = self._begin_packed if shares(self.model) else self._begin_padded
        return logits(begin(prompts), output_head(self.model))

    def _begin_packed(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        width = max(len(prompt) for prompt in prompts)
        last: dict[int, Tensor] = {}
        sequences = [PackedSequence(prompt, prompt[-1:]) for prompt in prompts]
        for chosen in pack_sequences(sequences, _ROW_TOKENS, share=True):
            row = shared_row([sequences[i] for i in chosen])
            where = [torch.tensor(places, device=self.device) for places in row.places]

            def keep(
                layer: int, key: Tensor, value: Tensor, chosen: list[int] = chosen, where: list[Tensor] = where
            ) -> None:
                for kept, fresh in zip(self._slots.room(layer, (key, value), width), (key, value), strict=True):
                    for i, places in zip(chosen, where, strict=True):
                        kept[i, : len(places)] = fresh[0, :, places].transpose(0, 1)

            last |= dict(zip(chosen, predicting_states(self.model, row, keep), strict=True))
        return torch.stack([last[i] for i in range(len(prompts))])

    def _begin_padded(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        width = max(len(prompt) for prompt in prompts)
        # What follows a shorter prompt lands in slots that its continuation will write over, and is not seen before.
        ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=self.device)
        positions = torch.arange(width, device=self.device).expand_as(ids)
        with attention_by_slot(decoder_of(self.model), self._slots, positions) as more:
            hidden = final_states(self.model, ids, positions, **more)
        ends = torch.tensor([len(prompt) - 1 for prompt in prompts], device=self.device)
        return hidden[torch.arange(len(prompts), device=self.device), ends]

    def read(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Read ``ids`` ``[B, M]`` at ``positions`` ``[B, M]``, consecutive per row; return logits ``[B, M, V]``, fp32.

        Whatever a row had at the same or later positions is forgotten.
        """
        with attention_by_slot(decoder_of(self.model), self._slots, positions) as more:
            output = self.model(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=0, **more)
        scores: Tensor = output.logits.float()
        return scores

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch alone, in this order."""
        self._slots.keep(torch.tensor(list(rows), device=self.device))


class PaddedReader:
    """Reads the sequences of a batch token by token, prompts padded on the left; see :func:`reader_of`."""

    def __init__(self, model: nn.Module) -> None:
        from transformers import DynamicCache

        self.model: Any = model
        self.device = next(model.parameters()).device
        self._cache = DynamicCache(config=getattr(model, "config", None))
        self._mask = torch.empty(0)

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the prompts; return the logits ``[B, V]`` that follow each, fp32."""
        width = max(len(prompt) for prompt in prompts)
        padded = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        starts = torch.tensor([width - len(prompt) for prompt in prompts], device=self.device)
        columns = torch.arange(width, device=self.device)
        self._mask = columns >= starts[:, None]
        ids = torch.tensor(padded, device=self.device)
        return self._run(ids, (columns - starts[:, None]).clamp(min=0))[:, -1]

    def read(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Read the next token of each row, ``[B, 1]``, at its position; return logits ``[B, 1, V]``, fp32."""
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        return self._run(ids, positions)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch alone, in this order."""
        chosen = torch.tensor(list(rows), device=self.device)
        self._cache.batch_select_indices(chosen)
        self._mask = self._mask[chosen]

    def _run(self, ids: Tensor, positions: Tensor) -> Tensor:
        output = self.model(
            input_ids=ids,
            attention_mask=self._mask.long(),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        scores: Tensor = output.logits.float()
        return scores
