"""A model of the shape of Qwen2.5-1.5B, in bf16 with LoRA of rank 64, takes steps of recipe `unisd`."""

import json
import math
import tempfile
from pathlib import Path

import torch

from gpu_parts.report import Report
from gpu_parts.setup import NO_TOKEN, lora, model, rows, settings, trainer

ROOM = 24 * 2**30
"""What a card for this size has."""


def run(report: Report) -> None:
    """Take two steps."""
    if report.small:
        report.skip("a model of 1.5 billion parameters is not trained on a CPU in minutes")
        return
    name = "two steps, 8 × 256 new tokens"
    with report.checking(name), tempfile.TemporaryDirectory() as folder:
        base = model("Qwen2.5-1.5B", torch.bfloat16, report.device)
        made = settings("unisd", report.device, 256, max_steps=2, per_device_train_batch_size=8)
        run = trainer(made, folder, base, lora(64, 0.05), rows(16, 200))
        run.sampler.end_tokens = frozenset({NO_TOKEN})
        run.train()
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
        good = len(lines) == 2 and all(math.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in lines)
        report.check(name, good, f"losses {', '.join(format(line['loss'], '.4g') for line in lines)}")
        report.figure("second step", round(lines[-1]["time/step"], 2), "s")
        if report.device == "cuda":
            peak = torch.cuda.max_memory_allocated()
            report.figure("peak", round(peak / 2**30, 2), "GiB")
            report.check("peak within 24 GiB", peak <= ROOM, f"{peak / 2**30:.1f} GiB")
