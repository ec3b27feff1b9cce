"""The values in a user's rows, made plain: what a table writes where nothing stands is None, and arrays are lists."""

import math
from collections.abc import Mapping
from typing import Any

from unisd.errors import UsageError

_DEPTH = 64
_CHARACTERS = 1_000_000
_BITS = 10_000  # some 3,000 digits; Python writes no number of more than 4,300


def plain(value: Any, depth: int = 0) -> Any:
    """Return a cell as JSON could hold it: text, number, truth value, None, and lists and mappings of them.

    NaN and pandas' missing values are None; numbers and arrays of numpy, and tensors, are numbers and lists.

    Raises:
        UsageError: text that is no Unicode or of over a million characters, an infinite or huge number, bytes, or what
            is of another type.
    """
    if depth > _DEPTH:
        raise UsageError("it is nested too deep; give texts and plain lists")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if value.bit_length() > _BITS:
            raise UsageError("it is a number of thousands of digits; write it as text, in quotes")
        return int(value)
    if isinstance(value, float):
        if math.isinf(value):
            raise UsageError(f"it is {value}; give a finite number, or none at all")
        return None if math.isnan(value) else float(value)
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas', which need not be installed
        return None
    if isinstance(value, Mapping):
        return {_key(key): plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, depth + 1) for inner in value]
    if callable(getattr(value, "tolist", None)):
        return plain(value.tolist(), depth + 1)
    if isinstance(value, bytes | bytearray):
        raise UsageError("it is bytes; turn them into text with .decode()")
    raise UsageError(f"it is a value of type {type(value).__name__}; give text, numbers, lists or mappings")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise UsageError(f"a key of a mapping is of type {type(key).__name__}; keys are texts")
    return _text(key)


def _text(value: str) -> str:
    if len(value) > _CHARACTERS:
        raise UsageError(
            f"it is a text of {len(value):,} characters, where {_CHARACTERS:,} are the most (a quote that is never "
            "closed, or a whole file in a cell?); cut it"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        raise UsageError(
            f"character {error.start} (counted from 0) is U+{code:04X}, half of a pair and no text by itself; repair "
            "it, as with .encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        ) from error
    return str(value)
