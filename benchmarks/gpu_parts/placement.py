"""Every recipe takes a step on the device, with an adapter and with all weights, and so does every command.

While a model works, the device of each module's weights and inputs is noted; afterwards, that of whatever the trainer
holds: parameters, buffers, the optimizer's state, and what the mechanisms keep. Numbers (tensors without dimensions)
may be anywhere.
"""

import contextlib
import gc
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from gpu_parts.report import Report
from gpu_parts.setup import lora, model, settings, tokenizer, trainer


@contextlib.contextmanager
def watched() -> Iterator[dict[str, str]]:
    """Note the kind of device of the weights and inputs of every module that runs: the first name seen of each kind."""
    seen: dict[str, str] = {}

    def note(module: torch.nn.Module, given: Any) -> None:
        for value in [*module._parameters.values(), *given]:
            if isinstance(value, torch.Tensor) and value.dim():
                seen.setdefault(value.device.type, type(module).__name__)

    handle = register_module_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def held(value: Any, name: str = "", known: set[int] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors with dimensions inside of containers and of objects of this package, with their names."""
    known = set() if known is None else known
    if id(value) in known:
        return
    known.add(id(value))
    if isinstance(value, torch.Tensor):
        if value.dim():
            yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from held(part, f"{name}.{key}" if isinstance(key, str) else name, known)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from held(part, name, known)
    elif type(value).__module__.startswith("unisd."):
        for key, part in vars(value).items() if hasattr(value, "__dict__") else ():
            yield from held(part, f"{name}.{key}", known)


def misplaced(run: Any, device: str) -> list[str]:
    """Return the names of what a trainer holds elsewhere than on the device."""
    groups = {
        "parameter": dict(run.model.named_parameters()),
        "buffer": dict(run.model.named_buffers()),
        "optimizer": list(run.optimizer.state.values()) if run.optimizer is not None else [],
        "mechanisms": list(run.mechanisms),
    }
    return [name for name, value in held(groups) if value.device.type != device]


def elsewhere(seen: Mapping[str, str], device: str) -> str:
    """Return in words where modules ran other than on the device; empty if nowhere."""
    if not seen:
        return "no module ran"
    return ", ".join(f"{module} on {kind}" for kind, module in seen.items() if kind != device)


def one_step(report: Report, recipe: str, full: bool, dtype: torch.dtype) -> None:
    """Take a step and say what was elsewhere."""
    name = f"{recipe}, {'all weights' if full else 'LoRA'}, {str(dtype).removeprefix('torch.')}"
    with report.checking(name), tempfile.TemporaryDirectory() as folder, watched() as seen:
        run = trainer(settings(recipe, report.device), folder, model(dtype=dtype), None if full else lora(dropout=0.05))
        loss = run.train().training_loss
        wrong = [*misplaced(run, report.device), *filter(None, [elsewhere(seen, report.device)])]
        if not math.isfinite(loss):
            wrong.append(f"the loss is {loss}")
        report.check(name, not wrong, "; ".join(wrong[:3]))
        run = None
    gc.collect()


def commands(folder: Path) -> dict[str, list[str]]:
    """Return the commands that load a model, by name; the tiny model is written to ``folder`` first."""
    base = folder / "model"
    model().save_pretrained(base)
    tokenizer().save_pretrained(base)
    task = ["--task", "cos_e", "--source", "sample", "--quiet"]
    made = {
        "task.limit": 8,
        "training.max_steps": 1,
        "training.per_device_train_batch_size": 4,
        "training.save_strategy": "no",
        "rollout.max_completion_length": 16,
        "contexts.max_prompt_length": 4000,
        "lora.r": 4,
    }
    train = ["train", "--recipe", "unisd", *task, "--model", str(base)]
    for name, value in made.items():
        train += ["--set", f"{name}={value}"]
    short = ["--max-new-tokens", "16"]
    asked = ["evaluate", str(folder / "run"), *task, "--limit", "4", *short, "--base", "--likelihood", "--retention"]
    asked += ["--instructions", "4"]
    audit = ["audit", *task, "--model", str(base), "--items", "6", *short]
    return {
        "train, with negatives": [*train, "--output", str(folder / "run")],
        "evaluate, likelihood, retention": [*asked, "--output", str(folder / "evaluation")],
        "audit, with instructions and negatives": [*audit, "--output", str(folder / "audit")],
    }


def run(report: Report, recipes: Sequence[str] | None = None) -> None:
    """Check every recipe, or some, and every command."""
    from unisd.training.runfile import recipe_names

    for recipe in recipes or recipe_names():
        for full in (False, True):
            one_step(report, recipe, full, torch.float32)
    one_step(report, "unisd", False, torch.bfloat16)
    with tempfile.TemporaryDirectory() as folder, _no_cache(Path(folder) / "cache"):
        for name, arguments in commands(Path(folder)).items():
            command(report, name, arguments)


def command(report: Report, name: str, arguments: Sequence[str], main: Callable[..., int] | None = None) -> None:
    """Run a command of the command line here, and say where its model ran."""
    if main is None:
        from unisd.cli.main import main
    if arguments[0] == "train" and report.device == "cpu":
        arguments = [*arguments, "--set", "training.use_cpu=true"]
    with report.checking(name), watched() as seen:
        code = main(list(arguments))
        wrong = elsewhere(seen, report.device) if code == 0 else f"exit code {code}; its message stands above"
        report.check(name, not wrong, wrong)


@contextlib.contextmanager
def _no_cache(folder: Path) -> Iterator[None]:
    """Keep answers in a folder of this run, so that nothing is answered from an earlier one."""
    before = os.environ.get("UNISD_CACHE")
    os.environ["UNISD_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("UNISD_CACHE") if before is None else os.environ.update(UNISD_CACHE=before)
