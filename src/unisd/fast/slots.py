"""Keys and values whose slots are positions, for reading tokens onto what was read before.

A token at position p of its sequence is kept in slot p, so sequences of different lengths need no padding between
prompt and continuation, and tokens that turn out to be wrong are taken back by writing over them.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from unisd.fast.replaced import attends_plainly, replaced_attention
from unisd.fast.switch import enabled

NAME = "unisd_slots"


def slots_suit(decoder: Any) -> bool:
    """Return whether the decoder's layers are known to attend to keys and values of their own."""
    return enabled() and attends_plainly(decoder)


@contextlib.contextmanager
def attention_by_slot(decoder: Any, slots: "Slots", positions: Tensor, length: int) -> Iterator[dict[str, Any]]:
    """Let ``decoder`` put tokens at ``positions`` ``[B, M]``, all below ``length``, into slots.

    Yields what its forward pass must be given.
    """
    with replaced_attention(decoder, NAME):
        yield {"slot_step": _Step(slots, positions, length)}


class Slots:
    """The keys and values of a batch.

    Args:
        rows: sequences in the batch.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def room(self, layer: int, like: tuple[Tensor, Tensor], length: int) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values ``[B, slots, heads, D]``, with ``length`` slots or more.

        Args:
            layer: its number.
            like: new keys and values ``[·, heads, ·, D]``, whose dtype and device room takes.
            length: slots that are needed.
        """
        held = self._layers.get(layer)
        if held is None or held[0].shape[1] < length:
            # A quarter more than is needed: growing copies everything.
            slots = length + length // 4 + 16
            grown = [tensor.new_zeros(self._rows, slots, tensor.shape[1], tensor.shape[3]) for tensor in like]
            for new, old in zip(grown, held or (), strict=False):
                new[:, : old.shape[1]] = old
            self._layers[layer] = held = (grown[0], grown[1])
        return held

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the batch alone, in this order."""
        self._layers = {layer: (k[rows], v[rows]) for layer, (k, v) in self._layers.items()}
        self._rows = len(rows)


@dataclass
class _Step:
    """One forward pass: what its attention layers share."""

    slots: Slots
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
    slot_step: _Step,
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
        slot_step: the forward pass.
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
    held = slot_step.slots.room(layer.layer_idx, (key, value), slot_step.length)
    rows = torch.arange(batch, device=query.device)[:, None]
    for kept, fresh in zip(held, (key, value), strict=True):
        kept[rows, slot_step.positions] = fresh.transpose(1, 2)
    k, v = (kept[:, : slot_step.length].transpose(1, 2) for kept in held)
    mask = slot_step.mask(sliding_window, groups, query.dtype)
    grouped = query.reshape(batch, shared, groups * count, width)
    attended = functional.scaled_dot_product_attention(grouped, k, v, mask, scale=scaling)
    return attended.reshape(batch, heads, count, -1).transpose(1, 2), None


AttentionInterface.register(NAME, slot_attention)
