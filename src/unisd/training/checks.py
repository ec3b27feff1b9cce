"""Whether a run trains: teacher and student agree at the start, and every step's gradient reaches what is trained."""

import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from unisd.errors import UniSDError, UsageError, warn
from unisd.mechanisms import TeacherWeights
from unisd.models.adapters import sums, trained, without_numbers
from unisd.models.probe import alike, answers

_WATCHED = 3
"""Steps in which every tensor is looked at: the first has a learning rate of 0 with warm-up, and moves B before A."""


def check_start(model: nn.Module, teacher: TeacherWeights | None) -> None:
    """Compare teacher and student, on a few tokens, while the student has its initial weights.

    Raises:
        UniSDError: they differ by more than rounding, or the model cannot read, or says no numbers.
    """
    try:
        own = answers(model)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever the model says: nothing here has touched it yet
        cause = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise UsageError(f"model: it cannot read a few tokens ({cause}); try model(input_ids=…) by itself") from error
    if bool(own.isnan().any()):
        raise UsageError(
            "model: its logits are no numbers before the first step: weights are broken, or overflow in their "
            "precision; load it anew, or set model.dtype=float32 (or bfloat16 in place of float16)"
        )
    if teacher is None:
        return
    with teacher.weights() as weights:
        taught = answers(weights)
    if not alike(own, taught, next(model.parameters()).dtype):
        raise UniSDError(
            f"model: before the first step the {teacher.kind} teacher differs from the student, by "
            f"{float((own - taught).abs().max()):.2g} in a logit: its answers depend on more than its parameters; "
            "use another PEFT method or model"
        )


class GradientWatch:
    """Looks at the gradients of each step before the optimizer takes them.

    Args:
        total: adds a number up over the ranks; called only where all of them call it.
    """

    def __init__(self, total: Callable[[Tensor], Tensor]) -> None:
        self.learned = self.looked = self.passed = 0
        self._total = total
        self._silent: set[str] = set()
        self._named: set[str] = set()
        self._warned = False
        self._start: dict[str, tuple[float, float]] = {}

    def begin(self, model: nn.Module) -> None:
        """Note what is trained as it is before the first step."""
        self._start = sums(trained(model).items())

    def pass_over(self) -> None:
        """Count a step of which no token carries a loss, which has said so."""
        self.passed += 1

    def look(self, model: nn.Module, asks: Callable[[], bool], step: int) -> None:
        """Name what got no gradient, and stop at a gradient that is zero though the loss asks for a change.

        Args:
            model: the student, its gradients those of the whole step.
            asks: whether the loss has a gradient in the student's hidden states.
            step: the optimizer step, from 1, for messages.

        Raises:
            UniSDError: the whole gradient is exactly zero, and the loss asks for a change.
        """
        named = trained(model)
        self.looked += 1
        if self.looked <= _WATCHED:
            self._name_silent(named)
        if any(_is_alive(value.grad) for value in reversed(named.values())):
            self.learned += 1
            return
        device = next(iter(named.values())).device
        if float(self._total(torch.tensor([float(asks())], device=device))) > 0:
            raise UniSDError(
                f"step {step}: the gradient is exactly zero, though the loss asks for a change: something in the model "
                "does not pass it on (a quantisation or kernel that this device cannot train, a cut-off layer); "
                "change model.dtype, the device or what is trained"
            )
        if not self._warned:
            self._warned = True
            warn(f"step {step}: nothing to learn, as no token counts or all are capped; the step changes nothing")

    def finish(self, model: nn.Module) -> None:
        """Check, when training has ended, that any step had a gradient, and that what was trained is another for it.

        Raises:
            UniSDError: no step was taken, none had a gradient, nothing has moved, or weights are no numbers any more.
        """
        if self.looked + self.passed == 0:
            raise UniSDError(
                "training: no step was taken, as the rows fill none; give more rows, or leave dataloader_drop_last out"
            )
        if not self.learned:
            raise UniSDError("training: no step had a gradient, so nothing was trained; see the warnings")
        end = sums(trained(model).items())
        broken = {name for name, (_, norm) in end.items() if not math.isfinite(norm)}
        if broken:
            raise UniSDError(f"training: {_listed(broken, end)} are no numbers any more; lower training.learning_rate")
        still = {name for name, value in end.items() if value == self._start.get(name)}
        if len(still) < len(end):
            still -= self._silent | self._named
            if still and self.looked >= _WATCHED:
                warn(f"{_listed(still, end)} are as before: steps are less than their precision; see model.dtype")
        elif self.looked == 1:
            warn("training: the one step was taken at a learning rate of 0, where warm-up begins; nothing has changed")
        else:
            raise UniSDError(
                "training: every trained weight is as it was: the steps are 0, or less than the weights' precision; "
                "raise training.learning_rate, or set model.dtype=float32"
            )

    def _name_silent(self, named: dict[str, Tensor]) -> None:
        without = {name for name, value in named.items() if value.grad is None}
        silent = {name for name, value in named.items() if not _is_alive(value.grad)}
        self._silent = silent if self.looked == 1 else self._silent & silent
        if self.looked == 1 and 0 < len(without) < len(named):
            warn(f"{_listed(without, named)} got no gradient in the first step and will stay as they are")
            self._named = without
        if self.looked == _WATCHED:
            silent = self._silent - self._named
            if 0 < len(silent) < len(named):
                warn(f"{_listed(silent, named)} got a gradient of exactly 0 in the first {_WATCHED} steps")


def _listed(names: set[str], named: Collection[str]) -> str:
    return f"{len(names)} of {len(named)} trained tensors ({', '.join(without_numbers(sorted(names)))})"


def _is_alive(gradient: Tensor | None) -> bool:
    return gradient is not None and bool(gradient.any())
