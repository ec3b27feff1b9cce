"""Reading tokens onto what was read before: by slot where the model allows it, else with transformers' own cache.

Which of the four is right for a model, `models.trust` finds out; they stand from the fastest to the most patient.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unisd.fast.segments import segments_suit
from unisd.fast.slots import Slots, attention_by_slot, slots_suit
from unisd.models.head import output_head
from unisd.models.load import base_model
from unisd.models.packed import (
    PackedSequence,
    decoder_of,
    final_states,
    head_reads,
    pack_sequences,
    predicting_states,
    run,
    shared_row,
)
from unisd.models.padded import right_padded
from unisd.objective.head import logits

_ROW_TOKENS = 1024


class SlotReader:
    """Reads the sequences of a batch token by token, or a few tokens at a time.

    Args:
        model: a causal language model (PEFT or plain) in evaluation mode; its weights must not change between reads.
    """

    pads = True
    """Whether rows stand beside tokens that are not theirs."""

    @staticmethod
    def suits(model: nn.Module) -> bool:
        """Return whether it is for models of this kind."""
        head = getattr(base_model(model), "get_output_embeddings", lambda: None)()
        return slots_suit(decoder_of(model)) and not hasattr(head, "base_layer")

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self._slots = Slots(0)

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the prompts; return the logits ``[B, V]`` that follow each, fp32."""
        self._slots = Slots(len(prompts))
        begin = self._begin_packed if segments_suit(decoder_of(self.model)) else self._begin_padded
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

            last |= dict(zip(chosen, predicting_states(self.model, row, True, keep), strict=True))
        return torch.stack([last[i] for i in range(len(prompts))])

    def _begin_padded(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        width = max(len(prompt) for prompt in prompts)
        # What follows a shorter prompt lands in slots that its continuation will write over, and is not seen before.
        ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=self.device)
        positions = torch.arange(width, device=self.device).expand_as(ids)
        with attention_by_slot(decoder_of(self.model), self._slots, positions, width) as more:
            hidden = final_states(self.model, ids, position_ids=positions, **more)
        ends = torch.tensor([len(prompt) - 1 for prompt in prompts], device=self.device)
        return hidden[torch.arange(len(prompts), device=self.device), ends]

    def read(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Read ``ids`` ``[B, M]`` at ``positions`` ``[B, M]``, consecutive per row; return logits ``[B, M, V]``, fp32.

        Positions lie on the CPU. Whatever a row had at the same or later ones is forgotten.
        """
        at, length = positions.to(self.device), int(positions.max()) + 1
        with attention_by_slot(decoder_of(self.model), self._slots, at, length) as more:
            return _read(self.model, ids, lambda states: states, position_ids=at, use_cache=False, **more)[0]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch alone, in this order."""
        self._slots.keep(torch.tensor(list(rows), device=self.device))


class PaddedReader:
    """Reads the sequences of a batch token by token, prompts padded on the left."""

    pads = True
    """Whether rows stand beside tokens that are not theirs."""

    @staticmethod
    def suits(model: nn.Module) -> bool:
        """Return whether it is for models of this kind."""
        return True

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
        return self._run(ids, positions.to(self.device))

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch alone, in this order."""
        chosen = torch.tensor(list(rows), device=self.device)
        self._cache.reorder_cache(chosen)
        self._mask = self._mask[chosen]

    def _run(self, ids: Tensor, positions: Tensor) -> Tensor:
        more = {"attention_mask": self._mask.long(), "position_ids": positions, "past_key_values": self._cache}
        return _read(self.model, ids, _last, use_cache=True, **more)[0]


class EqualReader:
    """Reads prompts of equal length together, without padding, and goes on from whatever cache the model makes."""

    pads = False
    """Whether rows stand beside tokens that are not theirs."""
    together = True
    """Whether rows share a cache at all."""

    @staticmethod
    def suits(model: nn.Module) -> bool:
        """Return whether it is for models of this kind."""
        return True

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model
        self.device = next(model.parameters()).device
        self._groups: list[tuple[list[int], dict[str, Any]]] = []
        """Rows of the batch, and the cache that they share."""

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the prompts; return the logits ``[B, V]`` that follow each, fp32."""
        groups: dict[int, list[int]] = {}
        for row, prompt in enumerate(prompts):
            groups.setdefault(len(prompt) if self.together else row, []).append(row)
        self._groups = [(rows, {}) for rows in groups.values()]
        return self._run([torch.tensor([list(prompts[row]) for row in rows]) for rows, _ in self._groups])[:, -1]

    def read(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Read the next token of each row, ``[B, 1]``; return logits ``[B, 1, V]``, fp32."""
        return self._run([ids[rows] for rows, _ in self._groups])

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch alone, in this order."""
        place = {row: number for number, row in enumerate(rows)}
        groups = []
        for group, cache in self._groups:
            staying = [at for at, row in enumerate(group) if row in place]
            if staying:
                index = torch.tensor(staying, device=self.device)
                kept = {name: selected(value, index) for name, value in cache.items()}
                groups.append(([place[group[at]] for at in staying], kept))
        self._groups = groups

    def _run(self, parts: Sequence[Tensor]) -> Tensor:
        scores: dict[int, Tensor] = {}
        for number, (part, (rows, cache)) in enumerate(zip(parts, self._groups, strict=True)):
            found, output = _read(self.model, part.to(self.device), _last, use_cache=True, **cache)
            name = next(name for name in _CACHES if output.get(name) is not None)
            self._groups[number] = (rows, {name: output[name]})
            scores |= dict(zip(rows, found, strict=True))
        return torch.stack([scores[row] for row in range(len(scores))])


class SingleReader(EqualReader):
    """Reads each row by itself, for caches that know no batch."""

    together = False


_CACHES = ("past_key_values", "cache_params", "state")
"""What families call what they remember, in their input and output alike."""


def selected(cache: Any, rows: Tensor) -> Any:
    """Return a cache with these rows of the batch alone: transformers' own, or tensors whose first dimension it is."""
    if isinstance(cache, Tensor):
        return cache[rows]
    if isinstance(cache, list | tuple):
        return type(cache)(selected(part, rows) for part in cache)
    if cache is not None:
        # The one selection that layers with a recurrent state know, too.
        cache.reorder_cache(rows)
    return cache


class WholeReader:
    """Reads everything again for each token, without a cache: slow, and right for whatever reads from left to right."""

    pads = True
    """Whether rows stand beside tokens that are not theirs."""

    @staticmethod
    def suits(model: nn.Module) -> bool:
        """Return whether it is for models of this kind."""
        return True

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self._sequences: list[list[int]] = []

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the prompts; return the logits ``[B, V]`` that follow each, fp32."""
        self._sequences = [list(prompt) for prompt in prompts]
        return self._run()[:, 0]

    def read(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Read the next token of each row, ``[B, 1]``; return logits ``[B, 1, V]``, fp32."""
        for sequence, more in zip(self._sequences, ids.tolist(), strict=True):
            sequence += more
        return self._run()

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch alone, in this order."""
        self._sequences = [self._sequences[row] for row in rows]

    def _run(self) -> Tensor:
        ids = right_padded(self._sequences, self.device)
        ends = torch.tensor([len(sequence) - ids.shape[1] - 1 for sequence in self._sequences], device=self.device)
        rows = torch.arange(len(ids), device=self.device)
        select = lambda states: states[rows, states.shape[1] + ends][:, None]  # noqa: E731
        return _read(self.model, ids, select, use_cache=False)[0]


Reader = SlotReader | PaddedReader | EqualReader | WholeReader


def _last(states: Tensor) -> Tensor:
    return states[:, -1:]


def _read(model: nn.Module, ids: Tensor, select: Callable[[Tensor], Tensor], **more: Any) -> tuple[Tensor, Any]:
    """Read ids ``[B, L]``; return the logits ``[B, M, V]``, fp32, of the states that are selected, and the output.

    A head of half precision would round the logits, and two tokens that are nearly as likely could change places: its
    product is then made here, in single precision, and the model's own is left out.
    """
    layer = base_model(model).get_output_embeddings()  # type: ignore[operator]
    rounds = layer.weight.dtype in (torch.bfloat16, torch.float16) and not hasattr(layer, "base_layer")
    with head_reads(model, (lambda states: states[:, :0]) if rounds else select) as caught:
        output = run(model, ids, **more)
    if not rounds:
        return output.logits.float(), output
    states = select(caught[-1])
    return logits(states.flatten(0, 1), output_head(model)).unflatten(0, states.shape[:2]), output
