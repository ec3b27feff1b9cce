"""What stops a trainer before harm is done: numbers that are none, words that narrow down, memory that is not there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unisd.errors import UniSDError, warn
from unisd.rollout import Sampler
from unisd.training.collapse import CollapseWatch
from unisd.training.completions import completion_lines
from unisd.training.finite import FiniteWatch, gradient_norm
from unisd.training.heldout import HeldOut
from unisd.training.plan import Plan
from unisd.training.telemetry import MetricsLog


class Guarded(HeldOut):
    """The part of `UniSDTrainer` that looks at every step before the optimizer takes it and before it is kept."""

    sampler: Sampler
    metrics_log: MetricsLog
    _collapse: CollapseWatch | None = None

    def _prepare_guards(self) -> None:
        args = self.args
        self._finite = FiniteWatch(Path(args.output_dir), args.guard.skip_nonfinite, args.process_index, self._lines)
        self._left_out = False

    def _lines(self, plan: Plan, step: int) -> list[dict[str, Any]]:
        return completion_lines(plan, step, self.processing_class.decode, self.sampler.decode)

    def _takes(self, model: nn.Module, loss: Tensor, plan: Plan) -> bool:
        """Return whether a step that was learned may be taken; without one the model has no gradient."""
        total = float(self.ranks.sum(loss.detach()))
        self._left_out = not self._finite.loss(total, plan, self.state.global_step + 1, self._get_learning_rate())
        if self._left_out:
            model.zero_grad(set_to_none=True)
        return not self._left_out

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Return the gradient's norm; what is no number does not reach the optimizer."""
        found = super()._get_grad_norm(model, grad_norm=grad_norm)
        if self._left_out or self.accelerator.scaler is not None:  # which leaves such steps out by itself
            return found
        norm = float(gradient_norm(self.model) if found is None else found)
        self._left_out = not self._finite.gradient(norm, self.state.global_step + 1, self._get_learning_rate())
        if self._left_out:
            model.zero_grad(set_to_none=True)
            return 0.0
        return found

    def _guard(self, metrics: dict[str, float]) -> None:
        """Look at what a step has made of the weights, and of the student's words."""
        step = self.state.global_step
        self._finite.weights(self.model, step, metrics["learning_rate"])
        if self.args.rollout.source not in ("student", "mix"):
            return
        if self._collapse is None:  # a run that goes on has a beginning, too
            self._collapse = CollapseWatch(self.metrics_log.rows(step - 1))
        for sign in self._collapse.look(metrics):
            warn(f"step {step}: {sign}")
            if self.args.guard.on_collapse == "stop":
                self.control.should_save = self.control.should_training_stop = True

    @contextlib.contextmanager
    def _memory_named(self, what: str, remedy: str) -> Iterator[None]:
        """Say in one line that memory ran out, and which setting asks for less; nothing is changed by itself."""
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_memory(error):
                raise
            raise UniSDError(
                f"step {self.state.global_step + 1}: out of memory while it {what}; {remedy} "
                "(none of this changes results), or go on from the last checkpoint on a larger device"
            ) from error


def _is_memory(error: Exception) -> bool:
    known = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(part in str(error) for part in known)
