"""Ask a model, grade what it says, and keep every answer."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisd.contexts import Context, PromptBuilder
from unisd.errors import UsageError
from unisd.evaluation.statistics import wilson
from unisd.files import stable_integer, write_json, write_jsonl
from unisd.rollout import Request, Sampler, SamplingParams
from unisd.tasks import Example, Task


@dataclass(frozen=True)
class Item:
    """One graded answer, with everything needed to grade it again."""

    id: str
    prompt: str
    gold: str
    output: str
    parsed: str | None
    correct: bool
    finished: bool
    tokens: int


@dataclass(frozen=True)
class Evaluation:
    """A model's answers on a task."""

    task: str
    metric: str
    items: list[Item]

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.items)

    @property
    def correct(self) -> int:
        """Number of correct answers."""
        return sum(item.correct for item in self.items)

    @property
    def parsable(self) -> int:
        """Number of answers that could be read."""
        return sum(item.parsed is not None for item in self.items)

    def summary(self) -> dict[str, Any]:
        """Return accuracy, share parsable and accuracy among the parsable, with 95 % Wilson intervals."""
        return {
            "task": self.task,
            "metric": self.metric,
            "n": self.n,
            "accuracy": share(self.correct, self.n),
            "parsable": share(self.parsable, self.n),
            "accuracy_among_parsable": share(self.correct, self.parsable),
            "finished": share(sum(item.finished for item in self.items), self.n),
            "mean_tokens": sum(item.tokens for item in self.items) / max(self.n, 1),
        }

    def write(self, path: Path) -> None:
        """Write the summary to ``path`` (.json) and the items beside it (.jsonl, an item a line)."""
        write_jsonl(path.with_suffix(".jsonl"), [dataclasses.asdict(item) for item in self.items])
        write_json(path, self.summary())


def share(part: int, whole: int) -> dict[str, float | int]:
    """Return a proportion with its 95 % Wilson interval; of nothing, the interval is all of [0, 1]."""
    low, high = wilson(part, whole) if whole else (0.0, 1.0)
    return {"value": part / whole if whole else 0.0, "low": low, "high": high, "count": part, "of": whole}


def in_words(part: dict[str, Any]) -> str:
    """Return a :func:`share` as ``12.0% [6.2, 21.7] (9/75)``."""
    return f"{part['value']:.1%} [{100 * part['low']:.1f}, {100 * part['high']:.1f}] ({part['count']}/{part['of']})"


def evaluate(
    task: Task,
    examples: Sequence[Example],
    sampler: Sampler,
    builder: PromptBuilder,
    max_new_tokens: int | None = None,
    contexts: Sequence[Context] | None = None,
    progress: str | None = "evaluating",
) -> Evaluation:
    """Ask every example greedily and grade the answers.

    Args:
        task: who grades.
        examples: what is asked.
        sampler: who answers.
        builder: how prompts are laid out.
        max_new_tokens: room for an answer; None takes the task's.
        contexts: one per example: ask as the teacher is asked. None: ask as the student is.
        progress: the progress bar's name; None shows none.

    Raises:
        UsageError: there is nothing to ask.
    """
    if not examples:
        raise UsageError(f"{task.name}: no items to evaluate; raise --limit or choose another split")
    params = SamplingParams(max_new_tokens or task.max_new_tokens, temperature=0.0)
    if contexts is None:
        prompts = [builder.student_ids(example.prompt) for example in examples]
    else:
        prompts = [builder.teacher_ids(e.prompt, context) for e, context in zip(examples, contexts, strict=True)]
    written = sampler.sample(
        [Request(ids, (e.id,)) for ids, e in zip(prompts, examples, strict=True)], params, progress
    )
    items = []
    for example, done in zip(examples, written, strict=True):
        text = sampler.decode(done)
        grade = task.grade(example, text)
        items.append(
            Item(
                example.id,
                example.prompt,
                example.answer,
                text,
                grade.parsed,
                grade.correct,
                done.finished,
                len(done.ids),
            )
        )
    return Evaluation(task.name, "accuracy", items)


def drawn(examples: Sequence[Example], limit: int | None, seed: int = 42) -> list[Example]:
    """Return ``limit`` examples, drawn by a stable hash of their ids; a smaller limit gives a part of a larger one."""
    if limit is None or limit >= len(examples):
        return list(examples)
    return sorted(examples, key=lambda example: stable_integer(seed, "draw", example.id))[:limit]
