"""A model's graded answers on a task, what they add up to, and the files that keep them."""

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unisd.errors import UsageError
from unisd.evaluation.distribution import Distribution, distribution
from unisd.evaluation.statistics import mean_over_items, pass_at_k, ratio_bootstrap, wilson
from unisd.files import read_jsonl, write_json, write_jsonl
from unisd.tasks import Example, Grade

TOO_LONG = "the prompt leaves no room for an answer in what the model can read"
"""The note of an item that was not asked."""


@dataclass(frozen=True)
class Item:
    """One graded answer, with everything needed to grade it again."""

    id: str
    sample: int
    """Number of the answer among those of the same example, from 0."""
    prompt: str
    gold: str
    output: str
    parsed: str | None
    correct: bool
    finished: bool
    """Whether the model ended its answer (False: it ran into the length limit)."""
    ids: list[int]
    """The answer's token ids."""
    scores: dict[str, float] = field(default_factory=dict)
    note: str = ""
    question: str = ""
    demonstration: str | None = None
    group: str = ""
    """What the item belongs to (a subject), where the task says so."""
    fields: dict[str, Any] = field(default_factory=dict)
    """The example's, for the task alone."""

    def example(self) -> Example:
        """Return the example that was asked."""
        return Example(self.id, self.prompt, self.question, self.gold, self.demonstration, self.fields)

    def graded(self, grade: Grade) -> "Item":
        """Return the item with another grade."""
        return dataclasses.replace(
            self, parsed=grade.parsed, correct=grade.correct, scores=dict(grade.scores), note=grade.note
        )


@dataclass(frozen=True)
class Evaluation:
    """A model's answers on a task, all samples of an example behind each other."""

    task: str
    metric: str
    items: list[Item]

    @property
    def n(self) -> int:
        """Number of answers."""
        return len(self.items)

    @property
    def correct(self) -> int:
        """Number of correct answers."""
        return sum(item.correct for item in self.items)

    @property
    def parsable(self) -> int:
        """Number of answers that could be read."""
        return sum(item.parsed is not None for item in self.items)

    def by_example(self) -> dict[str, list[Item]]:
        """Return the answers of each example, by its id."""
        grouped: dict[str, list[Item]] = defaultdict(list)
        for item in self.items:
            grouped[item.id].append(item)
        return dict(grouped)

    def shares_correct(self) -> dict[str, float]:
        """Return each example's share of correct answers, by its id."""
        return {key: sum(i.correct for i in items) / len(items) for key, items in self.by_example().items()}

    def shares_readable(self) -> dict[str, float]:
        """Return each example's share of readable answers, by its id."""
        return {k: sum(i.parsed is not None for i in items) / len(items) for k, items in self.by_example().items()}

    def summary(self) -> dict[str, Any]:
        """Return what the answers add up to, with 95 % intervals.

        Wilson's for one answer per example; the bootstrap's over examples where there are several, since answers to
        one question are not independent.
        """
        found: dict[str, Any] = {
            "task": self.task,
            "metric": self.metric,
            "n": self.n,
            "accuracy": self._share([item.correct for item in self.items]),
            "parsable": self._share([item.parsed is not None for item in self.items]),
            "accuracy_among_parsable": self._among_parsable(),
            "answers": self.distribution().summary(),
            "finished": self._share([item.finished for item in self.items]),
            "mean_tokens": sum(len(item.ids) for item in self.items) / max(self.n, 1),
            "distinct": {str(n): distinct_n([item.ids for item in self.items], n) for n in (1, 2, 3)},
        }
        if unasked := sum(item.note == TOO_LONG for item in self.items):
            found["too_long"] = unasked
        if scores := sorted({name for item in self.items for name in item.scores}):
            found["scores"] = {name: self._mean([item.scores.get(name, 0.0) for item in self.items]) for name in scores}
        if (samples := self.samples()) > 1:
            found["samples"] = samples
            found["pass_at_k"] = {str(k): self._pass_at(k) for k in _powers(samples)}
        groups = sorted({item.group for item in self.items})
        if len(groups) > 1:
            found["subjects"] = {g or "none": self._of([i for i in self.items if i.group == g]) for g in groups}
        return found

    def distribution(self) -> Distribution:
        """Return which answers were given how often, beside the keys."""
        return distribution((item.gold, item.parsed, item.correct) for item in self.items)

    def constant(self) -> tuple[str, float]:
        """Return the best constant answer, the most frequent key, and the share of examples that it gets right."""
        keys = Counter(items[0].gold for items in self.by_example().values())
        if not keys:
            return "", 0.0
        answer = min(keys, key=lambda key: (-keys[key], key))
        return answer, keys[answer] / sum(keys.values())

    def samples(self) -> int:
        """Return the number of answers per example."""
        return max((item.sample for item in self.items), default=0) + 1

    def _of(self, items: list[Item]) -> dict[str, Any]:
        return Evaluation(self.task, self.metric, items)._share([item.correct for item in items])

    def _share(self, flags: Sequence[bool]) -> dict[str, Any]:
        if self.samples() == 1:
            return share(sum(flags), len(flags))
        return self._mean([float(flag) for flag in flags]) | {"count": sum(flags), "of": len(flags)}

    def _among_parsable(self) -> dict[str, Any]:
        if self.samples() == 1 or not self.parsable:
            return share(self.correct, self.parsable)
        groups = self.by_example().values()
        right = [float(sum(i.correct for i in items)) for items in groups]
        read = [float(sum(i.parsed is not None for i in items)) for items in groups]
        interval = ratio_bootstrap(right, read, seed=0)
        found = {"value": interval.estimate, "low": interval.low, "high": interval.high}
        return found | {"count": self.correct, "of": self.parsable}

    def _mean(self, values: Sequence[float]) -> dict[str, Any]:
        """Return the mean over examples of their mean over samples, with its bootstrap interval."""
        grouped: dict[str, list[float]] = defaultdict(list)
        for item, value in zip(self.items, values, strict=True):
            grouped[item.id].append(value)
        interval = mean_over_items([sum(group) / len(group) for group in grouped.values()], seed=0)
        return {"value": interval.estimate, "low": interval.low, "high": interval.high}

    def _pass_at(self, k: int) -> dict[str, Any]:
        values = [pass_at_k(len(items), sum(i.correct for i in items), k) for items in self.by_example().values()]
        interval = mean_over_items(values, seed=0)
        return {"value": interval.estimate, "low": interval.low, "high": interval.high}

    def write(self, path: Path, more: dict[str, Any] | None = None) -> None:
        """Write the summary (and ``more``) to ``path`` (.json), and the items beside it (.jsonl, an item a line)."""
        write_jsonl(path.with_suffix(".jsonl"), [dataclasses.asdict(item) for item in self.items])
        write_json(path, self.summary() | (more or {}))


def read_evaluation(path: Path) -> Evaluation:
    """Read what :meth:`Evaluation.write` wrote; ``path`` is the summary (.json) or the items (.jsonl).

    Raises:
        UsageError: a file is missing, or a line is no item (the message names it).
    """
    items_path, summary_path = path.with_suffix(".jsonl"), path.with_suffix(".json")
    try:
        summary = json.loads(summary_path.read_text(encoding="utf-8"))
        task, metric = str(summary["task"]), str(summary["metric"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{summary_path}: no summary of an evaluation ({error}); name what unisd evaluate wrote"
        ) from error
    items = []
    for number, row in enumerate(read_jsonl(items_path), start=1):
        try:
            items.append(_checked(Item(**row)))
        except TypeError as error:
            raise UsageError(f"{items_path}, item {number}: no graded answer ({error}); evaluate anew") from error
    if len(items) != summary.get("n"):
        raise UsageError(
            f"{items_path}: {len(items)} answers, but the summary counts {summary.get('n')}; evaluate anew"
        )
    return Evaluation(task, metric, items)


def _checked(item: Item) -> Item:
    """Return an item that was read from a file, if its fields are of the types that they must be."""
    kinds = {"id": str, "sample": int, "prompt": str, "gold": str, "output": str, "ids": list, "fields": dict}
    for name, kind in kinds.items():
        if not isinstance(getattr(item, name), kind):
            raise TypeError(f"{name} is {type(getattr(item, name)).__name__}, not {kind.__name__}")
    return item


def share(part: int, whole: int) -> dict[str, float | int]:
    """Return a proportion with its 95 % Wilson interval; of nothing, the interval is all of [0, 1]."""
    low, high = wilson(part, whole) if whole else (0.0, 1.0)
    return {"value": part / whole if whole else 0.0, "low": low, "high": high, "count": part, "of": whole}


def in_words(part: dict[str, Any]) -> str:
    """Return a :func:`share` as ``12.0% [6.2, 21.7] (9/75)``, or a mean as ``12.0% [6.2, 21.7]``."""
    counted = f" ({part['count']}/{part['of']})" if "count" in part else ""
    return f"{part['value']:.1%} [{100 * part['low']:.1f}, {100 * part['high']:.1f}]{counted}"


def distinct_n(sequences: Sequence[Sequence[int]], n: int) -> float:
    """Return the share of distinct n-grams among all n-grams of tokens (Li et al., 2016); 0 where there are none.

    It falls with the amount of text, so compare it between models on the same questions only.
    """
    grams = [tuple(ids[i : i + n]) for ids in sequences for i in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _powers(samples: int) -> list[int]:
    found = [1]
    while found[-1] * 2 <= samples:
        found.append(found[-1] * 2)
    return found if found[-1] == samples else [*found, samples]
