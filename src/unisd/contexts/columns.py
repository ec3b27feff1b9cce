"""The columns of a training set as users give them, read one row at a time and checked in words (DESIGN, "Edges")."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from unisd.contexts.builder import Context, Kind, Prompt, messages_of
from unisd.errors import UsageError
from unisd.files import fingerprint

AUXILIARY_KINDS = ("retrieval", "random", "induction")
"""The kinds of context that may stand in ``auxiliary_contexts``."""


@dataclass(frozen=True)
class Columns:
    """One row of a training set after validation; None stands for an optional column left out."""

    id: str
    prompt: Prompt
    gold: Context | None
    completion: str | None
    auxiliaries: list[Context] | None
    negative: Context | None


def read_columns(row: Mapping[str, Any], number: int, *, gold_required: bool, completion_required: bool) -> Columns:
    """Read and check one row.

    Args:
        row: ``prompt`` (text or messages) and ``privileged_context`` (text); optional ``completion`` (text),
            ``auxiliary_contexts`` (a list of texts, or of mappings with ``kind``, ``text`` and ``question``),
            ``negative_context`` (text) and ``id`` (text or integer). A null stands for a column left out. A plain text
            among the auxiliary contexts is taken as general guidance, that is as kind ``induction``.
        number: the row's place in the training set, counted from 0.
        gold_required: whether ``privileged_context`` must be there.
        completion_required: whether ``completion`` must be there.

    Raises:
        UsageError: a column is missing, empty or of a wrong type; the message names column, row and remedy.
    """
    prompt = row.get("prompt")
    if prompt is None:
        raise UsageError(f"{_place('prompt', number)}: it is missing; every row needs a prompt (text or messages)")
    try:
        messages_of(prompt)
    except UsageError as error:
        raise UsageError(f"{_place('prompt', number)}: {error}") from error
    gold = _text(row, "privileged_context", number, gold_required, "what only the teacher sees, e.g. a worked answer")
    negative = _text(row, "negative_context", number, False, "a wrong demonstration")
    return Columns(
        id=_identity(row, number),
        prompt=prompt,
        gold=Context("gold", gold) if gold is not None else None,
        completion=_text(row, "completion", number, completion_required, "the reply to learn"),
        auxiliaries=_auxiliaries(row, number),
        negative=Context("negative", negative) if negative is not None else None,
    )


def _place(column: str, number: int) -> str:
    return f"column {column!r}, row {number} (counted from 0)"


def _text(row: Mapping[str, Any], column: str, number: int, required: bool, meaning: str) -> str | None:
    value = row.get(column)
    if value is None:
        if required:
            raise UsageError(f"{_place(column, number)}: it is missing; give every row {meaning}, as text")
        return None
    if not isinstance(value, str):
        raise UsageError(f"{_place(column, number)}: text was expected, not {type(value).__name__}; give {meaning}")
    if not value.strip():
        remedy = "drop the row" if required else "make it null"
        raise UsageError(f"{_place(column, number)}: it is empty; give {meaning}, or {remedy}")
    return value


def _identity(row: Mapping[str, Any], number: int) -> str:
    value = row.get("id")
    if value is None:
        return fingerprint(row["prompt"], number)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UsageError(f"{_place('id', number)}: non-empty text was expected, not {value!r}; give one or none at all")
    return str(value)


def _auxiliaries(row: Mapping[str, Any], number: int) -> list[Context] | None:
    values = row.get("auxiliary_contexts")
    if values is None:
        return None
    place = _place("auxiliary_contexts", number)
    if not isinstance(values, list | tuple):
        raise UsageError(f"{place}: a list was expected, not {type(values).__name__}; put each context in a list")
    contexts = []
    for value in values:
        if isinstance(value, str):
            value = {"kind": "induction", "text": value}
        if not isinstance(value, Mapping):
            raise UsageError(
                f"{place}: an entry is of type {type(value).__name__}; give texts, or {{'kind', 'text', 'question'}}"
            )
        if value.get("kind") not in AUXILIARY_KINDS:
            raise UsageError(
                f"{place}: an entry is of kind {value.get('kind')!r}; choose one of {', '.join(AUXILIARY_KINDS)}"
            )
        try:
            contexts.append(Context(cast(Kind, value["kind"]), value.get("text", ""), value.get("question")))
        except UsageError as error:
            raise UsageError(f"{place}: {error}") from error
    return contexts
