"""A look at a task, or at rows for the trainer, before anything is trained: what a model would see, and what is wrong.

No model is needed, but a tokenizer: for the prompts as they are, and for their length.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from unisd.contexts import Context, Item, Need, PromptBuilder
from unisd.contexts.items import read_columns
from unisd.contexts.leakage import normalised
from unisd.errors import UsageError
from unisd.evaluation.check_items import (
    SHOWN,
    Finding,
    Graded,
    Splits,
    answers,
    concerning,
    duplicates,
    graded,
    leaks,
    one_sided,
)
from unisd.files import stable_integer
from unisd.rollout.chat import Prompt
from unisd.tasks.base import Task
from unisd.tasks.row_files import Bad, Rows

MEASURED = 500
"""Items of a split whose tokens are counted for the quantiles; those that might be too long are counted besides."""
_LONGEST = 64
_QUANTILES = (0.5, 0.9, 0.99)
_FEW = 32
_UNREAD = "rows cannot be read; repair or remove them"


@dataclass(frozen=True)
class Limits:
    """What prompts and replies have to fit into, in tokens."""

    prompt: int
    """``contexts.max_prompt_length``: of the teacher's prompt."""
    completion: int
    """``rollout.max_completion_length``: what is written while learning."""
    positions: int | None = None
    """What the model can read; None: unknown, or without a limit."""


@dataclass(frozen=True)
class Seen:
    """An item as it is put to the model, special tokens and all."""

    id: str
    split: str
    student: str
    teacher: str | None
    """With the gold context; None where the item has none."""
    answer: str | None


@dataclass
class Check:
    """What was found."""

    name: str
    counts: dict[str, int]
    """Items by split."""
    seen: list[Seen] = field(default_factory=list)
    lengths: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """By split and part (student, teacher, reply): tokens at the quantiles, the most, the limit, items over it."""
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    grading: dict[str, Graded] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """How many things are surely wrong."""
        return sum(finding.level == "error" for finding in self.findings)

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        whole = asdict(self)
        whole["grading"] = {
            name: {"correct": g.correct, "of": g.of, "share": g.share, "expected": g.expected, "wrong": g.wrong[:50]}
            for name, g in self.grading.items()
        }
        return whole | {"errors": self.errors}


@dataclass(frozen=True)
class _Put:
    """What is put to the model for one item."""

    id: str
    asked: Prompt
    gold: str | None
    reply: str | None
    answer: str | None


def check_task(
    task: Task,
    splits: Splits,
    builder: PromptBuilder,
    limits: Limits,
    shown: int = 3,
    seed: int = 42,
    said: Sequence[Finding] = (),
) -> Check:
    """Check a task's items.

    Args:
        task: whose they are.
        splits: the items by split, the one for training first.
        builder: makes the prompts.
        limits: what they have to fit into.
        shown: items that are shown as the model sees them.
        seed: of what is drawn.
        said: what was found already, while they were read.
    """
    training = next(iter(splits))
    found = Check(task.name, {split: len(examples) for split, examples in splits.items()})
    puts = {
        split: [_Put(e.id, e.asked, e.demonstration, task.gold(e), e.answer) for e in examples]
        for split, examples in splits.items()
    }
    room = task.max_new_tokens
    _look(found, puts, builder, limits, shown, seed, room)
    found.answers = answers(task, splits)
    found.grading, misgraded = graded(task, splits, seed)
    found.findings += [*said, *misgraded, *leaks(task, splits), *duplicates(task, splits, training)]
    found.findings += one_sided(found.answers, splits)
    if 0 < len(splits[training]) < _FEW:
        found.findings.append(Finding("note", f"{training} has {len(splits[training])} items, which teach little"))
    _in_order(found)
    return found


def check_rows(
    name: str, rows: Rows, bad: Bad, builder: PromptBuilder, limits: Limits, shown: int = 3, seed: int = 42
) -> Check:
    """Check rows for ``train_dataset``: columns ``prompt`` and ``privileged_context`` or ``completion``.

    Args:
        name: the file's.
        rows: those that could be read.
        bad: those that could not.
        builder: makes the prompts.
        limits: what they have to fit into.
        shown: rows that are shown as the model sees them.
        seed: of what is drawn.

    Raises:
        UsageError: there are no rows, or no column ``prompt``.
    """
    if not rows:
        raise UsageError(f"{name}: it has no rows; check the file")
    columns = list(dict.fromkeys(str(column) for row, _ in rows[:100] for column in row))
    if "prompt" not in columns:
        raise UsageError(
            f"{name}: no column 'prompt' (it has {', '.join(columns):.200}); rename one, or describe a task by a page "
            "of YAML (docs/custom_tasks.md) and check that"
        )
    supervised = "privileged_context" not in columns and "completion" in columns
    needs = [] if supervised else [Need("gold", "gold")]
    items: list[Item] = []
    failed = [f"{place}: {why}" for place, why in bad]
    known: set[str] = set()
    for number, (row, place) in enumerate(rows):
        try:
            item = read_columns(row, number, needs, completion_required=supervised)
            if item.id in known:
                raise UsageError(f"the id {item.id!r} comes a second time; make the ids unique or leave the column out")
            known.add(item.id)
            items.append(item)
        except UsageError as error:
            failed.append(f"{place}: {error}")
    found = Check(name, {"rows": len(rows) + len(bad)})
    found.findings += concerning("error", _UNREAD, failed)
    if items:
        puts = [_Put(i.id, i.prompt, _gold(i), i.completion or _gold(i), None) for i in items]
        _look(found, {"rows": puts}, builder, limits, shown, seed, None)
        found.findings += _twins(puts)
    found.findings.append(Finding("note", "rows have no grader, so no answer is graded: a task has one"))
    _in_order(found)
    return found


def unread(bad: Bad, split: str, dropped: bool) -> list[Finding]:
    """Return what is said of a split's rows that cannot be read, which are ``dropped`` or end the work."""
    what = f"rows of {split} cannot be read and are dropped" if dropped else f"of {split}: {_UNREAD}"
    return concerning("warning" if dropped else "error", what, [f"{place}: {why}" for place, why in bad])


def _gold(item: Item) -> str | None:
    return next((context.text for context in item.contexts.get("gold", ())), None)


def _twins(puts: Sequence[_Put]) -> list[Finding]:
    """Return rows that come twice, and those whose prompt holds what only the teacher is to see."""
    groups: dict[str, str] = {}
    twice, told = [], []
    for put in puts:
        asked = _text(put.asked)
        if groups.setdefault(asked, put.id) != put.id:
            twice.append(put.id)
        gold = normalised(put.gold or "")
        if len(gold.split()) > 3 and f" {gold} " in f" {normalised(asked)} ":
            told.append(put.id)
    return [
        *concerning("error", "prompts hold their own privileged context; take it out of the prompt", told),
        *concerning("warning", "rows have the prompt of an earlier one; remove them", twice),
    ]


def _text(asked: Prompt) -> str:
    return asked if isinstance(asked, str) else "\n".join(f"{m['role']}: {m.get('content')}" for m in asked)


def _in_order(found: Check) -> None:
    rank = {"error": 0, "warning": 1, "note": 2}
    found.findings.sort(key=lambda finding: rank[finding.level])


# What the model sees


def _look(
    found: Check,
    puts: dict[str, list[_Put]],
    builder: PromptBuilder,
    limits: Limits,
    shown: int,
    seed: int,
    room: int | None,
) -> None:
    """Count the tokens of items, and keep some as the model sees them."""
    first = next(iter(puts))
    ids = {
        "student": lambda put: builder.student_ids(put.asked),
        "teacher": lambda put: _teacher_ids(builder, put),
        "reply": lambda put: builder.completion_ids(put.reply, put.asked) if put.reply else None,
    }
    prompt = limits.prompt
    if limits.positions is not None:  # a completion has to find room behind it
        prompt = max(0, min(prompt, limits.positions - limits.completion))
    most = {"student": prompt, "teacher": prompt, "reply": limits.completion}
    for put in sorted(puts[first], key=lambda put: stable_integer("shown", seed, put.id))[:shown]:
        told = _teacher_ids(builder, put)
        texts = [
            None if t is None else str(builder.tokenizer.decode(t)) for t in (builder.student_ids(put.asked), told)
        ]
        found.seen.append(Seen(put.id, first, texts[0] or "", texts[1], put.answer))
    for split, every in puts.items():
        few = sorted(every, key=lambda put: stable_integer("measured", seed, put.id))[:MEASURED]
        found.lengths[split] = {}
        for part, make in ids.items():
            limit = most[part]
            counted, over = _counted(every, few, make, part, limit)
            if not counted:
                continue
            found.lengths[split][part] = _spread(counted) | {"limit": limit, "over": len(over)}
            found.findings += _too_long(split, part, limit, over)
        replies = found.lengths[split].get("reply")
        if room is not None and replies and replies["most"] > room:
            what = f"{split}: right answers have up to {replies['most']} tokens, and max_new_tokens is {room}"
            found.findings.append(Finding("warning", f"{what}: raise it, or answers are cut off"))


def _too_long(split: str, part: str, limit: int, over: list[str]) -> list[Finding]:
    setting = "rollout.max_completion_length" if part == "reply" else "contexts.max_prompt_length"
    what = {"student": "prompts", "teacher": "prompts with the demonstration", "reply": "demonstrations"}[part]
    does = "is longer than what the student may write" if part == "reply" else "are dropped"
    return concerning(
        "warning",
        f"{what} of {split} are of more than {limit} tokens and {does}; raise {setting} or shorten them",
        over,
    )


def _teacher_ids(builder: PromptBuilder, put: _Put) -> list[int] | None:
    gold = (put.gold or "").strip()
    return builder.teacher_ids(put.asked, Context("gold", put.gold or "")) if gold else None


def _counted(
    every: Sequence[_Put], few: Sequence[_Put], make: Callable[[_Put], list[int] | None], part: str, limit: int
) -> tuple[list[int], list[str]]:
    """Return the tokens of some items, the longest among them, and the items of more than ``limit``.

    No token of a text is shorter than a byte, so that an item of few bytes surely fits.
    """

    def size(put: _Put) -> int:
        parts = {"student": [_text(put.asked)], "reply": [put.reply or ""]}
        return sum(len(text.encode()) for text in parts.get(part, [_text(put.asked), put.gold or ""]))

    sizes = {id(put): size(put) for put in every}
    longest = sorted(every, key=lambda put: -sizes[id(put)])
    suspects = [put for put in longest if sizes[id(put)] + 512 > limit][: 2 * MEASURED]
    counted: dict[int, int] = {}
    over = []
    for put in (*few, *longest[:_LONGEST], *suspects):
        if id(put) in counted or (made := make(put)) is None:
            continue
        counted[id(put)] = len(made)
        if len(made) > limit:
            over.append(put.id)
    return list(counted.values()), over


def _spread(counts: Sequence[int]) -> dict[str, Any]:
    ordered = sorted(counts)
    at = {f"{q:.0%}": ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in _QUANTILES}
    return {**at, "most": ordered[-1]}


__all__ = ["SHOWN", "Check", "Finding", "Limits", "Seen", "check_rows", "check_task", "unread"]
