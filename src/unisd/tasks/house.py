"""A small house: a request in everyday words, answered by one call of a documented function.

The items are made here, from the phrasings and values in ``data/house``, so the task needs no file and no network. A
guesser is never right, and a small model can learn it. Training, validation and test items share the functions alone:
their phrasings and their values (rooms, numbers, titles, …) differ.
"""

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from unisd.errors import UsageError
from unisd.files import stable_integer
from unisd.tasks.base import Example, Grade, NegativeRequest
from unisd.tasks.sources import check_split
from unisd.tasks.tools import Call, ToolTask, extract_calls, notation

DATA = Path(__file__).parent / "data" / "house"
SPLITS = ("train", "validation", "test")


class House(ToolTask):
    """The house as a Task: seven functions, the same number of items of each (``subjects`` tells them apart).

    An answer is *readable* if it holds one call of a documented function, in any notation that
    :func:`unisd.tasks.tools.extract_calls` reads. It is *correct* if the function is the right one and has
    the right arguments and no others; quotation marks around a number and the case of letters do not count.

    Args:
        train: number of training items.
        validation: number of validation items: for choices between settings.
        test: number of test items.
        seed: draws others of the possible items; the phrasings and values of a split stay.

    Raises:
        UsageError: fewer than one item of a split, or more than its phrasings and values give.
    """

    name = "house"
    splits: Sequence[str] = SPLITS
    max_new_tokens = 32

    def __init__(self, train: int = 700, validation: int = 140, test: int = 350, seed: int = 2026) -> None:
        self.counts = dict(zip(SPLITS, (train, validation, test), strict=True))
        self.seed = seed
        for split, count in self.counts.items():
            most = len(functions()) * min(len(_possible(split, name)) for name in functions())
            if not 1 <= count <= most:
                raise UsageError(f"house:{split}={count}: use 1 to {most}, which is what can be made")

    def load(self, split: str, source: str | None = None) -> list[Example]:
        """Return the items of a split, functions in turn; always the same ones for the same options.

        Raises:
            UsageError: no such split, or a source: the items are made, not read (``sample`` is accepted).
        """
        check_split(self, split)
        if source not in (None, "sample"):
            raise UsageError(f"house: its items are made by the task, not read from {source}; leave the source out")
        count, names = self.counts[split], list(functions())
        drawn = {
            name: sorted(_possible(split, name), key=lambda item: stable_integer(self.seed, split, name, *item))
            for name in names
        }
        made = [
            _example(f"{split}-{name}-{number}", name, *drawn[name][number])
            for number in range(-(-count // len(names)))
            for name in names
        ]
        return made[:count]

    def group(self, example: Example) -> str:
        """Return the function that an item asks for."""
        return str(example.fields["subject"])

    def grade(self, example: Example, text: str) -> Grade:  # type: ignore[override]
        """Grade one output. Scores: ``function``, whether it is the right one; ``arguments``, the share of the right
        arguments that the call has (0 where the function is wrong)."""
        calls = extract_calls(text) or []
        if len(calls) != 1 or calls[0].name not in functions():
            why = (
                f"{len(calls)} calls where one was asked for" if len(calls) > 1 else "no call of a documented function"
            )
            return Grade(False, None, {"function": 0.0, "arguments": 0.0}, why)
        (call,), (gold,) = calls, [Call(**call) for call in example.fields["calls"]]
        given, right = ({key: _plain(value) for key, value in c.arguments.items()} for c in (call, gold))
        named = call.name == gold.name
        share = sum(given.get(key) == value for key, value in right.items()) / len(right) if named else 0.0
        note = "" if named and given == right else "wrong arguments" if named else "wrong function"
        return Grade(not note, notation(calls), {"function": float(named), "arguments": share}, note)

    def negative(self, example: Example, request: NegativeRequest, text: str) -> str | None:  # type: ignore[override]
        """Turn the model's text into a wrong call in the asked-for form; None where it is not surely wrong."""
        calls, right = extract_calls(text) or [], Call(**example.fields["calls"][0])
        if len(calls) != 1 or calls[0].name not in functions() or _loose(calls[0]) == _loose(right):
            return None
        return written(calls[0])


def _loose(call: Call) -> tuple[str, tuple[str, ...]]:
    """Return a call as a generous grader would compare it: by its values alone, letters and digits of them."""
    values = ("".join(filter(str.isalnum, _plain(value))) for value in call.arguments.values())
    return call.name, tuple(sorted(values))


@functools.cache
def phrases() -> dict[str, Any]:
    """Return what ``phrases.yaml`` holds: functions, and by split their phrasings and the values of arguments."""
    data: dict[str, Any] = yaml.safe_load((DATA / "phrases.yaml").read_text(encoding="utf-8"))
    return data


def functions() -> Mapping[str, Any]:
    """Return the functions by name, each with its ``arguments`` and what it ``says`` of itself."""
    found: Mapping[str, Any] = phrases()["functions"]
    return found


def documentation() -> str:
    """Return what stands before every request."""
    lines = [f"- {name}({', '.join(of['arguments'])}): {of['says']}" for name, of in functions().items()]
    return "\n".join(["You control a house with these functions:", *lines, "Answer with one call in JSON."])


@functools.cache
def _possible(split: str, function: str) -> list[tuple[Any, ...]]:
    """Return all items of a function in a split: the phrasing, and its values in the order of the arguments."""
    arguments = functions()[function]["arguments"]
    values = [phrases()["values"][name][split] for name in arguments]
    return list(itertools.product(phrases()["phrasings"][function][split], *values))


def _example(item_id: str, function: str, phrasing: str, *values: Any) -> Example:
    call = Call(function, dict(zip(functions()[function]["arguments"], values, strict=True)))
    request = phrasing.format(**call.arguments)
    return Example(
        id=item_id,
        prompt=f"{documentation()}\n\nRequest: {request}",
        question=request,
        answer=notation([call]),
        demonstration=written(call),
        fields={"calls": [asdict(call)], "tools": list(functions()), "subject": function, "phrasing": phrasing},
    )


def written(call: Call) -> str:
    """Return a call in the form that is asked for."""
    return notation([call])[1:-1]


def _plain(value: Any) -> str:
    """Return an argument as it is compared: a number by its value, a text without case and outer space."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value.strip().casefold() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
