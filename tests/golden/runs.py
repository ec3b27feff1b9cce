"""Short runs of every recipe on a tiny random model, from the command line, as plain values to compare.

``python tests/golden/runs.py`` writes runs.json anew; do so only where a change is meant to change results, and say so.
"""

import hashlib
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import torch
from safetensors.torch import load_file

import tiny
from unisd.cli.main import main

FILE = Path(__file__).with_name("runs.json")
TIMED = ("time/", "memory/", "speed/")
OPTIONS = {
    "training.max_steps": 4,
    "training.per_device_train_batch_size": 4,
    "training.learning_rate": 0.01,
    "training.lr_scheduler_type": "constant",
    "training.warmup_steps": 0,
    "training.save_strategy": "no",
    "training.use_cpu": "true",
    "training.tokens_per_row": 1500,
    "lora.r": 4,
    "lora.alpha": 8,
    "contexts.max_prompt_length": 1900,
    "contrast.draw": "all",  # as it was for every recipe when the file was made
}
CASES: dict[str, tuple[str, list[str]]] = {
    "all five, two random contexts, quantile": (
        "unisd",
        ["divergence.clip=null", "divergence.clip_quantile=0.9", "contexts.kind=random", "contexts.count=2"],
    ),
    "all five, sequence level, jsd": (
        "unisd",
        ["agreement.granularity=sequence", "agreement.gamma=20", "divergence.kind=jsd", "divergence.clip=0.2"],
    ),
    "all five, all weights": ("unisd", ["lora.enabled=false", "training.learning_rate=0.001"]),
    "accumulation, checkpointing": (
        "unisd",
        ["training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=2"],
    ),
}


def machine() -> dict[str, str]:
    """What the last bits depend on."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {"processor": name, "kernels": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__}


def tiny_model(folder: Path) -> Path:
    """A tiny random model on disk."""
    if not folder.exists():
        made = tiny.model()
        with torch.no_grad():
            made.lm_head.weight.mul_(1.5)
        made.save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
    return folder


def run(recipe: str, changes: list[str], folder: Path) -> dict:
    """Train by a recipe; return the metrics of each step and what was saved."""
    torch.set_num_threads(1)
    output = Path(tempfile.mkdtemp(dir=folder)) / "run"
    completion = 400 if recipe == "quickstart" or "sft" in recipe or "gkd" in recipe else 48
    options = OPTIONS | {"rollout.max_completion_length": completion}
    arguments = ["train", "--quiet", "--recipe", recipe, "--task", "cos_e", "--source", "sample"]
    arguments += ["--model", str(tiny_model(folder / "model")), "--output", str(output), "--set", "task.limit=16"]
    for change in [f"{name}={value}" for name, value in options.items()] + changes:
        arguments += ["--set", change]
    status = main(arguments)
    assert status == 0, f"{recipe}: exit status {status}"
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    weights = load_file(next(output.glob("*/*model.safetensors")))
    return {
        "metrics": [{k: v for k, v in row.items() if not k.startswith(TIMED)} for row in rows],
        "weights": {
            name: hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()[:16]
            for name, value in sorted(weights.items())
        },
    }


def cases() -> dict[str, tuple[str, list[str]]]:
    """All recipes that were there when the file was made, and combinations."""
    folder = Path(__file__).parents[2] / "src/unisd/recipes"
    names = [file.stem for file in folder.glob("*.yaml") if file.stem[0] != "_" and file.stem != "models"]
    return {name: (name, ["lora.dropout=0.05"] if name == "unisd" else []) for name in sorted(names)} | CASES


if __name__ == "__main__":
    os.environ.setdefault("UNISD_CACHE", tempfile.mkdtemp())
    with tempfile.TemporaryDirectory() as temporary:
        made = {name: run(recipe, changes, Path(temporary)) for name, (recipe, changes) in cases().items()}
    FILE.write_text(json.dumps({"machine": machine(), "runs": made}, indent=0) + "\n")
