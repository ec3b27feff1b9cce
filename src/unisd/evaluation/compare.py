"""Two models on the same questions, item by item."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unisd.errors import UsageError
from unisd.evaluation.answers import Evaluation
from unisd.evaluation.statistics import Interval, mcnemar, paired_bootstrap, paired_difference


@dataclass(frozen=True)
class Comparison:
    """What changed between two models' answers to the same questions."""

    task: str
    against: str
    """The model that ``before`` belongs to."""
    difference: Interval
    """Change of accuracy, with a 95 % interval: Newcombe's for one answer per question, else the bootstrap's."""
    bootstrap: Interval
    """The same change with the paired bootstrap interval over the questions."""
    gained: int
    """Questions of which a larger share of answers is correct than before."""
    lost: int
    """Questions of which a smaller share of answers is correct than before."""
    n: int
    mcnemar_p: float | None
    """Exact p-value of McNemar's test; None for several answers per question."""
    format: Interval
    """What becoming readable gave: the change of the readable share times what the best constant answer gets right."""
    content: Interval
    """The rest of the change: how much more is right than the best constant answer would get of the readable ones.
    Format and content add up to the difference; 95 % intervals, for several answers per question the bootstrap's."""
    constant: str
    """The best constant answer: the most frequent key."""
    constant_share: float
    """The share of the questions that it gets right."""
    readable: tuple[float, float]
    """Share of readable answers before and after."""
    collapse: tuple[bool, bool]
    """Whether the answers before and after are nearly all the same one."""
    collapse_in_words: str = ""
    """The sentence about a collapse of the answers after; empty where there is none."""

    def summary(self) -> dict[str, Any]:
        """Return the comparison as plain values."""
        return asdict(self)

    def in_words(self) -> str:
        """Return the comparison in a line."""
        d = self.difference
        p = "" if self.mcnemar_p is None else f", McNemar p = {self.mcnemar_p:.2g}"
        return f"{_points(d)}, +{self.gained} −{self.lost}{p}"

    def split_in_words(self) -> str:
        """Return how much of the change is format and how much content, in a line."""
        parts = [f"{name} {_points(part)}" for name, part in (("format", self.format), ("content", self.content))]
        return f"{', '.join(parts)} (a constant answer in the right form gets {self.constant_share:.1%})"

    def verdict(self) -> list[str]:
        """Say in plain words what the change is, and what part of it is format."""
        before, after = self.readable
        d = self.difference
        change = "more" if d.low > 0 else "fewer" if d.high < 0 else "not surely more or fewer"
        lines = [
            f"Correct: {_points(d)}, so {change} than before; {self.gained} questions gained, {self.lost} lost.",
            f"Format: {before:.0%} of the answers were readable, {after:.0%} are now; that alone, with the best "
            f"constant answer ({self.constant_share:.0%} right), is worth {_points(self.format)}.",
        ]
        if self.content.low > 0:
            lines.append(f"Content: {_points(self.content)}; more than the form was learned.")
        elif self.content.high < 0:
            lines.append(f"Content: {_points(self.content)}; fewer are right than a constant answer would get.")
        else:
            lines.append(f"Content: {_points(self.content)}; nothing is shown that a constant answer could not give.")
        return [*lines, self.collapse_in_words] if self.collapse_in_words else lines


def _points(part: Interval) -> str:
    return f"{100 * part.estimate:+.1f} points [{100 * part.low:+.1f}, {100 * part.high:+.1f}]"


def compare(before: Evaluation, after: Evaluation, against: str = "") -> Comparison:
    """Compare two evaluations of the same questions; ``against`` names whose answers ``before`` are.

    Raises:
        UsageError: the tasks or the questions differ.
    """
    first, second = before.shares_correct(), after.shares_correct()
    if before.task != after.task or first.keys() != second.keys():
        raise UsageError(
            f"cannot compare {before.task} ({len(first)} questions) with {after.task} ({len(second)}): "
            "evaluate both models on the same questions (--task, --split, --limit)"
        )
    a, b = list(first.values()), [second[key] for key in first]
    single = before.samples() == after.samples() == 1
    bootstrap = paired_bootstrap(a, b, seed=0)
    difference = paired_difference([x > 0 for x in a], [y > 0 for y in b]) if single else bootstrap
    constant, right = before.constant()
    form, content = _split(before, after)
    readable = [sum(shares) / len(shares) for shares in (e.shares_readable().values() for e in (before, after))]
    distributions = before.distribution(), after.distribution()
    return Comparison(
        task=before.task,
        against=against,
        difference=difference,
        bootstrap=bootstrap,
        gained=sum(y > x for x, y in zip(a, b, strict=True)),
        lost=sum(y < x for x, y in zip(a, b, strict=True)),
        n=len(a),
        mcnemar_p=mcnemar([x > 0 for x in a], [y > 0 for y in b]) if single else None,
        format=form,
        content=content,
        constant=constant,
        constant_share=right,
        readable=(readable[0], readable[1]),
        collapse=(distributions[0].collapsed, distributions[1].collapsed),
        collapse_in_words=distributions[1].in_words() if distributions[1].collapsed else "",
    )


def _split(before: Evaluation, after: Evaluation) -> tuple[Interval, Interval]:
    """Return format and content of the change, with 95 % intervals."""
    right, keys = before.constant()[1], list(before.by_example())
    a, b, r, s = (
        [found[key] for key in keys]
        for found in (
            before.shares_correct(),
            after.shares_correct(),
            before.shares_readable(),
            after.shares_readable(),
        )
    )
    if before.samples() == after.samples() == 1:
        ones = [[value > 0 for value in values] for values in (a, b, r, s)]
        form = _times(right, paired_difference(ones[2], ones[3]))
        return form, _rest(paired_difference(ones[0], ones[1]), form, _correlation(_changes(a, b), _changes(r, s)))
    form = _times(right, paired_bootstrap(r, s, seed=0))
    return form, paired_bootstrap(_excess(a, r, right), _excess(b, s, right), seed=0)


def _changes(before: Sequence[float], after: Sequence[float]) -> list[float]:
    return [y - x for x, y in zip(before, after, strict=True)]


def _excess(correct: Sequence[float], readable: Sequence[float], constant: float) -> list[float]:
    """Return by how much each question is more often right than a constant answer in its readable answers would be."""
    return [c - constant * r for c, r in zip(correct, readable, strict=True)]


def _times(factor: float, part: Interval) -> Interval:
    return Interval(factor * part.estimate, factor * part.low, factor * part.high, part.confidence)


def _rest(whole: Interval, part: Interval, correlation: float) -> Interval:
    """Return ``whole - part`` with an interval recovered from both of theirs (G. Y. Zou and A. Donner, 2008).

    Unlike the bootstrap's it does not shrink to nothing where few questions changed.
    """

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one**2 + other**2 - 2 * correlation * one * other, 0.0))

    rest = whole.estimate - part.estimate
    low = rest - reach(whole.estimate - whole.low, part.high - part.estimate)
    high = rest + reach(whole.high - whole.estimate, part.estimate - part.low)
    return Interval(rest, low, high, whole.confidence)


def _correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Pearson's correlation, or 0 where one side does not vary."""
    try:
        return statistics.correlation(one, other)
    except statistics.StatisticsError:
        return 0.0


def forgetting(comparisons: Mapping[str, Comparison], trained_on: Sequence[str]) -> dict[str, Any] | None:
    """Return the mean change over the tasks that the model was not trained on; None where there are none.

    Returns:
        ``tasks``; ``change``, the plain mean of the changes of accuracy; and ``worst``, the task that lost most.
    """
    others = {name: c for name, c in comparisons.items() if name not in trained_on}
    if not others:
        return None
    worst = min(others, key=lambda name: others[name].difference.estimate)
    change = sum(c.difference.estimate for c in others.values()) / len(others)
    return {"tasks": sorted(others), "change": change, "worst": worst}


def _wide(part: Interval, difference: Interval) -> Interval:
    """Return a part of a difference; where all questions changed alike, which tells a bootstrap nothing of others, with
    an interval as wide as the difference's."""
    if part.low < part.high:
        return part
    shift = part.estimate - difference.estimate
    return Interval(part.estimate, difference.low + shift, difference.high + shift, part.confidence)
