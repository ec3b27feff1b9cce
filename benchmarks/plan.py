"""The plan of a step beside a real one on a CPU: bytes of live tensors, and what the process grows by.

python benchmarks/plan.py [--model smollm2-135m] [--recipe unisd] [--items 4] [--tokens 32] [--json FILE]
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from unisd.models.load import DTYPES, base_model
from unisd.rollout import Completion
from unisd.training.dry import Tally, dry_copy
from unisd.training.forecast import forecast
from unisd.training.prepare import prepare
from unisd.training.runfile import assemble
from unisd.training.trainer import UniSDTrainer


class Resident:
    """The most memory that the process holds while it is open, sampled every 5 ms."""

    def __enter__(self) -> "Resident":
        self.peak = self.start = self.now()
        self._open = True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *caught: Any) -> None:
        self._open = False
        self._thread.join()

    @staticmethod
    def now() -> int:
        """Return the bytes that are resident now."""
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def _watch(self) -> None:
        while self._open:
            self.peak = max(self.peak, self.now())
            time.sleep(0.005)


def compared(model: str, recipe: str, items: int, tokens: int, folder: Path) -> dict[str, dict[str, int]]:
    """Return, by phase, the bytes that a step adds to what always lives: planned, live, resident."""
    sets = [f"training.per_device_train_batch_size={items}", f"rollout.max_completion_length={tokens}",
            "training.use_cpu=true", f"task.limit={items}", "contexts.kind=random", "contexts.count=2",
            "contrast.weight=0", "training.save_strategy=no"]  # fmt: skip
    settings = assemble(recipe, None, sets, {"model": {"name": model}, "task": {"name": "cos_e", "source": "sample"}})
    config = settings.config(folder)
    data = prepare(settings, config, progress=False)
    base, peft_config = settings.lora.begin(data.model)
    trainer = UniSDTrainer(
        base, config, train_dataset=data.items, processing_class=data.tokenizer, peft_config=peft_config
    )
    rows, planner = trainer.train_dataset, trainer.planner
    # What is written is given, so that both read the same: one token over and over.
    planner.writer.completions = lambda rows, step: [Completion([5] * tokens, True) for _ in rows]  # type: ignore[method-assign]
    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    found: dict[str, dict[str, int]] = {"score": {}, "learn": {}}
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    trainer.learner.learn(trainer.model.train(), planner.plan(rows, 0))  # what is made once
    for kind in ("live", "resident"):
        with Tally() if kind == "live" else Resident() as seen:
            plan = planner.plan(rows, 0)
            found["score"][kind] = seen.peak - (0 if kind == "live" else seen.start)
        with Tally() if kind == "live" else Resident() as seen:
            trainer.learner.learn(trainer.model.train(), plan)
            found["learn"][kind] = seen.peak - (0 if kind == "live" else seen.start)
    shape, dtype = base_model(trainer.model).config, DTYPES[settings.model.dtype]
    config.tokens_per_row = config.row_budget()
    made = forecast(config, lambda: dry_copy(shape, dtype, settings.lora), rows, "cpu", completions=[tokens])
    always = sum(made.parts[name] for name in ("weights", "teacher", "optimizer"))
    found["score"]["planned"] = made.phases["score"] - always
    found["learn"]["planned"] = made.phases["learn"] - always - made.parts["gradients"]
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--recipe", default="unisd")
    parser.add_argument("--items", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = compared(arguments.model, arguments.recipe, arguments.items, arguments.tokens, Path(folder))
    print("| phase | planned, MiB | live tensors, MiB | planned / live | resident, MiB |\n|---|---|---|---|---|")
    for phase, sizes in found.items():
        planned, live, resident = (sizes[kind] / 2**20 for kind in ("planned", "live", "resident"))
        print(f"| {phase} | {planned:.0f} | {live:.0f} | {planned / live:.2f} | {resident:.0f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
