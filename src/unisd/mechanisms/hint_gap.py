"""Hint gap: the target is what a right demonstration says *more* than a wrong one does.

Any demonstration shifts the style of what follows; right minus wrong leaves what matters. Source: RLCSD
(arXiv 2606.11709). With p_T and p_N the teacher's distributions in the gold and the negative context:

    target ∝ exp((1 + α) log p_T - α max(log p_N, -30))
    gate   = κ / (κ + 1),   κ = KL(p_T ‖ p_N)
"""

from torch import Tensor

from unisd.contexts import Need
from unisd.mechanisms.base import Acting, Mean, Mechanism, Run, Step, View
from unisd.objective import Target
from unisd.settings import Field, group

LOWEST = -30.0
"""Log-probabilities under the wrong demonstration do not count below this: no token is lifted without end."""


@group
class HintGapSettings:
    """Hint gap: the target is the right demonstration's distribution minus the wrong one's."""

    alpha: float = Field(default=0.0, ge=0)
    """How much of the wrong demonstration is taken off; 0 switches the mechanism off, the authors use 0.5."""
    per_item: int = Field(default=4, ge=1)
    """Wrong demonstrations that the model writes per item beforehand; one verified one is drawn."""

    @property
    def on(self) -> bool:
        """Whether the mechanism is switched on."""
        return self.alpha > 0


class HintGap(Mechanism):
    """Reads every completion behind a wrong demonstration, and sharpens the target against it."""

    name = "hint_gap"
    summary = "the target is the right demonstration's distribution minus a wrong one's"
    Settings = HintGapSettings
    settings: HintGapSettings

    def needs(self) -> list[Need]:
        """Return a verified wrong demonstration, where a row has one: without, the gold distribution is the target."""
        return [Need("negative", "negative", required=False, per_item=self.settings.per_item)]

    def views(self) -> list[View]:
        """Return the reading behind the wrong demonstration, whole distributions of it."""
        return [View("hint_gap", "negative")]

    def target(self, step: Step) -> Target:
        """Return right minus wrong, gated by how far the two are apart; costs a reading and a product a token."""
        reading, alpha = step.readings["hint_gap"], self.settings.alpha
        assert reading.head is not None

        def right_minus_wrong(right: Tensor, wrong: Tensor) -> Tensor:
            p = right.log_softmax(-1)
            right.copy_(p)
            wrong.sub_(wrong.logsumexp(-1, keepdim=True))
            apart = (p.exp() * (p - wrong)).sum(-1).clamp_min_(0.0)
            right.mul_(1.0 + alpha).sub_(wrong.clamp_(min=LOWEST), alpha=alpha)
            return apart / (apart + 1.0)

        return Target("hint_gap", right_minus_wrong, (reading.values,), (reading.head,), reading.present, gates=True)

    def measure(self, step: Step) -> dict[str, float | Mean]:
        """Return the mean gate among tokens that have a wrong demonstration, and their share."""
        known = step.readings["hint_gap"].present
        gate = step.values["hint_gap"].masked_fill(~known, 0.0)
        return {
            "hint_gap/gate": Mean(gate.sum().float(), known.sum().float()),
            "hint_gap/tokens_with_negative": step.mean(known),
        }

    def acting(self, run: Run) -> Acting:
        """It acts where right and wrong demonstrations say different things."""
        gate, share = run.mean("hint_gap/gate"), run.mean("hint_gap/tokens_with_negative")
        return Acting(
            "hint gap",
            f"mean gate {gate:.2f}; {share:.0%} of tokens have a negative",
            gate > 0.001,
            "the demonstrations say the same, or no negatives were written (see the drop counts)",
        )
