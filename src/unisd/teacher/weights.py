"""Whose weights the teacher uses: the initial model, the student as it is, or an average of past students.

One copy of the weights under LoRA: the initial teacher is the adapter switched off, the EMA teacher a shadow of the
adapter that is swapped in. With full fine-tuning both are a copy of the trained parameters.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unisd.errors import UniSDError
from unisd.models.load import has_adapter

TeacherKind = Literal["initial", "live", "ema"]
EMA_FILE = "ema.safetensors"


class Teacher:
    """The teacher's weights, as a context manager over the student's model (METHOD 3.4).

    Create it before the model is wrapped for distributed training, when the student still has its initial weights.

    Args:
        model: the student, PEFT-wrapped or plain.
        kind: ``initial``, ``live`` or ``ema``.
        decay: β of θ̄ ← β θ̄ + (1−β) θ.
        every: optimizer steps between two updates.
    """

    def __init__(self, model: nn.Module, kind: TeacherKind, decay: float = 0.9, every: int = 10) -> None:
        self.model = model
        self.kind = kind
        self.decay = decay
        self.every = every
        self.updates = 0
        self._shadow: dict[str, Tensor] = {}
        self._start: dict[str, Tensor] = {}
        trained = self._trained()
        if kind == "ema":
            # fp32, because (1−β)(θ−θ̄) is soon below the resolution of bf16; equal to the student, not zero.
            self._shadow = {name: value.detach().float().clone() for name, value in trained.items()}
        elif kind == "initial" and not has_adapter(model):
            self._shadow = {name: value.detach().clone() for name, value in trained.items()}
        if kind == "ema" and has_adapter(model):
            self._start = {name: value.clone() for name, value in self._shadow.items()}

    def _trained(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    @contextlib.contextmanager
    def weights(self) -> Iterator[nn.Module]:
        """Swap the teacher's weights in, in evaluation mode and without gradient; restore the student after.

        The student's own tensors are put aside, not copied, so they come back bit for bit.
        """
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), self._swapped():
                yield self.model
        finally:
            self.model.train(training)

    @contextlib.contextmanager
    def _swapped(self) -> Iterator[None]:
        model: Any = self.model
        if self.kind == "initial" and has_adapter(model):
            with model.disable_adapter():
                yield
            return
        aside = {}
        trained = self._trained() if self._shadow else {}
        try:
            for name, parameter in trained.items():
                aside[name] = parameter.data
                parameter.data = self._shadow[name].to(parameter.dtype)
            yield
        finally:
            for name, own in aside.items():
                trained[name].data = own

    @torch.no_grad()
    def follow(self, step: int) -> bool:
        """Move the average toward the student after optimizer step ``step`` (from 1); return whether it moved."""
        if self.kind != "ema" or step % self.every:
            return False
        for name, parameter in self._trained().items():
            self._shadow[name].lerp_(parameter.detach().float(), 1.0 - self.decay)
        self.updates += 1
        return True

    @torch.no_grad()
    def distances(self) -> dict[str, float]:
        """Return relative L2 distances of the average: to the student and, under LoRA, to the start; {} without EMA."""
        if self.kind != "ema":
            return {}
        pairs = {"ema_to_student": self._trained()}
        if self._start:
            pairs["ema_to_start"] = self._start
        norm = _norm(self._shadow)
        return {
            name: _norm({key: self._shadow[key] - value.float() for key, value in other.items()}) / max(norm, 1e-12)
            for name, other in pairs.items()
        }

    def save(self, folder: Path) -> None:
        """Write the average and its count of updates to ``folder``; nothing for the other kinds."""
        if self.kind == "ema":
            tensors = {f"shadow.{name}": value.contiguous() for name, value in self._shadow.items()}
            tensors |= {f"start.{name}": value.contiguous() for name, value in self._start.items()}
            save_file(tensors, folder / EMA_FILE, metadata={"updates": str(self.updates)})

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote, exactly.

        Raises:
            UniSDError: the checkpoint has no average, or one of another model.
        """
        if self.kind != "ema":
            return
        path = folder / EMA_FILE
        if not path.is_file():
            raise UniSDError(
                f"{path} is missing: this checkpoint has no EMA teacher; resume with teacher.kind as it was"
            )
        tensors = load_file(path)
        if {key.removeprefix("shadow.") for key in tensors if key.startswith("shadow.")} != set(self._shadow):
            raise UniSDError(
                f"{path} belongs to another model or adapter; resume with model and lora settings as they were"
            )
        for key, value in tensors.items():
            part, name = key.split(".", 1)
            (self._shadow if part == "shadow" else self._start)[name].copy_(value)
        from safetensors import safe_open

        with safe_open(path, "pt") as opened:
            self.updates = int((opened.metadata() or {}).get("updates", 0))


def _norm(tensors: dict[str, Tensor]) -> float:
    squares = [value.double().square().sum() for value in tensors.values()]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
