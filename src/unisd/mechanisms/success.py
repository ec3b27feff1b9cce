"""Success filter: what a completion teaches depends on whether it is right, as the task itself grades it.

Source: which rollouts to learn from (arXiv 2605.06188). With grade g in [0, 1] of a completion:

    prefer correct:    W = rest + (1 - rest) g
    prefer incorrect:  W = rest + (1 - rest) (1 - g)
"""

from typing import Literal

from unisd.errors import UsageError
from unisd.mechanisms.base import Acting, Mean, Mechanism, Run, Step, Weights
from unisd.settings import Field, group


@group
class SuccessSettings:
    """Success filter: right completions, or wrong ones, count more than the others."""

    prefer: Literal["none", "correct", "incorrect"] = "none"
    """Which completions count fully; none switches the mechanism off."""
    rest: float = Field(default=0.0, ge=0, le=1)
    """What the others count; 0 leaves them out."""

    def __post_init__(self) -> None:
        if self.on and self.rest == 1:
            raise UsageError(
                "success.rest: 1.0 makes all completions count alike; lower it, or set success.prefer to none"
            )

    @property
    def on(self) -> bool:
        """Whether the mechanism is switched on."""
        return self.prefer != "none"


class Success(Mechanism):
    """Weighs completions by their grades; costs the task's grader, and no reading of the model."""

    name = "success"
    summary = "right completions, or wrong ones, count more than the others"
    Settings = SuccessSettings
    settings: SuccessSettings
    needs_teacher = False
    needs_grades = True

    def weigh(self, step: Step) -> Weights:
        """Return the weights of the completions. A step of which none counts has no loss."""
        assert step.grades is not None
        grades = step.grades()
        preferred = grades if self.settings.prefer == "correct" else 1.0 - grades
        step.values["success"] = preferred
        return Weights(sequence=self.settings.rest + (1.0 - self.settings.rest) * preferred)

    def measure(self, step: Step) -> dict[str, float | Mean]:
        """Return the share of completions that are of the preferred sort, and whether any counts in the step."""
        preferred = step.ranks.join(step.values["success"])
        share = float(preferred.mean())
        return {"success/preferred": share, "success/counted": float(share > 0 or self.settings.rest > 0)}

    def acting(self, run: Run) -> Acting:
        """It acts where some completions are preferred to others, in some step."""
        preferred, empty = run.mean("success/preferred"), 1.0 - run.mean("success/counted")
        evidence = f"{preferred:.1%} of completions are {self.settings.prefer}"
        if empty > 0:
            evidence += f"; {empty:.1%} of steps have none and taught nothing"
        remedy = "all completions count alike: switch it off, or train on items that the model gets partly right"
        return Acting("success filter", evidence, 0.0 < preferred < 1.0, remedy)
