"""``completions.jsonl``: what was written at some steps of a run, for people to read."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from unisd.devices import wide
from unisd.rollout import Completion
from unisd.training.plan import Plan
from unisd.training.telemetry import MetricsLog

COMPLETIONS_FILE = "completions.jsonl"
_NAME = "completions"


def completion_lines(
    plan: Plan, step: int, read: Callable[[Sequence[int]], str], text: Callable[[Completion], str]
) -> list[dict[str, Any]]:
    """Return a line for each of this rank's completions of a step that was learned.

    Args:
        plan: the step's.
        step: its number, from 1.
        read: ids of a prompt to text, special tokens included.
        text: a completion to what is graded of it.
    """
    seen = Counter[str]()
    grades = [None] * len(plan.completions) if plan.step.grades is None else plan.step.grades().tolist()
    lines = []
    for item, sequence, done, grade, divergence in zip(
        plan.step.items, plan.sequences, plan.completions, grades, _mean_divergences(plan), strict=True
    ):
        line = {
            "step": step,
            "id": item,
            "sample": seen[item],
            "prompt": read(sequence.prompt_ids),
            "completion": text(done),
            "tokens": len(done.ids),
            "finished": done.finished,
            "counted": bool(sequence.completion_ids),
            "divergence": divergence,
        }
        lines.append(line if grade is None else line | {"grade": grade})
        seen[item] += 1
    return lines


def _mean_divergences(plan: Plan) -> list[float | None]:
    """Return each completion's mean divergence in nats, before clipping; None where none was computed."""
    step, divergence = plan.step, plan.step.values.get("divergence")
    if divergence is None:
        return [None] * len(plan.sequences)
    values = wide(divergence)
    sums = values.new_zeros(len(step.lengths)).index_add_(0, step.sequence.to(values.device), values)
    return [
        total / length if length else None for total, length in zip(sums.tolist(), step.lengths.tolist(), strict=True)
    ]


class CompletionsLog:
    """Keeps the completions of every n-th step in a run's folder, and shows them to trackers that take texts.

    Args:
        folder: the run's.
        every: n; 0 keeps none.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.every = every
        self._log = MetricsLog(folder / COMPLETIONS_FILE)

    def start(self, step: int) -> None:
        """Keep the lines up to ``step`` (0: none), as a resumed run goes on after its checkpoint's."""
        if self.every:
            self._log.start(step)

    def due(self, step: int) -> bool:
        """Return whether the completions of ``step`` (from 1) are kept."""
        return self.every > 0 and step % self.every == 0

    def add(self, lines: Sequence[dict[str, Any]], step: int, callbacks: Iterable[Any]) -> None:
        """Write the lines of one step; on the first rank alone.

        Args:
            lines: all ranks'.
            step: its number.
            callbacks: transformers' callbacks, among them those of trackers.
        """
        self._log.append(*lines)
        for callback in callbacks:
            if (board := getattr(callback, "tb_writer", None)) is not None:
                board.add_text(_NAME, _as_markdown(lines), step)
            wandb = getattr(callback, "_wandb", None)
            if wandb is not None and wandb.run is not None:
                columns = list(lines[0])
                table = wandb.Table(columns=columns, data=[[line[name] for name in columns] for line in lines])
                wandb.log({_NAME: table, "train/global_step": step})


def _as_markdown(lines: Sequence[dict[str, Any]]) -> str:
    parts = []
    for line in lines:
        about = ", ".join(f"{name} {line[name]}" for name in line if name not in ("step", "prompt", "completion"))
        quoted = [f"    {row}" for row in f"{line['prompt']}{line['completion']}".splitlines()]
        parts.append("\n".join([f"**{about}**", "", *quoted]))
    return "\n\n".join(parts)
