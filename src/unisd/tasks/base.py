"""What a task is: examples, the prompt a student sees, a worked demonstration, and a grader."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unisd.errors import UsageError


@dataclass(frozen=True)
class Example:
    """One item of a task, ready to be asked and to be graded."""

    id: str
    """Unique within the task and split; keys random streams and caches."""
    prompt: str
    """The student's whole user turn."""
    question: str
    """The bare question: what retrieval compares."""
    answer: str
    """The gold answer in the task's own notation (the letter of a choice, for example)."""
    demonstration: str | None = None
    """A worked gold answer in the format that the prompt asks for; None where the item is for evaluation only."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What only the task itself reads: options, tests, subject."""
    system: str | None = None
    """A system message that stands before the prompt."""
    shape: str | None = None
    """What items share whose solutions differ in names alone, so that one would tell the other's; None: unknown."""

    @property
    def asked(self) -> str | list[dict[str, str]]:
        """What the student is asked, as chat templates take it: the prompt, or messages where there is a ``system``."""
        if self.system is None:
            return self.prompt
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.prompt}]


@dataclass(frozen=True)
class Grade:
    """What a grader says of one output."""

    correct: bool
    parsed: str | None
    """The answer as it was read; None where none could be read."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Further measures in [0, 1] that the task reports beside accuracy (action and argument accuracy, for example)."""
    note: str = ""
    """Why it is not correct, where the grader knows (the error of a program, for example)."""


@dataclass(frozen=True)
class NegativeRequest:
    """A request that makes the model write one wrong demonstration (arXiv 2605.06597, section 3)."""

    prompt: str
    """The user turn to send to the model."""
    target: str
    """What the demonstration is to argue for, in the task's notation (a wrong letter, a kind of bug)."""


class Task(ABC):
    """A benchmark or a task of one's own; it adds ``name``, ``splits``, `load` and `grade`, the rest has defaults."""

    name: str
    """As used on the command line and in file names."""
    splits: Sequence[str]
    """The splits it has; the first is the one for training, the last the one for evaluation."""
    max_new_tokens: int = 512
    """Room that an answer needs, in tokens."""
    metric: str = "accuracy"
    """What the share of correct answers is called."""
    runs_programs: bool = False
    """Whether `grade` and `negative` wait for a process: several are then run at a time, in threads."""

    @abstractmethod
    def load(self, split: str, source: str | None = None) -> list[Example]:
        """Return the examples of a split in the source's order.

        ``source`` names where they come from: None for the task's default, ``hub``, ``sample`` (bundled), or a folder
        with the official files.

        Raises:
            UsageError: no such split or source, or a damaged file (named, with its line).
        """

    @abstractmethod
    def grade(self, example: Example, text: str) -> Grade:
        """Grade one output. Never raises, whatever ``text`` holds.

        A grader with a parameter ``cut: bool = False`` is told whether the length limit ended the output; what may have
        gone on should then not be read as an answer.
        """

    def gold(self, example: Example) -> str | None:
        """Return a right answer in the format that the prompt asks for; None where the item has none."""
        return example.demonstration

    def options(self, example: Example) -> list[str]:
        """Return what the answer can be, in the notation of ``answer`` (letters); empty where it is open."""
        return []

    def chance(self, example: Example) -> float:
        """Return the probability of a correct answer by guessing."""
        options = self.options(example)
        return 1 / len(options) if options else 0.0

    def group(self, example: Example) -> str:
        """Return what the item belongs to, for results by subject; empty where the task knows none."""
        return str(example.fields.get("subject") or "")

    def negative_requests(self, example: Example) -> list[NegativeRequest]:
        """Return requests for wrong demonstrations, best first; empty where the task has none."""
        return []

    def negative(self, example: Example, request: NegativeRequest, text: str) -> str | None:
        """Turn the model's ``text`` into a wrong demonstration in the gold format; None if it is not surely wrong."""
        return None


def as_task(found: object, name: str) -> Task:
    """Return ``found`` as a task: one that has a task's parts without being a `Task` gets the defaults for the rest.

    Raises:
        UsageError: it lacks parts that have no default; the message names them.
    """
    own = {part: getattr(found, part) for part in _PARTS if hasattr(found, part)}
    if lacking := sorted(_NEEDED - own.keys()):
        raise UsageError(f"task '{name}' is no task: it lacks {', '.join(lacking)}; see unisd.tasks.Task")
    if isinstance(found, Task):
        return found
    parts = {part: staticmethod(value) if callable(value) else value for part, value in own.items()}
    task: Task = type(type(found).__name__, (Task,), parts)()
    return task


_PARTS = {*Task.__annotations__, *(part for part in vars(Task) if not part.startswith("_"))}
_NEEDED = {"name", "splits", "max_new_tokens", "load", "grade", "negative", "negative_requests"}
