"""A study as its file says it: what is compared, on what, how often, and when it is asked."""

from pathlib import Path
from typing import Any

from unisd.errors import UsageError
from unisd.settings import Field, build, group, unknown
from unisd.training.runfile import all_groups, read_yaml, recipe_names


@group
class StudyTask:
    """A task of a study, and which of its items serve what."""

    source: str | None = None
    """null: the task's default; hub; sample (bundled); or a folder with the official files."""
    items: int | None = Field(default=None, ge=1)
    """Train on this many items, the same for every arm and seed; null: all that are not for validation."""
    validation: int = Field(default=0, ge=0)
    """Items of the training split that are kept from training, to choose on (``select``)."""
    test: int | None = Field(default=None, ge=1)
    """Ask this many items of the task's evaluation split; null: all."""
    split: str | None = None
    """Where the test items come from; null: the task's evaluation split."""
    cluster: str | None = None
    """A field of the items: those that share its value were drawn together (questions on one passage); null: none were.
    Subjects are no clusters, unless other subjects could as well have been drawn."""


@group
class Arm:
    """One way to train."""

    recipe: str | None = None
    """Where its settings come from (``unisd list recipes``); null: the design's arm of this name, else core."""
    set: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings laid over the recipe's, as in a run file: a group's name, and in it fields with values."""
    seeds: list[int] | None = None
    """null: the study's."""


@group
class Select:
    """A setting that each arm may choose for itself: by validation items, every arm from the same values."""

    setting: str = "training.learning_rate"
    """The setting, as ``group.field``."""
    values: list[Any] = Field(default_factory=list, min_length=1)
    """What is tried, once for every arm, task and model."""
    seed: int = 0
    """The seed of these runs."""


@group
class Asking:
    """When and how a run is asked."""

    at: list[int] = Field(default_factory=list)
    """After these optimizer steps, and always after the last: an arm is a path of gain and drift, not a point."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Room for an answer; null: the task's."""
    batch_size: int = Field(default=32, ge=1)
    """Answers written at a time."""
    retention: bool = True
    """Measure how far the model has moved from its base."""


@group
class StudySettings:
    """A study."""

    name: str = ""
    """What it is called; a folder of results belongs to one name."""
    description: str = ""
    """The question, in words."""
    tasks: dict[str, dict[str, Any] | None] = Field(default_factory=dict)
    """By name, with ``source``, ``items``, ``validation``, ``test`` and ``split``."""
    models: list[str] = Field(default_factory=lambda: ["smollm2-135m"], min_length=1)
    """Short names, hub ids or folders."""
    seeds: list[int] = Field(default_factory=lambda: [0, 1, 2], min_length=1)
    """One run for each."""
    control: str = "core"
    """The recipe without components."""
    full: str = "unisd"
    """The recipe with all of them: a component is a group of settings in which it differs from ``control``."""
    designs: list[Any] = Field(default_factory=list)
    """one-at-a-time, leave-one-out, pairs, factorial, or ``{sweep: group.field, values: […], recipe: …}``."""
    arms: dict[str, dict[str, Any] | None] = Field(default_factory=dict)
    """Further arms by name, with ``recipe``, ``set`` and ``seeds``."""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Laid over every arm's recipe, under its own ``set``."""
    select: dict[str, Any] | None = None
    """A setting that each arm chooses by validation items: ``setting``, ``values``, ``seed``."""
    evaluate: dict[str, Any] = Field(default_factory=dict)
    """When and how runs are asked: ``at``, ``max_new_tokens``, ``batch_size``, ``retention``."""
    differ: list[str] = Field(default_factory=list)
    """Settings in which arms may differ although they decide how much work an arm gets: they are the question."""
    reference: list[str] = Field(default_factory=lambda: ["base", "sft", "core"])
    """The arms that every other one is compared with, as far as the study has them."""
    price: float | None = Field(default=None, gt=0)
    """What an hour of a device costs, for estimates."""
    seconds_per_step: float | None = Field(default=None, gt=0)
    """What a step takes where none was measured yet, for estimates."""


@group
class Sweep:
    """A design that varies one setting."""

    sweep: str = ""
    """The setting, as ``group.field``."""
    values: list[Any] = Field(default_factory=list, min_length=1)
    """An arm for each."""
    recipe: str = "core"
    """What it is laid over."""


GRIDS: tuple[str, ...] = ("one-at-a-time", "leave-one-out", "pairs", "factorial")


class Study:
    """A study file, read and checked.

    Args:
        values: what it says, as plain values.
        where: the file's name, for messages.

    Raises:
        UsageError: an unknown key, design, recipe or group, or a value of another type; one line.
    """

    def __init__(self, values: dict[str, Any], where: str = "study") -> None:
        self.about = build(StudySettings, values, where)
        if not self.about.tasks:
            raise UsageError(f"{where}: no task; give one under tasks:, such as tasks: {{cos_e: {{test: 300}}}}")
        name = self.about.name or Path(where).stem
        self.name = name
        self.tasks = {name: build(StudyTask, v or {}, f"{where}: tasks.{name}") for name, v in self.about.tasks.items()}
        self.arms = {name: build(Arm, v or {}, f"{where}: arms.{name}") for name, v in self.about.arms.items()}
        self.evaluate = build(Asking, self.about.evaluate, f"{where}: evaluate")
        self.select = None if self.about.select is None else build(Select, self.about.select, f"{where}: select")
        self.sweeps: list[Sweep] = []
        self.designs: list[str] = []
        for design in self.about.designs:
            if isinstance(design, dict):
                self.sweeps.append(build(Sweep, design, f"{where}: designs"))
            elif design in GRIDS:
                self.designs.append(design)
            else:
                raise UsageError(f"{where}: designs: '{design}'; {unknown(str(design), [*GRIDS, 'sweep'])}")
        for arm in self.arms.values():
            _known("recipe", arm.recipe or "core", recipe_names(), where)
        for recipe in (self.about.control, self.about.full, *(s.recipe for s in self.sweeps)):
            _known("recipe", recipe, recipe_names(), where)
        for groups in (self.about.settings, *(arm.set for arm in self.arms.values())):
            for group_name in groups:
                _known("group of settings", group_name, all_groups(), where)
        for setting in (*(s.sweep for s in self.sweeps), *([self.select.setting] if self.select else [])):
            if setting.count(".") != 1:
                raise UsageError(f"{where}: '{setting}' is no setting; write group.field, such as clipping.cap")
        if self.select and not all(task.validation for task in self.tasks.values()):
            raise UsageError(f"{where}: select needs items to choose on; give every task validation: 100 or so")
        if twice := [seed for seed in self.about.seeds if self.about.seeds.count(seed) > 1]:
            raise UsageError(f"{where}: seed {twice[0]} stands twice; give each once")
        if self.about.settings.get("training", {}).get("seed") is not None:
            raise UsageError(f"{where}: settings.training.seed: seeds are the study's; use seeds: […]")


def read_study(path: Path) -> Study:
    """Read a study file (YAML).

    Raises:
        UsageError: it is missing, no YAML mapping, or no study; one line.
    """
    return Study(read_yaml(path), str(path))


def _known(what: str, name: str, known: Any, where: str) -> None:
    if name not in known:
        raise UsageError(f"{where}: unknown {what} '{name}'; {unknown(name, known)}")
