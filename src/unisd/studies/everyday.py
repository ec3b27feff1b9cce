"""What is left of the model elsewhere: its answers to everyday requests, which no task here is about.

A gain says nothing of what it cost. So each method is also read on what the base itself says to requests that nobody
trained on: how far the next-token distributions have moved, and to how many requests the trained model now gives the
task's kind of answer, unasked.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from unisd.contexts import PromptBuilder
from unisd.evaluation.answers import Evaluation
from unisd.evaluation.evaluate import evaluate
from unisd.evaluation.retention import retention
from unisd.rollout import Sampler
from unisd.tasks import Example, Grade, Task

TOKENS = 32
"""Room for an answer."""
REQUESTS = (
    "Name three fruits that are red.",
    "Why does it rain?",
    "Write two lines about the sea.",
    "What is the capital of Italy?",
    "How long does an egg have to boil?",
    "Tell me something funny about cats.",
    "What is 12 plus 30?",
    "Explain to a child what a shadow is.",
    "Which day comes after Thursday?",
    "Give me one piece of advice for a job interview.",
    "How do I say thank you in French?",
    "What do bees make?",
    "Describe a snowy street in one sentence.",
    "How many legs does a spider have?",
    "What could I cook with rice and tomatoes?",
    "What is the opposite of loud?",
    "Why should people brush their teeth?",
    "Suggest a name for a small brown dog.",
    "What is a good way to learn ten new words a day?",
    "Who looks after the sick in a hospital?",
    "Turn this into the past tense: I walk to school.",
    "What does a gardener do in spring?",
    "Is the moon larger than the earth?",
    "Write a short greeting for a birthday card.",
)


class Everyday(Task):
    """The requests as a task without right answers: what is read of a reply is whether it answers another task.

    Args:
        task: the other task.
        example: any of its items.
    """

    name = "everyday"
    splits: Sequence[str] = ("test",)
    max_new_tokens = TOKENS

    def __init__(self, task: Task, example: Example) -> None:
        self.task = task
        self.example = example

    def load(self, split: str = "test", source: str | None = None) -> list[Example]:
        """Return the requests."""
        return [Example(f"everyday-{number}", text, text, "") for number, text in enumerate(REQUESTS)]

    def grade(self, example: Example, text: str) -> Grade:
        """Read the other task's answer out of a reply, if there is one."""
        return Grade(False, self.task.grade(self.example, text).parsed)


@dataclass(frozen=True)
class Kept:
    """What is left of the base, and what is not."""

    retention: dict[str, Any] | None
    """As `unisd.evaluation.retention.retention` gives it; None where one of the models wrote nothing."""
    taken: tuple[int, int]
    """Everyday requests that were answered in the task's way: before and after."""
    requests: int
    answers: Evaluation

    @property
    def drift(self) -> float | None:
        """KL(base ‖ model) on the base's own answers, nats a token."""
        return None if self.retention is None else float(self.retention["on_base_text"]["kl_base_adapted"])

    @property
    def entropy(self) -> tuple[float, float] | None:
        """The entropy on the base's own answers, of base and model, nats a token."""
        text = None if self.retention is None else self.retention["on_base_text"]
        return None if text is None else (text["entropy_base"], text["entropy_adapted"])

    def in_words(self) -> str:
        """Return what was forgotten, in a sentence."""
        calls = f"{self.taken[1]} of {self.requests} everyday requests are answered in the task's way"
        if self.drift is None or self.entropy is None:
            return calls
        was, now = self.entropy
        return f"drift {self.drift:.2f} nats a token, entropy {was:.2f} → {now:.2f}; {calls}"

    def summary(self) -> dict[str, Any]:
        """Return it as plain values."""
        shown = [{"request": item.prompt, "answer": item.output} for item in self.answers.items[:6]]
        drift = {"drift": self.drift, "entropy": self.entropy, "retention": self.retention}
        return drift | {"taken": list(self.taken), "requests": self.requests, "examples": shown}


def asked(task: Everyday, sampler: Sampler, builder: PromptBuilder) -> Evaluation:
    """Return the answers of the model as it is, greedy."""
    return evaluate(task, task.load(), sampler, builder, progress=None)


def kept(model: nn.Module, builder: PromptBuilder, before: Evaluation, after: Evaluation) -> Kept:
    """Compare a model with its base, which is the same model with its adapter off.

    Args:
        model: with its adapter on.
        builder: how requests are laid out.
        before: the base's answers to the everyday requests.
        after: the model's.
    """

    @contextlib.contextmanager
    def base() -> Iterator[nn.Module]:
        with model.disable_adapter():  # type: ignore[operator]
            yield model

    @contextlib.contextmanager
    def adapted() -> Iterator[nn.Module]:
        yield model

    model.eval()
    found = retention(base, adapted, builder, before, after)
    return Kept(found, (before.parsable, after.parsable), before.n, after)
