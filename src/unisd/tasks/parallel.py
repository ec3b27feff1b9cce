"""Grading in bulk: programs run in parallel, for tasks whose grader starts one per answer."""

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from unisd.tasks.base import Example, Grade, Task
from unisd.tasks.turns import Thoughts, graded_part

T = TypeVar("T")

UNGRADED = "not graded: "
"""How the note of an answer begins whose grader failed; the error follows."""


def graded(task: Task, call: Callable[..., T], *arguments: Iterable[Any]) -> Iterator[T]:
    """Yield ``call`` of each set of arguments, in order; one at a time per core where the task ``runs_programs``."""
    if not task.runs_programs:
        yield from map(call, *arguments)
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        yield from pool.map(call, *arguments)


def wants_cut(grade: Callable[..., Any]) -> bool:
    """Say whether a grader takes ``cut``: whether the length limit ended an output."""
    try:
        return "cut" in inspect.signature(grade).parameters
    except (TypeError, ValueError):  # a callable without a signature
        return False


def grade_all(
    task: Task,
    examples: Sequence[Example],
    texts: Sequence[str],
    progress: str | None = None,
    thoughts: Thoughts = "cut",
    finished: Sequence[bool] | None = None,
) -> list[Grade]:
    """Grade one text per example, in order; programs run in parallel, one per core.

    Never raises for what a text holds: where the grader itself fails (this machine has no sandbox, for example) the
    answer counts as wrong, with a note that begins with `UNGRADED`. ValueError where the lengths differ.

    Args:
        task: who grades.
        examples: what was asked; one that was asked several times stands here several times.
        texts: the answers.
        progress: the name of a progress bar for programs; None shows none.
        thoughts: cut: the thoughts that an answer begins with are not graded, and one that was never closed is no
            answer; keep: all of it is.
        finished: whether the model ended each answer, for graders that want to know what the length limit cut; None:
            it did.
    """
    if len(examples) != len(texts):
        raise ValueError(f"grade_all: {len(examples)} examples and {len(texts)} texts; give one text per example")
    if finished is not None and len(finished) != len(texts):
        raise ValueError(f"grade_all: {len(texts)} texts, but finished says so of {len(finished)}; give one for each")

    told = wants_cut(task.grade)

    def grade(example: Example, text: str, whole: bool) -> Grade:
        cut = {"cut": True} if told and not whole else {}
        try:
            return task.grade(example, graded_part(text, thoughts), **cut)
        except Exception as error:  # it may be somebody else's code
            return Grade(False, None, note=f"{UNGRADED}{type(error).__name__}: {' '.join(str(error).split())}")

    from tqdm.auto import tqdm

    hidden = progress is None or not task.runs_programs
    ends = [True] * len(texts) if finished is None else finished
    bar = tqdm(
        graded(task, grade, examples, texts, ends), progress, len(texts), unit="program", leave=False, disable=hidden
    )
    return list(bar)
