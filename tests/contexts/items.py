"""Training items for the tests of contexts: made up, or real ones of CoS-E v1.0; and contexts made for them."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from unisd.contexts import Context, ContextKind, Made, Making, Need, Words, get, register, registry
from unisd.tasks.base import Example, Grade, Task

DATA = Path(os.environ.get("UNISD_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")


def choice(name: str, question: str, reason: str, letter: str, options: str = "A. cup\nB. box\nC. hat") -> Example:
    """An item of a multiple-choice task."""
    prompt = f"Answer with a letter.\n\n{question}\n{options}"
    return Example(name, prompt, question, letter, f"Reasoning: {reason}\nAnswer: {letter}")


def numbered(count: int) -> list[Example]:
    """Items whose questions and reasons all differ."""
    letters = "ABC"
    return [
        choice(f"item-{i}", f"What holds thing number {i}?", f"thing {i} is made so.", letters[i % 3])
        for i in range(count)
    ]


def cos_e(count: int | None = None) -> list[Example]:
    """The first training items of CoS-E v1.0, in the official files' order."""
    folder = DATA / "cos_e"
    if not folder.is_dir():
        pytest.skip(f"no CoS-E files in {folder}; set UNISD_DATA to the folder that holds cos_e/")
    with (folder / "cose_train_v1.0.jsonl").open(encoding="utf-8") as file:
        reasons = {row["id"]: row["explanation"]["open-ended"] for row in map(json.loads, file)}
    items = []
    with (folder / "train_rand_split.jsonl").open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            options = "\n".join(f"{option['label']}. {option['text']}" for option in row["question"]["choices"])
            items.append(choice(row["id"], row["question"]["stem"], reasons[row["id"]], row["answerKey"], options))
    return items[:count]


class Bare(Task):
    """A task with nothing to load."""

    name = "task"
    splits = ("train",)

    def load(self, split: str, source: str | None = None) -> list[Example]:
        return []

    def grade(self, example: Example, text: str) -> Grade:
        raise AssertionError


def made(
    kind: str, examples: Sequence[Example], count: int = 1, per_item: int = 4, first: bool = False, **making: Any
) -> Made:
    """What a kind makes for ``examples``; ``making`` goes to Making."""
    return get(kind).make(
        Need("slot", kind, count, per_item=per_item, first=first),
        Making(**{"task": Bare(), **making}, examples=examples),
    )


class Hint(ContextKind):
    """A kind as a user would write it."""

    name, summary, about = "hint", "the first sentence of the demonstration", "item"
    words = Words(after="A hint:\n{text}", before="A hint for the next question:\n{text}")

    def make(self, need: Need, making: Making) -> Made:
        return Made([[Context("hint", str(example.demonstration).split(".")[0])] for example in making.examples])


@contextlib.contextmanager
def registered(*kinds: type[ContextKind]) -> Iterator[None]:
    """The kinds are known for a while."""
    with mock.patch.object(registry.KINDS, "entries", dict(registry.KINDS.entries)):
        for kind in kinds:
            register(kind)
        yield
