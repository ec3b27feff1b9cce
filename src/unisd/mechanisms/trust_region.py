"""Trust-region teacher: the target lies between the initial model's distribution and the teacher's.

Source: SDPO (arXiv 2601.20802). With ℓ the logits in the gold context, of the teacher and of the initial model:

    target = softmax(((1 - weight) ℓ_initial + weight ℓ_teacher) / τ)

An average of weights moves the teacher slowly; this bounds how far its *distribution* may be from where it started.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unisd.errors import UsageError
from unisd.mechanisms.base import Acting, Mean, Mechanism, Run, Step, View
from unisd.mechanisms.teacher import InitialTeacher
from unisd.objective import Target
from unisd.settings import Field, group


@group
class TrustRegionSettings:
    """Trust-region teacher: the target is drawn back to the initial model's distribution."""

    weight: float = Field(default=1.0, ge=0, le=1)
    """The teacher's share in the target's logits, the rest being the initial model's; 1 switches the mechanism off,
    the authors use 0.5."""

    @property
    def on(self) -> bool:
        """Whether the mechanism is switched on."""
        return self.weight < 1


class TrustRegion(Mechanism):
    """Reads every completion once more, by the initial model, and interpolates the logits."""

    name = "trust_region"
    summary = "the target lies between the initial model's distribution and the teacher's"
    Settings = TrustRegionSettings
    settings: TrustRegionSettings
    initial: InitialTeacher | None = None

    def check(self, others: Sequence[Mechanism]) -> None:
        """Refuse a teacher that is the initial model."""
        if self.config.teacher.kind == "initial":
            raise UsageError(
                "trust_region.weight: the teacher is the initial model, so nothing lies between the two; "
                "set teacher.kind to ema or live"
            )

    def start(self, model: nn.Module) -> None:
        """Keep the way back to the initial weights."""
        self.initial = InitialTeacher(model)

    def views(self) -> list[View]:
        """Return the initial model's reading in the gold context."""
        return [View("trust_region", "gold", weights=self.initial)]

    def target(self, step: Step) -> Target:
        """Return the interpolation; it costs a reading a completion, and a product with the vocabulary a token."""
        reading, weight = step.readings["trust_region"], self.settings.weight
        assert reading.head is not None

        def between(teacher: Tensor, initial: Tensor) -> Tensor:
            before = teacher.softmax(-1)
            torch.lerp(initial, teacher, weight, out=teacher)
            return torch.sub(before, torch.softmax(teacher, -1), out=initial).abs_().sum(-1).mul_(0.5)

        return Target("trust_region", between, (reading.values,), (reading.head,), reading.present)

    def measure(self, step: Step) -> dict[str, float | Mean]:
        """Return how far the target is drawn back: the mean total variation distance to the teacher's distribution."""
        return {"trust_region/drawn_back": step.mean(step.values["trust_region"])}

    def acting(self, run: Run) -> Acting:
        """It acts where the target differs from the teacher's distribution."""
        distance = run.mean("trust_region/drawn_back")
        return Acting(
            "trust region",
            f"the target is {distance:.2%} (total variation) from the teacher's distribution",
            distance > 1e-4,
            "the teacher is still the initial model: lower teacher.every, or train longer",
        )
