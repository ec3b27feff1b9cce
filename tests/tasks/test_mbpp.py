"""MBPP: every official item loads, its reference passes, and a damaged file is named with its line."""

import json
import os
import sys
import types
from pathlib import Path

import pytest

from unisd.errors import UsageError
from unisd.tasks.base import Task
from unisd.tasks.mbpp import MBPP
from unisd.tasks.python_source import defined, parse, tidied

DATA = Path(os.environ.get("UNISD_DATA") or Path(__file__).parents[3] / "shared" / "data") / "mbpp"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no official MBPP files at {DATA}; set UNISD_DATA")

FULL = {
    "text": "Write a function to double a number.",
    "code": "def double(n):\r\n\treturn 2 * n",
    "task_id": 601,
    "test_setup_code": "",
    "test_list": ["assert double(2) == 4", "assert double(0) == 0"],
    "challenge_test_list": ["assert double(-1) == -2"],
}
SANITIZED = {
    "source_file": "x.ipynb",
    "task_id": 601,
    "prompt": "Write a function to halve a number.",
    "code": "def halve(n):\n  return n / 2",
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(halve(3), 1.5)"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ids = (1, 10, 11, 510, 511, 600, 601, 974)
    (tmp_path / "mbpp.jsonl").write_text("".join(json.dumps({**FULL, "task_id": n}) + "\n" for n in ids))
    (tmp_path / "sanitized-mbpp.json").write_text(json.dumps([{**SANITIZED, "task_id": n} for n in ids]))
    return tmp_path


def test_it_is_a_task():
    task = MBPP()
    assert isinstance(task, Task)
    assert (task.name, task.splits, task.max_new_tokens) == ("mbpp", ("train", "validation", "test"), 1024)
    assert (task.metric, task.runs_programs) == ("pass@1", True)
    assert (task.variant, task.tests) == ("sanitized", "shown")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"variant": "small"}, "mbpp:variant=small: use sanitized or full"), ({"tests": "x"}, "use shown or hidden")],
)
def test_options_are_checked(options, message):
    with pytest.raises(UsageError, match=message):
        MBPP(**options)


# The official files


@needs_data
@pytest.mark.parametrize(
    ("variant", "counts"),
    [
        ("sanitized", {"train": 120, "validation": 43, "test": 257}),
        ("full", {"train": 374, "validation": 90, "test": 500}),
    ],
)
def test_every_official_item_loads(variant, counts):
    task = MBPP(variant)
    seen = set()
    for split, count in counts.items():
        examples = task.load(split, str(DATA))
        assert len(examples) == count
        seen |= {example.id for example in examples}
        for example in examples:
            name = example.fields["name"]
            assert f"def {name}(" in example.prompt
            assert all(test in example.prompt for test in example.fields["tests"])
            assert defined(parse(example.answer), name)
            assert "\r" not in example.answer
            assert tidied(example.answer) == example.answer
            # The demonstration is read as a program that defines the function, and the prompt as none.
            assert defined(parse(task.program(example, example.demonstration)), name)
            assert task.program(example, example.prompt) is None
    assert len(seen) == sum(counts.values())


@needs_data
@pytest.mark.parametrize(("variant", "split"), [("sanitized", "train"), ("full", "test")])
def test_references_pass_and_other_programs_fail(variant, split):
    task = MBPP(variant)
    for example in task.load(split, str(DATA))[::40]:
        right = task.grade(example, example.demonstration)
        assert (right.correct, right.note) == (True, ""), example.id
        name = example.fields["name"]
        wrong = task.grade(example, f"```python\ndef {name}(*given):\n    return None\n```")
        assert not wrong.correct, example.id


@needs_data
def test_items_whose_setup_uses_the_program_pass():
    examples = {example.id: example for example in MBPP("full").load("train", str(DATA))}
    examples |= {example.id: example for example in MBPP("full").load("test", str(DATA))}
    for item_id in ("mbpp/367", "mbpp/927", "mbpp/601", "mbpp/126"):
        assert MBPP("full").grade(examples[item_id], examples[item_id].demonstration).correct, item_id
    assert "class Node:\n    def __init__(self, data):" in examples["mbpp/367"].prompt
    assert "def sum(" in examples["mbpp/126"].prompt


@needs_data
def test_two_items_with_one_solution_have_one_shape():
    shapes: dict = {}
    for example in MBPP("full").load("train", str(DATA)):
        shapes.setdefault(example.shape, []).append(example.id)
    shared = [ids for ids in shapes.values() if len(ids) > 1]
    assert ["mbpp/647", "mbpp/956"] in shared
    assert ["mbpp/693", "mbpp/892"] in shared
    assert len(shared) == 7


# Files


def test_the_ids_give_the_split(folder):
    for variant in ("sanitized", "full"):
        task = MBPP(variant)
        loaded = {split: [example.id for example in task.load(split, str(folder))] for split in task.splits}
        assert loaded["train"] == ["mbpp/601", "mbpp/974"]
        assert loaded["validation"] == ["mbpp/511", "mbpp/600"]
        assert loaded["test"] == ["mbpp/11", "mbpp/510"]


def test_the_variants_read_their_own_files_and_fields(folder):
    full = MBPP("full").load("train", str(folder))[0]
    assert full.question.startswith(FULL["text"])
    assert full.demonstration == "```python\ndef double(n):\n    return 2 * n\n```"
    assert full.fields["tests"] == FULL["test_list"]
    clean = MBPP().load("train", str(folder))[0]
    assert clean.question.startswith(SANITIZED["prompt"])
    assert clean.fields["setup"] == "import math"
    assert "import math\n\nassert math.isclose(halve(3), 1.5)" in clean.prompt
    for task, example in ((MBPP("full"), full), (MBPP(), clean)):
        assert task.grade(example, example.demonstration).correct


def test_hidden_tests(folder):
    example = MBPP(tests="hidden").load("train", str(folder))[0]
    assert "assert" not in example.prompt
    assert "def halve(n):" in example.prompt
    assert example.fields["tests"] == SANITIZED["test_list"]


def test_the_folder_may_be_the_one_above(folder):
    (folder / "mbpp").mkdir()
    (folder / "mbpp.jsonl").rename(folder / "mbpp" / "mbpp.jsonl")
    assert len(MBPP("full").load("test", str(folder))) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task_id": "601"}, "'task_id' is no number"),
        ({"task_id": None}, "'task_id' is no number"),
        ({"task_id": True}, "'task_id' is no number"),
        ({"text": None}, "not an MBPP item"),
        ({"text": ""}, "no text"),
        ({"code": "def double(n) return"}, "reference is not Python"),
        ({"code": 7}, "not an MBPP item"),
        ({"code": "x = 1"}, "call no function"),
        ({"test_list": None}, "not an MBPP item"),
        ({"test_list": []}, "no tests"),
        ({"test_list": [7]}, "not an MBPP item"),
        ({"test_list": ["assert double(2) = 4"]}, "test is not Python"),
        ({"test_setup_code": "x ="}, "setup is not Python"),
        ({"test_setup_code": None}, "not an MBPP item"),
    ],
)
def test_a_damaged_line_is_named(folder, change, message):
    rows = [FULL, {**FULL, **change}]
    (folder / "mbpp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError) as caught:
        MBPP("full").load("train", str(folder))
    assert "mbpp.jsonl, line 2:" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["text", "code", "test_list", "test_setup_code"])
def test_a_missing_field_is_named(folder, field):
    (folder / "mbpp.jsonl").write_text(json.dumps({k: v for k, v in FULL.items() if k != field}))
    with pytest.raises(UsageError, match=f"line 1: the field '{field}' is missing"):
        MBPP("full").load("train", str(folder))


def test_unknown_splits_sources_and_missing_files_are_named(tmp_path):
    with pytest.raises(UsageError, match="mbpp has no split 'prompt'; choose one of train, validation, test"):
        MBPP().load("prompt")
    with pytest.raises(UsageError, match="mbpp: no such source: hbu"):
        MBPP().load("train", "hbu")
    with pytest.raises(UsageError, match=r"holds no sanitized-mbpp\.json"):
        MBPP().load("train", str(tmp_path))
    with pytest.raises(UsageError, match=r"holds no mbpp\.jsonl"):
        MBPP("full").load("train", str(tmp_path))


# The hub


@pytest.mark.parametrize("source", [None, "hub"])
@pytest.mark.parametrize(("variant", "row", "name"), [("full", FULL, "double"), ("sanitized", SANITIZED, "halve")])
def test_the_hub_is_the_default_source(monkeypatch, source, variant, row, name):
    asked = []
    module = types.ModuleType("datasets")
    module.load_dataset = lambda *names, split: asked.append((*names, split)) or [row]
    monkeypatch.setitem(sys.modules, "datasets", module)
    (example,) = MBPP(variant).load("validation", source)
    assert asked == [("google-research-datasets/mbpp", variant, "validation")]
    assert (example.id, example.fields["name"]) == ("mbpp/601", name)


def test_a_damaged_row_of_the_hub_is_named(monkeypatch):
    module = types.ModuleType("datasets")
    module.load_dataset = lambda *names, split: [SANITIZED, {**SANITIZED, "test_imports": None}]
    monkeypatch.setitem(sys.modules, "datasets", module)
    with pytest.raises(UsageError, match=r"google-research-datasets/mbpp \(sanitized\), test, row 1"):
        MBPP().load("test")
