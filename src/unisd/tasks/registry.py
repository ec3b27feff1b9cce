"""Which tasks there are, by name; a task's code is imported only when the task is asked for.

A task is one line below, an entry point of the group ``unisd.tasks`` in a package of one's own
(``name = "package.module:Class"``), or a call of `register`. The names below and the registered ones come before entry
points, so that no installed package changes what a recipe means.

A task's options follow its name: ``mbpp:variant=full,tests=hidden``. A path that ends with ``.yaml`` is a task of one's
own (see :mod:`unisd.tasks.custom`).
"""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from unisd.errors import UsageError
from unisd.registry import Registry
from unisd.tasks.base import Task, as_task

Factory = Callable[..., Task]
"""Makes a task: its class, or a function; its keyword arguments are the task's options."""

_OWN: dict[str, tuple[str | Factory, str]] = {
    "cos_e": ("unisd.tasks.cos_e:CosE", "commonsense questions with explanations; 5 options (v1.11) or 3 (v1.0)"),
    "gpqa": ("unisd.tasks.gpqa:GPQA", "graduate-level science, evaluation only, gated; subset=main|diamond|extended"),
    "house": ("unisd.tasks.house:House", "requests to a small house, answered by one call; bundled; train=N, test=N"),
    "humaneval": ("unisd.tasks.humaneval:HumanEval", "Python functions to complete, evaluation only"),
    "instructions": (
        "unisd.tasks.instructions:Instructions",
        "instructions with constraints that code checks, evaluation only, bundled",
    ),
    "mbpp": ("unisd.tasks.mbpp:MBPP", "short Python programs; variant=sanitized|full, tests=shown|hidden"),
    "medmcqa": ("unisd.tasks.medmcqa:MedMCQA", "medical entrance examinations, 4 options"),
    "scienceqa": ("unisd.tasks.scienceqa:ScienceQA", "school science without images; lecture=true|false, subject=NAME"),
    "toolalpaca": ("unisd.tasks.toolalpaca:ToolAlpaca", "calls of documented tools; format=react|json"),
}
TASKS = Registry("task", "unisd.tasks", _OWN)


def register(name: str, factory: str | Factory, summary: str = "", replace: bool = False) -> None:
    """Add a task: ``package.module:Class``, imported when it is first asked for, or what makes it.

    Raises:
        UsageError: the name is empty, has spaces, or is taken and ``replace`` is not set.
    """
    TASKS.add(name, factory, summary, replace)


def names() -> list[str]:
    """Return the names of all tasks in alphabetical order, without importing any of them."""
    return sorted(TASKS.known())


def summary(name: str) -> str:
    """Return one line about a task (its name without options), without importing it.

    Raises:
        UsageError: no such task.
    """
    return TASKS.find(name)[1]


def get(name: str) -> Task:
    """Return the task ``name``, made with the options that follow a colon (``scienceqa:lecture=false``).

    Raises:
        UsageError: no such task or option (the message names the nearest), or what is registered is no task.
        UniSDError: its code cannot be imported or fails.
    """
    if name.endswith((".yaml", ".yml")):
        from unisd.tasks.custom import load_custom

        return load_custom(name)
    name, _, given = name.partition(":")
    task: object = TASKS.load(
        name, lambda source: source(**_options(name, source, given)) if callable(source) else source
    )
    return as_task(task, name)


def _options(name: str, factory: Callable[..., Any], given: str) -> dict[str, Any]:
    """Return the keyword arguments written as ``key=value,key=value``, each read as the type of its default."""
    if not given:
        return {}
    known = {p.name: p.default for p in inspect.signature(factory).parameters.values() if p.default is not p.empty}
    options: dict[str, Any] = {}
    for part in given.split(","):
        key, equals, text = (piece.strip() for piece in part.partition("="))
        if not equals or key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(known) or 'none'}"
            raise UsageError(f"task '{name}' has no option '{key}'; {hint} (write {name}:option=value)")
        options[key] = _as_type(f"{name}:{key}", known[key], text)
    return options


def _as_type(what: str, default: Any, text: str) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise UsageError(f"{what}={text}: use true or false")
        return text.lower() == "true"
    try:
        return type(default)(text) if isinstance(default, int | float) else text
    except ValueError as error:
        raise UsageError(f"{what}={text}: a number was expected") from error
