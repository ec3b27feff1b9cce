"""Whether a model reads packed rows, padded rows and its own cache as it reads a text alone: tried out, once.

Families differ in what they make of restarting positions, padding and caches, and code from elsewhere may do anything.
So before a model is first read a few tokens are, in each way and alone (`models.trial`), and the fastest way that gives
the same is taken. What was found is kept in the user's cache, by everything that it depends on.
"""

import contextlib
import hashlib
import importlib.metadata
import inspect
import json
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unisd import fast
from unisd.devices import kept_randomness
from unisd.errors import UniSDError, UsageError, warn_once
from unisd.files import cache_folder, fingerprint, write_json
from unisd.models.head import AFTER, found_after_head
from unisd.models.load import base_model
from unisd.models.readers import Reader
from unisd.models.trial import READERS, ROWS, Trust, by_segment, tried

_HOW = dict(zip(ROWS, ("", ", in padded batches", ", without company"), strict=True))
# What decides how texts are read besides PyTorch, transformers and this package, where it is installed.
_KERNELS = ("accelerate", "bitsandbytes", "causal-conv1d", "flash-attn", "flash-linear-attention", "kernels")
_OF_KNOWN_VERSION = ("torch", "transformers", "peft", "mamba-ssm", *_KERNELS)
_NOT_OF_THE_READING = ("_name_or_path", "transformers_version", "architectures", "use_cache")
_MEMORY: "weakref.WeakKeyDictionary[nn.Module, dict[str, Trust]]" = weakref.WeakKeyDictionary()
_ASSUMED: "weakref.WeakKeyDictionary[nn.Module, Trust]" = weakref.WeakKeyDictionary()


def trusted(model: nn.Module) -> Trust:
    """Return how ``model`` may be read; the first time one line says so where rows are not packed.

    Args:
        model: wrapped or not (PEFT, DDP).

    Raises:
        UsageError: the model does not read a text from left to right, or its head is not a plain output layer.
    """
    inner: Any = _plain(model)
    if inner in _ASSUMED:
        return _ASSUMED[inner]
    readers = [name for name, reader in READERS.items() if reader.suits(model)]
    kernels = [getattr(part, "_attn_implementation", None) for part in (inner.config, inner.config.get_text_config())]
    device = next(inner.parameters()).device.type
    condition = [kernels, str(inner.dtype), device, fast.enabled(), by_segment(inner), readers]
    known, name = _MEMORY.setdefault(inner, {}), fingerprint(*condition)
    if name not in known:
        known[name] = _found(inner, condition, readers)
        found_after_head(base_model(inner), known[name].after)
    trust, of = known[name], f"model: {type(base_model(inner)).__name__}"
    if trust.refused:
        raise UsageError(f"{of} {trust.refused}; choose a causal language model for text")
    if trust.why:
        warn_once(f"{of} {trust.why}; it reads one sequence a row{_HOW[trust.rows]}, which is slower")
    return trust


def assume(model: nn.Module, trust: Trust) -> None:
    """Take how ``model`` may be read as given: for models without weights, which cannot be tried out."""
    _ASSUMED[_plain(model)] = trust


def trusted_reader(model: nn.Module) -> type[Reader]:
    """Return how ``model`` may continue texts: the fastest reader that gives what reading alone gives."""
    return READERS[trusted(model).reader]


def _found(model: nn.Module, condition: Sequence[Any], readers: Sequence[str]) -> Trust:
    file = _file(model, condition)
    trust = None if file is None else _read(file)
    if trust is None:
        with _undisturbed(model):
            trust, certain = tried(model, readers)
        if certain and file is not None:
            with contextlib.suppress(UniSDError, OSError):
                write_json(file, asdict(trust))
    return trust


def _read(file: Path) -> Trust | None:
    """Return what a file says; a broken one says nothing."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        trust = Trust(**json.loads(file.read_text(encoding="utf-8")))
        default = asdict(Trust())
        typed = all(type(value) is type(default[name]) for name, value in asdict(trust).items())
        if typed and trust.rows in ROWS and trust.reader in READERS and trust.after in AFTER:
            return trust
    return None


def _file(model: Any, condition: Sequence[Any]) -> Path | None:
    """Return where the finding is kept; None where the code that reads cannot be told apart."""
    code = _code(model)
    if code is None:
        return None
    versions = {}
    for name in _OF_KNOWN_VERSION:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    declared = {key: value for key, value in model.config.to_dict().items() if key not in _NOT_OF_THE_READING}
    of = f"{type(model).__module__}.{type(model).__qualname__}"
    key = fingerprint(of, code, versions, *condition, json.dumps(declared, sort_keys=True, default=str))
    return cache_folder() / "reading" / f"{key}.json"


def _code(model: nn.Module) -> str | None:
    """Return a hash of the code that reads, but for that of packages whose version is known; None if it is hidden."""
    digest = hashlib.blake2b(digest_size=8)
    known = {name.replace("-", "_") for name in _OF_KNOWN_VERSION}
    kinds = {kind.__module__: kind for kind in {type(module) for module in model.modules()}}
    foreign = [kind for name, kind in sorted(kinds.items()) if name.split(".")[0] not in known]
    try:
        paths = [Path(str(inspect.getsourcefile(kind))) for kind in foreign]
        own = [path for room in ("fast", "models") for path in (Path(__file__).parent.parent / room).glob("*.py")]
        for path in [*sorted(own), *paths]:
            digest.update(path.read_bytes())
    except (OSError, TypeError):
        return None
    return digest.hexdigest()


def _plain(model: nn.Module) -> nn.Module:
    """Return the model without wrappers, but with what puts tokens of its own before a text."""
    model = getattr(model, "module", model)
    prompts = any(getattr(c, "is_prompt_learning", False) for c in getattr(model, "peft_config", {}).values())
    return model if prompts else base_model(model)


@contextlib.contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Read without gradient and dropout, and leave the random streams and the modules' modes as they were."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad(), kept_randomness(next(model.parameters()).device):
            yield
    finally:
        for module in training:
            module.training = True
