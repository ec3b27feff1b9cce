"""A lenient reader of JSON: it reads what a person would, and tells where a value ends or cannot be read."""

import json
import re
from typing import Any

CUT = "\x01"
"""Stands behind a text that the length limit ended: a value that reaches it is no whole one."""


class UnreadableError(ValueError):
    """No value begins there; ``at`` says how far it could be read."""

    def __init__(self, at: int) -> None:
        super().__init__(f"no JSON value at character {at}")
        self.at = at


OPENS = re.compile(r"[\[{]")
_SPACE = re.compile(r"\s*(?:(?://|#)[^\n]*\s*)*")
_STRING = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"' + r"|'([^'\\]*(?:\\.[^'\\]*)*)'|“([^“”]*)”", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])")
_WORD = re.compile(r"-?[A-Za-z_$][\w$-]*")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "none": None, "undefined": None}
_WORDS |= {"nan": float("nan"), "infinity": float("inf"), "-infinity": float("-inf")}
_DEEPEST = 40
"""Levels of nesting that are read: far more than arguments have, far less than Python's recursion limit."""


def value_at(text: str, at: int, depth: int = 0) -> tuple[Any, int]:
    """Return the value that begins at ``at`` and where it ends.

    Quotes may be single or typographic, commas trail, keys be bare names, words be Python's; brackets missing at
    the end of the text are taken as written, but not behind a `CUT`.

    Raises:
        UnreadableError: there is none.
    """
    at = _skip(text, at)
    if depth > _DEEPEST:
        raise UnreadableError(at)
    if text.startswith("{", at):
        return members_at(text, at + 1, "}", depth)
    if text.startswith("[", at):
        return _items(text, at + 1, depth)
    if match := _STRING.match(text, at):
        return _unescaped(match), match.end()
    if match := _NUMBER.match(text, at):
        try:
            return (float if re.search("[.eE]", match[0]) else int)(match[0]), match.end()
        except ValueError as error:  # Python reads integers of up to 4,300 digits
            raise UnreadableError(match.end()) from error
    if (match := _WORD.match(text, at)) and match[0].lower() in _WORDS:
        return _WORDS[match[0].lower()], match.end()
    raise UnreadableError(at)


def members_at(text: str, at: int, close: str, depth: int = 0) -> tuple[dict[str, Any], int]:
    """Return the members (``"key": value``, or ``key=value``) from ``at`` to ``close``, and where they end.

    Raises:
        UnreadableError: they cannot be read.
    """
    found: dict[str, Any] = {}
    while not text.startswith(close, at := _skip(text, at)):
        match = _STRING.match(text, at) or _WORD.match(text, at)
        if match is None:
            raise UnreadableError(at)
        key = _unescaped(match) if match.re is _STRING else match[0]
        at = _skip(text, match.end())
        if text[at : at + 1] not in (":", "="):
            raise UnreadableError(at)
        found[key], at = value_at(text, at + 1, depth + 1)
        at, ended = _separator(text, at, close)
        if ended:
            return found, at
    return found, at + 1


def _items(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    while not text.startswith("]", at := _skip(text, at)):
        value, at = value_at(text, at, depth + 1)
        found.append(value)
        at, ended = _separator(text, at, "]")
        if ended:
            return found, at
    return found, at + 1


def _separator(text: str, at: int, close: str) -> tuple[int, bool]:
    """Pass the comma after a member; the text's end stands for brackets that are missing."""
    at = _skip(text, at)
    if text.startswith(",", at):
        return at + 1, False
    if at < len(text) and not text.startswith(close, at):
        raise UnreadableError(at)
    return at, at == len(text)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _unescaped(match: re.Match[str]) -> str:
    body = match[1] if match[1] is not None else re.sub(r"\\'|(\\.)|\"", _requoted, match[2] or match[3] or "")
    try:
        return str(json.loads(f'"{body}"', strict=False))
    except ValueError:
        return body  # an escape that JSON does not know: what was written


def _requoted(match: re.Match[str]) -> str:
    """Return a piece of a text in other quotes as it stands in a double-quoted one."""
    return match[1] or {"\\'": "'", '"': '\\"'}[match[0]]
