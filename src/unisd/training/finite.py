"""A run stops at the first number that is none, before the optimizer takes it and before anything is kept."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unisd.errors import UniSDError, warn
from unisd.files import write_json
from unisd.models.adapters import trained
from unisd.training.plan import Plan

Describe = Callable[[Plan, int], list[dict[str, Any]]]
"""(plan, step) to a line for each of its completions."""


class FiniteWatch:
    """Looks at a step's loss, at its gradient before the optimizer, and at the weights after it.

    Args:
        folder: the run's, where what was seen is written down.
        skips: steps whose loss or gradient is no number that are left out before the run stops.
        rank: this process's number.
        describe: says what a plan's completions are.
    """

    def __init__(self, folder: Path, skips: int, rank: int, describe: Describe) -> None:
        self.folder = folder
        self.skips = skips
        self.skipped = 0
        self.rank = rank
        self._describe = describe
        self._plan: Plan | None = None

    def loss(self, total: float, plan: Plan, step: int, rate: float) -> bool:
        """Return whether the step may be taken.

        Args:
            total: the step's loss over all ranks.
            plan: the step's, learned.
            step: its number, from 1.
            rate: the learning rate that it is taken with.

        Raises:
            UniSDError: the loss is no number, and no step may be left out any more.
        """
        self._plan = plan
        return self._is(total, "the loss", step, rate)

    def gradient(self, norm: float, step: int, rate: float) -> bool:
        """Return whether the optimizer may take the gradient of this norm; see `loss`."""
        return self._is(norm, "the gradient", step, rate)

    def weights(self, model: nn.Module, step: int, rate: float) -> None:
        """Check what is trained after a step, before any of it is saved.

        Raises:
            UniSDError: a weight is no number.
        """
        values = list(trained(model).values())
        norms = torch._foreach_norm([value.detach() for value in values])  # type: ignore[attr-defined]
        if not math.isfinite(float(torch.stack([norm.float() for norm in norms]).sum())):
            self._stop("a weight", step, rate)

    def _is(self, number: float, what: str, step: int, rate: float) -> bool:
        if math.isfinite(number):
            return True
        if self.skipped >= self.skips:
            self._stop(what, step, rate)
        self.skipped += 1
        warn(f"step {step}: {what} is no number; the step is left out ({self.skipped} of {self.skips})")
        return False

    def _stop(self, what: str, step: int, rate: float) -> None:
        seen = {} if self._plan is None else nonfinite(self._plan)
        file = self.folder / f"nonfinite-step-{step}-rank-{self.rank}.json"
        lines = [] if self._plan is None else self._describe(self._plan, step)
        found = {"step": step, "what": what, "learning_rate": rate, "values": seen, "completions": lines}
        write_json(file, found)
        where = "; ".join(f"{name} of {_some(items)}" for name, items in seen.items())
        raise UniSDError(
            f"step {step}: {what} is no number{f' ({where})' if where else ''}; lower training.learning_rate (it was "
            f"{rate:.3g}), or set model.dtype=float32. Nothing of the step was saved; what was seen is in {file}"
        )


def nonfinite(plan: Plan) -> dict[str, list[str]]:
    """Return which values of a step's tokens are no numbers, by name: the items that have any."""
    step, found = plan.step, {}
    values = {f"what the view {name} read": reading.values for name, reading in step.readings.items()}
    for name, value in {**values, **step.values}.items():
        if not value.is_floating_point() or len(value) != len(step.targets):
            continue
        bad = ~value.reshape(len(value), -1).isfinite().all(-1) if len(value) else value.bool()
        if bool(bad.any()):
            found[name] = [step.items[row] for row in sorted(set(step.sequence[bad].tolist()))]
    return found


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")


def gradient_norm(model: nn.Module) -> Tensor:
    """Return the norm of the whole gradient."""
    gradients = [value.grad for value in trained(model).values() if value.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)
