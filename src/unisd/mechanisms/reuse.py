"""Reuse: completions are written once and learned from in several steps, weighted by how likely they still are.

After the first step the student is another than the one that wrote. A token's divergence is then multiplied by its
importance weight, truncated from above (Ionides 2008, truncated importance sampling; TRL's `distillation_is_clip`):

    w_t = min(p(y_t | x, y_<t) / p_written(y_t | x, y_<t), cap)        a constant: no gradient through it

At the first step it is 1. It is not normalised. For `sampled_reverse_kl`, whose estimate is a mean over the token that
was drawn, the weight is what that mean needs. A divergence over distributions is not a mean over its own token: there
the weight lets go of tokens that the student would no longer write. What changed before a token is not corrected for,
and other terms (contrast, features) are not weighted.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unisd.errors import UsageError
from unisd.mechanisms.base import Acting, Mean, Mechanism, Run, Step
from unisd.objective import Gate, Seen
from unisd.settings import Field, group


@group
class ReuseSettings:
    """Reuse: completions are written once and learned from in several optimizer steps."""

    steps: int = Field(default=1, ge=1)
    """Optimizer steps in succession that learn from the same completions; 1 switches the mechanism off."""
    cap: float | None = Field(default=2.0, ge=1)
    """Largest importance weight of a token, from the second of these steps on; null: all weights are 1."""

    @property
    def on(self) -> bool:
        """Whether the mechanism is switched on."""
        return self.steps > 1


class Reuse(Mechanism):
    """Lets rows come several times, and weighs tokens by how likely the student still is to write them."""

    name = "reuse"
    summary = "completions are written once and learned from in several steps"
    Settings = ReuseSettings
    settings: ReuseSettings
    needs_teacher = False

    @property
    def uses(self) -> int:
        """Optimizer steps that learn from what was written once."""
        return self.settings.steps

    def check(self, others: Sequence[Mechanism]) -> None:
        """Refuse completions that the student did not write, and weights at another temperature than it wrote at."""
        config, given = self.config, f"reuse.steps: {self.settings.steps}"
        rollout, divergence = config.rollout, config.divergence
        if rollout.source != "student":
            raise UsageError(
                f"{given} is for completions that the student writes, and rollout.source is {rollout.source}; "
                "set it to 1, or train for more epochs"
            )
        if config.ignore_data_skip or config.train_sampling_strategy not in ("random", "sequential"):
            raise UsageError(
                f"{given} needs rows in an order that a resumed run finds again; leave ignore_data_skip and "
                "train_sampling_strategy as they are by default, or set it to 1"
            )
        if self.settings.cap is None:
            if divergence.kind == "sampled_reverse_kl":
                raise UsageError(
                    "reuse.cap: null leaves out the weights that divergence.kind sampled_reverse_kl needs for tokens "
                    "of an earlier student; give a number"
                )
            return
        learned_at = divergence.temperature if config.needs_teacher else 1.0
        if rollout.temperature != learned_at:
            raise UsageError(
                f"reuse.cap: importance weights need one temperature, and the student writes at rollout.temperature "
                f"{rollout.temperature:g} and learns at {learned_at:g}; set them alike, or reuse.cap to null"
            )

    def inert(self, steps: int | None) -> list[str]:
        """Say that a run of one step uses nothing again."""
        return ["reuse.steps: the run has one step, so that nothing is used again"] if steps == 1 else []

    def gates(self, step: Step) -> list[Gate]:
        """Return the truncated importance weight, from the second use on; it costs nothing."""
        cap, written = self.settings.cap, step.written_logprobs
        if written is None or cap is None:
            return []

        def weight(seen: Seen, before: Tensor) -> Tensor:
            return (seen.s - before.to(seen.s.dtype)).exp().clamp(max=cap)

        return [Gate("reuse", weight, (written,))]

    def measure(self, step: Step) -> dict[str, float | Mean]:
        """Return the mean weight, its mean distance from 1, and the share of tokens at the cap."""
        weight = step.values.get("reuse", torch.ones_like(step.targets, dtype=torch.float32))
        return {
            "reuse/weight": step.mean(weight),
            "reuse/off_policy": step.mean((weight - 1.0).abs()),
            "reuse/capped": step.mean(weight == (self.settings.cap or torch.inf)),
        }

    def acting(self, run: Run) -> Acting:
        """It acts where a completion was used again, and the student was another by then."""
        weight, capped = run.mean("reuse/off_policy"), run.mean("reuse/capped")
        evidence = f"each completion is learned from {self.settings.steps} times"
        if self.settings.cap is not None:
            evidence += f"; weights {weight:.3g} from 1 on average, {capped:.1%} of tokens at the cap"
        acts = len(run.steps) > 1 and (self.settings.cap is None or weight > 0)
        return Acting("reuse", evidence, acts, "train for more steps, or raise learning_rate: the student did not move")
