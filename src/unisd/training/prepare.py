"""What a run starts from: its items with their contexts, the model that reads them, and who grades."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from accelerate import PartialState
from torch import nn

from unisd.contexts import Item, Later, Making, make_contexts, may_wait, merged, registry
from unisd.errors import UsageError, warn
from unisd.files import stable_integer
from unisd.models import load_model_and_tokenizer
from unisd.models.load import weights_fingerprint
from unisd.rollout import CompletionStore, make_sampler
from unisd.tasks import Example, Grade, Task, get, grade_all
from unisd.tasks.turns import Thoughts
from unisd.training.arguments import UniSDConfig
from unisd.training.ranks import Ranks
from unisd.training.runfile import RunSettings


@dataclass
class Prepared:
    """A task's training items with their contexts, and the model that is to learn from them."""

    task: Task
    examples: Sequence[Example]
    model: nn.Module
    tokenizer: Any
    items: list[Item]
    """With the contexts that do not wait."""
    thoughts: Thoughts = "cut"
    dropped: dict[str, int] = field(default_factory=dict)
    """Contexts that were written or drawn and then dropped, by reason; not those of :attr:`later`."""
    later: Later | None = None
    """Makes the other contexts, once it is known which items are drawn; None where none waits."""

    @property
    def grades(self) -> "TaskGrader":
        """Who grades what is written for the items."""
        return TaskGrader(self.task, {example.id: example for example in self.examples}, self.thoughts)


@dataclass(frozen=True)
class TaskGrader:
    """A task's verdicts on completions of training items, known by their ids."""

    task: Task
    examples: Mapping[str, Example]
    thoughts: Thoughts = "cut"

    def __call__(self, ids: Sequence[str], texts: Sequence[str], cut: Sequence[bool] = ()) -> list[float]:
        """Return 1 for what is right, and 0; ``cut`` names those that the length limit ended."""
        return [float(grade.correct) for grade in self._grades(ids, texts, cut)]

    def readable(self, ids: Sequence[str], texts: Sequence[str], cut: Sequence[bool] = ()) -> list[bool]:
        """Return in which texts an answer can be read, right or wrong."""
        return [grade.parsed is not None for grade in self._grades(ids, texts, cut)]

    def _grades(self, ids: Sequence[str], texts: Sequence[str], cut: Sequence[bool]) -> list[Grade]:
        ended = [not one for one in cut] if cut else None
        return grade_all(self.task, [self.examples[name] for name in ids], texts, None, self.thoughts, ended)


def load_examples(settings: RunSettings) -> tuple[Task, list[Example]]:
    """Load the task and its training items.

    Raises:
        UsageError: an unknown task, split or source; a task without demonstrations.
    """
    task = get(settings.task.name)
    examples = task.load(settings.task.split or task.splits[0], settings.task.source)
    kept_out = {example.id for example in held_out(examples, settings.task.hold_out)}
    examples = [example for example in examples if example.id not in kept_out]
    if not examples:
        raise UsageError(f"task.hold_out: {settings.task.hold_out} items are all that {task.name} has; keep fewer")
    seed = int(settings.training.get("seed", 42))
    if settings.task.limit is not None and settings.task.limit < len(examples):
        examples = sorted(examples, key=lambda e: stable_integer(seed, "train", e.id))[: settings.task.limit]
    if any(example.demonstration is None for example in examples):
        raise UsageError(f"task.name: {task.name} has items without a demonstration; it is for evaluation only")
    return task, examples


def held_out(examples: Sequence[Example], count: int) -> list[Example]:
    """Return ``count`` examples, by a stable hash of their ids: those that ``task.hold_out`` keeps from training."""
    return sorted(examples, key=lambda e: stable_integer("hold out", e.id))[:count]


def prepare(
    settings: RunSettings,
    config: UniSDConfig,
    loaded: tuple[nn.Module, Any] | None = None,
    progress: bool = True,
) -> Prepared:
    """Load items and model, and build the contexts asked for; what the model writes is cached and resumable.

    Contexts that depend on nothing but their item wait until it is known which items are drawn: see
    :attr:`Prepared.later`.

    Args:
        settings: the whole run.
        config: its arguments, as :meth:`RunSettings.config` builds them.
        loaded: what :func:`unisd.models.load_model_and_tokenizer` gave, where the caller has it already.
        progress: show bars.

    Raises:
        UniSDError: items, model or contexts cannot be had, in one line.
    """
    task, examples = load_examples(settings)
    model, tokenizer = loaded or load_model_and_tokenizer(settings.model, config.device)
    needs = merged(config.mechanisms.needs())
    waiting = [need for need in needs if may_wait(need)]
    # Answers are kept by the weights as they are now: what waits is written when an adapter is in the model already.
    weights = functools.cache(lambda: weights_fingerprint(model))
    if any(registry.get(need.kind).written for need in waiting):
        weights()
    making = Making(
        task,
        examples,
        store=lambda: CompletionStore.in_cache("contexts", task.name, weights()),
        sampler=make_sampler(model, tokenizer, config.rollout.batch_size),
        builder=config.contexts.builder(tokenizer),
        seed=config.seed,
        encoder=config.contexts.encoder,
        temperature=config.rollout.temperature,
        room=min(config.rollout.max_completion_length, 256),
        max_prompt_length=config.contexts.max_prompt_length,
        progress=progress,
        shared=Ranks(PartialState()).shared,
    )
    items, dropped, notes = make_contexts([need for need in needs if need not in waiting], making)
    for note in notes:
        warn(note)
    later = Later(waiting, making, items) if waiting else None
    return Prepared(task, examples, model, tokenizer, items, config.rollout.thoughts, dropped, later)
