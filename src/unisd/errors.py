"""The ways in which something can go wrong, as the command line tells them apart, and warnings."""

import contextlib
import functools
import os
import sys
from collections.abc import Iterator


class UniSDError(Exception):
    """Work failed. The message is one line: what, where, and what to do. Exit code 1."""


class UsageError(UniSDError):
    """Something wrong was asked for (a setting, a name, a file's content). Exit code 2."""


class Stopped(UniSDError):  # noqa: N818 - nothing went wrong
    """Work ended before its end because it was asked to; what was done is kept. Exit code 3."""


_HEARD: list[list[str]] = []


def warn(message: str) -> None:
    """Print one actionable line to standard error, on the first process alone."""
    for heard in _HEARD:
        heard.append(message)
    if os.environ.get("RANK", "0") == "0":
        print(f"warning: {message}", file=sys.stderr)


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """Yield a list that all warnings which come inside are added to."""
    messages: list[str] = []
    _HEARD.append(messages)
    try:
        yield messages
    finally:
        _HEARD.remove(messages)


@functools.cache
def warn_once(message: str) -> None:
    """Warn as :func:`warn` does, the first time that the process says this."""
    warn(message)
