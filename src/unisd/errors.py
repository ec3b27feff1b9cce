"""The ways in which something can go wrong, as the command line tells them apart, and warnings."""

import functools
import os
import sys


class UniSDError(Exception):
    """Work failed. The message is one line: what, where, and what to do. Exit code 1."""


class UsageError(UniSDError):
    """Something wrong was asked for (a setting, a name, a file's content). Exit code 2."""


class Stopped(UniSDError):  # noqa: N818 - nothing went wrong
    """Work ended before its end because it was asked to; what was done is kept. Exit code 3."""


def warn(message: str) -> None:
    """Print one actionable line to standard error, on the first process alone."""
    if os.environ.get("RANK", "0") == "0":
        print(f"warning: {message}", file=sys.stderr)


@functools.cache
def warn_once(message: str) -> None:
    """Warn as :func:`warn` does, the first time that the process says this."""
    warn(message)
