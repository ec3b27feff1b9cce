"""Whose weights the teacher uses: the initial model's, the student's as they are, or an average of past students.

One copy of the weights under LoRA: the initial teacher is the new adapter switched off, the EMA teacher a shadow of the
adapter that is swapped in. Where switching off does not give the start (an adapter that was trained before, trained
biases or embeddings, a start that changes the base as PiSSA's, full fine-tuning) it is a copy of what is trained.
Source: UniSD (arXiv 2605.06597), section 3, training stability.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unisd.devices import wide
from unisd.errors import UniSDError, UsageError
from unisd.mechanisms.base import Acting, Curve, Mechanism, Run, TeacherWeights
from unisd.models import has_adapter
from unisd.models.adapters import start_is_off, switched_off, trained
from unisd.settings import Field, group

EMA_FILE = "ema.safetensors"


@group
class TeacherSettings:
    """Whose weights the teacher uses."""

    kind: Literal["initial", "live", "ema"] = "initial"
    """initial: the model before training; live: the student as it is now; ema: an average of past students."""
    decay: float = Field(default=0.9, ge=0, lt=1)
    """β of the average, θ̄ ← β θ̄ + (1−β) θ."""
    every: int = Field(default=10, ge=1)
    """Optimizer steps between two updates of the average."""

    @property
    def on(self) -> bool:
        """Whether the teacher is any other than the initial model."""
        return self.kind != "initial"


class Teacher(Mechanism):
    """Makes the teacher of a kind, and moves it after each step."""

    name = "teacher"
    summary = "the teacher is the student as it is, or an average of past students"
    Settings = TeacherSettings
    curves = (
        Curve("EMA teacher: relative distances", "relative distance",
              {"ema/ema_to_student": "teacher to student", "ema/ema_to_start": "teacher to start"}),
        Curve("EMA teacher: updates", "updates", {"ema/updates": "updates"}, first=False),
    )  # fmt: skip
    settings: TeacherSettings
    average: "AverageTeacher | None" = None

    def check(self, others: Sequence[Mechanism]) -> None:
        """Refuse a teacher that moves where all it does is done before it does."""
        if not self.config.needs_teacher and self.config.rollout.teacher_draws == "once":
            raise UsageError(
                f"teacher.kind: {self.settings.kind} is the initial model still when it writes, once, before training; "
                "set rollout.teacher_draws to each_step, or teacher.kind to initial"
            )

    def inert(self, steps: int | None) -> list[str]:
        """Say that an average which never moves is the initial model."""
        every = self.settings.every
        if self.settings.kind != "ema" or steps is None or steps >= every:
            return []
        return [f"teacher.every: the average first moves after {every} steps, the run has {steps}; lower it"]

    def unread(self) -> dict[str, str]:
        """Return what only an average reads."""
        kind = self.settings.kind
        return {} if kind == "ema" else dict.fromkeys(("decay", "every"), f"the {kind} teacher is no average")

    def teacher(self, model: nn.Module) -> TeacherWeights:
        """Return the teacher of the kind that is set."""
        if self.settings.kind == "ema":
            self.average = AverageTeacher(model, self.settings.decay, self.settings.every)
            return self.average
        return LiveTeacher(model) if self.settings.kind == "live" else InitialTeacher(model)

    def follow(self, step: int) -> dict[str, float]:
        """Move the average; return how far it is from the student and from the start."""
        if self.average is None:
            return {}
        self.average.follow(step)
        distances = {f"ema/{name}": value for name, value in self.average.distances().items()}
        return distances | {"ema/updates": float(self.average.updates)}

    def acting(self, run: Run) -> Acting | None:
        """An average acts once it was updated."""
        if self.settings.kind != "ema":
            return None
        updates = run.last("ema/updates")
        evidence = f"{updates:.0f} updates, distance to student {run.last('ema/ema_to_student'):.2%}"
        if run.has("ema/ema_to_start"):
            evidence += f", to start {run.last('ema/ema_to_start'):.2%}"
        remedy = f"lower teacher.every (now {self.settings.every}): it never moved"
        return Acting("ema teacher", evidence, updates > 0, remedy)

    def save(self, folder: Path) -> None:
        """Write the average into a checkpoint."""
        if self.average is not None:
            self.average.save(folder)

    def load(self, folder: Path) -> None:
        """Read the average from a checkpoint."""
        if self.average is not None:
            self.average.load(folder)


class LiveTeacher:
    """The student's weights as they are.

    Args:
        model: the student, PEFT-wrapped or plain.
    """

    kind = "live"

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @contextlib.contextmanager
    def weights(self) -> Iterator[nn.Module]:
        """Put the weights in, in evaluation mode and without gradient; restore the student after.

        The student's own tensors are put aside, not copied, so they come back bit for bit.
        """
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), self._put_in():
                yield self.model
        finally:
            self.model.train(training)

    def _put_in(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def _swapped(self, values: dict[str, Tensor]) -> Iterator[None]:
        aside, parameters = {}, dict(self.model.named_parameters())
        try:
            for name, value in values.items():
                parameter = parameters[name]
                aside[name] = parameter.data
                # The model may have moved to another device since the values were kept: they follow it, once.
                values[name] = value = value.to(parameter.device)
                parameter.data = value.to(parameter.dtype)
            yield
        finally:
            for name, own in aside.items():
                parameters[name].data = own


class InitialTeacher(LiveTeacher):
    """The model before training: its adapters switched off where that is the start, else a copy of what is trained.

    Create it while the student still has its initial weights.
    """

    kind = "initial"

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._off = start_is_off(model)
        self._start = {} if self._off else {name: value.detach().clone() for name, value in trained(model).items()}

    def _put_in(self) -> contextlib.AbstractContextManager[None]:
        return switched_off(self.model) if self._off else self._swapped(self._start)


class AverageTeacher(LiveTeacher):
    """An exponential moving average of the trained parameters, kept in fp32: θ̄ ← β θ̄ + (1−β) θ every n steps.

    Create it before the model is wrapped for distributed training, while the student still has its initial weights: the
    average starts equal to the student.

    Args:
        model: the student, PEFT-wrapped or plain.
        decay: β.
        every: n, optimizer steps between two updates.
    """

    kind = "ema"

    def __init__(self, model: nn.Module, decay: float, every: int) -> None:
        super().__init__(model)
        self.decay = decay
        self.every = every
        self.updates = 0
        # fp32, because (1−β)(θ−θ̄) is soon below the resolution of bf16.
        self._shadow = {name: value.detach().float().clone() for name, value in trained(model).items()}
        self._start = {name: value.clone() for name, value in self._shadow.items()} if has_adapter(model) else {}

    def _put_in(self) -> contextlib.AbstractContextManager[None]:
        return self._swapped(self._shadow)

    @torch.no_grad()
    def follow(self, step: int) -> bool:
        """Move toward the student after optimizer step ``step`` (from 1); return whether it moved."""
        if step % self.every:
            return False
        parameters = dict(self.model.named_parameters())
        for name, value in self._shadow.items():
            own = parameters[name].detach().float()
            self._shadow[name] = value.to(own.device).lerp_(own, 1.0 - self.decay)
        self.updates += 1
        return True

    @torch.no_grad()
    def distances(self) -> dict[str, float]:
        """Return relative L2 distances of the average: to the student and, under LoRA, to the start."""
        pairs: dict[str, dict[str, Any]] = {"ema_to_student": dict(self.model.named_parameters())}
        if self._start:
            pairs["ema_to_start"] = self._start
        norm = _norm(self._shadow)
        return {
            name: _norm({key: value - other[key].to(value) for key, value in self._shadow.items()}) / max(norm, 1e-12)
            for name, other in pairs.items()
        }

    def save(self, folder: Path) -> None:
        """Write the average and its count of updates to ``folder``."""
        tensors = {f"shadow.{name}": value.contiguous() for name, value in self._shadow.items()}
        tensors |= {f"start.{name}": value.contiguous() for name, value in self._start.items()}
        save_file(tensors, folder / EMA_FILE, metadata={"updates": str(self.updates)})

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote, exactly.

        Raises:
            UniSDError: the checkpoint has no average, or one of another model.
        """
        path = folder / EMA_FILE
        if not path.is_file():
            raise UniSDError(
                f"{path} is missing: this checkpoint has no EMA teacher; resume with teacher.kind as it was"
            )
        with safe_open(path, "pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            self.updates = int((opened.metadata() or {}).get("updates", 0))
        if {key.removeprefix("shadow.") for key in tensors if key.startswith("shadow.")} != set(self._shadow):
            raise UniSDError(
                f"{path} belongs to another model or adapter; resume with model and lora settings as they were"
            )
        for key, value in tensors.items():
            part, name = key.split(".", 1)
            (self._shadow if part == "shadow" else self._start)[name].copy_(value)


def _norm(tensors: dict[str, Tensor]) -> float:
    squares = [wide(value).square().sum() for value in tensors.values()]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
