"""Which tasks there are, by name; a task's code is imported only when the task is asked for.

A task is one line below, an entry point of the group ``unisd.tasks`` in a package of one's own
(``name = "package.module:Class"``), or a call of `register`. The names below and the registered ones come before entry
points, so that no installed package changes what a recipe means.
"""

import difflib
import importlib
from collections.abc import Callable
from importlib.metadata import entry_points

from unisd.errors import UniSDError, UsageError
from unisd.tasks.base import Task

ENTRY_POINTS = "unisd.tasks"
"""The entry point group in which other packages name their tasks."""

Factory = Callable[[], Task]
"""Makes a task: its class, or a function without arguments."""

_TASKS: dict[str, tuple[str | Factory, str]] = {
    "cos_e": ("unisd.tasks.cos_e:CosE", "commonsense questions with explanations; 5 options (v1.11) or 3 (v1.0)"),
}


def register(name: str, factory: str | Factory, summary: str = "", replace: bool = False) -> None:
    """Add a task: ``package.module:Class``, imported when it is first asked for, or what makes it.

    Raises:
        UsageError: the name is empty, has spaces, or is taken and ``replace`` is not set.
    """
    if name.split() != [name]:
        raise UsageError(f"a task's name is one word without spaces, not {name!r}")
    if isinstance(factory, str) and not all(factory.partition(":")):
        raise UsageError(f"task {name}: 'package.module:Class' was expected, not {factory!r}")
    if not replace and name in _known():
        raise UsageError(f"there is a task '{name}' already; choose another name, or set replace")
    _TASKS[name] = factory, summary


def names() -> list[str]:
    """Return the names of all tasks in alphabetical order, without importing any of them."""
    return sorted(_known())


def summary(name: str) -> str:
    """Return one line about a task, without importing it.

    Raises:
        UsageError: no such task.
    """
    return _find(name)[1]


def get(name: str) -> Task:
    """Return the task ``name``.

    Raises:
        UsageError: no such task (the message names the nearest), or what is registered is no task.
        UniSDError: its code cannot be imported or fails.
    """
    source = _find(name)[0]
    try:
        if isinstance(source, str):
            module, _, attribute = source.partition(":")
            source = getattr(importlib.import_module(module), attribute)
        task: object = source() if callable(source) else source
    except Exception as error:  # it may be somebody else's code: say which task it is
        cause = f"{type(error).__name__}: {error}"
        raise UniSDError(f"task '{name}' cannot be loaded: {cause}; repair the package it comes from") from error
    if not isinstance(task, Task):
        parts = {*Task.__annotations__, *(part for part in vars(Task) if not part.startswith("_"))}
        lacking = ", ".join(sorted(part for part in parts if not hasattr(task, part)))
        raise UsageError(f"task '{name}' is no task: it lacks {lacking}; see unisd.tasks.Task")
    return task


def _known() -> dict[str, tuple[str | Factory, str]]:
    installed: dict[str, tuple[str | Factory, str]] = {
        point.name: (point.value, f"from {point.value}") for point in entry_points(group=ENTRY_POINTS)
    }
    return installed | _TASKS


def _find(name: str) -> tuple[str | Factory, str]:
    known = _known()
    if name not in known:
        near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(sorted(known))}"
        raise UsageError(f"there is no task '{name}'; {hint}")
    return known[name]
