"""The arms of a study: designs over components become whole settings, which differ in what is asked and nothing else.

A component is a group of settings in which the full recipe differs from the control: none is named here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from unisd.errors import UsageError
from unisd.studies.settings import Study
from unisd.training.runfile import RunSettings, assemble, load_recipe, merge, parse_override

_WORK = ("training", "lora", "task", "model")
"""The groups that decide how much work and which data an arm gets."""
_ALSO = ("rollout.max_completion_length", "contexts.max_prompt_length")


@dataclass(frozen=True)
class StudyArm:
    """One arm, for any task, model and seed."""

    name: str
    recipe: str
    given: dict[str, Any] = field(default_factory=dict)
    """What is laid over the recipe, as in a run file."""
    components: frozenset[str] | None = None
    """Which components are on, where a design says so."""
    seeds: tuple[int, ...] = ()
    may_differ: frozenset[str] = frozenset()
    """Settings of a sweep."""

    def settings(self, more: Mapping[str, Any]) -> RunSettings:
        """Return the whole settings of a run.

        Raises:
            UsageError: they contradict each other; the arm is named.
        """
        try:
            return assemble(self.recipe, given=merge(self.given, more))
        except UsageError as error:
            raise UsageError(f"arm {self.name}: {error}") from error


def components(control: str, full: str) -> dict[str, dict[str, Any]]:
    """Return the groups in which the recipe ``full`` differs from ``control``, as ``full`` has them."""
    plain, whole = load_recipe(control), load_recipe(full)
    skipped = (*_WORK, "recipe", "description", "base")
    found = {name: values for name, values in whole.items() if name not in skipped and values != plain.get(name)}
    if not found:
        raise UsageError(f"recipes {control} and {full} differ in no group, so there is no component to study")
    return found


def study_arms(study: Study) -> list[StudyArm]:
    """Return all arms of a study, those of its designs first; equal ones once.

    Raises:
        UsageError: two arms of one name, or no arm at all.
    """
    about = study.about
    seeds = tuple(about.seeds)
    arms: dict[str, StudyArm] = {}

    def add(arm: StudyArm) -> None:
        if arm.name in arms and arms[arm.name] != arm:
            raise UsageError(
                f"{study.name}: two arms are called '{arm.name}'; rename the one under arms, or give it seeds alone"
            )
        arms[arm.name] = arm

    if study.designs:
        parts = components(about.control, about.full)
        for chosen in _subsets(study.designs, list(parts)):
            name = _name(chosen, list(parts), about.control, about.full)
            given = merge(about.settings, {part: parts[part] for part in parts if part in chosen})
            add(StudyArm(name, about.control, given, frozenset(chosen), seeds))
    for sweep in study.sweeps:
        for value in sweep.values:
            given = merge(about.settings, parse_override(f"{sweep.sweep}={_text(value)}"))
            name = f"{sweep.recipe} {sweep.sweep}={_text(value)}"
            add(StudyArm(name, sweep.recipe, given, None, seeds, frozenset({sweep.sweep})))
    for name, arm in study.arms.items():
        own = seeds if arm.seeds is None else tuple(arm.seeds)
        of_design = arms.get(name)
        if of_design is not None and not arm.set and arm.recipe in (None, of_design.recipe):
            arms[name] = replace(of_design, seeds=own)
            continue
        given = about.settings
        for group_name, values in arm.set.items():
            given = merge(given, {group_name: values})
        add(StudyArm(name, arm.recipe or "core", given, None, own))
    if not arms:
        raise UsageError(f"{study.name}: no arm; give designs: [one-at-a-time] or arms: {{sft: {{recipe: sft}}}}")
    return list(arms.values())


def check_equal_work(study: Study, arms: list[StudyArm], more: Mapping[str, Any]) -> None:
    """Make sure that every arm gets the same steps, batch, items, adapter and room, unless the file says otherwise.

    Raises:
        UsageError: one differs; it is named with the setting and both values.
    """
    allowed = set(study.about.differ) | ({study.select.setting} if study.select else set())
    first, *others = [(arm, _work(arm.settings(more))) for arm in arms]
    for arm, work in others:
        for name, value in work.items():
            free = {name, name.partition(".")[0]} & (allowed | arm.may_differ | first[0].may_differ)
            if value != first[1].get(name) and not free:
                raise UsageError(
                    f"{study.name}: arms differ in {name}: {first[1].get(name)!r} in {first[0].name}, {value!r} in "
                    f"{arm.name}; set it under settings:, or list it under differ: if it is the question"
                )
    if not first[1].get("training.max_steps", -1) > 0 and "training.max_steps" not in allowed:
        raise UsageError(f"{study.name}: say how many steps every arm gets: settings: {{training: {{max_steps: 40}}}}")


def _work(settings: RunSettings) -> dict[str, Any]:
    values = settings.plain()
    found = {f"{name}.{key}": value for name in _WORK for key, value in values[name].items()}
    found.pop("training.seed", None)
    for name in _ALSO:
        part, key = name.split(".")
        found[name] = values[part][key]
    return found


def _subsets(designs: list[str], parts: list[str]) -> list[tuple[str, ...]]:
    sizes: dict[str, set[int]] = {
        "one-at-a-time": {0, 1},
        "leave-one-out": {len(parts) - 1, len(parts)},
        "pairs": {0, 1, 2},
        "factorial": set(range(len(parts) + 1)),
    }
    wanted = set().union(*(sizes[design] for design in designs))
    return [chosen for size in sorted(wanted) for chosen in combinations(parts, size)]


def _name(chosen: tuple[str, ...], parts: list[str], control: str, full: str) -> str:
    if len(chosen) == len(parts):
        return full
    missing = [part for part in parts if part not in chosen]
    if len(missing) == 1 and len(parts) > 2:
        return f"{full}-{missing[0]}"
    return "+".join([control, *chosen])


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
