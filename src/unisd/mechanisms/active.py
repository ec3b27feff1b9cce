"""The loop over the mechanisms that are on: each is asked, and the answers are joined by rule.

This file names no mechanism, and neither does whoever uses it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from unisd.contexts import Need, merged
from unisd.errors import UsageError
from unisd.mechanisms.base import GOLD, Mean, Mechanism, Step, TeacherWeights, Weights
from unisd.mechanisms.registry import known
from unisd.mechanisms.teacher import InitialTeacher
from unisd.objective import Gate, Target, TokenTerm
from unisd.settings import plain

T = TypeVar("T")


class Mechanisms(Sequence[Mechanism]):
    """The mechanisms that a run has switched on, in alphabetical order.

    Args:
        config: the run's settings; each mechanism's group stands under its name.

    Raises:
        UsageError: settings that cannot work together.
    """

    def __init__(self, config: Any) -> None:
        groups = {name: (cls, getattr(config, name)) for name, cls in known().items()}
        self._gold = [Need(GOLD.slot, "gold")] if config.has_teacher else []
        self._on = [cls(settings, config) for cls, settings in groups.values() if settings.on]
        self._idle = [told for name, (_, settings) in groups.items() if (told := _idle(name, settings))]
        for mechanism in self._on:
            writes = config.has_teacher and type(mechanism).teacher is not Mechanism.teacher
            if mechanism.needs_teacher and not config.needs_teacher and not writes:
                raise UsageError(
                    f"divergence.kind: {config.divergence.kind} has no teacher; switch {mechanism.name} off"
                )
            mechanism.check([other for other in self._on if other is not mechanism])
        self._one("target", [m.name for m in self._on if type(m).target is not Mechanism.target])
        self._one("teacher", [m.name for m in self._on if type(m).teacher is not Mechanism.teacher])

    def __getitem__(self, index: Any) -> Any:
        return self._on[index]

    def __len__(self) -> int:
        return len(self._on)

    @staticmethod
    def _one(what: str, names: Sequence[str]) -> None:
        if len(names) > 1:
            raise UsageError(f"{' and '.join(names)}: each gives the {what}, and there is one; switch all but one off")

    def _answers(self, ask: Callable[[Mechanism], T | None]) -> list[T]:
        return [answer for mechanism in self._on if (answer := ask(mechanism)) is not None]

    @property
    def looks_first(self) -> bool:
        """Whether one wants the step's divergences before learning."""
        return any(mechanism.looks_first for mechanism in self._on)

    @property
    def replaces_divergence(self) -> bool:
        """Whether the terms of one are the whole loss."""
        return any(mechanism.replaces_divergence for mechanism in self._on)

    @property
    def uses(self) -> int:
        """How many optimizer steps in succession learn from what was written once."""
        return max((mechanism.uses for mechanism in self._on), default=1)

    def inert(self, steps: int | None) -> list[str]:
        """Return a warning for each that, by its settings alone, cannot act in a run of ``steps`` steps."""
        found = [*self._idle, *(warning for mechanism in self._on for warning in mechanism.inert(steps))]
        return [*found, *(warning for mechanism in self._on for warning in _unread(mechanism))]

    def needs(self) -> list[Need]:
        """Return the contexts that rows must have, one entry a slot: the gold one, and what each asks for."""
        return merged([*self._gold, *(need for mechanism in self._on for need in mechanism.needs())])

    def start(self, model: nn.Module, graded: bool) -> None:
        """Let every mechanism start on the student.

        Args:
            model: the student, unwrapped, with its initial weights.
            graded: whether somebody grades completions.

        Raises:
            UsageError: a mechanism needs grades, and there are none.
        """
        for mechanism in self._on:
            if mechanism.needs_grades and not graded:
                raise UsageError(
                    f"{mechanism.name}: nobody grades the completions; train on a task, or give UniSDTrainer a grader"
                )
            mechanism.start(model)

    def teacher(self, model: nn.Module) -> TeacherWeights:
        """Return whose weights the teacher uses: the one answer, or the initial model's."""
        return next(iter(self._answers(lambda m: m.teacher(model))), None) or InitialTeacher(model)

    def weigh(self, step: Step) -> Weights:
        """Return the product of all weights that are known before learning."""
        return _product(self._answers(lambda m: m.weigh(step)))

    def reweigh(self, step: Step, divergence: Tensor) -> Weights:
        """Return the product of all weights that follow from the step's divergences."""
        return _product(self._answers(lambda m: m.reweigh(step, divergence)))

    def cap(self, step: Step, divergence: Tensor | None) -> Tensor | float | None:
        """Return the smallest cap, or None without any."""
        caps: list[Tensor | float] = self._answers(lambda m: m.cap(step, divergence))
        if len(caps) < 2:
            return caps[0] if caps else None
        like = step.uniform
        smallest = torch.as_tensor(caps[0]).to(like)
        for cap in caps[1:]:
            smallest = torch.minimum(smallest, torch.as_tensor(cap).to(like))
        return smallest

    def gates(self, step: Step) -> list[Gate]:
        """Return all gates."""
        return [gate for mechanism in self._on for gate in mechanism.gates(step)]

    def terms(self, step: Step) -> list[TokenTerm]:
        """Return all token terms."""
        return [term for mechanism in self._on for term in mechanism.terms(step)]

    def target(self, step: Step) -> Target | None:
        """Return the one target besides the plain one, if any."""
        return next(iter(self._answers(lambda m: m.target(step))), None)

    def measure(self, step: Step) -> dict[str, float | Mean]:
        """Return all metrics of a step that was learned."""
        found: dict[str, float | Mean] = {}
        for mechanism in self._on:
            found |= mechanism.measure(step)
        return found

    def follow(self, step: int) -> dict[str, float]:
        """Let all follow optimizer step ``step``; return their metrics."""
        found: dict[str, float] = {}
        for mechanism in self._on:
            found |= mechanism.follow(step)
        return found


def _idle(name: str, settings: Any) -> str:
    """Return a warning where settings of a mechanism are set, and it is off; else nothing."""
    usual = plain(type(settings)())
    changed = [f"{name}.{field}" for field, value in plain(settings).items() if value != usual[field]]
    return "" if settings.on or not changed else f"{', '.join(changed)}: {name} is off, so this changes nothing"


def _unread(mechanism: Mechanism) -> list[str]:
    """Return a warning for each setting of a mechanism that is set, and that it does not read."""
    given, usual = plain(mechanism.settings), plain(type(mechanism.settings)())
    return [
        f"{mechanism.name}.{field}: {why}, so this changes nothing; leave it out"
        for field, why in mechanism.unread().items()
        if given[field] != usual[field]
    ]


def _product(weights: Sequence[Weights]) -> Weights:
    def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
        present = [part for part in parts if part is not None]
        result = present[0] if present else None
        for part in present[1:]:
            assert result is not None
            result = result * part
        return result

    return Weights(joined([w.token for w in weights]), joined([w.sequence for w in weights]))


def former_names(mechanisms: Mapping[str, type[Mechanism]]) -> dict[str, str]:
    """Return earlier names of settings and what they are now, ``group.field`` each."""
    return {old: f"{cls.name}.{new}" for cls in mechanisms.values() for old, new in cls.formerly.items()}
