"""Tasks from a YAML file: every type of answer, every kind of file, and every mistake is named."""

import csv
import gzip
import json
import math
import re
import sys
import types
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd.errors import UsageError
from unisd.tasks import registry
from unisd.tasks.base import Task
from unisd.tasks.custom import CustomTask, load_custom

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "custom_task" / "task.yaml"

NUMBER = {
    "name": "sums",
    "data": {"train": "train.jsonl", "test": "train.jsonl"},
    "prompt": "What is {a} and {b}?",
    "answer": {"type": "number", "column": "sum"},
}
SUMS = [{"a": 1, "b": 2, "sum": 3, "why": "Count on"}, {"a": 2, "b": "2.5", "sum": "4.5", "why": None}]


def make(folder: Path, described: object, rows: list | None = None) -> CustomTask:
    if rows is not None:
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "task.yaml").write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
    return CustomTask(folder / "task.yaml")


def one(folder: Path, answer: dict, row: dict, **changes: object):
    task = make(folder, NUMBER | {"prompt": "{q}", "answer": answer} | changes, [row])
    (example,) = task.load("train")
    return task, example


def refused(folder: Path, described: object, rows: list | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        make(folder, described, rows).load("train")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_the_file_makes_a_task(tmp_path):
    task = make(tmp_path, NUMBER | {"rationale": "why", "max_new_tokens": 64}, SUMS)
    assert isinstance(task, Task)
    assert (task.name, task.splits, task.max_new_tokens) == ("sums", ("train", "test"), 64)
    first, second = task.load("train")
    assert (first.id, first.question, first.answer) == ("train/1", "What is 1 and 2?", "3")
    assert first.demonstration == "Count on.\nAnswer: 3"
    assert second.demonstration == "Answer: 4.5"
    assert task.grade(second, "Answer: 9/2").correct
    assert len(task.negative_requests(first)) == 4
    request = task.negative_requests(first)[0]
    assert task.negative(first, request, "One and two are four.\nAnswer: 4") == "One and two are four.\nAnswer: 4"


def test_train_comes_first_and_test_last_whatever_the_files_order(tmp_path):
    data = dict.fromkeys(["test", "extra", "train", "dev"], "train.jsonl")
    assert make(tmp_path, NUMBER | {"data": data}).splits == ("train", "extra", "dev", "test")
    data = dict.fromkeys(["b", "a"], "train.jsonl")
    assert make(tmp_path, NUMBER | {"data": data}).splits == ("b", "a")


def test_a_path_is_a_name_for_the_registry():
    assert registry.get(str(EXAMPLE)).name == "shop_sums"
    assert isinstance(load_custom(EXAMPLE), CustomTask)


def test_the_example_loads_and_its_demonstrations_are_right():
    task = CustomTask(EXAMPLE)
    assert task.splits == ("train", "test")
    for split, count in (("train", 6), ("test", 4)):
        examples = task.load(split)
        assert len(examples) == count
        assert all(task.grade(example, example.demonstration).correct for example in examples)
        assert not any(task.grade(example, example.prompt).correct for example in examples)


# The types of answers


@pytest.mark.parametrize(
    ("given_as", "value"), [("letter", "C"), ("letter", "c"), ("text", "cat"), ("index", 2), ("number", "3")]
)
@pytest.mark.parametrize("listed", [True, False])
def test_choices(tmp_path, given_as, value, listed):
    options = {"o1": "ant", "o2": "bee", "o3": "cat"}
    row = {"q": "Which purrs?", "key": value} | ({"all": list(options.values())} if listed else options)
    answer = {"type": "choice", "column": "key", "options": "all" if listed else list(options), "given_as": given_as}
    task, example = one(tmp_path, answer, row)
    assert (example.answer, example.fields["options"]) == ("C", ["ant", "bee", "cat"])
    assert task.grade(example, "Answer: C").correct
    assert not task.grade(example, "Answer: B").correct


def test_choices_with_labels_of_the_sets_own_and_as_json_text(tmp_path):
    answer = {"type": "choice", "column": "key", "options": "all", "given_as": "letter"}
    row = {"q": "Which purrs?", "key": "2", "all": {"text": ["ant", "cat"], "label": ["1", "2"]}}
    assert one(tmp_path, answer, row)[1].answer == "B"
    assert one(tmp_path, answer, row | {"key": "b", "all": '["ant", "cat"]'})[1].answer == "B"


def test_options_that_differ_by_case_alone(tmp_path):
    answer = {"type": "choice", "column": "key", "options": "all", "given_as": "text"}
    assert one(tmp_path, answer, {"q": "Which?", "key": "aa", "all": ["Aa", "aa", "AA"]})[1].answer == "B"


@pytest.mark.parametrize(
    ("given_as", "value", "options", "message"),
    [
        ("letter", "D", ["ant", "bee"], "'D' names none of the options, as letter: A, B"),
        ("index", 2, ["ant", "bee"], "'2' names none of the options, as index: 0, 1"),
        ("number", 0, ["ant", "bee"], "names none"),
        ("text", "cow", ["ant", "bee"], "names none"),
        ("text", "ant", ["ant", "ant"], "names several"),
        ("letter", None, ["ant", "bee"], "the column 'key' holds nothing"),
        ("letter", "A", ["ant"], "2 to 26 options"),
        ("letter", "A", 5, "the column 'all' holds a value of type int; a list was expected"),
        ("letter", "A", [None, "ant"], "the column 'all' holds nothing; a text or a number was expected"),
        ("letter", "A", ["ant", "ant"], "two options are equal to the answer"),
        ("letter", "A", {"text": None, "label": None}, "the column 'text' holds nothing; a list was expected"),
        ("letter", "A", {"text": "xy", "label": "AB"}, "'A' names none of the options, as letter: AB"),
        ("letter", "A", {"text": ["ant", "bee"], "label": ["A"]}, "the column 'all' holds 2 options and 1 labels"),
    ],
)
def test_an_answer_that_names_no_option(tmp_path, given_as, value, options, message):
    answer = {"type": "choice", "column": "key", "options": "all", "given_as": given_as}
    row = {"q": "Which?", "key": value, "all": options}
    text = refused(tmp_path, NUMBER | {"prompt": "{q}", "answer": answer}, [row])
    assert message in text
    assert "train.jsonl, line 1:" in text


def test_exact_answers(tmp_path):
    task, example = one(
        tmp_path, {"type": "exact", "column": "key"}, {"q": "Where?", "key": ["Paris", "City of Light"]}
    )
    assert example.demonstration == "Answer: Paris"
    assert task.grade(example, "Answer: city of light").correct
    assert not task.grade(example, "Answer: Rome").correct


def test_worked_answers_that_end_with_a_marked_number(tmp_path):
    row = {"q": "How many?", "a": "There are 3*4=<<3*4=12>>12.\n#### 12"}
    task, example = one(tmp_path, {"type": "number", "column": "a"}, row, rationale="a")
    assert (example.answer, example.demonstration) == ("12", "There are 3*4=12.\nAnswer: 12")
    assert task.grade(example, "#### 12").correct


def test_the_tolerance_of_numbers(tmp_path):
    answer = {"type": "number", "column": "a", "tolerance": 0.01}
    task, example = one(tmp_path, answer, {"q": "How many?", "a": "1/3"})
    assert task.grade(example, "Answer: 0.333").correct
    assert not task.grade(example, "Answer: 0.3").correct


def test_programs(tmp_path):
    pytest.importorskip("unisd.tasks.code")
    answer = {"type": "code", "column": "program", "tests": "tests", "show_tests": False}
    row = {
        "q": "Write a function that doubles.",
        "program": "def twice(x):\n    return 2 * x",
        "tests": ["assert twice(2) == 4", "assert twice(-1) == -2"],
    }
    task, example = one(tmp_path, answer, row)
    assert task.runs_programs
    assert "twice(2)" not in example.prompt
    assert task.grade(example, example.demonstration).correct
    assert not task.grade(example, "```python\ndef twice(x):\n    return x + 2\n```").correct


def test_tool_calls(tmp_path):
    pytest.importorskip("unisd.tasks.tools")
    answer = {"type": "tools", "column": "calls", "tools": ["rain", "sun"], "format": "json", "question": "ask"}
    row = {"q": "Tools: rain(day), sun(day).\nAsk: rain?", "ask": "rain?"}
    calls = [{"name": "rain", "arguments": {"day": 3}}]
    for given_calls in (calls, json.dumps(calls), [{"name": "rain", "arguments": '{"day": 3}'}]):
        task, example = one(tmp_path, answer, row | {"calls": given_calls})
        assert (example.question, example.prompt) == ("rain?", row["q"])
        assert task.grade(example, example.demonstration).correct
        assert not task.grade(example, '[{"name": "sun", "arguments": {"day": 3}}]').correct
    described = NUMBER | {"prompt": "{q}", "answer": answer}
    assert "must hold calls" in refused(tmp_path, described, [row | {"calls": [{"name": 3}]}])
    broken = [{"name": "rain", "arguments": "day 3"}]
    assert "its arguments must be an object" in refused(tmp_path, described, [row | {"calls": broken}])
    for arguments in ("", '{"day": 3}, {"day": 4}', "[" * 100_000, None):
        text = refused(tmp_path, described, [row | {"calls": [{"name": "rain", "arguments": arguments}]}])
        assert "train.jsonl, line 1: the call of rain: its arguments must be an object" in text


def test_a_demonstration_of_ones_own_is_used_and_must_be_right(tmp_path):
    described = NUMBER | {"demonstration": "shown"}
    task = make(tmp_path, described, [SUMS[0] | {"shown": "By counting.\nAnswer: 3"}])
    assert task.load("train")[0].demonstration == "By counting.\nAnswer: 3"
    text = refused(tmp_path, described, [SUMS[0] | {"shown": "By counting.\nAnswer: 4"}])
    assert "line 1: the demonstration does not end in the right answer (3)" in text


# The rows


def test_all_kinds_of_files_hold_the_same_rows(tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = [{"a": "1", "b": "2", "sum": "3"}, {"a": "2", "b": "2", "sum": "4"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    names = ["rows.jsonl", "rows.jsonl.gz", "rows.json", "rows.csv", "rows.parquet"]
    task = make(tmp_path, NUMBER | {"data": {name.replace(".", "_"): name for name in names}})
    loaded = [[(example.prompt, example.answer) for example in task.load(split)] for split in task.splits]
    assert len(loaded[0]) == 2
    assert all(one == loaded[0] for one in loaded)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(UsageError, match=r"cannot read .*rows.parquet"):
        task.load("rows_parquet")


def test_rows_from_the_hub(tmp_path, monkeypatch):
    asked = []

    def load_dataset(*names: object, split: str) -> list:
        asked.append((*names, split))
        return [*SUMS, {"a": 1}] if names[0] == "own/torn" else SUMS

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    data = {"train": {"hub": "own/sums"}, "torn": {"hub": "own/torn"}, "test": {"hub": "own/sums", "config": "b"}}
    data["test"]["split"] = "validation"
    task = make(tmp_path, NUMBER | {"data": data})
    assert [example.id for example in task.load("train")] == ["train/0", "train/1"]
    task.load("test", "hub")
    assert asked == [("own/sums", None, "train"), ("own/sums", "b", "validation")]
    with pytest.raises(UsageError, match=r"own/torn, torn, row 2: there is no column 'b'"):
        task.load("torn")
    with pytest.raises(UsageError, match="comes from the hub"):
        task.load("test", str(tmp_path))


def test_another_folder_as_source(tmp_path):
    task = make(tmp_path, NUMBER, SUMS)
    other = tmp_path / "other"
    other.mkdir()
    (other / "train.jsonl").write_text(json.dumps(SUMS[1]), encoding="utf-8")
    assert len(task.load("train")) == 2
    assert len(task.load("train", str(other))) == 1
    with pytest.raises(UsageError, match="no such source: nowhere"):
        task.load("train", "nowhere")
    with pytest.raises(UsageError, match="no split 'dev'; choose one of train, test"):
        task.load("dev")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"a": 1, "sum": 3}, "there is no column 'b'; choose one of a, sum"),
        ({"a": 1, "bb": 2, "sum": 3}, "there is no column 'b'; did you mean 'bb'?"),
        ({"a": 1, "b": None, "sum": 3}, "the column 'b' holds nothing"),
        ({"a": 1, "b": [2], "sum": 3}, "the column 'b' holds a value of type list"),
        ({"a": 1, "b": 2, "sum": "many"}, "the answer 'many' is no number"),
        ({"a": 1, "b": 2, "sum": [3, "x"]}, "the answer 'x' is no number"),
        ({"a": 1, "b": 2, "sum": []}, "is empty"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named_by_file_and_line(tmp_path, row, message):
    text = refused(tmp_path, NUMBER, [SUMS[0], row])
    assert f"{tmp_path / 'train.jsonl'}, line 2: " in text
    assert message in text


def test_ids_are_unique_and_come_from_their_column(tmp_path):
    described = NUMBER | {"id": "key"}
    task = make(tmp_path, described, [SUMS[0] | {"key": 7}, SUMS[1] | {"key": "x"}])
    assert [example.id for example in task.load("train")] == ["7", "x"]
    assert "line 2: the id 7 comes a second time" in refused(
        tmp_path, described, [SUMS[0] | {"key": 7}, SUMS[1] | {"key": "7"}]
    )


def test_an_empty_id_is_named(tmp_path):
    text = refused(tmp_path, NUMBER | {"id": "key"}, [SUMS[0] | {"key": " "}])
    assert "train.jsonl, line 1: its id is empty" in text


def test_a_split_without_rows_or_file(tmp_path):
    with pytest.raises(UsageError, match="the split 'train' has no rows"):
        make(tmp_path, NUMBER, []).load("train")
    (tmp_path / "train.jsonl").unlink()
    assert "no such file" in refused(tmp_path, NUMBER)


# The file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"promt": "x"}, "there is no key 'promt'; did you mean 'prompt'?"),
        ({"zzz": 1}, "there is no key 'zzz'; choose one of answer, ask_for_form, data"),
        ({"name": "two words"}, "the name 'two words'"),
        ({"name": 7}, "name is 7; a text was expected"),
        ({"prompt": ["x"]}, "prompt is ['x']"),
        ({"prompt": "{a"}, "not a template"),
        ({"prompt": "{}"}, "write {column}"),
        ({"prompt": "{a:>5}"}, "write {column}"),
        ({"data": {}}, "at least one split"),
        ({"data": "train.jsonl"}, "at least one split"),
        ({"data": {"train": "train.xls"}}, "'train.xls' is no folder and no file with one of the endings .jsonl"),
        ({"data": {"train": {"hub": "a/b", "splits": "x"}}}, "did you mean 'split'?"),
        ({"data": {"train": {"split": "x"}}}, "'hub' is missing"),
        ({"answer": "number"}, "answer: keys were expected (column, tolerance, type), not str"),
        ({"answer": {"type": "nummer", "column": "sum"}}, "choose one of choice, exact, number, code, tools"),
        ({"answer": {"type": ["number"], "column": "sum"}}, "choose one of choice"),
        ({"answer": {"type": "number"}}, "answer: 'column' is missing"),
        ({"answer": {"type": "number", "column": "sum", "tolerence": 1}}, "did you mean 'tolerance'?"),
        ({"answer": {"type": "number", "column": "sum", "tolerance": "big"}}, "tolerance is 'big'"),
        ({"answer": {"type": "choice", "column": "k", "options": "o", "given_as": "word"}}, "given_as is 'word'"),
        ({"answer": {"type": "code", "column": "k", "tests": "t", "show_tests": "no"}}, "use true or false"),
        ({"answer": {"type": "code", "column": "k", "tests": "t"}, "rationale": "why"}, "have no rationale"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": True}, "max_new_tokens is True"),
        ({"id": 3}, "id is 3"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, changes, message):
    assert message in refused(tmp_path, NUMBER | changes, SUMS)


def test_files_that_are_not_there_or_hold_no_keys(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*none.yaml: No such file"):
        CustomTask(tmp_path / "none.yaml")
    for text, message in (("a: [", "not YAML"), ("- a", "keys were expected"), ("", "not NoneType")):
        (tmp_path / "task.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=message):
            CustomTask(tmp_path / "task.yaml")
    without = {key: value for key, value in NUMBER.items() if key != "prompt"}
    assert "'prompt' is missing" in refused(tmp_path, without)


def test_braces_and_columns_with_spaces(tmp_path):
    row = {"my column": "x{y}", "k": 1}
    described = NUMBER | {"prompt": "{{{my column}}} = ?", "answer": {"type": "number", "column": "k"}}
    assert make(tmp_path, described, [row]).load("train")[0].question == "{x{y}} = ?"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=100))
def test_the_grader_never_raises(text):
    task = CustomTask(EXAMPLE)
    example = task.load("train")[0]
    grade = task.grade(example, text)
    assert grade.parsed is not None or not grade.correct


# The page


def test_the_page_names_every_key_and_its_class_works():
    from unisd.tasks import custom

    page = (ROOT / "docs" / "custom_tasks.md").read_text(encoding="utf-8")
    for required, optional in (custom._KEYS, *custom._ANSWER_KEYS.values()):
        assert all(f"`{key}`" in page or f"{key}:" in page for key in required | optional)
    assert all(f"`{kind}`" in page for kind in custom._ANSWER_KEYS)
    assert yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])["answer"]["type"] == "exact"
    names: dict = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    task = names["Doubling"](highest=9)
    assert isinstance(task, Task)
    assert [example.answer for example in task.load("train")] == ["2", "6", "10", "14"]
    assert all(task.grade(example, example.demonstration).correct for example in task.load("test"))


def test_a_missing_cell_is_no_answer_whatever_wrote_it(tmp_path):
    """NaN in JSON was the right answer "nan"."""
    (tmp_path / "train.jsonl").write_text('{"q": "1 + 1?", "sum": NaN}\n', encoding="utf-8")
    for kind in ("exact", "number"):
        told = refused(tmp_path, NUMBER | {"prompt": "{q}", "answer": {"type": kind, "column": "sum"}})
        assert "line 1: the column 'sum' holds nothing; a text or a number was expected" in told
    for answers in ([2, None], [math.nan], ["two", True, [2]]):
        told = refused(tmp_path, NUMBER | {"prompt": "{q}", "answer": {"type": "exact", "column": "sum"}}, [
            {"q": "1 + 1?", "sum": answers}
        ])  # fmt: skip
        assert "the column 'sum' holds" in told


@pytest.mark.parametrize(
    ("cell", "said"), [("a\ud83d", r"U\+D83D, half of a pair"), (math.inf, "it is inf"), ({"a": "\udc00"}, r"U\+DC00")]
)
def test_cells_that_are_no_text_are_named_with_column_and_line(tmp_path, cell, said):
    for row in ({"q": cell, "sum": "2"}, {"q": "1 + 1?", "sum": cell}):
        told = refused(tmp_path, NUMBER | {"prompt": "{q}", "answer": {"type": "exact", "column": "sum"}}, [row])
        assert re.search(rf"line 1: the column '(q|sum)'.*({said}|holds a value of type dict)", told)


def test_json_lines_by_another_name(tmp_path):
    rows = "\n".join(json.dumps(row) for row in SUMS)
    (tmp_path / "train.json").write_text(rows, encoding="utf-8")
    task = make(tmp_path, NUMBER | {"data": {"train": "train.json"}})
    assert [example.answer for example in task.load("train")] == ["3", "4.5"]
