"""Forward passes without padding: sequences joined into rows, told apart by restarting position ids.

transformers turns restarting positions into an exact block-diagonal mask, sliding windows included, so a packed row
gives each sequence the hidden states that it would get alone.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unisd.errors import UsageError
from unisd.fast.segments import Segment, attention_by_segment, segments_suit
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


def check_packs(model: nn.Module) -> None:
    """Refuse models that carry a recurrent state along a row: one sequence's would reach into the next.

    Raises:
        UsageError: the model is one of those.
    """
    decoder = decoder_of(model)
    if getattr(decoder, "_is_stateful", False):
        raise UsageError(
            f"model: {type(decoder).__name__} keeps a recurrent state, which packed sequences would share; "
            "choose a model whose layers all attend"
        )


def completion_states(model: nn.Module, sequences: Sequence[PackedSequence], share: bool = False) -> Tensor:
    """Run one packed row and return the final hidden states that predict the completion tokens.

    ``model`` may be wrapped (PEFT, DDP): the forward pass goes through the wrapper.

    Args:
        model: the model.
        sequences: what the row holds.
        share: compute what prompts begin with alike once, where attention by segment allows it.

    Returns:
        ``[N, H]`` in the model's dtype, N = all completion tokens, in the order of ``sequences``.
    """
    row = shared_row(sequences) if share and shares(model) else flat_row(sequences)
    return predicting_states(model, row)


def predicting_states(model: nn.Module, row: Row, keep: Callable[[int, Tensor, Tensor], None] | None = None) -> Tensor:
    """Return the final hidden states ``[N, H]`` that predict the completion tokens of a row; see `hidden_states`."""
    decoder = decoder_of(model)
    needed = torch.tensor(row.predicting, device=next(model.parameters()).device)
    with _last_layer_for(decoder, needed) if segments_suit(decoder) else contextlib.nullcontext():
        return hidden_states(model, row, keep)[0, needed]


def shares(model: nn.Module) -> bool:
    """Return whether sequences of a row can share what they begin with alike."""
    return segments_suit(decoder_of(model))


def hidden_states(model: nn.Module, row: Row, keep: Callable[[int, Tensor, Tensor], None] | None = None) -> Tensor:
    """Return the final hidden states ``[1, L, H]`` of one row; see `final_states`.

    Args:
        model: the model.
        row: what it reads.
        keep: called with each layer's number, keys and values ``[1, heads, L, D]``, where :func:`shares` holds.
    """
    check_packs(model)
    decoder = decoder_of(model)
    device = next(model.parameters()).device
    ids, positions = (torch.tensor([values], device=device) for values in (row.ids, row.positions))
    by_segment: AbstractContextManager[dict[str, Any]] = (
        attention_by_segment(decoder, row.segments, keep) if segments_suit(decoder) else contextlib.nullcontext({})
    )
    with by_segment as more:
        return final_states(model, ids, positions, **more)


def final_states(model: nn.Module, ids: Tensor, positions: Tensor, **more: Any) -> Tensor:
    """Return the decoder's final hidden states ``[B, L, H]`` (after the final norm) of ids ``[B, L]`` at positions.

    The whole model runs, so that wrappers see a usual forward pass; of its head only one position is asked for.
    """
    caught: list[Tensor] = []
    handle = decoder_of(model).register_forward_hook(lambda module, inputs, out: caught.append(out.last_hidden_state))
    try:
        model(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=1, **more)
    finally:
        handle.remove()
    return caught[0]


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
