"""A whole run as ``config.yaml`` holds it: joined from a recipe, a model's preset, a file and ``--set``."""

import contextlib
import importlib.metadata
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import yaml

from unisd import __version__
from unisd.devices import chosen_device
from unisd.errors import UsageError
from unisd.models import LoraSettings, ModelSettings
from unisd.models.load import is_adapter, weights_folder
from unisd.settings import Field, build, group, plain, unknown
from unisd.training.arguments import OwnArguments, UniSDConfig, all_arguments, groups, moved
from unisd.training.fields import check_fields
from unisd.training.foreign import hint


@group
class TaskSettings:
    """What is learned."""

    name: str = "cos_e"
    """A task (``unisd list tasks``)."""
    source: str | None = None
    """null: the task's default; hub; sample (bundled); or a folder with the official files."""
    split: str | None = None
    """null: the task's training split."""
    limit: int | None = Field(default=None, ge=1)
    """Train on this many items, drawn by ``training.seed``; null: all."""
    hold_out: int = Field(default=0, ge=0)
    """Keep this many items of the split from training, the same for every seed: to choose settings on."""


STARTED_IN = "started_in"
"""In a run's settings: the folder that its relative paths were seen from, where it has any."""
_RUN: dict[str, type[Any]] = {"task": TaskSettings, "model": ModelSettings, "lora": LoraSettings}
_NOT_SETTINGS = ("recipe", "description", "versions", "command", STARTED_IN)


def all_groups() -> dict[str, type[Any]]:
    """Return every group that a run file may have, by name, as it is documented."""
    return {**_RUN, "training": OwnArguments, **groups()}


@dataclass
class RunSettings:
    """A whole run."""

    recipe: str | None
    description: str
    task: TaskSettings
    model: ModelSettings
    lora: LoraSettings
    training: dict[str, Any]
    """The trainer's arguments apart from the groups, as far as they are set."""
    groups: dict[str, dict[str, Any]]
    """Every group of `UniSDConfig` as plain values, whole."""

    def config(self, output_dir: str | Path) -> UniSDConfig:
        """Build the trainer's arguments.

        Raises:
            UsageError: settings that contradict each other, or that transformers refuses.
        """
        config = UniSDConfig(str(output_dir), **self._training_on(chosen_device(self.model.device)), **self.groups)
        if config.eval_strategy.value != "no" or config.eval_on_start:
            raise UsageError(
                "training.eval_strategy: a run holds no items back to measure its objective on; "
                "leave it out, and measure with unisd evaluate"
            )
        return config

    def _training_on(self, device: torch.device) -> dict[str, Any]:
        """Return the trainer's arguments with what the model's device says of them."""
        if device.type == "cpu" and self.model.device != "auto":
            return self.training | {"use_cpu": True}
        if self.model.device != "auto" and torch.device(self.model.device).index:
            raise UsageError("model.device: training takes the first device that it sees; set CUDA_VISIBLE_DEVICES")
        return self.training

    def about(self) -> dict[str, Any]:
        """Return what the trainer's arguments do not hold: recipe, task, model and adapter."""
        return {"recipe": self.recipe, **{name: plain(getattr(self, name)) for name in _RUN}}

    def plain(self) -> dict[str, Any]:
        """Return the settings as nested plain values, in the form in which a run file is written."""
        run = {name: plain(getattr(self, name)) for name in _RUN}
        about = {"recipe": self.recipe, "description": self.description}
        return {**about, **run, "training": dict(self.training), **self.groups}

    def opened(self, output_dir: str | Path) -> tuple[UniSDConfig, dict[str, Any]]:
        """Build the trainer's arguments; return them, and every setting with versions as ``config.yaml`` holds them.

        Both at once: making a second configuration later would reset the state of accelerate under the trainer.
        """
        values, config = self.plain(), self.config(output_dir)
        skipped = {*self.groups, "output_dir", "logging_dir"}
        values["training"] = {name: value for name, value in config.to_dict().items() if name not in skipped}
        values["versions"] = {"unisd": __version__} | _versions()
        if any(_lies(self.plain(), *field, Path()) for field in _PLACES):
            values[STARTED_IN] = str(Path.cwd())
        return config, yaml.safe_load(dumped(values))


def _versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "transformers", "peft", "accelerate", "datasets"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # a run from files needs no datasets
            found[name] = importlib.metadata.version(name)
    return found


def recipe_names() -> list[str]:
    """Return the names of all recipes."""
    names = (file.name for file in resources.files("unisd.recipes").iterdir())
    return sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml") and n[0] != "_" and n != "models.yaml")


def load_recipe(name: str) -> dict[str, Any]:
    """Return a recipe's values, its bases merged in.

    Raises:
        UsageError: there is no such recipe.
    """
    file = resources.files("unisd.recipes") / f"{name}.yaml"
    if name not in recipe_names() and not (str(name).startswith("_") and file.is_file()):
        raise UsageError(f"unknown recipe '{name}'; {unknown(name, recipe_names())}")
    values = _yaml(file.read_text(encoding="utf-8"), f"recipe {name}")
    bases = values.pop("base", [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        merged = merge(merged, load_recipe(base))
    return merge(merged, values)


def model_presets() -> dict[str, dict[str, Any]]:
    """Return what is known of models by their short names (``recipes/models.yaml``)."""
    return _yaml((resources.files("unisd.recipes") / "models.yaml").read_text(encoding="utf-8"), "models.yaml")


def assemble(
    recipe: str | None = None,
    file: str | Path | None = None,
    overrides: list[str] | None = None,
    given: dict[str, Any] | None = None,
) -> RunSettings:
    """Join a recipe, a run file, command-line values and ``--set`` overrides, later ones first in rank.

    Args:
        recipe: a recipe's name; a ``recipe:`` line in the file serves as well.
        file: a run file (YAML).
        overrides: ``group.field=value`` texts; values are read as YAML.
        given: nested values from named command-line options.

    Raises:
        UsageError: an unknown name, a value of the wrong type, settings that contradict each other.
    """
    in_file = read_run_file(Path(file)) if file else {}
    recipe = recipe or in_file.get("recipe")
    set_by_hand: dict[str, Any] = {}
    for text in overrides or []:
        set_by_hand = merge(set_by_hand, parse_override(text))
    asked: dict[str, Any] = {}
    for layer in (in_file, given or {}, set_by_hand):
        asked = merge(asked, moved(layer))
    values = merge(moved(load_recipe(recipe)) if recipe else {}, asked)
    settings = _checked(_with_preset(values | {"recipe": recipe}))
    if settings.lora.start == "continue" and is_adapter(settings.model.name):
        settings.lora = settings.lora.of_adapter(weights_folder(settings.model.name), asked.get("lora", {}))
    return settings


_PLACES = (("task", "name"), ("task", "source"), ("model", "name"))
"""Settings that may be a path."""


def _lies(values: Mapping[str, Any], part: str, field: str, folder: Path) -> bool:
    """Return whether a setting is a relative path of something that lies in ``folder``."""
    inside = values.get(part)
    name = inside.get(field) if isinstance(inside, dict) else None
    if not isinstance(name, str) or not name or Path(name).is_absolute():
        return False
    if part == "task" and field == "name" and not name.endswith((".yaml", ".yml")):
        return False
    return name not in ("hub", "sample", *model_presets()) and (folder / name).exists()


def _placed(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings of which relative paths that lead nowhere from here are those where the run was started."""
    started = Path(str(values.get(STARTED_IN) or ""))
    for part, field in _PLACES if values.get(STARTED_IN) else ():
        if _lies(values, part, field, started) and not _lies(values, part, field, Path()):
            values = merge(values, {part: {field: str(started / values[part][field])}})
    return values


def read_run_file(file: Path) -> dict[str, Any]:
    """Read a run file, in which settings may have earlier names; a run's own relative paths are found from anywhere.

    Raises:
        UsageError: it is missing or not a YAML mapping.
    """
    return _placed(moved(read_yaml(file)))


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        UsageError: it is missing, or no such file.
    """
    try:
        return _yaml(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}; give a YAML file") from error


def parse_override(text: str) -> dict[str, Any]:
    """Turn ``group.field=value`` into nested values; the value is read as YAML (``false`` is false, not a text).

    Raises:
        UsageError: the text has no ``=`` or no group.
    """
    name, equals, value = text.partition("=")
    parts = name.strip().split(".")
    if not equals or len(parts) != 2 or not all(parts):
        other = hint(name.strip())
        raise UsageError(f"--set {text}: {other or 'write group.field=value, for example --set rollout.top_p=0.9'}")
    try:
        read = yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {text}: the value is not YAML; quote it") from error
    return {parts[0]: {parts[1]: read}}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on top, field by field."""
    result = dict(base)
    for name, value in over.items():
        below = result.get(name)
        result[name] = {**below, **value} if isinstance(value, dict) and isinstance(below, dict) else value
    return result


def dumped(values: Mapping[str, Any]) -> str:
    """Return nested plain values as YAML."""
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120))


def differences(kept: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings that differ between two mappings by `opened`: their names, and their values in each."""
    for name in [name for name in asked if name not in _NOT_SETTINGS]:
        for field, value in asked[name].items():
            before = kept.get(name, {}).get(field)
            if before != value:
                yield f"{name}.{field}", before, value


def model_settings(asked: Mapping[str, Any], adapter: bool) -> ModelSettings:
    """Return the settings of a model that is asked for, with what is known of a model of its name.

    Args:
        asked: some of them, among them perhaps its name.
        adapter: whether an adapter is trained; else all weights are.

    Raises:
        UsageError: an unknown setting, or a value of the wrong type.
    """
    given = _with_preset({"model": dict(asked), "lora": {"enabled": adapter}})["model"]
    return build(ModelSettings, given, "model")  # type: ignore[no-any-return]


def _with_preset(values: dict[str, Any]) -> dict[str, Any]:
    """Lay a known model's preset under what was set: hub id and dtype."""
    model = values.get("model", {})
    if not isinstance(model, dict):
        return values
    asked = model.get("name", ModelSettings().name)
    preset = next((p for short, p in model_presets().items() if asked in (short, p["name"])), None)
    if preset is None and is_adapter(str(asked)) and (Path(str(asked)) / "config.yaml").is_file():
        of_run = read_run_file(Path(str(asked)) / "config.yaml").get("model")
        preset = {"name": asked, "dtype": of_run["dtype"]} if isinstance(of_run, dict) and "dtype" in of_run else None
    if preset is None:
        return values
    dtype, lora, training = preset["dtype"], values.get("lora"), values.get("training")
    if isinstance(lora, dict) and lora.get("enabled") is False and dtype == "bfloat16" and "dtype" not in model:
        # All weights are trained: small steps need single precision, in which they are kept; products are bfloat16's.
        dtype = "float32"
        if torch.accelerator.is_available() and isinstance(training, dict | None):
            values = values | {"training": {"bf16": True, **(training or {})}}
    return values | {"model": {"dtype": dtype, **model, "name": preset["name"]}}


def _checked(values: dict[str, Any]) -> RunSettings:
    known = all_groups() | {"training": all_arguments()}
    if isinstance(values.get("training"), Mapping):
        check_fields(values["training"], [plain(OwnArguments())], "training.")
        for name in values["training"]:
            if name not in known["training"].__pydantic_fields__ and (other := hint(str(name))):
                raise UsageError(f"training.{name}: no such setting; {other}")
    for name in values:
        if name not in known and name not in _NOT_SETTINGS:
            raise UsageError(f"unknown settings group '{name}'; {hint(name) or unknown(name, known)}")
    built = {name: build(cls, values.get(name, {}), name) for name, cls in known.items()}
    if built["model"].quantization != "none" and not built["lora"].enabled:
        raise UsageError("model.quantization: weights in few bits cannot be trained; leave lora.enabled=false out")
    return RunSettings(
        values.get("recipe"),
        str(values.get("description", "")),
        **{name: built[name] for name in _RUN},
        training=dict(values.get("training", {})),
        groups={name: plain(built[name]) for name in groups()},
    )


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-4 is a number and ``no`` a text (YAML 1.1 has a text and a boolean)."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":bool")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), [*"tTfF"]
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), [*"-+0123456789."]
)


def _yaml(text: str, where: str) -> dict[str, Any]:
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{where}{line}: not valid YAML; repair it") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{where}: a mapping of settings was expected")
    return values
