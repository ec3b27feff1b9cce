"""How fast the student writes, and how often the host waits for the device while it samples, scores and learns.

On CUDA PyTorch itself reports each operation that waits. Elsewhere the numbers that leave tensors are counted, which is
less: a list that is read from a tensor at once is not seen. Those counts are shown and not judged.
"""

import contextlib
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_parts.report import Report
from gpu_parts.setup import NO_TOKEN, lora, model, settings, synchronize, trainer

OPENING = 4
"""Reads that a batch may cost once, besides one a token."""


class _Numbers(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def host_reads(device: str) -> Iterator[Callable[[], int]]:
    """Count how often the host waits for the device inside the block; the count is known after it."""
    if device != "cuda":
        with _Numbers() as numbers:
            yield lambda: numbers.count
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        before = torch.cuda.get_sync_debug_mode()  # this may be inside of another count
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lambda: sum("synchroniz" in str(warning.message) for warning in said)
        finally:
            torch.cuda.set_sync_debug_mode(before)


def counted(owner: Any, method: str, device: str, counts: dict[str, int], phase: str) -> None:
    """Add the reads of each call of ``owner.method`` to a phase."""
    inner = getattr(owner, method)

    def call(*args: Any, **kwargs: Any) -> Any:
        with host_reads(device) as count:
            result = inner(*args, **kwargs)
        counts[phase] = counts.get(phase, 0) + count()
        return result

    setattr(owner, method, call)


def reads_by_phase(device: str, recipe: str, new_tokens: int) -> dict[str, int]:
    """Return the host reads of the second of two steps, by phase; ``score`` is the plan without sampling."""
    with tempfile.TemporaryDirectory() as folder:
        run = trainer(settings(recipe, device, new_tokens, max_steps=2), folder, model(), lora())
        run.sampler.end_tokens = frozenset({NO_TOKEN})
        sample, plan, learn = run.sampler.sample, run.planner.plan, run.learner.learn
        counts: dict[str, int] = {}

        def begin(*args: Any, **kwargs: Any) -> Any:
            counts.clear()  # what the first step reads once is no matter
            run.sampler.sample, run.planner.plan, run.learner.learn = sample, plan, learn
            counted(run.sampler, "sample", device, counts, "sample")
            counted(run.planner, "plan", device, counts, "plan")
            counted(run.learner, "learn", device, counts, "learn")
            return take(*args, **kwargs)

        take, run.get_batch_samples = run.get_batch_samples, begin
        run.train()
    if device == "cuda":  # an inner count hides its warnings from the outer one
        return {"sample": counts["sample"], "score": counts["plan"], "learn": counts["learn"]}
    return {"sample": counts["sample"], "score": counts["plan"] - counts["sample"], "learn": counts["learn"]}


def tokens_per_second(device: str, shape: str, dtype: torch.dtype, batch: int, new_tokens: int) -> float:
    """Return how many tokens a second a batch is written with, adapter on, the second time."""
    from unisd.rollout import Request, SamplingParams, make_sampler

    torch.manual_seed(0)
    base = model(shape, dtype, device).to(device)
    with tempfile.TemporaryDirectory() as folder:
        run = trainer(settings("core", device, new_tokens), folder, base, lora(64 if shape != "tiny" else 4))
        sampler = make_sampler(run.model, run.processing_class, batch)
    sampler.end_tokens = frozenset({NO_TOKEN})
    prompts = [list(range(3, 203)) for _ in range(batch)]
    seconds = 0.0
    for turn in range(2):
        synchronize(device)
        start = time.perf_counter()
        requests = [Request(ids, (turn, i)) for i, ids in enumerate(prompts)]
        done = sampler.sample(requests, SamplingParams(new_tokens))
        synchronize(device)
        seconds = time.perf_counter() - start
        assert all(len(completion.ids) == new_tokens for completion in done)
    return batch * new_tokens / seconds


def run(report: Report) -> None:
    """Measure speed, count reads."""
    shape, batch, new_tokens = ("tiny", 4, 16) if report.small else ("Qwen2.5-0.5B", 32, 256)
    dtype = torch.float32 if report.small else torch.bfloat16
    with report.checking("sampling"):
        rate = tokens_per_second(report.device, shape, dtype, batch, new_tokens)
        report.figure(f"{shape}, {batch} at a time, {new_tokens} tokens each", round(rate, 1), "tokens/s")
        report.check("sampling", rate > 0, f"{rate:,.0f} tokens/s")
    for recipe in ("core", "unisd"):
        with report.checking(f"host reads, {recipe}"):
            reads = reads_by_phase(report.device, recipe, 16)
            for phase, count in reads.items():
                report.figure(f"host reads of a step, {recipe}, {phase}", count, "reads")
            judge(report, recipe, reads, 16)


def judge(report: Report, recipe: str, reads: dict[str, int], new_tokens: int) -> None:
    """Check the counts of one step of one batch, where the device reports them all."""
    text = ", ".join(f"{phase} {count}" for phase, count in reads.items())
    if report.device != "cuda":
        report.check(f"host reads, {recipe}", True, f"{text} (counted in part, not judged)")
        return
    good = reads["sample"] <= new_tokens + OPENING and not reads["score"] and not reads["learn"]
    limits = f"limits: sample {new_tokens} + {OPENING}, score 0, learn 0"
    report.check(f"host reads, {recipe}", good, f"{text}; {limits}")
