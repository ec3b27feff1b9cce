"""What is wrong with the items of a task, as far as it can be seen without a model."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from unisd.contexts.leakage import normalised
from unisd.evaluation.evaluate import drawn
from unisd.files import stable_integer
from unisd.tasks.base import Example, Grade, Task
from unisd.tasks.parallel import UNGRADED, grade_all

Level = Literal["error", "warning", "note"]
"""error: surely wrong; warning: look at it; note: worth knowing."""
Splits = Mapping[str, Sequence[Example]]

PROGRAMS = 32
"""Answers of each kind that are graded where programs have to be run."""
SHUFFLED = 1_000
"""Items that are graded with another item's answer, and with none, at most."""
SHOWN = 5
"""Ids that are named for a fault."""
_LEAST_WORDS = 4
_CONSTANT = 0.8
_LEAKED = 0.01


@dataclass(frozen=True)
class Finding:
    """Something that was found in the items."""

    level: Level
    what: str
    """One line: what it is, and what to do."""
    count: int = 0
    """Items that it concerns."""
    ids: Sequence[str] = ()
    """A few of them, as ``split: id``."""

    def line(self) -> str:
        """Return it as a line to print."""
        named = ", ".join(self.ids) + (", …" if self.count > len(self.ids) else "")
        return f"{self.what} ({named})" if self.ids else self.what


@dataclass
class Graded:
    """What grading made of one kind of answer."""

    correct: int = 0
    of: int = 0
    expected: float | None = None
    """The share that should be correct."""
    wrong: list[str] = field(default_factory=list)
    """Items with another grade than they should have."""
    notes: Counter[str] = field(default_factory=Counter)
    """What the grader said of those."""

    @property
    def share(self) -> float:
        """The share of correct answers."""
        return self.correct / self.of if self.of else 0.0


def concerning(level: Level, what: str, ids: Sequence[str]) -> list[Finding]:
    """Return one finding about these items; none where there are none."""
    return [Finding(level, f"{len(ids):,} {what}", len(ids), tuple(ids[:SHOWN]))] if ids else []


def _named(split: str, example: Example) -> str:
    return f"{split}: {example.id}"


# Answers


def answers(task: Task, splits: Splits) -> dict[str, dict[str, Any]]:
    """Return by split the commonest answers, and the accuracy of the one that is right oftenest; none of programs."""
    found: dict[str, dict[str, Any]] = {}
    for split, examples in splits.items():
        if task.runs_programs or not examples:
            continue
        counts = Counter(example.answer for example in examples)
        best, times = counts.most_common(1)[0]
        chance = sum(task.chance(example) for example in examples) / len(examples)
        constant = times / len(examples)
        common = dict(counts.most_common(26 if task.options(examples[0]) else 5))
        found[split] = {"common": common, "distinct": len(counts), "best": best, "constant": constant, "chance": chance}
    return found


def one_sided(found: Mapping[str, Mapping[str, Any]], splits: Splits) -> list[Finding]:
    """Return splits in which one answer is right so often that saying it always looks like knowledge."""
    return [
        Finding(
            "warning",
            f"{split}: one answer, {about['best']!r:.60}, is right for {about['constant']:.0%} of the items, where "
            f"chance is {about['chance']:.0%}: a model that always says so looks good; balance the answers",
        )
        for split, about in found.items()
        if len(splits[split]) > 4 and about["constant"] >= max(_CONSTANT, min(0.95, 1.4 * about["chance"]))
    ]


# Duplicates


def duplicates(task: Task, splits: Splits, training: str) -> list[Finding]:
    """Return items that come twice: within a split, and of the training split in another one."""
    found: list[Finding] = []
    exact = {split: _by(examples, _asked) for split, examples in splits.items()}
    alike = {split: _by(examples, _near) for split, examples in splits.items()}
    for split, groups in exact.items():
        twice = [(group[0], one) for group in groups.values() for one in group[1:]]
        # Programs that differ may both be right.
        contradicting = [one for first, one in twice if not task.runs_programs and not _same(first, one)]
        found += concerning(
            "error" if len(contradicting) >= max(1, _LEAKED * len(splits[split])) else "warning",
            f"items of {split} ask the same as an earlier one and have another answer; one of the two is wrong",
            [_named(split, one) for one in contradicting],
        )
        known = set(map(id, contradicting))
        found += concerning(
            "warning",
            f"items of {split} ask the same as an earlier one; remove them",
            [_named(split, one) for _, one in twice if id(one) not in known],
        )
        known = {id(one) for _, one in twice}
        near = [one for group in alike[split].values() for one in group[1:] if id(one) not in known]
        found += concerning(
            "note",
            f"items of {split} are those of earlier ones but for case, signs and spaces",
            [_named(split, one) for one in near],
        )
    for one, other in combinations(splits, 2):
        found += _shared(one, other, splits, exact, alike, training)
    return found


def _shared(
    one: str, other: str, splits: Splits, exact: Mapping[str, Any], alike: Mapping[str, Any], training: str
) -> list[Finding]:
    same = [e for key, group in exact[other].items() if key in exact[one] for e in group]
    known = set(map(id, same))
    near = [e for key, group in alike[other].items() if key in alike[one] for e in group if id(e) not in known]
    # A few are in many official sets; more is a split that measures what was learned by heart.
    often = len(same) >= max(1, _LEAKED * len(splits[other]))
    level: Level = "error" if often and training in (one, other) else "warning"
    total = f"of {len(splits[other]):,} items of {other}"
    return [
        *concerning(level, f"{total} stand in {one}, too; remove them there", [_named(other, e) for e in same]),
        *concerning(
            "warning",
            f"{total} are those of {one} but for case, signs and spaces; remove them there",
            [_named(other, e) for e in near],
        ),
    ]


def _by(examples: Iterable[Example], key: Callable[[Example], str]) -> dict[str, list[Example]]:
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[key(example)].append(example)
    return groups


def _asked(example: Example) -> str:
    return f"{example.system or ''}\n{example.prompt}"


def _near(example: Example) -> str:
    # Signs count in formulas: two questions that differ in signs alone are alike if their answers are.
    return f"{normalised(example.system or '')}\n{normalised(example.prompt)}\n{example.answer}"


# Leaks


def leaks(task: Task, splits: Splits) -> list[Finding]:
    """Return items whose prompt gives the answer away, or whose demonstration shows nothing but the answer."""
    found: list[Finding] = []
    for split, examples in splits.items():
        shown = [e for e in examples if _repeats(e.prompt, e.demonstration or "")]
        found += concerning(
            "error",
            f"prompts of {split} hold the item's own demonstration; take it out of the prompt",
            [_named(split, e) for e in shown],
        )
        if task.runs_programs:
            continue
        known = set(map(id, shown))
        told = [e for e in examples if id(e) not in known and _declares(task, e)]
        found += concerning(
            "error" if len(told) > max(2, 0.02 * len(examples)) else "warning",
            f"questions of {split} are read as the right answer themselves: they say it",
            [_named(split, e) for e in told],
        )
        bare = [e for e in examples if e.demonstration is not None and _shows_nothing(e)]
        if bare:
            share = f"{len(bare):,} of {len(examples):,} demonstrations of {split} are the answer alone"
            found.append(Finding("note", f"{share}: the teacher sees no reasoning; a rationale would teach more"))
        within = [e for e in examples if not task.options(e) and _stands_in(e)]
        if within and len(within) > 0.02 * len(examples):
            share = f"{len(within) / len(examples):.0%} of the questions of {split}"
            found.append(Finding("note", f"the answer's words stand in {share}, as in tasks of reading"))
    return found


def _repeats(prompt: str, demonstration: str) -> bool:
    said = normalised(demonstration)
    return len(said.split()) >= _LEAST_WORDS and f" {said} " in f" {normalised(prompt)} "


def _declares(task: Task, example: Example) -> bool:
    """Return whether the question itself is read as a right answer that it declares."""
    declared = re.search(r"(?i)\banswers?\b\W{0,3}(?:is\b|[:=])|\\boxed|####|<answer>", example.question)
    return declared is not None and task.grade(example, example.question).correct


def _shows_nothing(example: Example) -> bool:
    said = normalised(example.demonstration or "")
    return said in (normalised(example.answer), normalised(f"Answer: {example.answer}"))


def _stands_in(example: Example) -> bool:
    said = normalised(example.answer)
    return len(said) > 2 and not said.isdecimal() and f" {said} " in f" {normalised(example.question)} "


# Grading


def graded(task: Task, splits: Splits, seed: int = 42) -> tuple[dict[str, Graded], list[Finding]]:
    """Grade the right answers, those of other items and empty ones, and return what came out and what is wrong with it.

    All right answers are graded; empty ones and those of other items for up to `SHUFFLED` items; where programs have to
    be run, all of these for `PROGRAMS`. Other items' answers count where they differ from the item's own.
    """
    every = [(split, example) for split, examples in splits.items() for example in examples]
    kept = {id(e) for e in drawn([e for _, e in every], PROGRAMS if task.runs_programs else None, seed)}
    every = [(split, e) for split, e in every if id(e) in kept]
    golds = [(split, e, gold) for split, e in every if (gold := task.gold(e)) is not None]
    found: list[Finding] = []
    if len(every) < sum(map(len, splits.values())):
        total = sum(map(len, splits.values()))
        found.append(Finding("note", f"grading runs programs, so {len(every)} of {total:,} items were graded"))
    if without := len(every) - len(golds):
        found.append(Finding("note", f"{without:,} items have no worked answer: they are for evaluation alone"))
    few = {id(e) for e in drawn([e for _, e in every], SHUFFLED, seed)}
    results = {
        "gold": _outcome(task, golds, should=True),
        "empty": _outcome(task, [(split, e, "") for split, e in every if id(e) in few], should=False),
        "shuffled": _shuffled(task, [gold for gold in golds if id(gold[1]) in few], seed),
    }
    for name, result in results.items():
        if failed := [why for why in result.notes if why.startswith(UNGRADED)]:
            found.append(Finding("warning", f"{name} answers were not graded here: {failed[0].removeprefix(UNGRADED)}"))
        elif result.wrong:
            found += _misgraded(name, result)
    return results, found


def _misgraded(name: str, result: Graded) -> list[Finding]:
    told = next(iter(result.notes), "")
    why = f" (the first: {told:.120})" if told else ""
    if name == "gold":
        return concerning("error", f"right answers are graded as WRONG{why}; correct them or the grader", result.wrong)
    if name == "empty":
        return concerning("error", "empty answers are graded as right; correct the grader", result.wrong)
    level: Level = "error" if len(result.wrong) > max(1, 0.02 * result.of) else "warning"
    what = "answers of other items are graded as right, though they differ: the grader accepts too much"
    return concerning(level, what, result.wrong)


def _outcome(task: Task, given: Sequence[tuple[str, Example, str]], should: bool) -> Graded:
    grades = grade_all(task, [e for _, e, _ in given], [text for *_, text in given])
    result = Graded(sum(grade.correct for grade in grades), len(grades), float(should))
    for (split, example, _), grade in zip(given, grades, strict=True):
        if grade.correct != should or grade.note.startswith(UNGRADED):
            result.wrong.append(_named(split, example))
            result.notes[_told(example, grade)] += 1
    return result


def _told(example: Example, grade: Grade) -> str:
    if grade.note:
        return grade.note
    return f"{example.answer!r:.60} was read as {grade.parsed!r:.60}" if len(example.answer) < 200 else ""


def _shuffled(task: Task, golds: Sequence[tuple[str, Example, str]], seed: int) -> Graded:
    """Grade each item's question with the gold of the next one, in an order that is drawn."""
    order = sorted(golds, key=lambda g: stable_integer("check", seed, g[1].id))
    pairs = [(split, e, other) for (split, e, _), other in zip(order, [*order[1:], *order[:1]], strict=True)]
    pairs = [pair for pair in pairs if pair[1] is not pair[2][1]]
    grades = grade_all(task, [e for _, e, _ in pairs], [gold for *_, (_, _, gold) in pairs])
    same = [_same(e, other[1]) for _, e, other in pairs]
    result = Graded(sum(grade.correct for grade in grades), len(pairs), sum(same) / len(same) if same else None)
    for (split, example, _), equal, grade in zip(pairs, same, grades, strict=True):
        if grade.note.startswith(UNGRADED):
            result.notes[grade.note] += 1
        elif grade.correct and not equal:
            result.wrong.append(_named(split, example))
    return result


def _same(example: Example, other: Example) -> bool:
    """Return whether two items have the same answer, as far as can be seen."""
    accepted = [example.answer, *map(str, example.fields.get("accepted", ()))]
    given = [other.answer, *map(str, other.fields.get("accepted", ()))]
    plain = [{"".join(one.casefold().split()) for one in each} for each in (accepted, given)]
    return bool(plain[0] & plain[1]) or (example.shape is not None and example.shape == other.shape)
