"""HumanEval: every official item loads, and answers in all the forms that models give are graded fairly."""

import gzip
import json
import os
import sys
import textwrap
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd.errors import UsageError
from unisd.sandbox import Outcome
from unisd.tasks import code
from unisd.tasks.base import Task
from unisd.tasks.humaneval import HumanEval

DATA = Path(os.environ.get("UNISD_DATA") or Path(__file__).parents[3] / "shared" / "data") / "humaneval"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no official HumanEval file at {DATA}; set UNISD_DATA")

STEM = '''from typing import List


def step() -> int:
    """How far one step goes."""
    return 2


def ahead(numbers: List[int]) -> List[int]:
    """ Move every number one step ahead.
    >>> ahead([1, 5])
    [3, 7]
    """
'''
BODY = "    moved = []\n    for number in numbers:\n        moved.append(number + step())\n    return moved\n"
TEST = "\n\ndef check(candidate):\n    assert candidate([1, 5]) == [3, 7]\n    assert candidate([]) == []\n"
ROW = {"task_id": "HumanEval/7", "prompt": STEM, "entry_point": "ahead", "canonical_solution": BODY, "test": TEST}
BARE = f"def ahead(numbers: List[int]) -> List[int]:\n{BODY}"


def fenced(program: str) -> str:
    return f"```python\n{program}\n```"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "HumanEval.jsonl").write_text(json.dumps(ROW) + "\n")
    return tmp_path


@pytest.fixture
def example(folder):
    return HumanEval().load("test", str(folder))[0]


def test_it_is_a_task_for_evaluation_only(example):
    task = HumanEval()
    assert isinstance(task, Task)
    assert (task.name, task.splits, task.max_new_tokens) == ("humaneval", ("test",), 1024)
    assert (task.metric, task.runs_programs) == ("pass@1", True)
    assert example.demonstration is None
    assert task.negative_requests(example) == []


def test_the_prompt_shows_what_to_complete(example):
    assert example.id == "HumanEval/7"
    assert example.question == f"Complete this Python function:\n\n{fenced(STEM.strip())}"
    assert "moved" not in example.prompt
    assert example.prompt.startswith(f"{example.question}\n\nAnswer with one Python code block")


def test_the_gold_is_the_reference_in_the_format_asked_for(example):
    assert HumanEval().gold(example) == f"```python\n{example.answer}\n```"
    assert example.answer == STEM + BODY.rstrip()
    assert HumanEval().grade(example, HumanEval().gold(example)).correct


def test_an_example_survives_being_written_to_a_file(example):
    assert json.loads(json.dumps(example.fields)) == example.fields


WRONG = BODY.replace("+ step()", "- step()")
FORMS = {
    "the whole program": (fenced(STEM + BODY), True),
    "the function without imports and helper": (fenced(BARE), True),
    "with prose around": (f"Here it is:\n\n{fenced(BARE)}\n\nIt moves every number.", True),
    "without a fence": (BARE, True),
    "without annotations": (fenced("def ahead(numbers):\n    return [n + step() for n in numbers]"), True),
    "with an import of its own": (fenced("from typing import *\n\n" + BARE), True),
    "with a future import": (fenced("from __future__ import annotations\n\n" + BARE), True),
    "with two future imports": (fenced("from __future__ import (annotations,\n    division)\n\n" + BARE), True),
    "with a helper and a future import in two blocks": (
        fenced("def by():\n    return step()")
        + fenced("from __future__ import annotations\n" + BARE.replace("step", "by")),
        True,
    ),
    "with a helper of its own": (fenced("def step():\n    return 1 + 1\n\n" + BARE), True),
    "the body": (BODY, True),
    "the body in a block": (fenced(BODY), True),
    "the body without its indentation": (fenced(textwrap.dedent(BODY)), True),
    "the body without its first indentation": (BODY.lstrip(), True),
    "the body and more": (BODY + "\n\nThis moves every number.", True),
    "the body and another function": (BODY + "\n\ndef other(x):\n    return x\n", True),
    "one line of a body": ("    return [n + step() for n in numbers]", True),
    "a lambda": (fenced("ahead = lambda numbers: [n + step() for n in numbers]"), True),
    "the echoed stub, then the whole": (fenced(STEM) + "\n" + fenced(BARE), True),
    "a wrong function": (fenced(STEM + WRONG), False),
    "a wrong body": (WRONG, False),
    "a function of another name": (fenced(BARE.replace("ahead", "forward")), False),
    "a class": (fenced("class Solution:\n" + textwrap.indent(BARE, "    ")), False),
}
NOTHING = {
    "the echoed prompt": fenced(STEM),
    "the signature": "def ahead(numbers: List[int]) -> List[int]:",
    "a body that returns nothing": "    pass",
    "prose": "I would add two to every number.",
    "one word": "numbers",
    "a function that was cut off": f"```python\n{BARE.removesuffix('moved' + chr(10))}"[:-12] + "(",
    "empty": "",
}


@pytest.mark.parametrize(("text", "correct"), FORMS.values(), ids=FORMS.keys())
def test_an_answer_is_graded_whatever_its_form(example, text, correct):
    grade = HumanEval().grade(example, text)
    assert (grade.correct, grade.note == "") == (correct, correct), grade
    assert grade.parsed is not None


@pytest.mark.parametrize("text", NOTHING.values(), ids=NOTHING.keys())
def test_what_is_no_answer_is_not_read(example, text):
    grade = HumanEval().grade(example, text)
    assert (grade.correct, grade.parsed) == (False, None)


def test_the_programs_own_helper_goes_over_the_prompts(example):
    assert not HumanEval().grade(example, fenced("def step():\n    return 9\n\n" + BARE)).correct


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.text(), st.text().map(fenced), st.text().map(lambda text: "    return 1\n" + text)))
def test_no_text_makes_the_grader_raise(text):
    fields = {"name": "ahead", "tests": [TEST], "setup": "", "stem": STEM, "preamble": STEM[: STEM.index("def ahead")]}
    example = code.Example("x", "p", "q", "a", None, fields)
    real, code.run_tests = code.run_tests, lambda program, tests: Outcome(False, "not run")
    try:
        assert not HumanEval().grade(example, text).correct
    finally:
        code.run_tests = real


# The official file


@needs_data
def test_every_official_item_loads():
    task = HumanEval()
    examples = task.load("test", str(DATA))
    assert [example.id for example in examples] == [f"HumanEval/{n}" for n in range(164)]
    for example in examples:
        assert task.program(example, HumanEval().gold(example)) is not None
        assert task.program(example, example.prompt) is None, example.id


@needs_data
def test_references_pass_as_a_function_and_as_a_body():
    task = HumanEval()
    chosen = {0, 100, 10, 32, 38, 64, 115}  # these have helpers, constants or imports in their prompts
    for number, example in enumerate(task.load("test", str(DATA))):
        if number not in chosen:
            continue
        gold = example.answer
        body = gold.removeprefix(example.fields["stem"].strip()).strip("\n")
        alone = gold.removeprefix(example.fields["preamble"]).strip()
        for text in (fenced(alone), body):
            grade = task.grade(example, text)
            assert (grade.correct, grade.note) == (True, ""), example.id
        wrong = f"def {example.fields['name']}(*given):\n    return None"
        assert not task.grade(example, fenced(wrong)).correct, example.id


# Files


def test_a_packed_file_is_read_as_well(tmp_path):
    with gzip.open(tmp_path / "HumanEval.jsonl.gz", "wt") as file:
        file.write(json.dumps(ROW) + "\n")
    assert [example.id for example in HumanEval().load("test", str(tmp_path))] == ["HumanEval/7"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": "def check("}, "its test is not Python"),
        ({"canonical_solution": "    return ("}, "do not define ahead"),
        ({"canonical_solution": ""}, "do not define ahead"),
        ({"entry_point": "other"}, "do not define other"),
        ({"prompt": None}, "not a HumanEval item"),
        ({"test": None}, "not a HumanEval item"),
        ({"canonical_solution": 7}, "not a HumanEval item"),
    ],
)
def test_a_damaged_line_is_named(folder, change, message):
    (folder / "HumanEval.jsonl").write_text(json.dumps(ROW) + "\n" + json.dumps({**ROW, **change}) + "\n")
    with pytest.raises(UsageError) as caught:
        HumanEval().load("test", str(folder))
    assert "HumanEval.jsonl, line 2:" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", list(ROW))
def test_a_missing_field_is_named(folder, field):
    (folder / "HumanEval.jsonl").write_text(json.dumps({k: v for k, v in ROW.items() if k != field}))
    with pytest.raises(UsageError, match=f"line 1: the field '{field}' is missing"):
        HumanEval().load("test", str(folder))


def test_unknown_splits_and_sources_are_named(tmp_path):
    with pytest.raises(UsageError, match="humaneval has no split 'train'; choose one of test"):
        HumanEval().load("train")
    with pytest.raises(UsageError, match="humaneval: no such source: hbu"):
        HumanEval().load("test", "hbu")
    with pytest.raises(UsageError, match=r"holds no HumanEval\.jsonl"):
        HumanEval().load("test", str(tmp_path))


@pytest.mark.parametrize("source", [None, "hub"])
def test_the_hub_is_the_default_source(monkeypatch, source):
    asked = []
    module = types.ModuleType("datasets")
    module.load_dataset = lambda *names, split: asked.append((*names, split)) or [ROW]
    monkeypatch.setitem(sys.modules, "datasets", module)
    assert [example.id for example in HumanEval().load("test", source)] == ["HumanEval/7"]
    assert asked == [("openai/openai_humaneval", None, "test")]
