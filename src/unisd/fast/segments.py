"""Attention of a packed row, one segment after the other.

A packed row's attention matrix is block-diagonal, or, where sequences share their beginning, a tree of blocks. With a
mask, all of it is computed and most of it thrown away. Here each segment attends to what it continues and to itself,
and nothing else is computed. The results are the same to rounding.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from unisd.fast.replaced import attends_plainly, replaced_attention
from unisd.fast.switch import enabled

NAME = "unisd_segments"


@dataclass(frozen=True)
class Segment:
    """A run of tokens of a packed row."""

    start: int
    stop: int
    before: tuple[tuple[int, int], ...] = ()
    """The runs that it continues, from the beginning of its sequence on; empty where it is the beginning."""

    @property
    def depth(self) -> int:
        """Tokens before it in its sequence: the position of its first token."""
        return sum(stop - start for start, stop in self.before)


def segmented_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Sequence[Segment],
    segment_masks: dict[tuple[int, int | None], Tensor],
    keep: Callable[[int, Tensor, Tensor], None] | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend within each segment and to what it continues, causally and within the layer's sliding window.

    Args:
        module: the attention layer.
        query: ``[1, heads, L, D]``; the others alike, with the layer's number of key heads.
        key: see ``query``.
        value: see ``query``.
        attention_mask: none is made for this kind of attention.
        segments: of the row; their own tokens follow each other and make up L.
        segment_masks: masks that the layers of one forward pass share.
        keep: called with the layer's number, ``key`` and ``value``.
        sliding_window: tokens that a token sees, itself included; None: all before it.
        kwargs: passed on.

    Returns:
        ``[1, L, heads, D]``, and no weights.
    """
    kwargs.pop("is_causal", None)
    if keep is not None:
        layer: Any = module
        keep(layer.layer_idx, key, value)
    attended = []
    for number, segment in enumerate(segments):
        depth, own = segment.depth, segment.stop - segment.start
        slides = sliding_window is not None and depth + own > sliding_window
        # A kernel that knows the causal order skips half of the work, which is more than asking again for a short
        # beginning costs; behind a longer one a mask is cheaper.
        again = bool(segment.before) and depth < own and not slides
        mask = None
        if slides or (segment.before and not again):
            at = (number, sliding_window if slides else None)
            if at not in segment_masks:
                segment_masks[at] = _mask(segment, at[1], query.device)
            mask = segment_masks[at]
        q = _gathered(query, segment) if again else query[:, :, segment.start : segment.stop]
        k, v = _gathered(key, segment), _gathered(value, segment)
        result = sdpa_attention_forward(module, q, k, v, mask, is_causal=mask is None, **kwargs)[0]
        attended.append(result[:, depth:] if again else result)
    return torch.cat(attended, dim=1), None


def _gathered(tensor: Tensor, segment: Segment) -> Tensor:
    """Return what belongs to a segment and to what it continues, of ``[1, heads, L, D]``."""
    own = tensor[:, :, segment.start : segment.stop]
    if not segment.before:
        return own
    return torch.cat([*(tensor[:, :, start:stop] for start, stop in segment.before), own], dim=2)


def _mask(segment: Segment, window: int | None, device: torch.device) -> Tensor:
    """Return what a segment's tokens see of what they continue and of each other, ``[1, 1, own, all]`` bool."""
    depth, own = segment.depth, segment.stop - segment.start
    distance = torch.arange(depth, depth + own, device=device)[:, None] - torch.arange(depth + own, device=device)
    seen = distance >= 0
    return (seen if window is None else seen & (distance < window))[None, None]


AttentionInterface.register(NAME, segmented_attention)


def segments_suit(decoder: Any) -> bool:
    """Return whether attention by segment is exact here: in a known family with SDPA. Its kernels need no mask then."""
    return enabled() and attends_plainly(decoder)


@contextlib.contextmanager
def attention_by_segment(
    decoder: Any, segments: Sequence[Segment], keep: Callable[[int, Tensor, Tensor], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Let ``decoder`` attend by segment while the context is open; yields what its forward pass must be given."""
    with replaced_attention(decoder, NAME):
        yield {"segments": list(segments), "segment_masks": {}, "keep": keep}


@contextlib.contextmanager
def segments_of_checkpoints() -> Iterator[None]:
    """Let layers that checkpointing runs again attend as they did; hold it open during the backward pass.

    They are given what they were given before, segments included, and ask for SDPA, outside of `attention_by_segment`.
    """

    def attend(*args: Any, **kwargs: Any) -> Any:
        return (segmented_attention if "segments" in kwargs else plain)(*args, **kwargs)

    plain = ALL_ATTENTION_FUNCTIONS["sdpa"]
    ALL_ATTENTION_FUNCTIONS["sdpa"] = attend
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS["sdpa"] = plain
