"""Items to look through: what was asked, and what models answered before and after."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from unisd.evaluation.answers import Item
from unisd.studies.report.blocks import Browser, Example, Examples, Tone, embedded, shown
from unisd.studies.report.folder import Answers, Exam

MOST = 1000
"""Items that a page holds of an exam."""
ROOM = 4_000_000
"""Bytes that all items of a page may have together."""
_LONGEST = 6000
"""Letters of one text."""
_KINDS = ("gained", "lost", "unchanged")
_NOTE = 200


def examples(exam: Exam, each: int = 2) -> Examples | None:
    """Return items that were gained, lost and unchanged, ``each`` of every kind that there is."""
    if len(exam.answers) < 2:
        return None
    before, after = exam.answers[0], exam.shown[0]
    pairs = _by_kind(before, after)
    found = []
    for kind in _KINDS:
        for pair in pairs[kind][:each]:
            answers = [
                (who.name, shown(item.output, 1500) or "(nothing)", *_verdict(item))
                for who, item in zip((before, after), pair, strict=True)
            ]
            label = f"{kind.capitalize()}: one of {len(pairs[kind])}"
            found.append(Example(label, shown(pair[0].prompt, 3000), shown(pair[0].gold, 300), answers))
    return Examples(found)


def _verdict(item: Item) -> tuple[str, Tone]:
    if item.parsed is None:
        return "no answer could be read", "bad"
    return f"{shown(item.parsed, _NOTE)}: {'right' if item.correct else 'wrong'}", "good" if item.correct else "bad"


def _by_kind(before: Answers, after: Answers) -> dict[str, list[tuple[Item, Item]]]:
    first = {(item.id, item.sample): item for item in before.evaluation.items}
    found: dict[str, list[tuple[Item, Item]]] = {kind: [] for kind in _KINDS}
    for item in after.evaluation.items:
        if (other := first.get((item.id, item.sample))) is not None:
            found[_kind(other, item)].append((other, item))
    return found


def _kind(before: Item, after: Item) -> str:
    return "unchanged" if before.correct == after.correct else "gained" if after.correct else "lost"


def browser(exam: Exam, room: int = ROOM) -> Browser:
    """Return an exam's items for page.js, as many as ``room`` bytes hold: ``models``, ``before`` and ``after`` (their
    places), ``readable``, ``items``.

    An item holds ``i`` (id), ``g`` (group), ``q`` (question), ``k`` (key), ``d`` (what the teacher is shown) and ``a``,
    for each model null or [answer, what was read or null, right (1, 0, or null), finished, note].
    """
    by_model = [{(i.id, i.sample): i for i in answers.evaluation.items} for answers in exam.answers]
    samples = exam.answers[0].evaluation.samples() > 1
    items: list[dict[str, Any]] = []
    every = len(by_model[0])
    for key in _chosen(exam):
        given = [found.get(key) for found in by_model]
        first = next(item for item in given if item is not None)
        made = {
            "i": shown(f"{first.id}, answer {first.sample + 1}" if samples else first.id, _NOTE),
            "g": shown(first.group, _NOTE),
            "q": shown(first.prompt, _LONGEST),
            "k": shown(first.gold, _LONGEST),
            "d": shown(first.demonstration, _LONGEST) if first.demonstration else None,
            "a": [None if item is None else _answer(item) for item in given],
        }
        room -= len(embedded(made).encode())
        if room < 0 or len(items) == MOST:
            break
        items.append(made)
    note = (
        f"{len(items):,} of {every:,} items are on this page, of each kind some; all lie in the folder."
        if len(items) < every
        else ""
    )
    names = [shown(answers.name, _NOTE) for answers in exam.answers]
    after = exam.answers.index(exam.shown[0]) if exam.compared else 0
    data = {"models": names, "before": 0, "after": after, "readable": True, "items": items}
    return Browser(f"items-{exam.name}", data, note if len(items) < every else "")


def _answer(item: Item) -> list[Any]:
    parsed = None if item.parsed is None else shown(item.parsed, _NOTE)
    return [shown(item.output, _LONGEST), parsed, int(item.correct), item.finished, shown(item.note, _NOTE)]


def _chosen(exam: Exam) -> Iterator[tuple[str, int]]:
    """Yield the items of an exam, those gained, lost and unchanged in turn, so that a cap leaves some of each."""
    first = exam.answers[0].evaluation.items
    if len(exam.answers) < 2 or len(first) <= MOST:
        yield from ((item.id, item.sample) for item in first)
        return
    kinds = _by_kind(exam.answers[0], exam.shown[0])
    for row in zip_longest(*kinds.values()):
        yield from ((pair[0].id, pair[0].sample) for pair in row if pair is not None)


def written_browser(rows: Sequence[Mapping[str, Any]]) -> Browser:
    """Return completions that were kept while training, the latest first, for page.js."""
    items: list[dict[str, Any]] = []
    room = ROOM // 4
    for row in reversed(rows):
        grade, divergence = row.get("grade"), row.get("divergence")
        note = f"{row.get('tokens', '?')} tokens"
        if isinstance(divergence, int | float):
            note += f", {divergence:.2f} nats a token from the teacher"
        right = None if not isinstance(grade, int | float) else int(grade >= 0.5)
        made: dict[str, Any] = {
            "i": shown(f"step {row.get('step')}, {row.get('id', '')}", _NOTE), "g": "", "k": "", "d": None,
            "q": shown(row.get("prompt", ""), _LONGEST),
            "a": [[shown(row.get("completion", ""), _LONGEST), "", right, bool(row.get("finished")), note]],
        }  # fmt: skip
        room -= len(embedded(made).encode())
        if room < 0 or len(items) == MOST:
            break
        items.append(made)
    note = f"The latest {len(items):,} of {len(rows):,}." if len(items) < len(rows) else ""
    data = {"models": ["completion"], "before": 0, "after": 0, "readable": False, "items": items}
    return Browser("items-written", data, note)
