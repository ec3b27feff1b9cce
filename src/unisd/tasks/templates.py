"""Texts with ``{column}`` in them, filled from a row: no logic, no formats, and no attributes are reached."""

import difflib
import json
import string
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from unisd.errors import UsageError
from unisd.tasks.cells import plain
from unisd.tasks.sources import Row


def columns_of(template: str, where: str) -> list[tuple[str, str | None]]:
    """Return a template as pairs of literal text and the column that follows it.

    Raises:
        UsageError: a brace is not closed, or something else than a column's name stands in braces; ``where`` is named.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"{where}: not a template ({error}); write {{column}}, and {{{{ for a brace") from error
    if any(spec or conversion for _, _, spec, conversion in parts) or any(name == "" for _, name, _, _ in parts):
        raise UsageError(f"{where}: write {{column}} with the column's name alone, and {{{{ for a brace")
    return [(literal, name) for literal, name, _, _ in parts]


def filled(template: str, row: Row, shown: Mapping[str, str] | None = None) -> str:
    """Return a template with the row's cells in it; for columns in ``shown``, what stands there.

    Raises:
        UsageError: there is no such column, or it holds neither a text nor a number.
    """
    shown = shown or {}
    parts = columns_of(template, "template")
    return "".join(
        literal + ("" if name is None else shown[name] if name in shown else text(row, name)) for literal, name in parts
    )


def said(row: Row, what: str, empty: bool = False) -> str:
    """Return the text of a column, or of a template where no column is called so and it has braces."""
    return text(row, what, empty) if what in row or "{" not in what else filled(what, row)


def cell(row: Row, column: str) -> Any:
    """Return a cell, made plain; ``a.b`` is what column ``a`` holds under ``b``, unless a column is so called.

    Raises:
        UsageError: there is no such column, or the cell holds what is neither text, number, list nor mapping.
    """
    found: Any = row
    for part in [column] if column in row else column.split("."):
        if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, Mapping) and part in found:
            found = found[part]
        else:
            known = list(map(str, row))
            raise UsageError(f"there is no column '{column}'; {nearest(column, known)}")
    try:
        return plain(found)
    except UsageError as error:
        raise UsageError(f"the column '{column}': {error}") from error


def text(row: Row, column: str, empty: bool = False) -> str:
    """Return a cell as text; numbers are written as Python writes them, and nothing is an empty text where ``empty``.

    Raises:
        UsageError: as :func:`cell`, or it is neither text nor number.
    """
    value = cell(row, column)
    if value is None and empty:
        return ""
    if not isinstance(value, str | int | float):
        raise UsageError(f"the column '{column}' holds {kind(value)}; a text or a number was expected")
    return str(value)


def key(row: Row, column: str) -> str:
    """Return a cell that holds a key: whole numbers that a table keeps as 2.0, because one is missing, are 2."""
    if column in row and isinstance(value := cell(row, column), float) and value.is_integer():
        return str(int(value))
    return said(row, column)


def listed(row: Row, column: str) -> list[Any]:
    """Return a cell that holds a list, or its JSON text; another text is a list of one."""
    value = cell(row, column)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = [value]
    if not isinstance(value, list):
        raise UsageError(f"the column '{column}' holds {kind(value)}; a list was expected")
    return value


def texts(values: Sequence[Any], column: str) -> list[str]:
    """Return the values of a list as texts."""
    return [text({column: value}, column) for value in values]


def kind(value: Any) -> str:
    """Return in words what a cell holds."""
    return "nothing" if value is None else f"a value of type {type(value).__name__}"


def nearest(name: str, known: Collection[str]) -> str:
    """Return a hint at the name that may have been meant."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(known)}"
