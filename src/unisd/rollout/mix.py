"""Who writes a completion where the demonstration and the student share the work: a share that may change as it learns.

A student that hardly follows the form of an answer has little to show: its own words are far from anything that the
teacher would say. So the demonstrations may come first, and the student's words as it learns to write some.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unisd.errors import UsageError
from unisd.files import stable_integer, write_json

Schedule = Literal["constant", "linear", "readable"]
MIX_FILE = "mix.json"
_LATEST = 0.25
"""What the latest step counts in the moving average of readable answers."""


@dataclass
class Mix:
    """The share of completions that the student samples, step by step.

    * ``constant``: ``end``, from the first step on.
    * ``linear``: it rises (or falls) from ``start`` to ``end`` over ``steps`` steps and stays there.
    * ``readable``: ``start + (end - start) r`` with r a moving average of the share of the student's own answers that
      the task can read, 0 at first.

    The first two depend on nothing but the step. What the third has seen is that of all ranks, and is a part of every
    checkpoint.

    Raises:
        UsageError: values that the schedule does not read, or without which it stays where it is.
    """

    schedule: Schedule = "constant"
    start: float = 0.0
    end: float = 0.5
    steps: int = 0
    readable: float = 0.0
    """The moving average, for ``readable``."""

    def __post_init__(self) -> None:
        if self.schedule != "linear" and self.steps:
            raise UsageError(f"rollout.mix_steps: mix_schedule {self.schedule} counts no steps; leave it out")
        if self.schedule == "constant" and self.start:
            raise UsageError("rollout.mix_start: mix_schedule constant has no start; leave it out, or use linear")
        if self.schedule == "linear" and not self.steps:
            raise UsageError("rollout.mix_steps: mix_schedule linear needs the number of steps that it takes; set it")
        if self.schedule == "readable" and not self.start:
            raise UsageError("rollout.mix_start: with mix_schedule readable the student must write some from the "
                             "start, or nothing is ever read of it; set it above 0")  # fmt: skip
        if self.schedule != "constant" and self.start == self.end:
            raise UsageError(f"rollout.mix_start: it is rollout.mix ({self.end:g}), so nothing changes; set another")

    def share(self, step: int | str) -> float:
        """Return the share at an optimizer step, counted from 0; of what is no step of training, that of the end."""
        if self.schedule == "constant" or not isinstance(step, int):
            return self.end
        way = self.readable if self.schedule == "readable" else min(1.0, step / self.steps)
        return self.start + (self.end - self.start) * way

    def samples(self, seed: int, step: int | str, item: str) -> bool:
        """Return whether the student writes for an item, which depends on nothing but the arguments and the share."""
        return stable_integer(seed, "mix", step, item) / 2**63 < self.share(step)

    def follow(self, readable: float, written: float) -> None:
        """Take what became of a step: of ``written`` answers of the student, ``readable`` could be read; all ranks'."""
        if written:
            self.readable += _LATEST * (readable / written - self.readable)

    def save(self, checkpoint: Path) -> None:
        """Write what has been seen into a checkpoint, exactly."""
        if self.schedule == "readable":
            write_json(checkpoint / MIX_FILE, {"readable": self.readable})

    def load(self, checkpoint: Path) -> None:
        """Read what :meth:`save` wrote."""
        if self.schedule == "readable":
            self.readable = float(json.loads((checkpoint / MIX_FILE).read_text(encoding="utf-8"))["readable"])
