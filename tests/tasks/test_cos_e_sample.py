"""The bundled sample is what its README says: derived again from the official files, line by line."""

import collections
import json
import os
import re
from pathlib import Path

import pytest

from unisd.files import read_jsonl, stable_integer
from unisd.tasks.cos_e import SAMPLE, CosE

DATA = Path(os.environ.get("UNISD_DATA") or Path(__file__).parents[3] / "shared" / "data") / "cos_e"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no official CoS-E files at {DATA}; set UNISD_DATA")
SIZES = {"train": 300, "validation": 150}
SEED = 2026
# What a quickstart need not show; it says nothing of how hard an item is. The official files keep it.
COARSE = re.compile(
    r"\b(sex|murder|kill|suicid|rape|raping|porn|prostitut|naked|nude|making love|asshole|shit|fuck)", re.I
)


def official(part: str) -> list[dict]:
    explanations = {row["id"]: row["explanation"]["open-ended"] for row in read_jsonl(DATA / f"cose_{part}_v1.0.jsonl")}
    rows = []
    for item in read_jsonl(DATA / f"{part}_rand_split.jsonl"):
        texts = {choice["label"]: choice["text"] for choice in item["question"]["choices"]}
        rows.append(
            {
                "id": item["id"],
                "question": item["question"]["stem"],
                "choices": list(texts.values()),
                "answer": texts[item["answerKey"]],
                "abstractive_explanation": explanations[item["id"]],
            }
        )
    return rows


def words(text: str) -> set[str]:
    return {word[:5] for word in re.findall(r"[a-z]{3,}", text.lower())}


def good(row: dict, uses: collections.Counter) -> bool:
    """Say whether an explanation is one sentence or two of a person's own that speaks of the answer."""
    text = row["abstractive_explanation"].strip()
    return (
        uses[text.lower()] == 1
        and 6 <= len(text.split()) <= 30
        and re.fullmatch(r"[A-Za-z0-9 ,.;:'’()-]+", text) is not None
        and text[0].isalpha()
        and text.upper() != text
        and not re.search(r"\.\.|wiki|www|\b[A-C]\b(?<!^A)|choice|option|answer|question", text)
        and bool(words(row["answer"]) & words(text))
        and len(words(text) - words(row["question"])) >= 3
    )


def chosen(split: str) -> list[dict]:
    rows = official("train" if split == "train" else "dev")
    uses = collections.Counter(row["abstractive_explanation"].strip().lower() for row in rows)
    rows = [row for row in rows if row["abstractive_explanation"].strip() and not COARSE.search(json.dumps(row))]
    if split == "train":
        rows = [row for row in rows if good(row, uses)]
    rows.sort(key=lambda row: stable_integer("cos_e sample", SEED, row["id"]))
    return rows[: SIZES[split]]


@needs_data
@pytest.mark.parametrize("split", SIZES)
def test_the_sample_is_what_its_rule_gives(split):
    assert read_jsonl(SAMPLE / f"{split}.jsonl") == chosen(split)


@needs_data
def test_each_item_comes_from_its_own_official_split_unchanged():
    for split, part in (("train", "train"), ("validation", "dev")):
        rows = {row["id"]: row for row in official(part)}
        assert all(rows[row["id"]] == row for row in read_jsonl(SAMPLE / f"{split}.jsonl"))


@pytest.mark.parametrize("split", SIZES)
def test_the_sample_loads_with_its_size_and_three_options(split):
    examples = CosE().load(split, "sample")
    assert len(examples) == len({example.id for example in examples}) == SIZES[split]
    assert all(example.fields["letters"] == ["A", "B", "C"] for example in examples)
    assert all(example.demonstration and "\n" in example.demonstration for example in examples)


def test_no_question_is_in_both_splits():
    train, validation = ({" ".join(e.question.lower().split()) for e in CosE().load(s, "sample")} for s in SIZES)
    assert len(train) == 300
    assert len(validation) == 150
    assert not train & validation


def test_no_letter_can_be_guessed():
    for split in SIZES:
        answers = [example.answer for example in CosE().load(split, "sample")]
        assert all(0.25 < answers.count(letter) / len(answers) < 0.42 for letter in "ABC")


def test_the_readme_tells_the_letters_and_the_licences():
    text = (SAMPLE / "README.md").read_text(encoding="utf-8")
    for split in SIZES:
        answers = [example.answer for example in CosE().load(split, "sample")]
        assert " / ".join(str(answers.count(letter)) for letter in "ABC") in text
    assert "BSD-3-Clause" in text
    assert "MIT" in text
    assert (SAMPLE / "LICENSE").read_text(encoding="utf-8").startswith("BSD 3-Clause License")


def test_gold_demonstrations_of_the_sample_are_correct_and_other_letters_wrong():
    task = CosE()
    for split in SIZES:
        for example in task.load(split, "sample"):
            body = (example.demonstration or "").rpartition(" ")[0]
            for letter in "ABC":
                assert task.grade(example, f"{body} {letter}").correct == (letter == example.answer)
