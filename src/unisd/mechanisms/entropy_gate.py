"""Entropy gate: where the teacher itself does not know what comes next, its distribution counts for less.

The idea of a gate by the teacher's entropy with a floor is that of EGRSD (arXiv 2605.13255); the form is our own. With
H_t the entropy of the teacher's distribution in the gold context, at the training temperature:

    gate_t = floor + (1 - floor) exp(-H_t / scale)

It multiplies the divergence and is not normalised: a step in which the teacher knows little is a small step.
"""

import torch
from torch import Tensor

from unisd.mechanisms.base import Acting, Mean, Mechanism, Run, Step
from unisd.objective import Gate, Seen
from unisd.settings import Field, group


@group
class EntropyGateSettings:
    """Entropy gate: tokens of which the teacher is unsure count for less."""

    floor: float = Field(default=1.0, ge=0, le=1)
    """What a token counts of which the teacher knows nothing; 1 switches the mechanism off."""
    scale: float = Field(default=1.0, gt=0)
    """Entropy in nats at which the gate has fallen to 37 % of the way to the floor."""

    @property
    def on(self) -> bool:
        """Whether the mechanism is switched on."""
        return self.floor < 1


class EntropyGate(Mechanism):
    """Gates divergences by the teacher's entropy, which the pass over the logits forms anyway."""

    name = "entropy_gate"
    summary = "tokens of which the teacher is unsure count for less"
    Settings = EntropyGateSettings
    settings: EntropyGateSettings

    def gates(self, step: Step) -> list[Gate]:
        """Return the gate; it costs one more elementwise pass over the teacher's distribution."""
        floor, scale = self.settings.floor, self.settings.scale

        def gate(seen: Seen) -> Tensor:
            return floor + (1.0 - floor) * torch.exp(-seen.teacher_entropy / scale)

        return [Gate("entropy_gate", gate, teacher_entropy=True)]

    def measure(self, step: Step) -> dict[str, float | Mean]:
        """Return the mean of the gate, and the share of tokens that it more than halves."""
        gate = step.values["entropy_gate"]
        return {"entropy_gate/mean": step.mean(gate), "entropy_gate/halved": step.mean(gate < 0.5)}

    def acting(self, run: Run) -> Acting:
        """It acts where divergences are lowered by more than a hundredth on average."""
        mean = run.mean("entropy_gate/mean")
        return Acting(
            "entropy gate",
            f"mean gate {mean:.2f}, {run.mean('entropy_gate/halved'):.1%} of tokens more than halved",
            mean < 0.99,
            "lower entropy_gate.floor or entropy_gate.scale: the teacher is surer than they expect",
        )
