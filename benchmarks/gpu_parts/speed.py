"""Whole steps of training on a model of the shape of Qwen2.5-0.5B with random weights, beside TRL's SDFTTrainer.

TRL does the job of recipe `core`: forward KL over the whole vocabulary to the gold context, with the adapter off. Both
read the same token ids and write exactly the same number of tokens. A step lasts from where its batch is taken to where
the next one would be. TRL takes part where it can be imported (`make gpu-wheels` fetches it to be carried along).
"""

import gc
import importlib.util
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peer import same_work

from gpu_parts.report import Report
from gpu_parts.setup import NO_TOKEN, lora, model, rows, settings, synchronize, tokenizer, trainer

PEER = "trl"


@dataclass(frozen=True)
class Size:
    """What every contestant does."""

    shape: str
    dtype: torch.dtype
    batch: int
    new_tokens: int
    prompt: int
    rank: int
    warm: int
    steps: int


SMALL = Size("tiny", torch.float32, 4, 8, 40, 4, warm=1, steps=2)
LARGE = Size("Qwen2.5-0.5B", torch.bfloat16, 8, 256, 200, 64, warm=2, steps=5)


def ours(size: Size, recipe: str, device: str, folder: str) -> Any:
    """Return our trainer."""
    made = settings(
        recipe,
        device,
        size.new_tokens,
        max_steps=size.warm + size.steps + 1,
        per_device_train_batch_size=size.batch,
        train_sampling_strategy="sequential",
    )
    base = model(size.shape, size.dtype, device)
    run = trainer(made, folder, base, lora(size.rank, 0.05), rows(64, size.prompt))
    run.sampler.end_tokens = frozenset({NO_TOKEN})
    return run


def peer(size: Size, device: str, folder: str) -> Any:
    """Return TRL's trainer with the same work; its rows are prompts as our own `core` rendered them."""
    from datasets import Dataset
    from trl.experimental.sdft import SDFTConfig, SDFTTrainer

    with tempfile.TemporaryDirectory() as other:
        prepared, core = (run := ours(size, "core", device, other)).train_dataset, run.args
        del run
    reader = tokenizer()
    data = []
    for row in prepared:
        student, teacher = reader.decode(row.student_ids), reader.decode(row.contexts["gold"][0])
        if not teacher.startswith(student):
            raise ValueError("the teacher's prompt does not begin with the student's; use layout turn")
        data.append({"prompt": student, "privileged_context": teacher[len(student) :]})
    config = SDFTConfig(
        output_dir=folder,
        per_device_train_batch_size=size.batch,
        gradient_accumulation_steps=1,
        max_steps=size.warm + size.steps + 1,
        learning_rate=core.learning_rate,
        lr_scheduler_type="constant",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=device == "cpu",
        gradient_checkpointing=False,
        **same_work(core, size.new_tokens),
    )
    return SDFTTrainer(
        model(size.shape, size.dtype, device),
        config,
        train_dataset=Dataset.from_list(data),
        processing_class=reader,
        peft_config=lora(size.rank, 0.05),
    )


def step_seconds(make: Callable[[str], Any], size: Size, device: str) -> tuple[list[float], list[dict[str, float]]]:
    """Train; return the seconds of each measured step, and its metrics where the trainer keeps some."""
    at: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run = make(folder)
        take = run.get_batch_samples

        def stamped(*args: Any, **kwargs: Any) -> Any:
            synchronize(device)
            at.append(time.perf_counter())
            return take(*args, **kwargs)

        run.get_batch_samples = stamped
        run.train()
        log = Path(folder) / "metrics.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    del run
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    until = size.warm + size.steps
    seconds = [later - earlier for earlier, later in itertools.pairwise(at)]
    return seconds[size.warm : until], lines[size.warm : until]


def measure(report: Report, name: str, make: Callable[[str], Any], size: Size) -> float | None:
    """Note a contestant's figures; return the median seconds of a step."""
    with report.checking(name):
        seconds, lines = step_seconds(make, size, report.device)
        median = statistics.median(seconds)
        text = f"{median:.3g} s a step ({min(seconds):.3g}–{max(seconds):.3g})"
        report.figure(f"{name}: step", round(median, 4), "s")
        report.figure(f"{name}: written", round(size.batch * size.new_tokens / median, 1), "tokens/s")
        for phase in ("sample", "score", "learn"):
            if lines and f"time/{phase}" in lines[0]:
                value = statistics.median(line[f"time/{phase}"] for line in lines)
                report.figure(f"{name}: {phase}", round(value, 4), "s")
        report.check(name, len(seconds) == size.steps, text)
        return median
    return None


def run(report: Report) -> None:
    """Measure `core` and `unisd`, and TRL where it is at hand."""
    size = SMALL if report.small else LARGE
    core = measure(report, "core", lambda folder: ours(size, "core", report.device, folder), size)
    measure(report, "unisd", lambda folder: ours(size, "unisd", report.device, folder), size)
    if importlib.util.find_spec(PEER) is None:
        report.check("TRL is left out", True, "it is not installed, and no wheel of it was carried")
        return
    theirs = measure(report, PEER, lambda folder: peer(size, report.device, folder), size)
    if core and theirs and not report.small:
        report.figure("core / TRL", round(core / theirs, 3), "of its time")
        report.check("core takes no longer than TRL", core <= theirs, f"{core / theirs:.2f} of its time")
