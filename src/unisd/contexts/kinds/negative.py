"""Wrong demonstrations, written by the model itself and verified to be wrong (arXiv 2605.06597, section 3)."""

from collections import Counter
from collections.abc import Iterator
from functools import partial

from unisd.contexts.base import Context, ContextKind, Made, Making, Need
from unisd.contexts.leakage import normalised
from unisd.errors import UsageError
from unisd.files import stable_integer
from unisd.rollout import SamplingParams
from unisd.tasks.base import Example, NegativeRequest, Task
from unisd.tasks.parallel import graded


class Negative(ContextKind):
    """One wrong demonstration of the item.

    The model writes ``need.per_item`` per example. The task's requests are used best first, and in turn if there are
    fewer, each time with a random stream of its own. A text counts if ``task.negative`` is sure that it is wrong and if
    it does not repeat the gold demonstration. Which of an item's texts is drawn depends on the seed and the item's id.

    With ``need.first`` the texts are the same ones, and are written one after another, from a number on that the seed
    and the item's id draw, until one counts.
    """

    name, summary, about = "negative", "a wrong demonstration, written by the model and verified", "item"
    # The very words of gold, whatever a user makes of them: no sign of format may tell right from wrong.
    words = "gold"
    wrong = written = alone = True

    def make(self, need: Need, making: Making) -> Made:
        """Return a negative for each example that has a verified one.

        Raises:
            UsageError: fewer than one text per item is asked for, more than one context, or there is nobody to write.
        """
        if need.per_item < 1 or need.count != 1:
            raise UsageError(
                f"an item has 1 negative, drawn from 1 or more texts, not {need.count} from {need.per_item}"
            )
        examples, dropped = making.examples, Counter[str]()
        asked = [making.task.negative_requests(example) for example in examples]
        without = sum(not requests for requests in asked)
        dropped.update({"the task has no request for the item": without} if without else {})
        start = [stable_integer("negative", making.seed, example.id) for example in examples]
        found: list[list[str]] = [[] for _ in examples]
        for turn in range(need.per_item if need.first else 1):
            wanted = [
                (index, number)
                for index, requests in enumerate(asked)
                if requests and not found[index]
                for number in ([(start[index] + turn) % need.per_item] if need.first else range(need.per_item))
            ]
            if turn and not wanted:
                break
            requests = [(index, asked[index][number % len(asked[index])], number) for index, number in wanted]
            for (index, _), (wrong, reason) in zip(wanted, _written(making, requests), strict=True):
                if wrong is None:
                    dropped[reason] += 1
                else:
                    found[index].append(wrong)
        drawn = [
            [Context(self.name, texts[number % len(texts)])] if texts else []
            for number, texts in zip(start, found, strict=True)
        ]
        without = drawn.count([])
        note = f"{without} of {len(examples)} items have no verified negative; they train without one"
        return Made(drawn, dict(dropped), [note] if without else [])


def _written(making: Making, wanted: list[tuple[int, NegativeRequest, int]]) -> Iterator[tuple[str | None, str]]:
    """Let the model write for items, by their indices, requests and the numbers of their random streams.

    Returns:
        For each the wrong demonstration, or None and the reason why there is none.
    """
    task, examples = making.task, making.examples
    keyed = [(request.prompt, ("negative", task.name, examples[i].id, number)) for i, request, number in wanted]
    params = SamplingParams(making.room, making.temperature, seed=making.seed)
    texts = making.written(keyed, params, "negatives")
    asked_of = [examples[index] for index, _, _ in wanted]
    return graded(task, partial(_verified, task), asked_of, [request for _, request, _ in wanted], texts)


def _verified(task: Task, example: Example, request: NegativeRequest, text: str | None) -> tuple[str | None, str]:
    """Return the wrong demonstration, or None and the reason why ``text`` gives none."""
    if text is None:
        return None, Making.TOO_LONG
    if not text.strip():
        return None, "the text is empty"
    wrong = task.negative(example, request, text)
    if wrong is None or not wrong.strip():
        return None, "the text is not surely wrong"
    if example.demonstration is not None and normalised(wrong) == normalised(example.demonstration):
        return None, "the text repeats the gold demonstration"
    return wrong, ""
