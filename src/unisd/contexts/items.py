"""Training items: a task's examples with the contexts made for them, or a user's rows, read and checked in words."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unisd.contexts import registry
from unisd.contexts.base import Context, Making, Need, merged
from unisd.errors import UniSDError, UsageError
from unisd.files import fingerprint
from unisd.rollout.messages import Prompt, checked_variables, messages_of, with_text
from unisd.tasks.cells import plain

TEMPLATE, TOOLS = "chat_template_kwargs", "tools"
"""Columns of what the chat template reads for a row: variables of its own, and tools as JSON schemas."""
_SAID, _THOUGHT = ("role", "content"), ("reasoning_content", "reasoning", "thinking")
_WRITTEN = re.compile(r"\s{0,9}\[\s{0,9}\{\s{0,9}['\"](?:role|content)['\"]\s{0,9}:")
"""How messages begin that a file without lists, such as CSV, holds as text."""
_COLUMNS = {"gold": "privileged_context", "auxiliary": "auxiliary_contexts"}


@dataclass(frozen=True)
class Item:
    """One training item."""

    id: str
    """Unique within the training set; keys the item's random streams."""
    prompt: Prompt
    completion: str | None
    """The gold completion, where there is one."""
    contexts: Mapping[str, Sequence[Context]]
    """By slot."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """What the chat template reads for this item beside the messages; tools are under ``tools``."""


def make_contexts(needs: Iterable[Need], making: Making) -> tuple[list[Item], dict[str, int], list[str]]:
    """Turn a task's examples into items, with the contexts that are needed.

    Returns:
        The items in the examples' order; what was written or drawn and left out, counted by kind and reason; and notes
        for the user, a line each.

    Raises:
        UsageError: an unknown kind, a malformed prompt, or contexts that cannot be made from these examples.
        UniSDError: too little of what the model wrote is fit for use, or a kind makes a wrong number of contexts.
    """
    slots, dropped, notes = make_slots(merged(needs), making)
    items = []
    for index, example in enumerate(making.examples):
        prompt = _prompt(example.asked, f"item {example.id!r}")
        completion = example.demonstration if (example.demonstration or "").strip() else None
        items.append(Item(example.id, prompt, completion, {slot: lists[index] for slot, lists in slots.items()}))
    return items, dropped, notes


def make_slots(
    needs: Sequence[Need], making: Making
) -> tuple[dict[str, list[list[Context]]], dict[str, int], list[str]]:
    """Make the contexts of merged needs; return them by slot, a list for each example, and what `make_contexts` does.

    Raises:
        UsageError, UniSDError: as there.
    """
    slots: dict[str, list[list[Context]]] = {}
    dropped, notes = Counter[str](), list[str]()
    for need in needs:
        made = registry.get(need.kind).make(need, making)
        if len(made.contexts) != len(making.examples):
            got = f"{len(made.contexts)} lists of contexts for {len(making.examples)} items"
            raise UniSDError(f"kind of context '{need.kind}' made {got}; repair the package it comes from")
        slots[need.slot] = made.contexts
        dropped.update({f"{need.kind}: {reason}": number for reason, number in made.dropped.items()})
        notes += made.notes
    return slots, dict(dropped), notes


def column_of(slot: str) -> str:
    """Return the column of a user's rows in which a slot's contexts stand."""
    return _COLUMNS.get(slot, f"{slot}_context")


def columns_of(item: Item) -> dict[str, Any]:
    """Return an item as a row of the public columns, to be looked at, shared, and read by :func:`read_columns`."""
    row: dict[str, Any] = {"id": item.id, "prompt": item.prompt, "completion": item.completion}
    if kwargs := {name: value for name, value in item.variables.items() if name != TOOLS}:
        row[TEMPLATE] = kwargs
    if TOOLS in item.variables:
        row[TOOLS] = item.variables[TOOLS]
    for slot, contexts in item.contexts.items():
        plain = slot in ("gold", "negative") and [context.kind for context in contexts] in ([], [slot])
        row[column_of(slot)] = next((c.text for c in contexts), None) if plain else [vars(c) for c in contexts]
    return row


def read_columns(row: Mapping[str, Any], number: int, needs: Sequence[Need], completion_required: bool = False) -> Item:
    """Read and check one row of a user's; a null, or NaN, stands for a column left out.

    Args:
        row: ``prompt`` (text or messages), ``id`` (text or integer; optional), ``completion`` (text, or one message of
            the assistant's), ``chat_template_kwargs`` (a mapping) and ``tools`` (JSON schemas) for the chat template,
            each also as JSON text, and a column for each need: ``privileged_context`` for slot ``gold``,
            ``auxiliary_contexts`` for ``auxiliary``, and ``<slot>_context`` for any other. It holds a text, a mapping
            with ``kind``, ``text`` and ``question``, or a list of them. A plain text is of the needed kind; where that
            is about another item, it is taken as general guidance, that is as kind ``induction``.
        number: the row's place in the training set, counted from 0.
        needs: which contexts to read; other columns are not looked at.
        completion_required: whether ``completion`` is read, and must be there.

    Raises:
        UsageError: a column is missing, empty or of a wrong type; the message names column, row and remedy.
    """
    row = _Cells(row, number)
    if row.get("prompt") is None:
        others = ", ".join(str(name) for name in row if name != "prompt")
        held = f"; this one has {others:.200}" if others else ""
        raise UsageError(
            f"{_place('prompt', number)}: it is missing; every row needs a prompt (text or messages){held}"
        )
    prompt = _prompt(row["prompt"], _place("prompt", number))
    found = {need.slot: _contexts(row, need, number) for need in needs}
    completion = _reply(row.get("completion")) if completion_required else None
    if completion_required and (not isinstance(completion, str) or not completion.strip()):
        given = "missing" if completion is None else f"{completion!r:.200}"
        raise UsageError(f"{_place('completion', number)}: it is {given}; give every row the reply to learn, as text")
    return Item(_identity(row, number), prompt, completion, found, _variables(row, number))


def _variables(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    given = row.get(TEMPLATE)
    try:
        given = json.loads(given) if isinstance(given, str) and given.strip() else given or {}
    except ValueError as error:
        raise UsageError(f"{_place(TEMPLATE, number)}: not JSON ({error}); give a mapping") from error
    found = checked_variables(given, _place(TEMPLATE, number))
    tools = checked_variables({TOOLS: row.get(TOOLS) or None}, _place(TOOLS, number))
    return found | tools


class _Cells(Mapping[str, Any]):
    """A row whose cells are made plain when they are read; those that nothing reads may hold anything."""

    def __init__(self, row: Any, number: int) -> None:
        if not isinstance(row, Mapping):
            raise UsageError(
                f"row {number} (counted from 0) is of type {type(row).__name__}; "
                "give a mapping of columns to values, such as {'prompt': …, 'privileged_context': …}"
            )
        self._row, self._number, self._read = row, number, dict[str, Any]()

    def __getitem__(self, column: str) -> Any:
        if column not in self._read:
            value = self._row[column]
            try:
                # Tools may be functions, which transformers turns into schemas.
                tools = column == TOOLS and isinstance(value, list | tuple)
                self._read[column] = [t if callable(t) else plain(t) for t in value] if tools else plain(value)
            except UsageError as error:
                raise UsageError(f"{_place(column, self._number)}: {error}") from error
        return self._read[column]

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)


def _reply(completion: Any) -> Any:
    """Return the text of a reply that is given as a conversation of one message, as other trainers take it."""
    if not (isinstance(completion, list) and len(completion) == 1 and isinstance(completion[0], Mapping)):
        return completion
    message = with_text(completion[0])
    thoughts = [thought for key in _THOUGHT if (thought := message.pop(key, None))]
    texts = [message.get("content"), *thoughts[:1]]
    others = [key for key in message if key not in _SAID and message[key]]
    if message.get("role") != "assistant" or others or not all(isinstance(text, str) for text in texts):
        return completion
    return f"<think>\n{texts[1]}\n</think>\n\n{texts[0]}" if thoughts else texts[0]


def _place(column: str, number: int) -> str:
    return f"column {column!r}, row {number} (counted from 0)"


def _prompt(prompt: Prompt, place: str) -> Prompt:
    if isinstance(prompt, str) and _WRITTEN.match(prompt):
        raise UsageError(f"{place}: it is messages written as text; read them first, as with json.loads")
    try:
        messages_of(prompt)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error
    return prompt


def _identity(row: Mapping[str, Any], number: int) -> str:
    value = row.get("id")
    if value is None:
        return fingerprint(row["prompt"], number)
    if isinstance(value, float) and value.is_integer():  # a table with a missing id holds the others as floats
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise UsageError(
            f"{_place('id', number)}: non-empty text was expected, not {value!r:.200}; give one or none at all"
        )
    return str(value)


def _contexts(row: Mapping[str, Any], need: Need, number: int) -> list[Context]:
    value, place = row.get(column_of(need.slot)), _place(column_of(need.slot), number)
    if value is None and need.required:
        raise UsageError(
            f"{place}: it is missing; give every row {need.count}, or switch off what needs contexts there"
        )
    entries = [] if value is None else [value] if isinstance(value, str | Mapping) else value
    if not isinstance(entries, list | tuple):
        raise UsageError(f"{place}: text or a list of contexts was expected, not {type(value).__name__}")
    try:
        return [_context(entry, need) for entry in entries]
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error


def _context(entry: Any, need: Need) -> Context:
    if isinstance(entry, str):
        entry = {"kind": "induction" if registry.get(need.kind).about == "another" else need.kind, "text": entry}
    if not isinstance(entry, Mapping):
        raise UsageError(f"an entry is of type {type(entry).__name__}; give texts, or {{'kind', 'text', 'question'}}")
    kind = entry.get("kind")
    # Probes must not show the item's own answer: what speaks of the item is of the very kind that was asked for.
    if not isinstance(kind, str) or (kind != need.kind and registry.get(kind).about == "item"):
        fit = [name for name in registry.known() if name == need.kind or registry.get(name).about != "item"]
        raise UsageError(f"an entry is of kind {kind!r}; choose one of {', '.join(fit)}")
    return Context(kind, entry.get("text", ""), entry.get("question"))
