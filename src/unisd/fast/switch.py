"""Whether fast paths are taken, for the whole process."""

import contextlib
from contextlib import AbstractContextManager
from typing import Literal, get_args

from unisd.errors import UsageError

Mode = Literal["auto", "off"]
_mode: Mode = "auto"


def enabled() -> bool:
    """Return whether fast paths are taken where they suit."""
    return _mode == "auto"


def use(mode: Mode) -> AbstractContextManager[object]:
    """Take fast paths where they suit (``auto``) or nowhere (``off``), from this call on.

    Returns:
        A context that can be entered; when it closes, the mode is what it was before the call.

    Raises:
        UsageError: another mode.
    """
    if mode not in get_args(Mode):
        raise UsageError(f"model.fast: unknown value {mode!r}; choose auto or off")
    restoring = contextlib.ExitStack()
    restoring.callback(_set, _mode)
    _set(mode)
    return restoring


def _set(mode: Mode) -> None:
    global _mode
    _mode = mode
