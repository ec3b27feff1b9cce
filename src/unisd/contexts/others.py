"""Contexts from other training items: their words, and which items are fit for an item."""

from collections import Counter
from collections.abc import Callable, Iterable

from unisd.contexts.base import Context, Made, Making, Need, Words
from unisd.contexts.leakage import leaks, normalised, same_solution
from unisd.errors import UsageError

_SHOWN = (
    "Here is another problem that has been solved already:\n{question}\n\n"
    "Here is an example response to that other problem:\n{text}\n\n"
)
ANOTHER = Words(
    after=f"{_SHOWN}After studying the example, solve the first problem, the one at the top, in your own way, "
    "in the same format.",
    before=f"{_SHOWN}After studying the example, solve the problem that comes next in your own way, "
    "in the same format.",
)
"""How another item's demonstration is shown."""


def first_fit(kind: str, need: Need, making: Making, ranking: Callable[[int], Iterable[int]]) -> Made:
    """Take from each example's ranking of the pool the first ``need.count`` items that are fit for it.

    Left out are the item itself, items with the same question or without a demonstration, and, counted, whatever
    ``leaks`` or has the same solution.

    ``ranking`` gives the pool's indices for an example's index, best first.

    Raises:
        UsageError: an item has fewer usable other items, or the count is not positive.
    """
    if need.count < 1:
        raise UsageError(f"the number of contexts per item must be 1 or more, not {need.count}")
    items = making.examples if making.pool is None else making.pool
    questions = [normalised(item.question) for item in items]
    passed_over: Counter[str] = Counter()
    collected = []
    for index, example in enumerate(making.examples):
        own = normalised(example.question)
        taken: dict[int, Context] = {}  # a ranking may name an item twice
        for other in ranking(index):
            item = items[other]
            if questions[other] == own or not (item.demonstration or "").strip():
                continue  # the item itself, its twins, and what has nothing to show
            context = Context(kind, item.demonstration or "", item.prompt)
            if leaks(example, context):
                passed_over["the other item tells the item's own question or answer"] += 1
            elif same_solution(example, item):
                passed_over["the other item has the same solution under other names"] += 1
            else:
                taken[other] = context
                if len(taken) == need.count:
                    break
        else:
            raise UsageError(
                f"item {example.id!r} needs {need.count} {kind} contexts, but only {len(taken)} of {len(items)} "
                "training items have another question, a demonstration, and do not give its answer away; "
                "use more training items or fewer contexts per item"
            )
        collected.append(list(taken.values()))
    return Made(collected, dict(passed_over))
