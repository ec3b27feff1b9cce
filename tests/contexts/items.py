"""Training items for the tests of contexts: made up, or real ones of CoS-E v1.0."""

import json
import os
from pathlib import Path

import pytest

from unisd.tasks.base import Example

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
