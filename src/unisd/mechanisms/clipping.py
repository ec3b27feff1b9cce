"""Divergence clipping: a token whose divergence exceeds the cap keeps the cap as its value and loses its gradient.

Source: UniSD (arXiv 2605.06597), section 3: D_t <- min(D_t, κ), after the vocabulary sum and before weighting.
"""

from collections.abc import Sequence

from torch import Tensor

from unisd.errors import UsageError
from unisd.mechanisms.base import Acting, Curve, Mean, Mechanism, Run, Step
from unisd.objective import divergence_bound, quantile
from unisd.settings import Field, group


@group
class ClippingSettings:
    """Divergence clipping: tokens with an extreme divergence give no gradient."""

    cap: float | None = Field(default=None, gt=0)
    """Largest divergence of a token in nats. null: no cap."""
    quantile: float | None = Field(default=None, gt=0, lt=1)
    """Instead of ``cap``: this quantile of the step's divergences (costs a second student forward pass)."""

    def __post_init__(self) -> None:
        if self.cap is not None and self.quantile is not None:
            raise UsageError(
                f"clipping.quantile: {self.quantile!r} is not allowed; choose either cap or quantile, not both"
            )

    @property
    def on(self) -> bool:
        """Whether the mechanism is switched on."""
        return self.cap is not None or self.quantile is not None


class Clipping(Mechanism):
    """Caps the divergence of every token, by a number or by the step's own distribution."""

    name = "clipping"
    summary = "tokens with an extreme divergence give no gradient"
    Settings = ClippingSettings
    curves = (
        Curve("Clipping: tokens clipped", "share", {"clip/rate": "clipped"},
              "Tokens whose distance from the teacher is above the cap give no gradient."),
        Curve("Clipping: the cap", "nats", {"clip/cap": "cap"}, first=False),
    )  # fmt: skip
    settings: ClippingSettings
    formerly = {"divergence.clip": "cap", "divergence.clip_quantile": "quantile"}  # noqa: RUF012

    @property
    def looks_first(self) -> bool:
        """Whether the cap follows the step's divergences."""
        return self.settings.quantile is not None

    def check(self, others: Sequence[Mechanism]) -> None:
        """Refuse to cap what is a divergence only on average."""
        if self.config.divergence.kind == "sampled_reverse_kl":
            raise UsageError(
                "clipping: a cap on the log-ratios of sampled_reverse_kl would bend their mean, which alone is a "
                "divergence; switch clipping off, or set divergence.kind to reverse_kl"
            )

    def inert(self, steps: int | None) -> list[str]:
        """Say that a cap above what the divergence can reach does nothing."""
        divergence, cap = self.config.divergence, self.settings.cap
        bound = divergence_bound(divergence.kind, divergence.alpha)
        if cap is None or bound is None or cap < bound:
            return []
        return [f"clipping.cap: {cap:g} nats can never bind: {divergence.kind} is at most {bound:.3f}; lower it"]

    def cap(self, step: Step, divergence: Tensor | None) -> Tensor | float | None:
        """Return the number that was set, or the quantile over all ranks."""
        if self.settings.quantile is None or divergence is None:
            return self.settings.cap
        return quantile(step.ranks.join(divergence), self.settings.quantile)

    def measure(self, step: Step) -> dict[str, float | Mean]:
        """Return the share of clipped tokens, and the cap."""
        return {"clip/rate": step.mean(step.values["clipped"]), "clip/cap": float(step.values["cap"])}

    def acting(self, run: Run) -> Acting:
        """It acts where any token is clipped."""
        rate = run.mean("clip/rate")
        return Acting(
            "clipping",
            f"{rate:.1%} of tokens clipped at {run.mean('clip/cap'):.2f} nats",
            rate > 0,
            "lower clipping.cap, or use clipping.quantile",
        )
