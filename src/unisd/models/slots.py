"""Reading tokens onto what was read before: a cache of keys and values whose slots are positions.

A token at position p of its sequence is kept in slot p, so sequences of different lengths need no padding between
prompt and continuation, and tokens that turn out to be wrong are taken back by writing over them.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from unisd.models.head import output_head
from unisd.models.load import base_model
from unisd.models.packed import PackedSequence, decoder_of, pack_sequences, predicting_states, shared_row, shares
from unisd.models.segments import attends_plainly
from unisd.objective.head import logits

NAME = "unisd_slots"
_ROW_TOKENS = 1024


def slots_suit(model: nn.Module) -> bool:
    """Return whether the model's layers are known to attend to keys and values of their own, and its head is plain."""
    head = getattr(base_model(model), "get_output_embeddings", lambda: None)()
    return attends_plainly(decoder_of(model)) and not hasattr(head, "base_layer")


class SlotReader:
    """Reads the sequences of a batch token by token, or a few tokens at a time.

    Args:
        model: a causal language model (PEFT or plain) in evaluation mode that :func:`slots_suit`; its weights must not
            change between reads.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self._rows = 0

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the prompts; return the logits ``[B, V]`` that follow each, fp32."""
        self._rows = len(prompts)
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
                for kept, fresh in zip(self._room(layer, (key, value), width), (key, value), strict=True):
                    for i, places in zip(chosen, where, strict=True):
                        kept[i, : len(places)] = fresh[0, :, places].transpose(0, 1)

            last |= dict(zip(chosen, predicting_states(self.model, row, keep), strict=True))
        return torch.stack([last[i] for i in range(len(prompts))])

    def _begin_padded(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        width = max(len(prompt) for prompt in prompts)
        # What follows a shorter prompt lands in slots that its continuation will write over, and is not seen before.
        ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=self.device)
        hidden = self._run(ids, torch.arange(width, device=self.device).expand_as(ids), head=False)
        ends = torch.tensor([len(prompt) - 1 for prompt in prompts], device=self.device)
        return hidden[torch.arange(len(prompts), device=self.device), ends]

    def read(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Read ``ids`` ``[B, M]`` at ``positions`` ``[B, M]``, consecutive per row; return logits ``[B, M, V]``, fp32.

        Whatever a row had at the same or later positions is forgotten.
        """
        return self._run(ids, positions).float()

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch alone, in this order."""
        chosen = torch.tensor(list(rows), device=self.device)
        self._layers = {layer: (k[chosen], v[chosen]) for layer, (k, v) in self._layers.items()}
        self._rows = len(rows)

    def _run(self, ids: Tensor, positions: Tensor, head: bool = True) -> Tensor:
        caught: list[Any] = []
        decoder = decoder_of(self.model)
        handle = decoder.register_forward_hook(lambda module, inputs, output: caught.append(output))
        step = _Step(self, positions, int(positions.max()) + 1)
        try:
            with _attention_by_slot(decoder):
                output = self.model(
                    input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=0 if head else 1, slots=step
                )
        finally:
            handle.remove()
        result: Tensor = output.logits if head else caught[0].last_hidden_state
        return result

    def _room(self, layer: int, like: tuple[Tensor, Tensor], length: int) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values ``[B, slots, heads, D]``, with ``length`` slots or more."""
        held = self._layers.get(layer)
        if held is None or held[0].shape[1] < length:
            # A quarter more than is needed: growing copies everything.
            slots = length + length // 4 + 16
            grown = [tensor.new_zeros(self._rows, slots, tensor.shape[1], tensor.shape[3]) for tensor in like]
            for new, old in zip(grown, held or (), strict=False):
                new[:, : old.shape[1]] = old
            self._layers[layer] = held = (grown[0], grown[1])
        return held


@dataclass
class _Step:
    """One forward pass: what its attention layers share."""

    reader: SlotReader
    positions: Tensor
    length: int
    """Slots that are in use, this pass's included."""
    masks: dict[tuple[int | None, int], Tensor] = field(default_factory=dict)

    def mask(self, window: int | None, groups: int, dtype: torch.dtype) -> Tensor:
        """Return what each token sees, ``[B, 1, groups · M, length]``, as what is added to the scores."""
        if (window, groups) not in self.masks:
            distance = self.positions[:, :, None] - torch.arange(self.length, device=self.positions.device)
            seen = (distance >= 0) if window is None else (distance >= 0) & (distance < window)
            added = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
            self.masks[window, groups] = added[:, None].repeat(1, 1, groups, 1)
        return self.masks[window, groups]


def slot_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    slots: _Step,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Put the new keys and values into their slots and attend to all that a token may see.

    The query heads that share a key head are read as more tokens of it, so keys and values are not copied for each.

    Args:
        module: the attention layer.
        query: ``[B, heads, M, D]``; the others alike, with the layer's number of key heads.
        key: see ``query``.
        value: see ``query``.
        attention_mask: none is made for this kind of attention.
        slots: the forward pass.
        scaling: of the scores.
        sliding_window: tokens that a token sees, itself included; None: all before it.
        kwargs: unused.

    Returns:
        ``[B, M, heads, D]``, and no weights.
    """
    batch, heads, count, width = query.shape
    shared = key.shape[1]
    groups = heads // shared
    layer: Any = module
    held = slots.reader._room(layer.layer_idx, (key, value), slots.length)
    rows = torch.arange(batch, device=query.device)[:, None]
    for kept, fresh in zip(held, (key, value), strict=True):
        kept[rows, slots.positions] = fresh.transpose(1, 2)
    k, v = (kept[:, : slots.length].transpose(1, 2) for kept in held)
    mask = slots.mask(sliding_window, groups, query.dtype)
    grouped = query.reshape(batch, shared, groups * count, width)
    attended = functional.scaled_dot_product_attention(grouped, k, v, mask, scale=scaling)
    return attended.reshape(batch, heads, count, -1).transpose(1, 2), None


AttentionInterface.register(NAME, slot_attention)


@contextlib.contextmanager
def _attention_by_slot(decoder: Any) -> Iterator[None]:
    config = decoder.config
    before, config._attn_implementation = config._attn_implementation, NAME
    try:
        yield
    finally:
        config._attn_implementation = before
