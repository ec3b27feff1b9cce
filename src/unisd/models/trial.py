"""A few tokens are read in each way that a model may be read, and alone: what is the same can be trusted."""

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unisd.errors import UsageError
from unisd.fast.replaced import PLAIN_FAMILIES
from unisd.fast.segments import segments_suit
from unisd.models.head import AFTER, after_head, found_after_head, output_head
from unisd.models.load import base_model, max_positions
from unisd.models.packed import (
    MIN_SHARED,
    PackedSequence,
    decoder_of,
    flat_row,
    head_reads,
    hidden_states,
    predicting_states,
    shared_row,
)
from unisd.models.padded import padded_states
from unisd.models.readers import EqualReader, PaddedReader, Reader, SingleReader, SlotReader, WholeReader
from unisd.objective.head import logits

READERS: dict[str, type[Reader]] = {
    "slots": SlotReader,
    "padded": PaddedReader,
    "equal": EqualReader,
    "single": SingleReader,
    "whole": WholeReader,
}
ROWS = ("packed", "padded", "alone")
_LONGEST_TRIED = 128


@dataclass(frozen=True)
class Trust:
    """What a model was found to read as it should."""

    rows: str = "packed"
    """``packed``: sequences joined into rows; ``padded``: batches of one sequence a row; ``alone``: one at a time."""
    segments: bool = False
    """Attention by segment, and rows that share beginnings."""
    reach: int = 0
    """Tokens of a packed row of several sequences, at most: longer ones were not tried; 0: as many as one likes."""
    turn: int = 0
    """Tokens from which on positions turn otherwise for all that stands beside; a longer one stands alone; 0: none."""
    reader: str = "whole"
    """How texts are continued: a name of ``READERS``."""
    after: str = AFTER[0]
    """What is made of the logits behind the output head."""
    why: str = ""
    """What was seen where rows are not packed."""
    refused: str = ""
    """Why the model cannot be read at all."""


class _Text:
    """A few sequences, what the model makes of each alone, and how close to that another way must come.

    Raises:
        UsageError: the model cannot read them as a text, from left to right.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.sequences = _sequences(model)
        self.inputs = [[*s.prompt_ids, *s.completion_ids] for s in self.sequences]
        alone = [self._read(ids) for ids in self.inputs]
        self.states, self.logits = [states for states, _ in alone], [scores for _, scores in alone]
        self._compare([*self.inputs[0], *self.inputs[1], *self.inputs[2]])

    def _compare(self, joined: list[int]) -> None:
        """Read the three as one text, with another middle, too: what comes before must not notice, what follows must.

        The beginning is read as if alone, but for what rounding does.
        """
        start, stop = len(self.inputs[0]), len(joined) - len(self.inputs[2])
        one = self._read(joined)
        other = self._read([*joined[:start], *reversed(joined[start:stop]), *joined[stop:]])
        alone = self.states[0], self.logits[0]
        rounding = [distance(a[:start], b) for a, b in zip(one, alone, strict=True)]
        effect = [distance(a[stop:], b[stop:]) for a, b in zip(one, other, strict=True)]
        floor, ceiling = _rounding(self.model)
        # Other kernels, and other orders of a sum, round more than this one case shows.
        close = [max(floor, min(20 * value, ceiling)) for value in rounding]
        self.close_states, self.close_logits = close[0], max(close[1], min(20 * floor, ceiling))
        self.certain = all(c < e / 3 < math.inf for c, e in zip(close, effect, strict=True))
        if max(4 * floor, effect[0] / 10) < distance(one[0][:start], other[0][:start]) < math.inf:
            raise UsageError("reads a token with what comes after it")
        self.by_length = rounding[0] > ceiling or any(numbers(_declared(self.model), _SELECTED, _LONGEST_TRIED))
        self.after = self._after_head()

    def _read(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        device = next(self.model.parameters()).device
        with head_reads(self.model, lambda states: states) as caught:
            output = self.model(input_ids=torch.tensor([list(ids)], device=device), use_cache=False)
        return caught[-1][0][-len(ids) :].float(), output.logits[0][-len(ids) :].float()

    def _after_head(self) -> str:
        """Return what is made of the logits behind the head."""
        inner = base_model(self.model)
        try:
            head = output_head(self.model)
        except UsageError:  # whoever asks for its products is told
            return AFTER[0]
        for after in AFTER:
            scale, softcap = after_head(inner, after)
            own = logits(self.states[2], replace(head, scale=scale, softcap=softcap))
            if not self.certain or distance(own, self.logits[2]) <= 5 * self.close_logits:
                return after
        raise UsageError("makes more of its final states than its output layer says")

    def predicting(self) -> Tensor:
        """Return the states that predict the completions, ``[N, H]``."""
        return torch.cat(
            [states[len(s.prompt_ids) - 1 : -1] for states, s in zip(self.states, self.sequences, strict=True)]
        )


def distance(found: Tensor, expected: Tensor) -> float:
    """Return the largest relative difference of two sets of vectors ``[N, D]`` after their means are taken away."""
    if found.shape != expected.shape:
        return math.inf
    found, expected = (v.float() - v.float().mean(-1, keepdim=True) for v in (found, expected))
    relative = (found - expected).norm(dim=-1) / expected.norm(dim=-1).clamp(min=1e-30)
    return float(relative.max()) if bool(relative.isfinite().all()) else math.inf


def _declared(model: nn.Module) -> dict[str, Any]:
    inner: Any = base_model(model)
    declared: dict[str, Any] = inner.config.to_dict()
    return declared


def _rounding(model: nn.Module) -> tuple[float, float]:
    """Return the relative difference that is never more than rounding, and the one that always is."""
    inner: Any = base_model(model)
    if getattr(inner, "is_quantized", False) or inner.dtype in (torch.bfloat16, torch.float16):
        return 2e-2, 0.15
    # Products of a GPU may round single precision to ten bits.
    return (5e-6, 1e-3) if next(inner.parameters()).device.type == "cpu" else (1e-3, 3e-2)


# What picks the best keys decides ties by what else is in the row, which a few tokens may not show.
_SELECTED = re.compile("index_topk")
_REACH = re.compile(r"window(?!_layers)|chunk|original_max_position|local_attention|index_topk")


def numbers(values: Any, names: "re.Pattern[str]", most: float = math.inf, held: bool = False) -> Iterator[int]:
    """Yield the whole numbers of a configuration (nested), up to ``most``, whose name, or whose holder's, matches."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from numbers(value, names, most, held or bool(names.search(str(name))))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from numbers(value, names, most, held)
    elif held and isinstance(values, int) and not isinstance(values, bool) and values <= most:
        yield values


def _sequences(model: nn.Module) -> list[PackedSequence]:
    """Return three sequences: the last is longer than a short window, begins like the first, and starts inside a row.

    What reads by windows, chunks or the few best keys shows what it does to a packed row there.
    """
    inner: Any = base_model(model)
    declared = _declared(model)
    special = set(numbers(declared, re.compile("token")))
    size = min(inner.get_input_embeddings().weight.shape[0], inner.config.get_text_config().vocab_size)
    plain = [token for token in range(min(size, 2000)) if token not in special]
    reach = max(numbers(declared, _REACH, _LONGEST_TRIED), default=0)
    longest = min(max(reach + 6, 36), (max_positions(model) or 1 << 30) - 28)
    text = [plain[(29 * i + 7) % len(plain)] for i in range(longest + 24)]
    shared, text = text[: MIN_SHARED + 1], text[MIN_SHARED + 1 :]
    return [
        PackedSequence([*shared, text[0]], text[1:5]),
        PackedSequence([text[5]], text[6:13]),
        PackedSequence([*shared, text[13]], text[14 : max(18, longest)]),
    ]


def tried(model: nn.Module, readers: Sequence[str]) -> tuple[Trust, bool]:
    """Return how a model can be read, and whether a wrong reading would have been seen.

    Args:
        model: in evaluation mode, without wrappers.
        readers: names of ``READERS`` that may suit it.
    """
    try:
        text = _Text(model)
    except torch.OutOfMemoryError:
        raise
    except UsageError as error:
        return Trust(refused=str(error)), True
    except Exception as error:
        cause = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        return Trust(refused=f"cannot read a text by itself ({cause})"), False
    rows = replace(_rows(model, text), after=text.after)
    found_after_head(base_model(model), text.after)
    for name in readers:
        if READERS[name].pads and rows.rows == "alone":
            continue
        with contextlib.suppress(Exception):
            if _continues(READERS[name](model), text):
                return replace(rows, reader=name), text.certain
    # Not even the model's own cache gives what it reads at once: it is taken at its word, a row at a time.
    return replace(rows, reader="single"), text.certain


def _rows(model: nn.Module, text: _Text) -> Trust:
    if text.by_length:
        return Trust("alone", why="reads a text otherwise where more tokens stand beside it")
    expected = text.predicting()

    def differs(read: Callable[[], Tensor]) -> str:
        try:
            apart = distance(read(), expected)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            return f"cannot read packed sequences ({type(error).__name__})"
        return "" if apart <= text.close_states else f"reads packed sequences otherwise than alone (by {apart:.1g})"

    flat, tree = flat_row(text.sequences), shared_row(text.sequences)
    places = torch.tensor(flat.predicting)
    reach, turn = _limits(model)
    why = differs(lambda: hidden_states(model, flat, False)[0, places])
    if not why and text.certain:
        segments = by_segment(model) and not differs(lambda: predicting_states(model, tree, True))
        return Trust("packed", segments, reach, turn)
    alone = differs(lambda: padded_states(model, text.sequences))
    why = why or "is not seen to tell sequences apart"
    return Trust("alone" if alone else "padded", turn=turn, why=why)


def by_segment(model: nn.Module) -> bool:
    """Return whether a model may attend by segment."""
    with contextlib.suppress(AttributeError):
        return bool(segments_suit(decoder_of(model)))
    return False


def _limits(model: nn.Module) -> tuple[int, int]:
    """Return `Trust.reach` and `Trust.turn`: what a configuration declares beyond the lengths that are tried."""
    inner: Any = base_model(model)
    config = inner.config.get_text_config()
    declared = config.to_dict()
    known = config.model_type in PLAIN_FAMILIES
    windows = [n for n in numbers(declared, re.compile(r"window(?!_layers)|chunk|index_topk")) if n > _LONGEST_TRIED]
    rope = declared.get("rope_parameters") or declared.get("rope_scaling")
    turns: list[int] = []
    if re.search("dynamic|longrope", str(rope)):
        turns = list(numbers(declared, re.compile("original_max_position"))) or [max_positions(model) or 0]
    return 0 if known else min(windows, default=0), min(turns, default=0)


def _continues(reader: Reader, text: _Text) -> bool:
    """Return whether a reader gives the logits of the last tokens: of all sequences, then of two in another order."""
    order = [0, 2, 1, 2]  # two of one length, and a longer one before a shorter
    inputs, expected = [text.inputs[i] for i in order], [text.logits[i] for i in order]
    near = distance(reader.begin([ids[:-3] for ids in inputs]), torch.stack([e[-4] for e in expected]))
    for step in (-3, -2, -1):
        if step == -2:
            reader.keep([3, 2, 1])
            inputs, expected = inputs[:0:-1], expected[:0:-1]
        ids = torch.tensor([[sequence[step]] for sequence in inputs], device=reader.device)
        positions = torch.tensor([[len(sequence) + step] for sequence in inputs])
        near = max(near, distance(reader.read(ids, positions)[:, -1], torch.stack([e[step] for e in expected])))
    return near <= text.close_logits
