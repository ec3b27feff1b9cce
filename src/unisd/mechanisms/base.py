"""The contract of a mechanism: one idea, in one file.

A mechanism declares its settings and answers some of the questions below; it is silent on the rest. Whoever loops (the
plan of a step, its learning, telemetry, the settings, ``unisd list mechanisms``) asks all that are on and joins the
answers by rule, so that no mechanism is named anywhere else.

| question | answer | joined by |
|---|---|---|
| `needs` | contexts that its rows must have | the largest count |
| `views` | readings of the completions | equal ones are read once |
| `teacher` | whose weights the teacher uses | exactly one besides the initial model's |
| `weigh` | weights of tokens or completions | product, then one exact normaliser |
| `reweigh` | the same, from the step's divergences | product |
| `cap` | the largest divergence that counts | smallest |
| `gates` | factors formed beside the logits | product, not normalised |
| `terms` | losses on the sampled token's log-probability | sum |
| `state_terms` | losses on final hidden states | sum |
| `target` | the distribution to match | at most one |
| `uses` | optimizer steps that learn from what was written once | the largest |
| `measure`, `follow`, `acting` | what it measured, and whether it acted | listed |
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from unisd.contexts import Need
from unisd.objective import Gate, Head, Target, TokenTerm


class Ranks(Protocol):
    """The processes that share a step."""

    count: int

    def sum(self, values: Tensor) -> Tensor:
        """Return the elementwise sum over ranks."""

    def join(self, values: Tensor) -> Tensor:
        """Return the concatenation over ranks of one-dimensional tensors."""


class TeacherWeights(Protocol):
    """Somebody's weights, put into the student's model for a while."""

    kind: str

    def weights(self) -> AbstractContextManager[nn.Module]:
        """Put the weights in, in evaluation mode and without gradient; restore the student after."""


@dataclass(frozen=True)
class View:
    """One reading of every completion of a step: in which context, by whose weights, and what is kept of it."""

    name: str
    """What it is looked up by; two views that differ in nothing else are read once."""
    slot: str
    """Which of a row's contexts the teacher sees: gold, auxiliary, negative, or a slot of one's own."""
    number: int = 0
    """Which one, where a row has several in the slot."""
    temperature: float | None = None
    """Keep the sampled tokens' log-probabilities at this temperature; None: keep the final hidden states."""
    weights: TeacherWeights | None = None
    """Whose weights read; None: the teacher's."""

    def same_as(self) -> "View":
        """Return what two equal views have in common."""
        return replace(self, name="")


GOLD = View("gold", "gold")
"""The reading whose distributions are the target."""


@dataclass(frozen=True)
class Reading:
    """What a view gave for a step's tokens."""

    values: Tensor
    """Log-probabilities ``[N]`` fp32 in nats, or final hidden states ``[N, H]``; 0 where a row has no such context."""
    present: Tensor
    """Whether a token's row has the context, ``[N]`` bool."""
    head: Head | None = None
    """The output head that belongs to hidden states."""


@dataclass
class Step:
    """One optimizer step, as mechanisms see it: this rank's completions, flat and without padding. Read-only."""

    items: Sequence[str]
    """The rows' ids, ``S`` of them."""
    targets: Tensor
    """Completion tokens that carry a loss, ``[N]`` int64."""
    sequence: Tensor
    """Which row each token belongs to, ``[N]`` int64."""
    lengths: Tensor
    """How many of them each completion has, ``[S]`` int64."""
    uniform: Tensor
    """1 / number of tokens of the step, on all ranks: the coefficient of an unweighted mean."""
    ranks: Ranks
    readings: dict[str, Reading] = field(default_factory=dict)
    """What the views gave, by name."""
    grades: Callable[[], Tensor] | None = None
    """Grade the completions: ``[S]`` fp32 in [0, 1], where 1 is right. None where nobody can."""
    values: dict[str, Tensor] = field(default_factory=dict)
    """Everything else that is known of tokens ``[N]`` or completions ``[S]``, by name. Learning adds ``divergence``
    (before clipping), ``entropy`` (the student's), ``clipped``, and the values of terms, gates and target under their
    names; a mechanism may keep here, under its own name, what it wants to measure later."""
    skipped: int = 0
    """First tokens of every completion that carry no loss (``divergence.skip_tokens``): they are not among the tokens
    of the step, and neither is what is left of a completion that has no more."""
    written_logprobs: Tensor | None = None
    """The student's log-probabilities ``[N]`` of the tokens when it wrote them; None where it is the same as then."""

    def mean(self, values: Tensor) -> "Mean":
        """Return the mean over the step's tokens of values ``[N]``, as a metric."""
        return Mean(values.sum().float(), self.lengths.sum().float())

    @property
    def positions(self) -> Tensor:
        """The place of each token in its completion, from 1, ``[N]`` int64."""
        starts = torch.cumsum(self.lengths, 0) - self.lengths
        return torch.arange(len(self.targets), device=self.targets.device) - starts[self.sequence] + 1 + self.skipped


@dataclass(frozen=True)
class Weights:
    """What tokens or completions weigh: 0 or more, without gradient. Normalised later, over the whole step."""

    token: Tensor | None = None
    """``[N]`` fp32."""
    sequence: Tensor | None = None
    """``[S]`` fp32."""


@dataclass(frozen=True)
class StateTerm:
    """A loss on the student's final hidden states beside those of a view."""

    name: str
    view: str
    coefficient: Tensor
    """Scalar that multiplies the sum over tokens: weight and normaliser."""
    distance: Callable[[Tensor, Tensor], Tensor]
    """(student ``[R, H]``, view ``[R, H]``) to ``[R]``, differentiable in the student."""


@dataclass(frozen=True)
class Mean:
    """A metric that ranks can add: the sum of ``total`` over the sum of ``over``."""

    total: Tensor
    over: Tensor


@dataclass(frozen=True)
class Acting:
    """Whether one mechanism acted in a run."""

    mechanism: str
    evidence: str
    """What was measured, in words and figures."""
    acts: bool
    remedy: str = ""
    """What to change where it does not act; where it does, nothing is to be remedied, and this is empty."""

    def __post_init__(self) -> None:
        if self.acts:
            object.__setattr__(self, "remedy", "")


class Curve(NamedTuple):
    """Metrics that a report shows in one chart, in words."""

    title: str
    unit: str
    lines: Mapping[str, str]
    """Metric to label."""
    about: str = ""
    first: bool = True
    """Whether it is shown at once, and not only among the others."""


class Mechanism:
    """One idea. Subclasses answer what they have an answer to.

    Args:
        settings: the mechanism's own group.
        config: the whole run's settings, for what stands elsewhere (the temperature, the number of contexts).
    """

    name: ClassVar[str]
    """The name of its group of settings, and the first part of its metrics' names."""
    summary: ClassVar[str] = ""
    """One line for ``unisd list mechanisms``."""
    Settings: ClassVar[type[Any]]
    """Its group: a class under `unisd.settings.group` with a property ``on``, which says whether it is switched on."""
    formerly: ClassVar[Mapping[str, str]] = {}
    """Earlier names of settings: ``group.field`` to a field of this group."""
    needs_teacher: ClassVar[bool] = True
    """Whether it only makes sense beside a teacher."""

    curves: ClassVar[Sequence[Curve]] = ()
    """How reports show its metrics; one that stands in none gets a chart by its name."""
    needs_grades: ClassVar[bool] = False
    """Whether it weighs completions by their grades."""

    def __init__(self, settings: Any, config: Any) -> None:
        self.settings = settings
        self.config = config

    @property
    def looks_first(self) -> bool:
        """Whether it wants the step's divergences before learning, which costs a pass without gradient."""
        return False

    @property
    def replaces_divergence(self) -> bool:
        """Whether its state terms are the whole loss."""
        return False

    @property
    def acts_on_divergence(self) -> bool:
        """Whether it answers a question about the divergence, and so is idle without one."""
        questions = ("weigh", "reweigh", "cap", "gates", "terms", "target")
        return any(getattr(type(self), asked) is not getattr(Mechanism, asked) for asked in questions)

    @property
    def uses(self) -> int:
        """How many optimizer steps in succession learn from what was written once."""
        return 1

    def check(self, others: Sequence["Mechanism"]) -> None:
        """Refuse settings that cannot work together, with those of the run or of the others that are on.

        Raises:
            UsageError: in one line.
        """

    def inert(self, steps: int | None) -> list[str]:
        """Return a warning where, by its settings alone, it cannot act in a run of ``steps`` steps."""
        return []

    def unread(self) -> Mapping[str, str]:
        """Return the fields of its settings that it does not read as the others stand, and why in a few words each."""
        return {}

    def needs(self) -> Sequence[Need]:
        """Return the contexts that rows must have."""
        return ()

    def start(self, model: nn.Module) -> None:
        """Take what is needed from the student, which has its initial weights now and is not wrapped yet."""

    def views(self) -> Sequence[View]:
        """Return the readings that it wants of each step."""
        return ()

    def teacher(self, model: nn.Module) -> TeacherWeights | None:
        """Return whose weights the teacher uses; asked once, when the student has its initial weights."""
        return None

    def weigh(self, step: Step) -> Weights | None:
        """Return what tokens or completions weigh; readings and grades are there."""
        return None

    def reweigh(self, step: Step, divergence: Tensor) -> Weights | None:
        """Return further weights, from the divergences ``[N]`` of the step. Needs ``looks_first``."""
        return None

    def cap(self, step: Step, divergence: Tensor | None) -> Tensor | float | None:
        """Return the largest divergence that counts, in nats: one number, or one a token ``[N]``.

        ``divergence`` ``[N]`` is there where a mechanism looks first.
        """
        return None

    def gates(self, step: Step) -> Sequence[Gate]:
        """Return factors on the tokens' divergences that are formed while the logits are at hand."""
        return ()

    def terms(self, step: Step) -> Sequence[TokenTerm]:
        """Return losses on the student's log-probability of the sampled tokens."""
        return ()

    def state_terms(self, step: Step) -> Sequence[StateTerm]:
        """Return losses on the student's final hidden states."""
        return ()

    def target(self, step: Step) -> Target | None:
        """Return how the logits of the gold view, and of further ones, become the distribution to match."""
        return None

    def follow(self, step: int) -> dict[str, float]:
        """Move what moves after optimizer step ``step`` (from 1); return metrics by name."""
        return {}

    def measure(self, step: Step) -> dict[str, float | Mean]:
        """Return metrics of a step that was learned, by name."""
        return {}

    def acting(self, run: "Run") -> Acting | None:
        """Return whether it acted in a run."""
        return None

    def save(self, folder: Path) -> None:
        """Write what a resumed run needs into a checkpoint."""

    def load(self, folder: Path) -> None:
        """Read what `save` wrote, exactly."""


class Run:
    """The metrics of a run, a mapping a step."""

    def __init__(self, steps: Sequence[Mapping[str, float]]) -> None:
        self.steps = steps

    def has(self, name: str) -> bool:
        """Whether any step has the metric."""
        return any(name in step for step in self.steps)

    def mean(self, name: str) -> float:
        """Return the mean over the steps that have the metric; 0 without any."""
        values = [step[name] for step in self.steps if name in step]
        return sum(values) / len(values) if values else 0.0

    def last(self, name: str) -> float:
        """Return the metric's last value; 0 without any."""
        return next((float(step[name]) for step in reversed(self.steps) if name in step), 0.0)
