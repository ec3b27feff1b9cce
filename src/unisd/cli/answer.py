"""What a command answers, and the one shape in which ``--json`` prints it; see docs/json.md.

A command's ``run`` prints for people unless ``arguments.json`` is set, and returns an `Answer`, whose ``result`` the
entry point prints. Whatever else a command writes to standard output under ``--json`` goes to standard error.
"""

import contextlib
import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisd import __version__

STATUS = {0: "done", 1: "failed", 2: "refused", 3: "stopped"}
"""The status by exit code."""


@dataclass(frozen=True)
class Answer:
    """What a command found and wrote."""

    result: Any = None
    """Plain values, or what can be made so: mappings, lists, dataclasses, paths, figures of numpy and torch."""
    files: Sequence[str | Path] = ()
    """Files and folders that were written, for somebody who looks for them."""
    code: int = 0
    """The exit code. One that is not 0 comes with a message."""
    message: str | None = None
    """One line: what is wrong."""


def printed(command: str, answer: Answer, warnings: Sequence[str]) -> None:
    """Print the answer of a command as JSON to standard output, on the first process alone."""
    if os.environ.get("RANK", "0") != "0":
        return
    whole = {
        "command": command,
        "version": __version__,
        "status": STATUS.get(answer.code, "failed"),
        "exit_code": answer.code,
        "message": answer.message,
        "result": plain(answer.result),
        "warnings": list(warnings),
        "files": [str(file) for file in answer.files],
    }
    text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # another encoding, or half a character in the name of a file
        text = json.dumps(whole, indent=2, allow_nan=False)
    print(text)


def plain(value: Any) -> Any:
    """Return what JSON can hold: what is no finite number becomes null, for JSON has no other."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(part) for part in value), key=str)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if callable(listed := getattr(value, "tolist", None)):
        return plain(listed())
    return str(value)


@contextlib.contextmanager
def only_the_answer(asked: bool) -> Iterator[None]:
    """Send what is printed inside to standard error, where ``asked``: standard output is for the answer."""
    if not asked:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield
