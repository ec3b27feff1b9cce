"""Position weights: tokens early in a completion count for less, for the teacher is least reliable there.

Source: position-weighted on-policy self-distillation (arXiv 2605.21606). With T tokens in a completion, t from 1:

    w_t = floor + (1 - floor) σ((t/T - center) / width)
"""

import torch

from unisd.mechanisms.base import Acting, Mean, Mechanism, Run, Step, Weights
from unisd.objective import effective_sample_size
from unisd.settings import Field, group


@group
class PositionSettings:
    """Position weights: a token counts by its place in the completion."""

    floor: float = Field(default=1.0, ge=0, le=1)
    """What a token at the very start counts, about; 1 switches the mechanism off, the authors use 0.25."""
    center: float = Field(default=0.3, ge=0, le=1)
    """The place, as a share of the completion, where the weight is halfway up."""
    width: float = Field(default=0.1, gt=0)
    """How gently it rises, as a share of the completion."""

    @property
    def on(self) -> bool:
        """Whether the mechanism is switched on."""
        return self.floor < 1


class Position(Mechanism):
    """Weighs tokens by their place; reads nothing more."""

    name = "position"
    summary = "tokens early in a completion count for less"
    Settings = PositionSettings
    settings: PositionSettings
    needs_teacher = False

    def weigh(self, step: Step) -> Weights:
        """Return the sigmoid ramp."""
        floor, center, width = self.settings.floor, self.settings.center, self.settings.width
        place = step.positions / (step.lengths[step.sequence] + step.skipped)
        weight = floor + (1.0 - floor) * torch.sigmoid((place - center) / width)
        step.values["position"] = weight
        return Weights(token=weight)

    def measure(self, step: Step) -> dict[str, float | Mean]:
        """Return the spread of the weights, and how many equally weighted tokens the step's are worth, as a share."""
        weights = step.ranks.join(step.values["position"])
        return {
            "position/weight_min": float(weights.min()),
            "position/weight_max": float(weights.max()),
            "position/effective_sample_size": effective_sample_size(weights),
        }

    def acting(self, run: Run) -> Acting:
        """It acts where the weights are spread by more than a hundredth."""
        low, high = run.mean("position/weight_min"), run.mean("position/weight_max")
        return Acting(
            "position weights",
            f"weights {low:.2f} to {high:.2f}, effective sample size {run.mean('position/effective_sample_size'):.1%}",
            high - low > 0.01,
            "lower position.floor, or check that completions are longer than a token",
        )
