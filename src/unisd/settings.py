"""What a group of settings is: declared once, with types, ranges and meanings, and read from plain values.

A group is a class under `group`: each field has a type (with `Field` for its range), a default, and a docstring that
says what it means. What concerns several fields is checked in ``__post_init__``, which raises `UsageError`.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin

import pydantic
from pydantic import Field
from pydantic.dataclasses import dataclass

from unisd.errors import UsageError

__all__ = ["Documented", "Field", "build", "check_field", "documented", "group", "plain", "unknown"]

T = TypeVar("T")

_CONFIG = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
_KINDS = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "string_type": "a text",
}
_RANGES = {
    "finite_number": "use a finite number",
    "greater_than": "use a value above {gt:g}",
    "greater_than_equal": "use {ge:g} or more",
    "less_than": "use a value below {lt:g}",
    "less_than_equal": "use {le:g} or less",
    "too_short": "give {min_length} or more",
}


@dataclass_transform(field_specifiers=(dataclasses.field, Field))
def group(cls: type[T]) -> type[T]:
    """Make a class a group of settings: a dataclass whose values are checked against its types and ranges."""
    return dataclass(config=_CONFIG)(cls)  # type: ignore[return-value]


def build(cls: type[T], values: Any, where: str) -> T:
    """Return a group made from plain values, or from a group of the class, whose values are checked again.

    Args:
        cls: a class under `group`.
        values: field names and values, as YAML or JSON give them.
        where: the group's name, for messages.

    Raises:
        UsageError: no mapping, an unknown field, or a value of another type or out of range; the message is one line.
    """
    if isinstance(values, cls):
        values = plain(values)
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: a group of settings was expected, not {values!r}; write {where}.field=value")
    try:
        return cls(**{str(name): value for name, value in values.items()})
    except pydantic.ValidationError as error:
        raise UsageError(_in_words(cls, error, where + ".{}")) from error


def check_field(cls: type[Any], name: str, value: Any, shown: str) -> None:
    """Check the value of one field alone; ``shown`` is what messages call it.

    Raises:
        UsageError: a value of another type or out of range.
    """
    try:
        cls.__pydantic_validator__.validate_assignment(cls(), name, value)
    except pydantic.ValidationError as error:
        raise UsageError(_in_words(cls, error, shown)) from error


def plain(settings: Any) -> dict[str, Any]:
    """Return a group as plain values, from which `build` makes the same group again."""
    return dataclasses.asdict(settings)


@dataclasses.dataclass(frozen=True)
class Documented:
    """One field of a group, as a page of settings shows it."""

    name: str
    default: Any
    meaning: str
    """What stands under the field where it is declared, on one line."""
    kind: str = ""
    """Its type and range, in words."""


def documented(cls: type[Any]) -> list[Documented]:
    """Return the fields of a group with their defaults and meanings, in the order of their declaration."""
    fields: dict[str, Any] = cls.__pydantic_fields__
    return [
        Documented(
            name,
            field.get_default(call_default_factory=True),
            " ".join((field.description or "").split()),
            ", ".join([_type_in_words(field.annotation), *_range_in_words(field.metadata)]),
        )
        for name, field in fields.items()
    ]


_TYPES: dict[Any, str] = {bool: "true or false", int: "whole number", float: "number", str: "text", type(None): "null"}


def _type_in_words(kind: Any) -> str:
    """Return a type as somebody who writes YAML knows it."""
    of = get_origin(kind)
    if of is Literal:
        return " or ".join(str(choice) for choice in get_args(kind))
    if of in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type_in_words(part) for part in get_args(kind)))
    if of is Annotated:
        return _type_in_words(get_args(kind)[0])
    plain_type = of or kind
    if plain_type in (list, tuple, set):
        return "list"
    if isinstance(plain_type, type) and issubclass(plain_type, str):
        return "text"
    return _TYPES.get(plain_type, "mapping" if plain_type in (dict, Mapping) else "anything")


def _range_in_words(metadata: Sequence[Any]) -> list[str]:
    """Return what a field's bounds say."""
    words = {"gt": "above {:g}", "ge": "{:g} or more", "lt": "below {:g}", "le": "{:g} or less"}
    return [
        text.format(getattr(bound, name)) for bound in metadata for name, text in words.items() if hasattr(bound, name)
    ]


def unknown(name: str, known: Iterable[str]) -> str:
    """Return what to do about a name that is not known: the nearest one that is, or all of them."""
    choices = list(known)
    close = difflib.get_close_matches(str(name), choices, 1)
    return f"did you mean '{close[0]}'?" if close else "choose one of " + ", ".join(choices[:40])


def _in_words(cls: type[Any], error: pydantic.ValidationError, shown: str) -> str:
    """Return one line for the first field that is wrong. A field of several types has an error for each of them."""
    first, *others = error.errors()
    kind, value, name = first["type"], first.get("input"), str((first["loc"] or ("",))[0])
    where = shown.format(name).rstrip(".")
    if kind == "unexpected_keyword_argument":
        return f"{where}: no such setting; {unknown(name, cls.__pydantic_fields__)}"
    if kind in _RANGES:
        return f"{where}: {value!r} is not allowed; {_RANGES[kind].format(**first.get('ctx', {}))}"
    alike = [first, *(other for other in others if other["loc"][:1] == (name,) and other["input"] is value)]
    expected = [_expected(each) for each in alike]
    if not name or None in expected:
        return f"{where}: {first['msg'].splitlines()[0]}"
    return f"{where}: {value!r} is not {' or '.join(filter(None, expected))}"


def _expected(error: Any) -> str | None:
    if error["type"] == "literal_error":
        choices = str(error["ctx"]["expected"])
        return "one of " + choices.replace("'", "").replace(" or ", ", ") if " or " in choices else choices
    return _KINDS.get(error["type"])
