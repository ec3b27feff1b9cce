"""Three steps of every recipe on the device, beside the same three on the CPU in fp32.

Both learn from the same completions: those that the CPU sampled. The optimizer is plain SGD, so that what the adapter
moved by is its gradient, and no dropout is drawn, whose masks differ between devices. Compared are the loss and the
gradient's norm at each step, relative to the CPU's, and the distance of what was moved, relative to its length.
"""

import gc
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gpu_parts.report import Report
from gpu_parts.setup import lora, model, recorded, replayed, settings, trainer

STEPS = 3
FP32 = {"worst": 5e-3, "median": 1e-4}
"""Limits of the relative differences in fp32: sums are taken in another order, and tiny weights amplify it."""
BF16 = {"worst": 0.5, "median": 0.05}
"""Limits in bf16, which keeps 8 bits: 0.4 % a rounding. The worst are tokens near a cap, which count or do not."""
ON_CPU = ("core", "unisd")
"""The recipes that a CPU takes in fp32 a second time: there it compares with itself."""
DTYPES = {"fp32": (torch.float32, FP32), "bf16": (torch.bfloat16, BF16)}


def three_steps(recipe: str, device: str, dtype: torch.dtype, kept: dict[Any, Any], record: bool) -> dict[str, Any]:
    """Train three steps; return losses and gradient norms by step, and what the adapter moved by (fp32, on the CPU)."""
    with tempfile.TemporaryDirectory() as folder:
        made = settings(recipe, device, max_steps=STEPS, optim="sgd", learning_rate=0.05, weight_decay=0.0)
        run = trainer(made, folder, model(dtype=dtype), lora())
        run.sampler.sample = recorded(run.sampler.sample, kept) if record else replayed(kept)
        before = _trained(run.model)
        run.train()
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
        moved = _trained(run.model) - before
    del run
    gc.collect()
    return {"loss": [line["loss"] for line in lines], "norm": [line["grad_norm"] for line in lines], "moved": moved}


def _trained(of: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().float().cpu().flatten().clone() for p in of.parameters() if p.requires_grad])


def differences(found: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
    """Return the relative differences of two results of `three_steps` by name."""
    far = {
        f"{name} {step}": abs(a - b) / max(abs(b), 1e-6)
        for name in ("loss", "norm")
        for step, (a, b) in enumerate(zip(found[name], reference[name], strict=True), start=1)
    }
    length = max(float(reference["moved"].norm()), 1e-12)
    return far | {"moved": float((found["moved"] - reference["moved"]).norm()) / length}


def judge(report: Report, recipe: str, dtype: str, far: dict[str, float]) -> None:
    """Check a recipe's worst difference; what is no number is beyond every limit."""
    limit = DTYPES[dtype][1]["worst"]
    name, worst = max(far.items(), key=lambda item: (item[1] != item[1], item[1]))
    report.check(f"{recipe}, {dtype}", worst <= limit, f"worst {worst:.2g} ({name}); limit {limit:g}")


def judge_all(report: Report, dtype: str, found: Sequence[float]) -> None:
    """Check the median of the differences of all recipes, and note the largest."""
    if found:
        limit, median = DTYPES[dtype][1]["median"], statistics.median(found)
        report.check(f"median of all, {dtype}", median <= limit, f"{median:.2g}; limit {limit:g}")
        report.figure(f"largest relative difference, {dtype}", max(found), "1")


def run(report: Report, recipes: Sequence[str] | None = None) -> None:
    """Compare every recipe, or some."""
    from unisd.training.runfile import recipe_names

    found: dict[str, list[float]] = {name: [] for name in DTYPES}
    for recipe in recipes or recipe_names():
        kept: dict[Any, Any] = {}
        with report.checking(f"{recipe}, the CPU's steps"):
            reference = three_steps(recipe, "cpu", torch.float32, kept, record=True)
            for name, (dtype, _) in DTYPES.items():
                if report.device == "cpu" and name == "fp32" and recipe not in ON_CPU:
                    continue
                with report.checking(f"{recipe}, {name}"):
                    steps = three_steps(recipe, report.device, dtype, kept, record=False)
                    far = differences(steps, reference)
                    judge(report, recipe, name, far)
                    found[name] += far.values()
    for name, every in found.items():
        judge_all(report, name, every)
