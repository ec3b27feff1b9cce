"""What a step says of itself: a line of metrics, and whether each mechanism that is on really acts."""

import json
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unisd.files import named_write_errors, read_jsonl, write_jsonl
from unisd.training.config import UniSDConfig
from unisd.training.learn import Learned
from unisd.training.plan import Plan
from unisd.training.ranks import Ranks

METRICS_FILE = "metrics.jsonl"


def step_metrics(learned: Learned, plan: Plan, ranks: Ranks) -> dict[str, float]:
    """Return the step's metrics over all ranks: means per token, the loss as a sum."""
    n = learned.loss.new_tensor(float(len(plan.targets)))
    sums: dict[str, Tensor] = {"loss": learned.loss.float(), "n": n}
    if learned.divergence is not None:
        sums["divergence/mean"] = learned.divergence.sum().float()
    if learned.entropy is not None:
        sums["student/entropy"] = learned.entropy.sum().float()
    if learned.cap is not None and learned.clipped is not None:
        sums["clip/rate"] = learned.clipped.sum().float()
    if learned.features is not None:
        sums["features/distance"] = learned.features.sum().float()
    if plan.has_negative is not None and learned.live is not None and learned.hinge is not None:
        known = plan.has_negative
        sums["contrast/tokens"] = known.sum().float()
        sums["contrast/live"] = (learned.live & known).sum().float()
        sums["contrast/hinge"] = torch.where(known, learned.hinge, 0.0).sum().float()
    names = list(sums)
    totals = dict(zip(names, ranks.sum(torch.stack([sums[name] for name in names])).tolist(), strict=True))
    metrics = {"loss": totals.pop("loss")}
    tokens = max(totals.pop("n"), 1.0)
    contrasted = totals.pop("contrast/tokens", None)
    if contrasted is not None:
        metrics["contrast/live"] = totals.pop("contrast/live") / max(contrasted, 1.0)
        metrics["contrast/hinge"] = totals.pop("contrast/hinge") / max(contrasted, 1.0)
        metrics["contrast/tokens_with_negative"] = contrasted / tokens
    metrics |= {name: value / tokens for name, value in totals.items()}
    if learned.divergence is not None:
        spread = ranks.join(learned.divergence.float())
        metrics["divergence/p95"] = float(torch.quantile(spread, 0.95))
        metrics["divergence/max"] = float(spread.max())
    if learned.cap is not None:
        metrics["clip/cap"] = float(learned.cap)
    return metrics | plan.metrics


def peak_memory_bytes() -> int:
    """Return the process's peak memory so far: the accelerator's where one is used, else the resident set."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


class MetricsLog:
    """``metrics.jsonl``: a line a step, appended as the run goes; a resume continues after its checkpoint's step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, step: int) -> None:
        """Keep the lines up to ``step`` (0: none) and drop what a stopped run wrote after its last checkpoint."""
        kept = [row for row in _complete_lines(self.path) if row.get("step", 0) <= step] if step else []
        write_jsonl(self.path, kept)

    def append(self, row: dict[str, Any]) -> None:
        """Add one step."""
        with named_write_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _complete_lines(path: Path) -> list[dict[str, Any]]:
    """Read the log; a last line torn by a kill is left out."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
    return read_jsonl(path)


@dataclass(frozen=True)
class Acting:
    """Whether one mechanism acted in a run."""

    mechanism: str
    evidence: str
    """What was measured, in words and figures."""
    acts: bool
    remedy: str = ""
    """What to change where it does not act."""


def mechanisms(config: UniSDConfig, rows: list[dict[str, Any]]) -> list[Acting]:
    """Return, for each mechanism that is on, whether it acted over the steps in ``rows`` (lines of metrics.jsonl)."""

    def mean(name: str) -> float:
        values = [row[name] for row in rows if name in row]
        return sum(values) / len(values) if values else 0.0

    def last(name: str) -> float:
        return next((float(row[name]) for row in reversed(rows) if name in row), 0.0)

    found = []
    if config.agreement.on:
        size, low, high = (mean(f"agreement/{k}") for k in ("effective_sample_size", "weight_min", "weight_max"))
        found.append(
            Acting(
                f"agreement ({config.agreement.granularity})",
                f"weights {low:.2f} to {high:.2f}, effective sample size {size:.1%}",
                high - low > 0.1,
                f"raise agreement.gamma (now {config.agreement.gamma:g}): the weights are all but equal",
            )
        )
    if config.teacher.kind == "ema" and config.needs_teacher:
        moved, updates = last("ema/ema_to_start"), last("ema/updates")
        evidence = f"{updates:.0f} updates, distance to student {last('ema/ema_to_student'):.2%}"
        if any("ema/ema_to_start" in row for row in rows):
            evidence += f", to start {moved:.2%}"
        found.append(
            Acting(
                "ema teacher",
                evidence,
                updates > 0,
                f"lower teacher.every (now {config.teacher.every}): it never moved",
            )
        )
    if config.contrast.on:
        live = mean("contrast/live")
        share = mean("contrast/tokens_with_negative")
        found.append(
            Acting(
                "contrast",
                f"{live:.1%} of contrasted tokens have a gradient; {share:.0%} of tokens have a negative",
                live > 0,
                "raise contrast.margin, or check that negatives were written (see the drop counts)",
            )
        )
    if config.features.on:
        distance = mean("features/distance")
        found.append(
            Acting("features", f"mean squared distance {distance:.3g}", distance > 0, "the teacher equals the student")
        )
    if config.divergence.clips():
        rate = mean("clip/rate")
        found.append(
            Acting(
                "clipping",
                f"{rate:.1%} of tokens clipped at {mean('clip/cap'):.2f} nats",
                rate > 0,
                "lower divergence.clip, or use clip_quantile",
            )
        )
    return found
