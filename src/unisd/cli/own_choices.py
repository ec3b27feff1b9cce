"""What the runs that are asked say by themselves: their task, where its data lie, how long answers are."""

import argparse
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unisd.errors import UsageError

if TYPE_CHECKING:
    from unisd.evaluation.models import Own

_OPTIONS: dict[str, Callable[["Own"], Any]] = {
    "source": lambda own: own.source,
    "max_new_tokens": lambda own: own.max_new_tokens,
    "thoughts": lambda own: own.thoughts,
    "template_kwargs": lambda own: own.template_kwargs and json.dumps(own.template_kwargs),
}


def choose(arguments: argparse.Namespace, models: Sequence[str]) -> dict[str, "Own"]:
    """Fill in the tasks that are not given, and return how runs were trained on them, by task.

    Sets ``arguments.task`` to a list where it is None.

    Raises:
        UsageError: no task is given, and no run says which; or runs say different things.
    """
    said: list[Own] = []
    if runs := [name for name in dict.fromkeys(models) if (Path(name) / "config.yaml").is_file()]:
        from unisd.evaluation.models import own_of

        said = [own for own in map(own_of, runs) if own is not None]
    if not arguments.task:
        if not said:
            why = "does not say what it learned, as a run does;"
            if not Path(models[0]).exists():
                why = "is no folder here that could say what it learned; check the path, or"
            raise UsageError(f"--task: {models[0]} {why} name a task (unisd list tasks)")
        arguments.task = [_agreed("task", said, lambda own: own.task)]
    arguments.task = [
        next((own.task for own in said if _is_same_file(own.task, name)), name) for name in arguments.task
    ]
    found: dict[str, Own] = {}
    for own in said:
        same = [other for other in said if other.task == own.task]
        if own.task in arguments.task or "all" in arguments.task:
            for option, value in _OPTIONS.items():
                if getattr(arguments, option, 0) is None:
                    _agreed(option, same, value)
            found.setdefault(own.task, own)
    return found


def _is_same_file(one: str, other: str) -> bool:
    files = [Path(name) for name in (one, other)]
    return all(file.suffix in (".yaml", ".yml") and file.is_file() for file in files) and files[0].samefile(files[1])


def _agreed(option: str, said: Sequence["Own"], value: Callable[["Own"], Any]) -> Any:
    first = said[0]
    if other := next((own for own in said if value(own) != value(first)), None):
        raise UsageError(
            f"--{option.replace('_', '-')}: {first.run} was trained with {value(first)}, {other.run} with "
            f"{value(other)}; say which is meant"
        )
    return value(first)


def taken(arguments: argparse.Namespace, own: dict[str, "Own"], named: bool) -> list[str]:
    """Return a line a task that says which options were taken from a run.

    Args:
        arguments: the command's.
        own: what `choose` found.
        named: whether the task was named by the user.
    """
    lines = []
    for task, said in own.items():
        words = [] if named else ["--task", task]
        for option, value in _OPTIONS.items():
            if getattr(arguments, option, 0) is None and value(said) is not None:
                words += [f"--{option.replace('_', '-')}", str(value(said))]
        if words:
            lines.append(f"as {said.run} was trained: {shlex.join(words)}")
    return lines
