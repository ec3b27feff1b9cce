"""What a step says of itself: a line of metrics."""

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unisd.files import named_write_errors, read_jsonl, write_jsonl
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
    run = Run(read_jsonl(file))
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
        """Keep the lines up to ``step`` (0: none) and drop what a stopped run wrote after its last checkpoint."""
        kept = [row for row in _complete_lines(self.path) if row.get("step", 0) <= step] if step else []
        write_jsonl(self.path, kept)

    def append(self, *rows: dict[str, Any]) -> None:
        """Add the lines of one step."""
        with named_write_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _complete_lines(path: Path) -> list[dict[str, Any]]:
    """Read the log; a last line torn by a kill is left out."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
    return read_jsonl(path)
