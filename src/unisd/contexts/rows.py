"""From the public columns of a training set to token ids, with nothing truncated and everything left out counted."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unisd.contexts.builder import Context, PromptBuilder
from unisd.contexts.columns import AUXILIARY_KINDS, Columns, read_columns
from unisd.contexts.leakage import normalised, repeats
from unisd.errors import UsageError
from unisd.tasks.base import Example

_SHOWN_IDS = 5


@dataclass(frozen=True)
class PreparedRow:
    """One training item as token ids: every prompt that the student and the teacher may see for it."""

    id: str
    """Unique within the training set; keys the item's random streams."""
    student_ids: list[int]
    """The student's prompt x."""
    gold_ids: list[int] | None
    """The teacher's prompt x⁺; None without ``privileged_context``."""
    probe_ids: list[list[int]]
    """The teacher's prompts with the auxiliary contexts c_1..c_K; empty without any."""
    negative_ids: list[int] | None
    """The teacher's prompt x⁻; None where the item has no (fitting) negative."""
    completion_ids: list[int] | None
    """The gold completion with its end-of-turn token; None without a (fitting) ``completion``."""


@dataclass
class DropReport:
    """What was left out and why: whole items, and parts of items that stayed."""

    rows: int = 0
    """Rows read."""
    kept: int = 0
    """Items that stayed."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Items dropped, counted by reason."""
    absent: Counter[str] = field(default_factory=Counter)
    """Parts left out (an auxiliary, a negative, a completion), counted by reason, of dropped items too."""
    ids: dict[str, list[str]] = field(default_factory=dict)
    """A few ids of items for each reason."""

    def note(self, counter: Counter[str], reason: str, item: str) -> None:
        """Count ``reason`` in ``counter`` (``dropped`` or ``absent``) and keep the item's id if there are few yet."""
        counter[reason] += 1
        shown = self.ids.setdefault(reason, [])
        if len(shown) < _SHOWN_IDS and item not in shown:
            shown.append(item)

    def lines(self) -> list[str]:
        """Return the report as lines to print: one with the totals, one per reason."""
        lines = [f"{self.kept} of {self.rows} items kept"]
        for counter, what in ((self.dropped, "items dropped"), (self.absent, "parts left out")):
            for reason, number in sorted(counter.items()):
                ids = self.ids[reason] + ["…"] * (number > len(self.ids[reason]))
                lines.append(f"{number} {what}: {reason} (ids {', '.join(ids)})")
        return lines


@dataclass(frozen=True)
class Limits:
    """How many tokens fit."""

    max_prompt_length: int
    """Tokens of a prompt."""
    max_completion_length: int
    """Tokens of a completion."""
    max_positions: int | None
    """Tokens that the model can read; None where that is not limited."""

    def misfit(self, prompt_ids: Sequence[int], name: str) -> str | None:
        """Return in words why the prompt called ``name`` does not fit, or None if it does."""
        if len(prompt_ids) > self.max_prompt_length:
            return f"{name} longer than max_prompt_length ({self.max_prompt_length})"
        if self.max_positions is not None and len(prompt_ids) + self.max_completion_length > self.max_positions:
            return f"{name} and max_completion_length beyond the model's positions ({self.max_positions})"
        return None


def prepare_rows(
    rows: Iterable[Mapping[str, Any]],
    builder: PromptBuilder,
    max_prompt_length: int,
    max_completion_length: int,
    max_positions: int | None,
    probes_required: int = 0,
    *,
    gold_required: bool = True,
    completion_required: bool = False,
) -> tuple[list[PreparedRow], DropReport]:
    """Turn rows of text into rows of token ids; what does not fit is dropped and counted, never truncated.

    A student or gold prompt that does not fit drops the item. So does a completion that is too long, where one is
    required. An auxiliary context that does not fit, or that gives away the item's privileged context, is left out,
    and the item is dropped if fewer than ``probes_required`` remain. Any other part that does not fit is left out.

    Args:
        rows: the training set, such as a ``datasets.Dataset``; see ``read_columns`` for the columns.
        builder: makes all prompts.
        max_prompt_length: most tokens of a prompt, context included.
        max_completion_length: most tokens of a completion.
        max_positions: most tokens that the model can read, or None.
        probes_required: least number of auxiliary contexts per item.
        gold_required: whether ``privileged_context`` must be there (not for a method without a teacher).
        completion_required: whether ``completion`` must be there (for cross-entropy on gold completions).

    Raises:
        UsageError: a column is missing, empty or of a wrong type; an id occurs twice; there are no rows; a row has no
            ``auxiliary_contexts`` though some are required; every row is dropped.
    """
    report = DropReport()
    limits = Limits(max_prompt_length, max_completion_length, max_positions)
    preparation = _Preparation(builder, limits, report, probes_required, gold_required, completion_required)
    prepared: list[PreparedRow] = []
    numbers: dict[str, int] = {}
    for number, row in enumerate(rows):
        columns = read_columns(row, number, gold_required=gold_required, completion_required=completion_required)
        if columns.id in numbers:
            raise UsageError(
                f"column 'id': rows {numbers[columns.id]} and {number} (counted from 0) are both {columns.id!r}; "
                "make the ids unique or leave the column out"
            )
        numbers[columns.id] = number
        if columns.auxiliaries is None and probes_required:
            raise UsageError(
                f"column 'auxiliary_contexts', row {number} (counted from 0): it is missing and agreement needs "
                f"{probes_required} contexts; add them, or switch agreement off"
            )
        report.rows += 1
        try:
            prepared.append(preparation.prepared(columns))
        except _UnfitError as unfit:
            report.note(report.dropped, str(unfit), columns.id)
    report.kept = len(prepared)
    if not report.rows:
        raise UsageError("the training set has no rows; check its file, split and filters")
    if not prepared:
        reasons = "; ".join(f"{number}: {reason}" for reason, number in sorted(report.dropped.items()))
        raise UsageError(
            f"every one of the {report.rows} rows is dropped ({reasons}); raise the limits or shorten the rows"
        )
    return prepared, report


class _UnfitError(Exception):
    """An item must be dropped; the message is the reason."""


@dataclass(frozen=True)
class _Preparation:
    builder: PromptBuilder
    limits: Limits
    report: DropReport
    probes_required: int
    gold_required: bool
    completion_required: bool

    def prepared(self, columns: Columns) -> PreparedRow:
        student = self.builder.student_ids(columns.prompt)
        if misfit := self.limits.misfit(student, "student prompt"):
            raise _UnfitError(misfit)
        return PreparedRow(
            id=columns.id,
            student_ids=student,
            gold_ids=self._seen(columns, columns.gold, self.gold_required),
            completion_ids=self._completion(columns),
            probe_ids=self._probes(columns),
            negative_ids=self._seen(columns, columns.negative, False),
        )

    def _part(self, columns: Columns, ids: list[int], misfit: str | None, required: bool) -> list[int] | None:
        """Return ``ids`` if they fit; else drop the item where the part is required, or leave the part out."""
        if misfit is None:
            return ids
        if required:
            raise _UnfitError(misfit)
        self.report.note(self.report.absent, misfit, columns.id)
        return None

    def _seen(self, columns: Columns, context: Context | None, required: bool) -> list[int] | None:
        if context is None:
            return None
        ids = self.builder.teacher_ids(columns.prompt, context)
        return self._part(columns, ids, self.limits.misfit(ids, f"{context.kind} prompt"), required)

    def _completion(self, columns: Columns) -> list[int] | None:
        if columns.completion is None:
            return None
        ids, most = self.builder.completion_ids(columns.completion), self.limits.max_completion_length
        misfit = f"completion longer than max_completion_length ({most})" if len(ids) > most else None
        return self._part(columns, ids, misfit, self.completion_required)

    def _probes(self, columns: Columns) -> list[list[int]]:
        probes = []
        for context in columns.auxiliaries or []:
            if columns.gold is not None and _gives_away(columns, context, columns.gold.text):
                told = f"{context.kind} context gives away the privileged one"
                self.report.note(self.report.absent, told, columns.id)
            elif (ids := self._seen(columns, context, False)) is not None:
                probes.append(ids)
        if len(probes) < self.probes_required:
            raise _UnfitError(f"fewer than {self.probes_required} auxiliary contexts left")
        return probes


def _gives_away(columns: Columns, context: Context, gold: str) -> bool:
    """Return whether an auxiliary context is about the item itself: a part of what ``leaks`` tests with an Example."""
    same = isinstance(columns.prompt, str) and normalised(context.question or "") == normalised(columns.prompt)
    return same or repeats(context, gold)


def training_rows(
    examples: Sequence[Example],
    probes: Sequence[Sequence[Context]] | None = None,
    negatives: Sequence[Context | None] | None = None,
) -> list[dict[str, Any]]:
    """Return a task's examples and their contexts as rows of the public columns, ready for ``prepare_rows``.

    The demonstration is both the privileged context and the completion. Columns without content (no probes, no
    negatives) are left out of all rows.

    Args:
        examples: the training items.
        probes: the auxiliary contexts of each.
        negatives: the negative context of each, or None.

    Raises:
        UsageError: an example has no demonstration, a list is not as long as ``examples``, or a context is of a kind
            that does not belong there.
    """
    for name, given in (("probes", probes), ("negatives", negatives)):
        if given is not None and len(given) != len(examples):
            raise UsageError(f"{len(examples)} examples but {len(given)} {name}; give one entry per example")
    rows = []
    for index, example in enumerate(examples):
        if not (example.demonstration or "").strip():
            raise UsageError(f"item {example.id!r} has no demonstration, so it cannot be trained on; leave it out")
        row: dict[str, Any] = {
            "id": example.id,
            "prompt": example.prompt,
            "privileged_context": example.demonstration,
            "completion": example.demonstration,
        }
        if probes is not None:
            row["auxiliary_contexts"] = [_entry(context, AUXILIARY_KINDS) for context in probes[index]]
        if negatives is not None:
            negative = negatives[index]
            row["negative_context"] = None if negative is None else _entry(negative, ("negative",))["text"]
        rows.append(row)
    return rows


def _entry(context: Context, kinds: Sequence[str]) -> dict[str, str | None]:
    if context.kind not in kinds:
        raise UsageError(f"a context of kind {context.kind!r} cannot stand here; choose one of {', '.join(kinds)}")
    return {"kind": context.kind, "text": context.text, "question": context.question}
