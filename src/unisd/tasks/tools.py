"""The tool-use family: demonstrations, grading and negatives for questions that are answered by calls of tools.

Two notations are written and read: ``react`` (lines ``Thought:``, ``Action:``, ``Action Input:``) and ``json`` (a list
of objects with ``name`` and ``arguments``).
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from unisd.errors import UsageError
from unisd.tasks.base import Example, Grade, NegativeRequest, Task
from unisd.tasks.tool_reading import Call, extract_calls

__all__ = [
    "FORMATS",
    "Call",
    "ToolTask",
    "argument_accuracy",
    "check_read_back",
    "demonstration",
    "extract_calls",
    "grade_calls",
    "negative",
    "negative_requests",
    "notation",
    "same_value",
    "tool_example",
]

FORMATS = ("react", "json")
"""The notations that a task can ask for; an item's prompt, demonstration and negatives all use the same one."""

_MISTAKES = {
    "wrong action": "one of the tools is not the one that the question needs",
    "wrong arguments": "the tools are right, but one argument has a wrong value",
    "misread request": "it does something else than what the user asks for",
    "extra call": "it makes one more call, which the user did not ask for",
}


def tool_example(
    item_id: str, prompt: str, question: str, calls: Sequence[Call], tools: Sequence[str], form: str
) -> Example:
    """Build an Example from its prompt, its bare question, its gold calls and the names of the documented tools.

    Raises:
        UsageError: the question is empty, no gold call must be made, ``form`` is none of `FORMATS`, or the
            demonstration would be graded as wrong (see `check_read_back`).
    """
    if form not in FORMATS:
        raise UsageError(f"format={form}: use {' or '.join(FORMATS)}")
    if not question.strip():
        raise UsageError(f"item {item_id}: the question is empty")
    if all(call.optional for call in calls):
        raise UsageError(f"item {item_id}: the gold has no call that must be made")
    check_read_back(calls, form, f"item {item_id}")
    return Example(
        id=item_id,
        prompt=prompt,
        question=question.strip(),
        answer=notation(calls),
        demonstration=demonstration(calls, form),
        fields={"calls": [asdict(call) for call in calls], "tools": list(tools), "format": form},
    )


def demonstration(calls: Sequence[Call], form: str) -> str:
    """Return the calls as an answer in the asked-for notation; gold and negative demonstrations both come from here.

    The thought of ``react`` only names the tool, so that a demonstration says nothing besides its calls.
    """
    if form == "json":
        return notation(calls)
    return "\n".join(
        f"Thought: I should use {call.name}.\nAction: {call.name}\nAction Input: {_dumped(call.arguments)}"
        for call in calls
    )


def check_read_back(calls: Sequence[Call], form: str, where: str) -> None:
    """Make sure that the calls' demonstration is graded as right, so that no item teaches what counts as wrong.

    Raises:
        UsageError: it is not, as where a name has a space or says "none"; the message begins with ``where``.
    """
    read = extract_calls(demonstration(calls, form)) or []
    if note := _scores(read, calls)[2]:
        raise UsageError(
            f"{where}: its gold calls are not read back from their demonstration ({note}); "
            "use names like find_ship, and arguments that are JSON"
        )


def notation(calls: Sequence[Call]) -> str:
    """Return the calls as one line of JSON: how gold answers and parsed ones are written."""
    return _dumped([{"name": call.name, "arguments": call.arguments} for call in calls])


def _dumped(value: Any) -> str:
    # Half a surrogate pair is text for Python, but cannot be written to a file.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")


# Grading


def same_value(one: Any, other: Any) -> bool:
    """Say whether two JSON values are equal: numbers by value (1 is 1.0), texts without the space around them.

    True is not 1 and "3" is not 3: the documentation says which of the two a tool expects. Lists are compared in order,
    objects by key.
    """
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other or (one != one and other != other)
    if isinstance(one, str) and isinstance(other, str):
        return one.strip() == other.strip()
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(value, other[key]) for key, value in one.items())
    return one is None and other is None


def argument_accuracy(call: Call, gold: Call) -> float:
    """Return the share of the gold arguments that a call has with the same value (in [0, 1]).

    Official rule: gold arguments that are empty ("" or null) are optional and not counted, and further arguments of the
    call are ignored; only where the gold has no argument at all, a call with one (that is not empty) scores 0.
    """
    asked = {key: value for key, value in gold.arguments.items() if not _empty(value)}
    if not gold.arguments:
        return float(all(_empty(value) for value in call.arguments.values()))
    right = sum(key in call.arguments and same_value(call.arguments[key], value) for key, value in asked.items())
    return right / len(asked) if asked else 1.0


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def grade_calls(example: Example, text: str, cut: bool = False) -> Grade:
    """Grade one output by its calls; ``cut`` where the length limit ended it. Never raises.

    ``correct`` (full accuracy): as many calls as in the gold, each with the gold's name and an `argument_accuracy` of
    1, in order. So empty gold arguments and extra ones of a call do not matter here either. Scores: ``action``, the
    share of gold calls whose name stands at their place; ``argument``, the mean of `argument_accuracy` over the calls,
    0 where their number differs from the gold's. An optional gold call may be made or left out.
    """
    calls = extract_calls(text, cut)
    if calls is None:
        return Grade(False, None, {"action": 0.0, "argument": 0.0}, "no call could be read")
    variants = list(_variants(gold_calls(example)))
    as_many = [variant for variant in variants if len(variant) == len(calls)]
    action, argument, note = max(_scores(calls, variant) for variant in as_many or variants)
    return Grade(not note, notation(calls), {"action": action, "argument": argument}, note)


def gold_calls(example: Example) -> list[Call]:
    """Return an item's gold calls."""
    return [Call(**call) for call in example.fields["calls"]]


def _variants(gold: Sequence[Call]) -> Iterator[list[Call]]:
    """Yield the gold with and without each optional call."""
    for taken in itertools.product(*([True, False] if call.optional else [True] for call in gold)):
        yield [call for call, kept in zip(gold, taken, strict=True) if kept]


def _scores(calls: Sequence[Call], gold: Sequence[Call]) -> tuple[float, float, str]:
    """Return action accuracy, argument accuracy, and what is wrong."""
    named = [call.name == right.name for call, right in zip(calls, gold, strict=False)]
    action = sum(named) / len(gold) if gold else 0.0
    if len(calls) != len(gold):
        return action, 0.0, f"{len(calls)} calls where the gold has {len(gold)}"
    shares = [argument_accuracy(call, right) for call, right in zip(calls, gold, strict=True)]
    argument = sum(shares) / len(shares) if shares else 0.0
    for number, (right, share) in enumerate(zip(named, shares, strict=True), start=1):
        if not right or share < 1:
            return action, argument, f"call {number}: {'wrong arguments' if right else 'wrong action'}"
    return action, argument, ""


# Negatives


def negative_requests(example: Example) -> list[NegativeRequest]:
    """Return four requests for a wrong answer: wrong action, wrong arguments, misread request, extra call.

    The right answer is shown, since what is asked for is a small change of it; whether the model made one is verified
    by `negative`. Where only one tool is documented, there is none for a wrong action.
    """
    requests = []
    for kind, mistake in _MISTAKES.items():
        if kind == "wrong action" and len(example.fields["tools"]) < 2:
            continue
        ask = (
            f"This is the right answer:\n\n{example.demonstration}\n\n"
            f"Write a wrong answer in the same format: {mistake}. "
            "Use only tools that are documented above. Write nothing but the answer."
        )
        requests.append(NegativeRequest(f"{example.prompt.rstrip()}\n\n{ask}", kind))
    return requests


def negative(example: Example, request: NegativeRequest, text: str) -> str | None:
    """Turn the model's text into a demonstration of its calls, or None where they are not surely wrong.

    None where no call can be read, an input is no JSON object, a tool is not documented, the grader finds the answer
    correct, or a more generous one would: one that takes the calls in any order, and arguments without regard to case
    and to how a number is written.
    """
    calls = extract_calls(text, warned=True)
    if calls is None or any(call.name not in example.fields["tools"] or "" in call.arguments for call in calls):
        return None
    if grade_calls(example, notation(calls)).correct or any(
        _alike(calls, variant) for variant in _variants(gold_calls(example))
    ):
        return None
    return demonstration(calls, example.fields["format"])


def _alike(calls: Sequence[Call], gold: Sequence[Call]) -> bool:
    """Say whether the calls could pass for the gold, in whatever order."""
    left = list(calls)
    for right in sorted(gold, key=lambda call: -len(call.arguments)):  # the hardest to match first
        match = next((call for call in left if call.name == right.name and _passes(call, right)), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def _passes(call: Call, gold: Call) -> bool:
    given = {key.casefold(): _plain(value) for key, value in call.arguments.items()}
    return all(given.get(key.casefold()) == _plain(value) for key, value in gold.arguments.items() if not _empty(value))


def _plain(value: Any) -> str:
    """Return a value as a text in which only letters and digits count."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "".join(filter(str.isalnum, (value if isinstance(value, str) else _dumped(value)).casefold()))


class ToolTask(Task):
    """What every tool-use task shares; a task adds ``name``, ``splits`` and ``load``."""

    grade = staticmethod(grade_calls)
    negative_requests = staticmethod(negative_requests)
    negative = staticmethod(negative)
