"""From what a user names to the weights that are evaluated."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from unisd import fast
from unisd.contexts import PromptBuilder
from unisd.devices import chosen_device
from unisd.errors import UsageError
from unisd.fast import Mode
from unisd.models import load_model, load_tokenizer
from unisd.models.load import DTYPES, STARTS, base_of, is_adapter, load_on_base, weights_fingerprint
from unisd.tasks.turns import Thoughts
from unisd.training.runfile import model_presets, read_run_file


@dataclass(frozen=True)
class Found:
    """Where a model's parts lie."""

    weights: str
    tokenizer: str
    dtype: str
    run: Path | None
    """The run's folder, where a run was named."""
    base: str | None = None
    """What the run adapted, where a run was named."""
    trained_on: str | None = None
    """The task that the run was trained on, where a run was named."""
    fast: Mode | None = None
    """Whether the run took fast paths, where a run was named."""
    template_kwargs: Mapping[str, Any] | None = None
    """What the run's prompts gave the chat template, where a run was named."""
    quantization: str = "none"
    """How the run kept the base's weights, where a run was named."""
    trust_remote_code: bool = False
    """Whether the run was told to run code that comes with its model, where a run was named."""


@dataclass(frozen=True)
class Own:
    """How a run asked its own task while it was trained."""

    run: str
    """As the user named it."""
    task: str
    source: str | None
    split: str | None
    max_new_tokens: int | None
    """The length of its completions."""
    thoughts: Thoughts
    template_kwargs: Mapping[str, Any] | None = None


def own_of(name: str) -> Own | None:
    """Return what a run's folder says of its task; None where it says nothing.

    Raises:
        UsageError: the run's settings cannot be read.
    """
    settings = read_run_file(Path(name) / "config.yaml")
    task, rollout, contexts = (settings.get(group) or {} for group in ("task", "rollout", "contexts"))
    if not all(isinstance(group, dict) for group in (task, rollout, contexts)) or not task.get("name"):
        return None
    room, thoughts = rollout.get("max_completion_length"), rollout.get("thoughts", "cut")
    template = contexts.get("template_kwargs")
    return Own(name, str(task["name"]), task.get("source"), task.get("split"), room, thoughts, template)


def find_model(name: str) -> Found:
    """Find a run's folder, an adapter, a model folder, a short name or a hub id.

    Raises:
        UsageError: the run has no trained weights yet, or the folder is no model.
    """
    folder = Path(name)
    if (folder / "config.yaml").is_file():
        settings = read_run_file(folder / "config.yaml")
        model, task = settings.get("model"), settings.get("task") or {}
        if not isinstance(model, dict) or not {"name", "dtype"} <= model.keys() or not isinstance(task, dict):
            raise UsageError(
                f"{folder / 'config.yaml'}: it does not say which model was adapted; name the adapter itself"
            )
        if model["dtype"] not in DTYPES:
            raise UsageError(f"{folder / 'config.yaml'}: model.dtype is {model['dtype']!r}; is the file cut off?")
        for part in ("adapter", "model"):
            if (folder / part).is_dir():
                weights = str(folder / part)
                kept = next((str(folder / start) for start in STARTS if (folder / start).is_dir()), model["name"])
                template = (settings.get("contexts") or {}).get("template_kwargs")
                told = (model["dtype"], folder, kept, task.get("name"), model.get("fast"), template)
                few_bits, trust = model.get("quantization", "none"), model.get("trust_remote_code", False)
                return Found(weights, weights, *told, quantization=few_bits, trust_remote_code=trust)
        raise UsageError(f"{name}: the run has no adapter yet; finish it with unisd train --output {name} --resume")
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise UsageError(f"{name}: neither a run (config.yaml), nor an adapter, nor a model lies there")
        return Found(name, name, "float32", None)
    preset = next((known for short, known in model_presets().items() if name in (short, known["name"])), None)
    if preset is not None:
        return Found(preset["name"], preset["name"], preset["dtype"], None)
    return Found(name, name, "float32", None)


class Loaded:
    """A model to be evaluated, and the model before it was adapted.

    Under LoRA that is the same copy with the adapter off, unless the adapter began from another one, or its parameters
    include the base's own: then it is loaded beside it when it is first asked for.

    Args:
        name: as a user names it; see :func:`find_model`.
        device: where it is placed: auto, or as PyTorch names it.
        device_map: how it is spread over several devices, as transformers reads it.
        found: where its parts lie, where the caller knows it.

    Raises:
        UniSDError: there is no such model, or no such device.
    """

    def __init__(
        self, name: str, device: str = "auto", device_map: str | None = None, found: Found | None = None
    ) -> None:
        self.name = name
        self.found = found or find_model(name)
        self._where: dict[str, Any] = {"device": chosen_device(device, "--device"), "device_map": device_map}
        found, weights, trust = self.found, self.found.weights, self.found.trust_remote_code
        self.tokenizer: Any = load_tokenizer(found.tokenizer, trust)
        self._before = found.base
        self._off = False
        if not is_adapter(weights):
            self.model = load_model(weights, found.dtype, trust, quantization=found.quantization, **self._where)
        else:
            self.model, base_is_kept = load_on_base(weights, found.dtype, found.quantization, trust, **self._where)
            self._off = base_is_kept and not (self._before and is_adapter(self._before))
            self._before = self._before or base_of(weights)
        self._base: nn.Module | None = None

    @property
    def has_base(self) -> bool:
        """Whether it is known what was adapted."""
        return self._before is not None

    def builder(self, template_kwargs: Mapping[str, Any] | None = None) -> PromptBuilder:
        """Return who makes the prompts: as the run did, or with other variables of the chat template."""
        given = self.found.template_kwargs if template_kwargs is None else template_kwargs
        return PromptBuilder(self.tokenizer, "paper", template_kwargs=given)

    def fingerprint(self, base: bool = False) -> str:
        """Return the fingerprint of the adapted weights, or of the base's."""
        with self.weights(base) as model:
            return weights_fingerprint(model, adapter=not (base and self._off))

    @contextlib.contextmanager
    def weights(self, base: bool = False) -> Iterator[nn.Module]:
        """Yield the model with the adapted weights, or its base; fast paths are taken as the run took them.

        Raises:
            UsageError: the base is asked for, and nothing says what it is.
        """
        model: Any = self.model
        with fast.use(self.found.fast) if self.found.fast else contextlib.nullcontext():
            if not base:
                yield model
            elif self._off:
                with model.disable_adapter():
                    yield model
            elif self._before is not None:
                if self._base is None:
                    found, how = self.found, {"quantization": self.found.quantization, **self._where}
                    self._base = load_model(self._before, found.dtype, found.trust_remote_code, **how)
                yield self._base
            else:
                raise UsageError(f"{self.name}: it is not known what it was adapted from; name a run or an adapter")
