"""From training items to token ids, with nothing truncated and everything left out counted."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unisd.contexts import registry
from unisd.contexts.base import Context, Need, merged
from unisd.contexts.builder import PromptBuilder
from unisd.contexts.items import TEMPLATE, TOOLS, Item, column_of, read_columns
from unisd.contexts.leakage import normalised, repeats, says_the_same
from unisd.errors import UsageError, warn_once
from unisd.tasks.row_files import Bad
from unisd.tasks.sources import Place


@dataclass(frozen=True)
class PreparedRow:
    """One training item as token ids: every prompt that the student and the teacher may see for it."""

    id: str
    """Unique within the training set; keys the item's random streams."""
    student_ids: list[int]
    """The student's prompt x."""
    contexts: Mapping[str, list[list[int]]]
    """By slot, the teacher's prompts with each context; an empty list where the item has none (that fit)."""
    completion_ids: list[int] | None
    """The gold completion with its end-of-turn token; None where none is required."""
    opened: str = ""
    """The mark of the thought that the student's prompt opens, where it does: a completion begins inside it."""


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
    """Contexts left out, counted by reason, of dropped items too."""
    ids: dict[str, list[str]] = field(default_factory=dict)
    """A few ids of items for each reason."""

    def note(self, counter: Counter[str], reason: str, item: str) -> None:
        """Count ``reason`` in ``counter`` (``dropped`` or ``absent``) and keep the item's id if there are few yet."""
        counter[reason] += 1
        shown = self.ids.setdefault(reason, [])
        if len(shown) < 5 and item not in shown:
            shown.append(item)

    def lines(self) -> list[str]:
        """Return the report as lines to print: one with the totals, one per reason."""
        lines = [f"{self.kept} of {self.rows} items kept"]
        for counter, what in ((self.dropped, "items dropped"), (self.absent, "parts left out")):
            for reason, number in sorted(counter.items()):
                ids = self.ids[reason] + ["…"] * (number > len(self.ids[reason]))
                lines.append(f"{number} {what}: {reason} (ids {', '.join(ids)})")
        return lines


def prepare_rows(
    rows: Iterable[Item | Mapping[str, Any]],
    builder: PromptBuilder,
    max_prompt_length: int,
    max_completion_length: int,
    max_positions: int | None,
    needs: Iterable[Need],
    *,
    completion_required: bool = False,
    bad: Bad | None = None,
) -> tuple[list[PreparedRow], DropReport]:
    """Turn items of text into rows of token ids; what does not fit is dropped and counted, never truncated.

    A student prompt or a required completion that does not fit drops the item. A context that does not fit, or that is
    not about the item and yet gives away its gold one, or that is to be wrong and is right, is left out. Where fewer
    remain than are needed, the item is dropped if they are required, and else goes without. Columns that nothing reads
    are named in a warning.

    Args:
        rows: items, or a user's rows, such as a ``datasets.Dataset``; see ``read_columns`` for the columns.
        builder: makes all prompts.
        max_prompt_length: most tokens of a prompt, context included.
        max_completion_length: most tokens of a completion.
        max_positions: most tokens that the model can read, or None.
        needs: which contexts to read; all others are ignored.
        completion_required: whether completions are read, and must be there (for cross-entropy on gold completions).
        bad: where rows that cannot be read are listed, which are then left out; None: the first one raises.

    Raises:
        UsageError: a column is missing, empty or of a wrong type; an id occurs twice; there are no rows, or none stays.
    """
    report, joined = DropReport(), merged(needs)
    most = (max_prompt_length, max_completion_length, max_positions)
    preparation = _Preparation(builder, *most, joined, completion_required, report)
    prepared: list[PreparedRow] = []
    numbers: dict[str, int] = {}
    number = -1
    columns: dict[str, None] = {}
    for number, row in enumerate(rows):
        try:
            item = row if isinstance(row, Item) else read_columns(row, number, joined, completion_required)
            if not isinstance(row, Item):
                columns |= {name: None for name in row if name not in columns and row[name] is not None}
            if item.id in numbers:
                twins = f"rows {numbers[item.id]} and {number} (counted from 0) are both {item.id!r}"
                raise UsageError(f"column 'id': {twins}; make the ids unique or leave the column out")
            numbers[item.id] = number
            prepared.append(preparation.prepared(item, number))
        except _UnfitError as unfit:
            report.note(report.dropped, str(unfit), item.id)
        except UsageError as error:
            if bad is None:
                raise
            bad.append((Place("the data set", number, "row"), str(error)))
    _name_unread(columns, joined, completion_required)
    report.rows, report.kept = number + 1 - len(bad or ()), len(prepared)
    if not report.rows and not bad:
        raise UsageError("the data set has no rows; check its file, split and filters")
    if not prepared and bad:
        raise UsageError(f"no row is left: {len(bad)} cannot be read, first {bad[0][0]}: {bad[0][1]}")
    if not prepared:
        why = "; ".join(f"{number}: {reason}" for reason, number in sorted(report.dropped.items()))
        raise UsageError(f"every one of the {report.rows} rows is dropped ({why}); {_remedy(report, joined)}")
    return prepared, report


def _remedy(report: DropReport, needs: Sequence[Need]) -> str:
    """Return what to do where nothing is left: what was too long, or which column has too little."""
    todo = [
        f"give each row {need.count} in the column '{column_of(need.slot)}'"
        + (", or lower contexts.count" if need.count > 1 else "")
        for need in needs
        if _few(need) in report.dropped
    ]
    if not todo or any(reason not in map(_few, needs) for reason in (*report.dropped, *report.absent)):
        todo.append("raise the limits or shorten the rows")
    return "; ".join(todo)


def _few(need: Need) -> str:
    return f"fewer than {need.count} {need.slot} contexts left"


def _name_unread(columns: Iterable[str], needs: Sequence[Need], completion: bool) -> None:
    """Say which columns these settings make no use of."""
    read = ["prompt", "id", *["completion"] * completion, *(column_of(need.slot) for need in needs), TEMPLATE, TOOLS]
    if unread := [str(name) for name in columns if name not in read]:
        warn_once(f"columns that nothing reads under these settings: {', '.join(unread)} (read are {', '.join(read)})")


class _UnfitError(Exception):
    """An item must be dropped; the message is the reason."""


@dataclass(frozen=True)
class _Preparation:
    builder: PromptBuilder
    max_prompt_length: int
    max_completion_length: int
    max_positions: int | None
    needs: Sequence[Need]
    completion_required: bool
    report: DropReport

    def prepared(self, item: Item, number: int) -> PreparedRow:
        try:
            return self._prepared(item)
        except UsageError as error:  # of the template, which knows no rows
            raise UsageError(f"row {number} (counted from 0, id {item.id!r}): {error}") from error

    def _prepared(self, item: Item) -> PreparedRow:
        student = self.builder.student_ids(item.prompt, item.variables)
        if misfit := self._misfit(student, "student prompt"):
            raise _UnfitError(misfit)
        # The order decides which reason is named where there are several.
        contexts = {need.slot: self._seen(item, need) for need in self.needs if need.slot == "gold"}
        completion = self._completion(item)
        contexts |= {need.slot: self._seen(item, need) for need in self.needs if need.slot != "gold"}
        return PreparedRow(item.id, student, contexts, completion, self.builder.opened(student))

    def _misfit(self, prompt_ids: Sequence[int], name: str) -> str:
        """Return in words why the prompt called ``name`` does not fit; empty if it does."""
        if len(prompt_ids) > self.max_prompt_length:
            return f"{name} longer than max_prompt_length ({self.max_prompt_length})"
        if self.max_positions is not None and len(prompt_ids) + self.max_completion_length > self.max_positions:
            return f"{name} and max_completion_length beyond the model's positions ({self.max_positions})"
        return ""

    def _completion(self, item: Item) -> list[int] | None:
        if not self.completion_required:
            return None
        if item.completion is None:
            raise UsageError("it has no completion to learn; give it one or leave it out")
        ids = self.builder.completion_ids(item.completion, item.prompt, item.variables)
        most = self.max_completion_length
        if len(ids) > most:
            raise _UnfitError(f"completion longer than max_completion_length ({most})")
        return ids

    def _seen(self, item: Item, need: Need) -> list[list[int]]:
        """Return the prompts of the contexts in a slot that can be used."""
        given, fit = item.contexts.get(need.slot, ()), []
        for context in given:
            if need.slot != "gold" and _gives_away(item, context):
                fault = f"{context.kind} context gives away the privileged one"
            elif need.slot != "gold" and _is_right(item, context):
                fault = f"{context.kind} context says what is right, as the privileged one or the completion does"
            else:
                ids = self.builder.teacher_ids(item.prompt, context, item.variables)
                fault = self._misfit(ids, f"{context.kind} prompt")
            if not fault:
                fit.append(ids)
            elif need.required and need.count == len(given) == 1:
                raise _UnfitError(fault)
            else:
                self.report.note(self.report.absent, fault, item.id)
        if len(fit) >= need.count:
            return fit
        if need.required:
            raise _UnfitError(_few(need))
        if fit:
            self.report.note(self.report.absent, _few(need), item.id)
        return []


def _gives_away(item: Item, context: Context) -> bool:
    """Return whether a context that is not about the item tells its gold one: a part of what ``leaks`` tests."""
    gold = item.contexts.get("gold", ())
    if not gold or registry.get(context.kind).about == "item":
        return False
    same = isinstance(item.prompt, str) and normalised(context.question or "") == normalised(item.prompt)
    return same or any(repeats(context, own.text) for own in gold)


def _is_right(item: Item, context: Context) -> bool:
    """Return whether a context that is to be wrong says what the item's gold one, or its completion, says."""
    right = [own.text for own in item.contexts.get("gold", ())] + ([item.completion] if item.completion else [])
    return registry.get(context.kind).wrong and any(says_the_same(context.text, text) for text in right)
