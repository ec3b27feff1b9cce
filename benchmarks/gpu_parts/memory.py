"""Peak memory of a whole step on the device, beside what the plan says without it.

The measured number is PyTorch's: the most bytes of tensors that lived at once, without blocks that it keeps in reserve.
"""

import gc
import tempfile
from dataclasses import dataclass
from typing import Any

import torch

from gpu_parts.report import Report
from gpu_parts.setup import NO_TOKEN, lora, model, rows, settings, trainer
from unisd.training.forecast import Lengths
from unisd.training.planning import planned as plan

TOLERANCE = 0.15
_CONTEXT = 48
"""Tokens that a context adds to a prompt of these rows, about."""


@dataclass(frozen=True)
class Case:
    """What is measured: a recipe on a shape, with an adapter of a rank, or with all weights (rank 0)."""

    recipe: str
    shape: str
    rank: int
    batch: int
    new_tokens: int
    prompt: int = 256

    def __str__(self) -> str:
        kind = f"LoRA r {self.rank}" if self.rank else "all weights"
        return f"{self.recipe}, {self.shape}, {kind}, {self.batch} × {self.new_tokens} new tokens"


CASES = (
    Case("core", "Qwen2.5-0.5B", 64, 8, 256),
    Case("unisd", "Qwen2.5-0.5B", 64, 8, 256),
    Case("core", "Qwen2.5-0.5B", 0, 8, 256),
    Case("unisd", "Qwen2.5-1.5B", 64, 8, 256),
)


def arguments(case: Case, device: str, steps: int = 2) -> Any:
    """Return a case's settings."""
    return settings(case.recipe, device, case.new_tokens, max_steps=steps, per_device_train_batch_size=case.batch)


def planned(case: Case, device: str) -> int:
    """Return the bytes that the plan says a step of this case needs at most."""
    made = arguments(case, device)
    made.model.name, made.model.dtype = case.shape.lower(), "bfloat16"
    made.lora.enabled, made.lora.r, made.lora.dropout = case.rank > 0, max(case.rank, 1), 0.0
    return plan(made, device, lengths=Lengths(case.prompt, _CONTEXT)).forecast.peak


def measured(case: Case) -> int:
    """Return the peak of two steps, in bytes, without what the process held before."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        base = model(case.shape, torch.bfloat16, "cuda")
        data = rows(2 * case.batch, case.prompt - 60)
        run = trainer(arguments(case, "cuda"), folder, base, lora(case.rank) if case.rank else None, data)
        run.sampler.end_tokens = frozenset({NO_TOKEN})
        run.train()
    return torch.cuda.max_memory_allocated() - before


def judge(report: Report, name: str, peak: int, plan: int) -> None:
    """Note a measured peak, and check it against the plan."""
    report.figure(f"{name}: peak", round(peak / 2**30, 2), "GiB")
    report.figure(f"{name}: plan", round(plan / 2**30, 2), "GiB")
    off = peak / plan - 1
    report.check(name, abs(off) <= TOLERANCE, f"{off:+.1%} of the plan; limit ±{TOLERANCE:.0%}")


def run(report: Report) -> None:
    """Measure every case."""
    if report.device != "cuda":
        report.skip("PyTorch counts peak memory on CUDA alone")
        return
    for case in CASES:
        with report.checking(str(case)):
            judge(report, str(case), measured(case), planned(case, "cuda"))
