"""Token-level contrast: stay nearer to the teacher in the gold context than to the teacher in a wrong one.

Source: UniSD (arXiv 2605.06597), section 3. With s, g and b the log-probabilities of the sampled token under the
student, the teacher in the gold context and the teacher in the negative one, at the training temperature:

    hinge = max(0, margin + |s - g| - |s - b|)        gradient through s only

The two slopes cancel unless s lies strictly between g and b: there, and where the hinge is above zero, it is *live*.
"""

from typing import Literal

import torch
from torch import Tensor

from unisd.contexts import Need
from unisd.mechanisms.base import Acting, Curve, Mean, Mechanism, Run, Step, View
from unisd.objective import Seen, TokenTerm
from unisd.settings import Field, group


@group
class ContrastSettings:
    """Token-level contrast against a wrong demonstration."""

    weight: float = Field(default=0.0, ge=0)
    """λ_c; 0 switches the mechanism off."""
    margin: float = Field(default=0.5, ge=0)
    """Hinge margin in nats."""
    per_item: int = Field(default=4, ge=1)
    """Wrong demonstrations that the model writes per item beforehand, at most; one verified one is drawn."""
    draw: Literal["all", "first"] = "all"
    """all: ``per_item`` are written, and one of the verified ones is drawn, as in the paper; first: they are written
    one after another, from a drawn one on, until one is verified, which is taken; the others cost no time."""

    @property
    def on(self) -> bool:
        """Whether the mechanism is switched on."""
        return self.weight > 0


class Contrast(Mechanism):
    """Reads every completion behind a wrong demonstration and adds the hinge to the loss."""

    name = "contrast"
    summary = "the student keeps off what a wrong demonstration would have it say"
    Settings = ContrastSettings
    curves = (
        Curve("Contrast: tokens pushed away", "share",
              {"contrast/live": "of those with a wrong demonstration", "contrast/tokens_with_negative": "have one"}),
        Curve("Contrast: hinge", "nats", {"contrast/hinge": "hinge"}, first=False),
    )  # fmt: skip
    settings: ContrastSettings

    def needs(self) -> list[Need]:
        """Return a verified wrong demonstration, where a row has one: without, only this term is absent."""
        of, first = self.settings.per_item, self.settings.draw == "first"
        return [Need("negative", "negative", required=False, per_item=of, first=first)]

    def views(self) -> list[View]:
        """Return the reading behind the wrong demonstration."""
        return [View("contrast", "negative", temperature=self.config.divergence.temperature)]

    def terms(self, step: Step) -> list[TokenTerm]:
        """Return the hinge, a mean over the step's tokens that have a negative."""
        negative = step.readings["contrast"]
        known = step.ranks.sum(negative.present.sum().float())
        coefficient = self.settings.weight * (1.0 / known.clamp(min=1.0))

        def term(seen: Seen, b: Tensor) -> tuple[Tensor, Tensor]:
            return hinge(seen.s, seen.g, b, self.settings.margin)

        return [TokenTerm("contrast", term, coefficient, negative.present, (negative.values,))]

    def measure(self, step: Step) -> dict[str, float | Mean]:
        """Return the mean hinge and the share of live tokens, among those with a negative."""
        known = step.readings["contrast"].present
        count = known.sum().float()
        return {
            "contrast/live": Mean((step.values["contrast/slope"] != 0).sum().float(), count),
            "contrast/hinge": Mean(step.values["contrast"].sum(), count),
            "contrast/tokens_with_negative": step.mean(known),
        }

    def acting(self, run: Run) -> Acting:
        """It acts where any token has a gradient."""
        live, share = run.mean("contrast/live"), run.mean("contrast/tokens_with_negative")
        return Acting(
            "contrast",
            f"{live:.1%} of contrasted tokens have a gradient; {share:.0%} of tokens have a negative",
            live > 0,
            "raise contrast.margin, or check that negatives were written (see the drop counts)",
        )


def hinge(s: Tensor, g: Tensor, b: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Return max(0, margin + |s - g| - |s - b|) and its derivative in s: +2 or -2 where live, else 0.

    Args:
        s: ``[N]`` student's log-probability of the sampled token, in nats.
        g: ``[N]`` teacher's, in the gold context.
        b: ``[N]`` teacher's, in the negative context.
        margin: in nats, 0 or more.

    Returns:
        Value and slope, ``[N]`` each, in the dtype of ``s``.

    Raises:
        ValueError: shapes that differ, or a negative margin.
    """
    if not s.shape == g.shape == b.shape:
        raise ValueError(f"contrast needs equal shapes, got s {tuple(s.shape)}, g {tuple(g.shape)}, b {tuple(b.shape)}")
    if not margin >= 0.0:
        raise ValueError(f"contrast margin must be 0 or more, got {margin}")
    value = margin + (s - g).abs() - (s - b).abs()
    live = (((g < s) & (s < b)) | ((b < s) & (s < g))) & (value > 0.0)
    return value.clamp_min(0.0), torch.where(live, 2.0 * torch.sign(s - g), 0.0)
