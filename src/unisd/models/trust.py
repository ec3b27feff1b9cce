"""Whether a model reads packed rows, padded rows and its own cache as it reads a text alone: tried out, once.

Families differ in what they make of restarting positions, padding and caches, and code from elsewhere may do anything.
So before a model is first read a few tokens are, in each way and alone, and the fastest way that gives the same is
taken. What was found is kept in the user's cache, by everything that it depends on.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import json
import math
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unisd import fast
from unisd.errors import UniSDError, UsageError, warn
from unisd.fast.replaced import PLAIN_FAMILIES
from unisd.fast.segments import segments_suit
from unisd.files import cache_folder, fingerprint, write_json
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

_LONGEST_TRIED = 128
_READERS: dict[str, type[Reader]] = {
    "slots": SlotReader,
    "padded": PaddedReader,
    "equal": EqualReader,
    "single": SingleReader,
    "whole": WholeReader,
}
# What decides how texts are read besides PyTorch, transformers and this package, where it is installed.
_KERNELS = (
    "bitsandbytes",
    "flash-attn",
    "kernels",
    "mamba-ssm",
    "causal-conv1d",
    "flash-linear-attention",
    "accelerate",
    "peft",
)


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
    reader: str = ""
    """How texts are continued: a name of ``_READERS``; empty where only rows were tried."""
    after: str = AFTER[0]
    """What is made of the logits behind the output head."""
    why: str = ""
    """What was seen where rows are not packed."""
    refused: str = ""
    """Why the model cannot be read at all."""


def trusted_rows(model: nn.Module) -> Trust:
    """Return how ``model`` may read rows; the first time one line says so where it is not packed.

    Raises:
        UsageError: the model does not read text from left to right, or its head is not a plain output layer.
    """
    trust = _trusted(model, "rows", _tried_rows)
    if trust.why:
        _say(f"model: {_name(model)} {trust.why}; one sequence a row is read" + _HOW[trust.rows])
    return trust


def trusted_reader(model: nn.Module) -> type[Reader]:
    """Return how ``model`` may continue texts: the fastest reader that gives what reading alone gives.

    Raises:
        UsageError: the model does not read text from left to right.
    """
    suiting = [name for name, reader in _READERS.items() if reader.suits(model)]
    return _READERS[_trusted(model, "reader", functools.partial(_tried_readers, suiting), suiting).reader]


_HOW = {"padded": ", in padded batches", "alone": ", one row at a time", "packed": ""}


@functools.cache
def _say(message: str) -> None:
    warn(message)


# What is remembered

_MEMORY: "weakref.WeakKeyDictionary[nn.Module, dict[str, Trust]]" = weakref.WeakKeyDictionary()


def _trusted(model: nn.Module, what: str, tried: Callable[[nn.Module], tuple[Trust, bool]], *more: Any) -> Trust:
    inner: Any = _plain(model)
    device = next(inner.parameters()).device.type
    config = inner.config
    kernel = [getattr(part, "_attn_implementation", None) for part in (config, config.get_text_config())]
    condition = [what, kernel, str(inner.dtype), device, fast.enabled(), _by_segment(inner), *more]
    known = _MEMORY.setdefault(inner, {})
    name = fingerprint(*condition)
    if name not in known:
        file = _file(inner, condition)
        found = _read(file)
        if found is None:
            with _undisturbed(inner):
                found, certain = tried(inner)
            if certain and file is not None:
                with contextlib.suppress(UniSDError, OSError):
                    write_json(file, asdict(found))
        known[name] = found
        found_after_head(base_model(inner), found.after)
    if known[name].refused:
        raise UsageError(f"model: {_name(inner)} {known[name].refused}; choose a causal language model for text")
    return known[name]


def _read(file: Path | None) -> Trust | None:
    """Return what a file says; a broken one says nothing."""
    if file is None:
        return None
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        trust = Trust(**json.loads(file.read_text(encoding="utf-8")))
        default = Trust()
        typed = all(type(value) is type(getattr(default, name)) for name, value in asdict(trust).items())
        if typed and trust.rows in _HOW and trust.reader in {"", *_READERS} and trust.after in AFTER:
            return trust
    return None


_NOT_OF_THE_READING = ("_name_or_path", "transformers_version", "architectures", "use_cache")


def _file(model: Any, condition: Sequence[Any]) -> Path | None:
    """Return where the finding is kept; None where the model's code cannot be told apart."""
    packages = {}
    for name in ("torch", "transformers", *_KERNELS):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    code = _foreign_code(model)
    if code is None:
        return None
    shape = {key: value for key, value in model.config.to_dict().items() if key not in _NOT_OF_THE_READING}
    of = type(model)
    name = fingerprint(*condition, of.__module__, of.__qualname__, json.loads(json.dumps(shape, default=str)), packages)
    return cache_folder() / "reading" / f"{fingerprint(name, code)}.json"


def _foreign_code(model: nn.Module) -> str | None:
    """Return a hash of the code that reads, but for that of packages whose version is known; None where it is hidden."""
    digest = hashlib.blake2b(digest_size=8)
    for part in ("fast", "models"):
        for path in sorted((Path(__file__).parent.parent / part).glob("*.py")):
            digest.update(path.read_bytes())
    packaged = ("torch", "transformers", "peft", "bitsandbytes")
    kinds = {type(module) for module in model.modules()}
    for module in sorted({kind.__module__ for kind in kinds}):
        if module.split(".")[0] in packaged:
            continue
        try:
            source = inspect.getsourcefile(next(kind for kind in kinds if kind.__module__ == module))
            digest.update(Path(str(source)).read_bytes())
        except (OSError, TypeError):
            return None
    return digest.hexdigest()


def _plain(model: nn.Module) -> nn.Module:
    """Return the model without wrappers, but with what puts tokens of its own before a text."""
    model = getattr(model, "module", model)
    prompts = any(getattr(c, "is_prompt_learning", False) for c in getattr(model, "peft_config", {}).values())
    return model if prompts else base_model(model)


def _name(model: nn.Module) -> str:
    return type(base_model(getattr(model, "module", model))).__name__


def _by_segment(model: nn.Module) -> bool:
    with torch.no_grad(), contextlib.suppress(AttributeError):
        return bool(segments_suit(decoder_of(model)))
    return False


@contextlib.contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Read without gradient and dropout, and leave the random streams and the modules' modes as they were."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module in training:
            module.training = True


# What is tried


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
        self.after = self._after_head()

    def _read(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        device = next(self.model.parameters()).device
        with head_reads(self.model, lambda states: states) as caught:
            output = self.model(input_ids=torch.tensor([list(ids)], device=device), use_cache=False)
        return caught[-1][0][-len(ids) :].float(), output.logits[0][-len(ids) :].float()

    def _after_head(self) -> str:
        """Return what is made of the logits behind the head."""
        head, inner = output_head(self.model), base_model(self.model)
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


def _rounding(model: nn.Module) -> tuple[float, float]:
    """Return the relative difference that is never more than rounding, and the one that always is."""
    inner: Any = base_model(model)
    if getattr(inner, "is_quantized", False) or inner.dtype in (torch.bfloat16, torch.float16):
        return 2e-2, 0.15
    # Products of a GPU may round single precision to ten bits.
    return (5e-6, 1e-3) if next(inner.parameters()).device.type == "cpu" else (1e-3, 3e-2)


_REACH = re.compile(r"window(?!_layers)|chunk|original_max_position|local_attention|index_topk")


def numbers(values: Any, names: "re.Pattern[str]", held: bool = False) -> Iterator[int]:
    """Yield the whole numbers of a configuration (nested) whose name, or whose holder's, matches."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from numbers(value, names, held or bool(names.search(str(name))))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from numbers(value, names, held)
    elif held and isinstance(values, int) and not isinstance(values, bool):
        yield values


def _sequences(model: nn.Module) -> list[PackedSequence]:
    """Return three sequences: two that begin alike, the first longer than a short window, and one of its own."""
    inner: Any = base_model(model)
    declared = inner.config.to_dict()
    special = set(numbers(declared, re.compile("token")))
    size = min(inner.get_input_embeddings().weight.shape[0], inner.config.get_text_config().vocab_size)
    plain = [token for token in range(min(size, 2000)) if token not in special]
    reach = max((n for n in numbers(declared, _REACH) if n <= _LONGEST_TRIED), default=0)
    end = max(4, min(reach, (max_positions(model) or 1 << 30) // 2 - MIN_SHARED - 4) - MIN_SHARED + 4)
    text = [plain[(29 * i + 7) % len(plain)] for i in range(MIN_SHARED + end + 30)]
    shared, rest = text[: MIN_SHARED + 1], text[MIN_SHARED + 1 :]
    return [
        PackedSequence([*shared, rest[0]], rest[1:end]),
        PackedSequence([*shared, rest[end]], rest[end + 1 : end + 5]),
        PackedSequence([rest[end + 6]], rest[end + 7 : end + 14]),
    ]


def _tried_rows(model: nn.Module) -> tuple[Trust, bool]:
    """Return what rows the model can read, and whether a wrong reading would have been seen."""
    try:
        text = _Text(model)
    except Exception as error:
        return Trust(refused=_refusal(error)), isinstance(error, UsageError)
    expected = text.predicting()

    def differs(read: Callable[[], Tensor]) -> str:
        try:
            apart = distance(read(), expected)
        except Exception as error:
            return f"cannot read packed sequences ({type(error).__name__})"
        return "" if apart <= text.close_states else f"reads packed sequences otherwise than alone (by {apart:.1g})"

    flat, tree = flat_row(text.sequences), shared_row(text.sequences)
    places = torch.tensor(flat.predicting)
    why = differs(lambda: hidden_states(model, flat, False)[0, places])
    if not why and text.certain:
        segments = _by_segment(model) and not differs(lambda: predicting_states(model, tree, True))
        return Trust("packed", segments, *_limits(model), after=text.after), True
    why = why or "is not seen to tell sequences apart"
    alone = differs(lambda: padded_states(model, text.sequences))
    return Trust("alone" if alone else "padded", turn=_limits(model)[1], after=text.after, why=why), text.certain


def _limits(model: nn.Module) -> tuple[int, int]:
    """Return `Trust.reach` and `Trust.turn`: what a configuration declares beyond the lengths that are tried."""
    config: Any = base_model(model).config.get_text_config()
    declared = config.to_dict()
    known = config.model_type in PLAIN_FAMILIES
    windows = [n for n in numbers(declared, re.compile(r"window(?!_layers)|chunk")) if n > _LONGEST_TRIED]
    rope = declared.get("rope_parameters") or declared.get("rope_scaling")
    turns: list[int] = []
    if re.search("dynamic|longrope", str(rope)):
        turns = list(numbers(declared, re.compile("original_max_position"))) or [max_positions(model) or 0]
    return 0 if known else min(windows, default=0), min(turns, default=0)


def _refusal(error: Exception) -> str:
    if isinstance(error, UsageError):
        return str(error)
    return f"cannot read a text by itself ({type(error).__name__}: {' '.join(str(error).split())[:120]})"


def _tried_readers(names: Sequence[str], model: nn.Module) -> tuple[Trust, bool]:
    """Return the first of the readers that is right, and whether a wrong one would have been seen."""
    try:
        text = _Text(model)
    except Exception as error:
        return Trust(refused=_refusal(error)), isinstance(error, UsageError)
    for name in names:
        with contextlib.suppress(Exception):
            found_after_head(base_model(model), text.after)
            if _continues(_READERS[name](model), text):
                return Trust(reader=name, after=text.after), text.certain
    # Not even the model's own cache gives what it reads at once: it is taken at its word, a row at a time.
    return Trust(reader="single", after=text.after), text.certain


def _continues(reader: Reader, text: _Text) -> bool:
    """Return whether a reader gives the logits of the last tokens: of all sequences, then of two in another order."""
    order = [0, 2, 1, 2]  # two of one length, and a longer one before shorter ones
    inputs, expected = ([source[i] for i in order] for source in (text.inputs, text.logits))
    near = distance(reader.begin([ids[:-3] for ids in inputs]), torch.stack([e[-4] for e in expected]))
    for step in (-3, -2, -1):
        if step == -2:
            reader.keep([3, 2, 1])
            inputs, expected = ([source[i] for i in (3, 2, 1)] for source in (inputs, expected))
        ids = torch.tensor([[sequence[step]] for sequence in inputs], device=reader.device)
        positions = torch.tensor([[len(sequence) + step] for sequence in inputs], device=reader.device)
        near = max(near, distance(reader.read(ids, positions)[:, -1], torch.stack([e[step] for e in expected])))
    return near <= text.close_logits
