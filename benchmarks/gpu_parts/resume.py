"""A run is killed between two steps and resumed; what it trained must be what a run without a break trained.

With deterministic kernels this holds to the bit. Where two unbroken runs differ too, kernels are not deterministic, and
the resumed run must be within `TOLERANCE` of one of them.
"""

import os
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from gpu_parts.report import Report
from gpu_parts.setup import lora, model, settings, trainer

STEPS, SAVED, KILLED = 5, 2, 3
TOLERANCE = 1e-4
"""Of the weights' distance, relative to how far they moved."""
CASES = {"LoRA, EMA teacher, dropout": ("unisd", False), "all weights, several steps a draw": ("reuse", True)}


class _Kill(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)


def trained(folder: str, recipe: str, full: bool, device: str, kill: bool = False, resume: bool = False) -> Any:
    """Train `STEPS` steps with a checkpoint every `SAVED`; return what is trained, flat, in fp32, and its start."""
    deterministic()
    made = settings(recipe, device, max_steps=STEPS, save_strategy="steps", save_steps=SAVED, learning_rate=1e-3)
    run = trainer(made, folder, model(), None if full else lora(dropout=0.05), callbacks=[_Kill()] if kill else None)
    start = _flat(run.model)
    run.train(resume_from_checkpoint=True if resume else None)
    return _flat(run.model), start


def deterministic() -> None:
    """Ask for deterministic kernels; an operation that has none only warns."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def _flat(of: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().float().cpu().flatten().clone() for p in of.parameters() if p.requires_grad])


def killed(folder: str, recipe: str, full: bool, device: str) -> int:
    """Run in a process of its own, which kills itself; return its exit code (minus the signal's number)."""
    code = "import sys; from gpu_parts import resume; f, r, w, d = sys.argv[1:]; "
    code += "resume.trained(f, r, w == 'True', d, kill=True)"
    paths = [*sys.path, os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", code, folder, recipe, str(full), device],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        check=False,
    )
    return done.returncode


def compare(
    report: Report, name: str, found: torch.Tensor, whole: torch.Tensor, start: torch.Tensor, again: Any
) -> None:
    """Check a resumed run against an unbroken one; ``again()`` trains another one, where the two differ."""
    if torch.equal(found, whole):
        report.check(name, True, f"equal to the bit, {found.numel():,} numbers")
        return
    moved = max(float((whole - start).norm()), 1e-12)
    far = float((found - whole).norm()) / moved
    noise = float((again() - whole).norm()) / moved
    report.check(
        name,
        noise > 0 and far <= TOLERANCE,
        f"differs by {far:.2g} of what it moved by, two unbroken runs by {noise:.2g}; limit {TOLERANCE:g}, "
        "and 0 where two unbroken runs are equal",
    )


def run(report: Report) -> None:
    """Check every case."""
    warnings.filterwarnings("ignore", message=".*deterministic.*")
    for name, (recipe, full) in CASES.items():
        with report.checking(name), tempfile.TemporaryDirectory() as temporary:
            whole, start = trained(f"{temporary}/whole", recipe, full, report.device)
            code = killed(f"{temporary}/broken", recipe, full, report.device)
            left = sorted(path.name for path in Path(temporary, "broken").rglob("checkpoint-*"))
            if code != -signal.SIGKILL or left != [f"checkpoint-{SAVED}"]:
                raise RuntimeError(f"the run to kill ended with {code} and left {left}")
            found, _ = trained(f"{temporary}/broken", recipe, full, report.device, resume=True)
            again = lambda: trained(f"{temporary}/again", recipe, full, report.device)[0]  # noqa: E731, B023
            compare(report, name, found, whole, start, again)
