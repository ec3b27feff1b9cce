"""What the teacher has to teach: its own answers, in its context, beside the student's; see docs/method.md."""

from collections.abc import Sequence
from typing import Any

from unisd.contexts import Context, PromptBuilder
from unisd.evaluation.answers import Evaluation
from unisd.evaluation.evaluate import evaluate
from unisd.rollout import Sampler
from unisd.tasks import Example, Task


def gold_contexts(examples: Sequence[Example]) -> list[Context]:
    """Return each example's own demonstration as context."""
    return [Context("gold", example.demonstration or "") for example in examples]


def measure(
    task: Task,
    examples: Sequence[Example],
    sampler: Sampler,
    builder: PromptBuilder,
    layouts: Sequence[Any],
    max_new_tokens: int | None = None,
    progress: bool = True,
    max_length: int | None = None,
) -> dict[str, Evaluation]:
    """Ask the student, and the teacher in each layout, the same training items.

    Returns:
        ``student`` and each layout's name, with its evaluation. Teacher minus student is the headroom: what the student
        cannot reach by itself and the gold context gives.
    """
    shown = "headroom: student" if progress else None
    found = {
        "student": evaluate(task, examples, sampler, builder, max_new_tokens, progress=shown, max_length=max_length)
    }
    for layout in layouts:
        shown = f"headroom: teacher, {layout}" if progress else None
        contexts = gold_contexts(examples)
        found[layout] = evaluate(
            task, examples, sampler, builder.in_layout(layout), max_new_tokens, contexts, shown, max_length=max_length
        )
    return found
