"""What a step says of itself: a line of metrics."""

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unisd.errors import warn
from unisd.files import fingerprint, named_write_errors, write_text
from unisd.mechanisms import Acting, Mean, Mechanisms, Run
from unisd.training.plan import Plan

METRICS_FILE = "metrics.jsonl"


def step_metrics(loss: Tensor, plan: Plan, mechanisms: Mechanisms) -> dict[str, float]:
    """Return the metrics of a step that was learned, over all ranks: the loss, what every run measures, and what the
    mechanisms do."""
    step = plan.step
    found: dict[str, float | Mean] = {"loss": Mean(loss.float(), torch.zeros_like(loss, dtype=torch.float32))}
    if "divergence" in step.values:
        found["divergence/mean"] = step.mean(step.values["divergence"])
        found["student/entropy"] = step.mean(step.values["entropy"])
    if plan.counted:
        found |= mechanisms.measure(step)
    means = {name: value for name, value in found.items() if isinstance(value, Mean)}
    sums = step.ranks.sum(torch.stack([part.to(loss.device) for m in means.values() for part in (m.total, m.over)]))
    totals = iter(sums.tolist())
    metrics = {name: next(totals) / max(next(totals), 1.0) for name in means}
    metrics |= {name: value for name, value in found.items() if not isinstance(value, Mean)}
    if "divergence" in step.values:
        spread = step.ranks.join(step.values["divergence"].float())
        metrics["divergence/p95"] = float(torch.quantile(spread, 0.95))
        metrics["divergence/max"] = float(spread.max())
    return metrics | plan.metrics


def acting(mechanisms: Mechanisms, file: Path) -> list[Acting]:
    """Return, for each mechanism that is on, whether it acted in the run of a ``metrics.jsonl``.

    None does in a run of which no step had a gradient.
    """
    run = Run([row for row in MetricsLog(file).rows() if "grad_norm" in row])  # and none of an evaluation
    found = [found for mechanism in mechanisms if (found := mechanism.acting(run)) is not None]
    if any(step.get("grad_norm") for step in run.steps):
        return found
    return [replace(each, acts=False, remedy="no step had a gradient, so nothing was learned") for each in found]


def peak_memory_bytes() -> int:
    """Return the process's peak memory so far: the accelerator's where one is used, else the resident set."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


class MetricsLog:
    """``metrics.jsonl`` and its like: lines with their ``step``, appended as the run goes; a resume continues after its
    checkpoint's step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, step: int) -> None:
        """Keep the lines up to ``step`` (0: none) and drop what a stopped run wrote after its last checkpoint.

        What is lost or cannot be read is said: the run goes on without it.
        """
        kept, broken = _readable(self.path, step) if step else ([], 0)
        if broken:
            warn(f"{self.path}: {broken} lines are damaged; they are left out")
        text = "".join(line for _, line in kept)
        if not (self.path.is_file() and self.path.read_bytes() == text.encode()):
            write_text(self.path, text)

    def rows(self, step: int = sys.maxsize) -> list[dict[str, Any]]:
        """Return the lines up to ``step`` that can be read."""
        return [json.loads(line) for _, line in _readable(self.path, step)[0]]

    def missing(self, step: int) -> list[int]:
        """Return which of the steps from 1 to ``step`` have no line that can be read."""
        seen = {number for number, _ in _readable(self.path, step)[0]}
        return [number for number in range(1, step + 1) if number not in seen]

    def hash(self, step: int) -> str:
        """Return a hash of the lines up to ``step``."""
        return fingerprint([line for _, line in _readable(self.path, step)[0]])

    def append(self, *rows: dict[str, Any]) -> None:
        """Add the lines of one step."""
        with named_write_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _readable(path: Path, step: int) -> tuple[list[tuple[int, str]], int]:
    """Return the lines of a log up to a step, each with its step, and how many are damaged.

    A last line that a kill tore is neither.
    """
    if not path.is_file():
        return [], 0
    kept, broken = [], 0
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            text = line.decode()
            number = int(json.loads(text)["step"])
        except (ValueError, TypeError, KeyError, RecursionError):
            broken += 1
            continue
        if number <= step:
            kept.append((number, text + "\n"))
    return kept, broken
