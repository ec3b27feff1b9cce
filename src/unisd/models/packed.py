"""Forward passes without padding: sequences joined into rows, told apart by restarting position ids.

In most families transformers turns restarting positions into an exact block-diagonal mask, sliding windows included, so
a packed row gives each sequence the hidden states that it would get alone. Whether a model is one of those is found out
once (`models.trust`).
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unisd.fast.segments import Segment, attention_by_segment
from unisd.models.load import base_model

MIN_SHARED = 8
"""Tokens that prompts must begin with alike for a segment of their own: a shorter one costs more than it saves."""


@dataclass(frozen=True)
class PackedSequence:
    """A prompt and the completion that follows it; only the completion's tokens are predicted."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]

    def __len__(self) -> int:
        # The last completion token is predicted but never read.
        return len(self.prompt_ids) + len(self.completion_ids) - 1


def pack(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group indices into rows of at most ``budget`` tokens: first fit, longest first; longer ones stand alone.

    The grouping depends on the lengths alone, so it is the same after a resume.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        for row, free in enumerate(room):
            if lengths[index] <= free:
                rows[row].append(index)
                room[row] -= lengths[index]
                break
        else:
            rows.append([index])
            room.append(budget - lengths[index])
    return rows


def pack_sequences(sequences: Sequence[PackedSequence], budget: int, share: bool) -> list[list[int]]:
    """Group sequences into rows of at most ``budget`` tokens, of which what all prompts begin with is one part a row.

    Args:
        sequences: what is to be read.
        budget: tokens a row.
        share: whether rows compute alike beginnings once.
    """
    common = _common([s.prompt_ids for s in sequences]) if share and len(sequences) > 1 else 0
    common = common if common >= MIN_SHARED else 0
    return pack([len(s) - common for s in sequences], budget - common)


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens prompts begin with alike; the last of a prompt is its own, since it predicts."""
    most = min(len(prompt) for prompt in prompts) - 1
    first, *others = prompts
    return next((i for i in range(most) if any(other[i] != first[i] for other in others)), most)


@dataclass(frozen=True)
class Row:
    """Sequences joined into one row of tokens."""

    ids: list[int]
    positions: list[int]
    segments: list[Segment]
    places: list[list[int]]
    """Where in the row each sequence's tokens stand, from its first on."""
    predicting: list[int]
    """Where in the row the completion tokens are predicted, in the order of the sequences."""


def flat_row(sequences: Sequence[PackedSequence]) -> Row:
    """Join sequences one behind the other."""
    builder = _RowBuilder(sequences)
    for number in range(len(sequences)):
        builder.leaf(number, 0, ())
    return builder.row()


def shared_row(sequences: Sequence[PackedSequence]) -> Row:
    """Join sequences as a tree: what several prompts begin with alike stands once.

    It needs attention by segment (see `segments_suit`); hidden states are those of separate sequences, to rounding.
    """
    builder = _RowBuilder(sequences)
    builder.grow(list(range(len(sequences))), 0, ())
    return builder.row()


class _RowBuilder:
    """Grows a row segment by segment."""

    def __init__(self, sequences: Sequence[PackedSequence]) -> None:
        self.prompts = [s.prompt_ids for s in sequences]
        self.inputs = [[*s.prompt_ids, *s.completion_ids[:-1]] for s in sequences]
        # The last token of a prompt predicts the first of its completion: it stays in the sequence's own segment.
        self.shareable = [len(s.prompt_ids) - 1 for s in sequences]
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.segments: list[Segment] = []
        self.places: list[list[int]] = [[] for _ in sequences]

    def row(self) -> Row:
        predicting = [place for own, first in zip(self.places, self.shareable, strict=True) for place in own[first:]]
        return Row(self.ids, self.positions, self.segments, self.places, predicting)

    def leaf(self, number: int, depth: int, before: tuple[tuple[int, int], ...]) -> None:
        """Add what is left of a sequence from ``depth`` on."""
        own = self._add(self.inputs[number][depth:], depth, before)
        self.places[number] = [place for start, stop in (*before, own) for place in range(start, stop)]

    def grow(self, numbers: list[int], depth: int, before: tuple[tuple[int, int], ...]) -> None:
        """Add sequences that are alike up to ``depth``: what they still share, then each group of them."""
        if len(numbers) == 1:
            self.leaf(numbers[0], depth, before)
            return
        common = _common([self.prompts[number] for number in numbers])
        if common - depth >= MIN_SHARED:
            shared = self._add(self.inputs[numbers[0]][depth:common], depth, before)
            before, depth = (*before, shared), common
        groups: dict[int, list[int]] = {}
        for number in numbers:
            if self.shareable[number] <= common:
                self.leaf(number, depth, before)
            else:
                groups.setdefault(self.inputs[number][common], []).append(number)
        for group in groups.values():
            self.grow(group, depth, before)

    def _add(self, ids: list[int], depth: int, before: tuple[tuple[int, int], ...]) -> tuple[int, int]:
        start = len(self.ids)
        self.ids.extend(ids)
        self.positions.extend(range(depth, depth + len(ids)))
        self.segments.append(Segment(start, len(self.ids), before))
        return start, len(self.ids)


def predicting_states(
    model: nn.Module, row: Row, by_segment: bool, keep: Callable[[int, Tensor, Tensor], None] | None = None
) -> Tensor:
    """Return the final hidden states ``[N, H]`` that predict the completion tokens of a row; see `hidden_states`."""
    needed, decoder = torch.tensor(row.predicting, device=next(model.parameters()).device), decoder_of(model)
    # A checkpointed layer runs again without the hooks; a look ahead without gradient draws the dropout that it will.
    again = decoder.training and getattr(decoder, "gradient_checkpointing", False)
    with _last_layer_for(decoder, needed) if by_segment and not again else contextlib.nullcontext():
        return hidden_states(model, row, by_segment, keep)[0, needed]


def hidden_states(
    model: nn.Module, row: Row, by_segment: bool, keep: Callable[[int, Tensor, Tensor], None] | None = None
) -> Tensor:
    """Return the final hidden states ``[1, L, H]`` of one row; see `final_states`.

    Args:
        model: the model.
        row: what it reads.
        by_segment: attend by segment (see `segments_suit`); a row that shares beginnings needs it.
        keep: called with each layer's number, keys and values ``[1, heads, L, D]``, where attention is by segment.
    """
    device = next(model.parameters()).device
    ids, positions = (torch.tensor([values], device=device) for values in (row.ids, row.positions))
    attention: AbstractContextManager[dict[str, Any]] = (
        attention_by_segment(decoder_of(model), row.segments, keep) if by_segment else contextlib.nullcontext({})
    )
    with attention as more:
        return final_states(model, ids, position_ids=positions, **more)


def final_states(model: nn.Module, ids: Tensor, **more: Any) -> Tensor:
    """Return what the output head reads ``[B, L, H]``, the final hidden states, of ids ``[B, L]``.

    The whole model runs, so that wrappers see a usual forward pass; its head computes the last position alone.
    ``more`` is handed to it.
    """
    with head_reads(model, lambda states: states[:, -1:]) as caught:
        run(model, ids, use_cache=False, **more)
    # Prompt tuning puts tokens of its own before the row.
    return caught[-1][:, caught[-1].shape[1] - ids.shape[1] :]


def run(model: nn.Module, ids: Tensor, **more: Any) -> Any:
    """Run the model on ids ``[B, L]`` of text alone; models that read images, too, are told so."""
    return model(input_ids=ids, **{name: torch.zeros_like(ids) for name in _kinds_of_token(model)}, **more)


def _kinds_of_token(model: nn.Module) -> list[str]:
    inner: Any = base_model(getattr(model, "module", model))
    if inner.config is inner.config.get_text_config():
        return []
    accepted = inspect.signature(type(inner).forward).parameters
    return [name for name in ("token_type_ids", "mm_token_type_ids") if name in accepted]


@contextlib.contextmanager
def head_reads(model: nn.Module, select: Callable[[Tensor], Tensor]) -> Iterator[list[Tensor]]:
    """Collect what the output head is given ``[B, L, H]``, and let it read what ``select`` makes of it."""
    caught: list[Tensor] = []

    def catch(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        caught.append(inputs[0])
        return (select(inputs[0]), *inputs[1:])

    inner: Any = base_model(getattr(model, "module", model))
    handle = inner.get_output_embeddings().register_forward_pre_hook(catch)
    try:
        yield caught
    finally:
        handle.remove()


@contextlib.contextmanager
def _last_layer_for(decoder: Any, needed: Tensor) -> Iterator[None]:
    """Let the last layer compute what no other token reads for the needed tokens alone; the others get zeros."""

    def select(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        lengths.append(inputs[0].shape[1])
        return (inputs[0][:, needed], *inputs[1:])

    def spread(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output.new_zeros(1, lengths[-1], output.shape[-1]).index_copy(1, needed, output)

    lengths: list[int] = []
    layer = decoder.layers[-1]
    handles: list[Any] = []
    # A mixture of experts may return more than a tensor; a plain block has a product of its own.
    block = getattr(layer, "mlp", None)
    for module in (layer.self_attn.o_proj, *([block] if hasattr(block, "down_proj") else [])):
        handles += [module.register_forward_pre_hook(select), module.register_forward_hook(spread)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def decoder_of(model: nn.Module) -> Any:
    """Return the decoder inside a causal language model, wrapped or not."""
    inner: Any = base_model(getattr(model, "module", model))
    return inner.get_decoder()
