"""Feature matching: the student's final hidden state moves toward the teacher's at the same completion token.

Source: UniSD (arXiv 2605.06597), section 3, representation alignment.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from unisd.errors import UsageError
from unisd.mechanisms.base import Acting, Curve, Mean, Mechanism, Run, StateTerm, Step
from unisd.settings import Field, group


@group
class FeaturesSettings:
    """Feature matching of final hidden states."""

    weight: float = Field(default=0.0, ge=0)
    """λ_f; 0 switches the mechanism off."""
    mode: Literal["joint", "only"] = "joint"
    """joint: added to the divergence; only: it is the whole loss ("representation only")."""

    def __post_init__(self) -> None:
        if self.mode == "only" and not self.on:
            raise UsageError(f"features.weight: {self.weight!r} is not allowed; mode only needs a weight above 0")

    @property
    def on(self) -> bool:
        """Whether the mechanism is switched on."""
        return self.weight > 0


class Features(Mechanism):
    """Adds the mean squared distance of final hidden states to the loss, or makes it the whole loss."""

    name = "features"
    summary = "final hidden states are matched, beside the distributions or alone"
    Settings = FeaturesSettings
    curves = (Curve("Feature matching", "mean squared distance", {"features/distance": "final hidden states"}),)
    settings: FeaturesSettings

    @property
    def replaces_divergence(self) -> bool:
        """Whether hidden states alone are matched."""
        return self.settings.mode == "only"

    def check(self, others: Sequence[Mechanism]) -> None:
        """Refuse what acts on a divergence that is not there."""
        idle = [other.name for other in others if other.acts_on_divergence]
        if self.replaces_divergence and idle:
            raise UsageError(f"features.mode: 'only' is the whole loss; switch {', '.join(idle)} off, or use joint")

    def state_terms(self, step: Step) -> list[StateTerm]:
        """Return the distance to the gold view's states, a mean over the step's tokens."""
        return [StateTerm("features", "gold", self.settings.weight * step.uniform, feature_distance)]

    def measure(self, step: Step) -> dict[str, float | Mean]:
        """Return the mean squared distance."""
        return {"features/distance": step.mean(step.values["features"])}

    def acting(self, run: Run) -> Acting:
        """It acts where student and teacher differ."""
        distance = run.mean("features/distance")
        return Acting(
            "features", f"mean squared distance {distance:.3g}", distance > 0, "the teacher equals the student"
        )


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over the hidden dimension of the squared difference.

    Source: UniSD section 3, representation alignment; the states are those after the final norm.

    Args:
        student: [N, H], any float dtype; computed in float32, or float64 if given float64.
        teacher: [N, H], same shape; taken as constant.

    Returns:
        [N], 0 or more, float32 or float64, differentiable in `student`.

    Raises:
        ValueError: shapes that differ or are not [N, H].
    """
    if student.dim() != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"features must both be [tokens, hidden], got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    wide = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    return (student.to(wide) - teacher.detach().to(wide)).square().mean(-1)
