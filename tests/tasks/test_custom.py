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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unisd.errors import UsageError
from unisd.tasks import registry
from unisd.tasks.base import Task
from unisd.tasks.custom import CustomTask, load_custom
from unisd.tasks.normalisers import NORMALISERS

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


ASKED = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(str.strip)


@given(st.lists(st.tuples(ASKED, st.integers(-(10**6), 10**6)), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_format_gives_equal_examples(tmp_path, rows):
    import pyarrow
    import pyarrow.feather
    import pyarrow.parquet

    given_rows = [{"q": asked, "sum": total, "key": f"k{n}"} for n, (asked, total) in enumerate(rows)]
    table = pyarrow.Table.from_pylist(given_rows)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, given_rows)), encoding="utf-8")
    (tmp_path / "rows.json").write_text(json.dumps(given_rows, ensure_ascii=False), encoding="utf-8")
    for name, separator in (("rows.csv", ","), ("rows.tsv", "\t")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(given_rows[0]), delimiter=separator)
            writer.writeheader()
            writer.writerows(given_rows)
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    pyarrow.feather.write_feather(table, str(tmp_path / "rows.feather"))
    names = ["rows.jsonl", "rows.json", "rows.csv", "rows.tsv", "rows.parquet", "rows.feather"]
    data = {name.replace(".", "_"): name for name in names}
    task = make(tmp_path, NUMBER | {"data": data, "prompt": "{q}", "id": "key"} | {
        "answer": {"type": "number", "column": "sum"}
    })  # fmt: skip
    first, *others = [task.load(split) for split in task.splits]
    assert len(first) == len(rows)
    assert all(other == first for other in others)


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
        ({"name": ".."}, "a letter or digit first"),
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


# Exams whose options stand in the prompt, systems, forms

EXAM = {
    "prompt": "Which purrs?\n\nA. ant\nB. bee\nC. cat\nPlease think first.",
    "system": "Be brief.",
    "answer": "C",
}
EXAM_TASK = {
    "name": "exam",
    "data": {"train": "train.jsonl"},
    "system": "system",
    "prompt": "{prompt}",
    "answer": {"type": "choice", "column": "answer"},
}


@pytest.mark.parametrize("given", ["C", "c", "(C)", "C.", "cat", "Cat", "C. cat", "(c) cat", "C: cat", ["C"], ["cat"]])
def test_options_inside_the_prompt_and_answers_by_letter_text_or_both(tmp_path, given):
    (example,) = make(tmp_path, EXAM_TASK, [EXAM | {"answer": given}]).load("train")
    assert (example.answer, example.fields["options"], example.question) == ("C", ["ant", "bee", "cat"], "Which purrs?")
    assert example.prompt.startswith(EXAM["prompt"])
    assert example.prompt.count("A. ant") == 1
    assert example.prompt.endswith("where X is the letter of your choice.")
    assert example.system == "Be brief."
    assert example.asked == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": example.prompt},
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("D", "the answer 'D' names none of the options ant; bee; cat; correct it"),
        ("A. cat", "names several of the options"),
        ("C. dog", "names no option by letter and text"),
        ("A, C", "names none"),
        (["A", "C"], "the column 'answer' holds a value of type list"),
        ("", "names none"),
    ],
)
def test_an_answer_that_fits_no_option_of_the_prompt(tmp_path, given, message):
    assert message in refused(tmp_path, EXAM_TASK, [EXAM | {"answer": given}])


def test_a_letter_that_is_another_options_text_is_not_guessed(tmp_path):
    described = EXAM_TASK | {"prompt": "{q}\n{all}", "system": "s"}
    row = {"q": "Which grade?", "all": ["B", "A"], "answer": "A", "s": None}
    assert "names several of the options B; A; say answer: given_as" in refused(tmp_path, described, [row])
    for how, letter in (("letter", "A"), ("text", "B")):
        answer = {"type": "choice", "column": "answer", "given_as": how}
        (example,) = make(tmp_path, described | {"answer": answer}, [row]).load("train")
        assert (example.answer, example.system) == (letter, None)


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ("Q?\nA) one\nB) two", ["one", "two"]),
        ("Q?\n(A) one\n(B) two\n(C) three", ["one", "two", "three"]),
        ("Q?\nA: one\nB: two\n\nChoose.", ["one", "two"]),
        ("Q? (A) one (B) two (C) three\nChoose.", ["one", "two", "three"]),
        ("Q? A) one B) two", ["one", "two"]),
        ("For example:\nA. x\nB. y\n\nQ?\nA. one\nB. two", ["one", "two"]),
        ("Q?\nA. one\nand more\n\nB. two\nand less\n\nChoose.", ["one and more", "two and less"]),
        ("Vitamin A. B. subtilis makes it?\nA. yes\nB. no", ["yes", "no"]),
    ],
)
def test_options_are_read_as_exams_write_them(tmp_path, asked, options):
    (example,) = make(tmp_path, EXAM_TASK, [{"prompt": asked, "system": "", "answer": "B"}]).load("train")
    assert (example.fields["options"], example.answer) == (options, "B")


@pytest.mark.parametrize("asked", ["Q?", "Q?\nA. one", "Q?\nB. one\nC. two", "Q?\n1. one\n2. two", "A. B? yes"])
def test_a_prompt_without_options_is_named(tmp_path, asked):
    told = refused(tmp_path, EXAM_TASK, [{"prompt": asked, "system": "", "answer": "A"}])
    assert "line 1: the prompt holds no lettered options" in told


def test_options_that_a_template_shows_are_shown_once(tmp_path):
    row = {"q": "Which purrs?", "all": ["ant", "cat"], "x": "ant", "y": "cat", "key": "B", "whole": "Q\nA. ant\nB. cat"}
    for prompt, options in (("{q}\n{all}", "all"), ("{q}\n{all}", None), ("{q}\nA) {x}\nB) {y}", ["x", "y"]),
                            ("{whole}", "all"), ("{q}", "all")):  # fmt: skip
        answer = {"type": "choice", "column": "key"} | ({"options": options} if options else {})
        _, example = one(tmp_path, answer, row, prompt=prompt)
        assert example.prompt.count("cat") == 1, prompt
        assert example.answer == "B"


def test_options_by_letter_and_nested_cells(tmp_path):
    row = {"prompt": {"default": "Which purrs?"}, "choices": {"A": "ant", "B": "cat"}, "meta": {"key": ["x", "B"]}}
    answer = {"type": "choice", "column": "meta.key.1", "options": "choices"}
    _, example = one(tmp_path, answer, row, prompt="{prompt.default}")
    assert (example.answer, example.question) == ("B", "Which purrs?")
    _, example = one(tmp_path, answer, row | {"prompt.default": "Or this?"}, prompt="{prompt.default}")
    assert example.question == "Or this?"
    for name in ("prompt.__class__", "prompt.default.upper", "meta.key.7", "prompt[default]", "prompt.default.0"):
        told = refused(tmp_path, NUMBER | {"prompt": f"{{{name}}}", "answer": answer}, [row])
        assert f"there is no column '{name}'" in told


@pytest.mark.parametrize(
    ("ask", "ends"), [(False, "Please think first."), (True, "your choice."), ("Letter in <answer>.", "<answer>.")]
)
def test_the_form_is_asked_for_or_not(tmp_path, ask, ends):
    (example,) = make(tmp_path, EXAM_TASK | {"ask_for_form": ask}, [EXAM]).load("train")
    assert example.prompt.endswith(ends)
    assert "where X is" not in example.prompt or ask is True
    for kind, value in (("exact", "cat"), ("number", 3)):
        answer = {"type": kind, "column": "key"}
        _, example = one(tmp_path, answer, {"q": "Q?", "key": value}, ask_for_form=ask)
        assert ('"Answer: ..."' in example.prompt) == (ask is True)
        assert example.prompt.endswith(ask if isinstance(ask, str) else "alone." if ask and kind == "number" else "")


def test_programs_that_are_asked_for_without_a_form(tmp_path):
    answer = {"type": "code", "column": "program", "tests": "tests"}
    row = {"q": "Double.", "program": "def twice(x):\n    return 2 * x", "tests": ["assert twice(2) == 4"]}
    assert one(tmp_path, answer, row, ask_for_form=False)[1].prompt.endswith("assert twice(2) == 4")
    assert one(tmp_path, answer, row, ask_for_form="Code only.")[1].prompt.endswith("== 4\n\nCode only.")


WORKED = "<reasoning>\n{rationale}\n</reasoning>\n<answer>{answer}</answer>"


def test_a_form_of_ones_own_for_right_and_wrong_demonstrations(tmp_path):
    task = make(
        tmp_path,
        EXAM_TASK | {"rationale": "why", "worked": WORKED, "ask_for_form": False},
        [EXAM | {"why": "Cats do."}],
    )
    (example,) = task.load("train")
    assert example.demonstration == "<reasoning>\nCats do.\n</reasoning>\n<answer>C</answer>"
    assert task.grade(example, example.demonstration).correct
    request = next(r for r in task.negative_requests(example) if r.target == "B")
    wrong = task.negative(example, request, "A bee makes a humming sound at work.\nAnswer: B")
    assert wrong == "<reasoning>\nA bee makes a humming sound at work.\n</reasoning>\n<answer>B</answer>"
    both = make(tmp_path, EXAM_TASK | {"worked": "Answer: {answer}. {option}"}, [EXAM]).load("train")[0]
    assert both.demonstration == "Answer: C. cat"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"worked": "{rationale}"}, "worked: it shows no answer"),
        ({"worked": "{answer} {why}"}, "worked: 'why' is none of rationale, answer, option"),
        ({"worked": "{answer}", "demonstration": "d"}, "remove one"),
        ({"worked": "It is not {answer}, no."}, "the demonstration does not end in the right answer (C)"),
        ({"ask_for_form": 3}, "ask_for_form is 3; use true, false, or the words"),
        ({"ask_for_form": " "}, "ask_for_form is ' '"),
        ({"on_error": "skip"}, "on_error is 'skip'; choose one of stop, drop"),
        ({"prompt": "Which purrs?"}, "prompt names no column"),
        ({"system": "{sys"}, "system: not a template"),
        ({"system": "sytem"}, "line 1: there is no column 'sytem'; did you mean 'system'?"),
        ({"question": "{nope}"}, "there is no column 'nope'"),
        ({"data": {"train": {"file": "train.jsonl", "config": "x"}}}, "there is no key 'config'"),
        ({"answer": {"type": "exact", "column": "answer", "normalise": "case"}}, "normalise is 'case'; a list"),
        ({"answer": {"type": "exact", "column": "answer", "normalise": ["artcles"]}}, "did you mean 'articles'?"),
        ({"answer": {"type": "exact", "column": "answer", "normalise": [["case"]]}}, "normalise: there is no"),
        ({"answer": {"type": "number", "column": "answer", "normalise": ["case"]}}, "there is no key 'normalise'"),
    ],
)
def test_what_is_wrong_in_an_exams_file_is_named(tmp_path, changes, message):
    assert message in refused(tmp_path, EXAM_TASK | changes, [EXAM])


def test_templates_for_other_columns(tmp_path):
    row = {"q": "Who?", "first": "Ada", "last": "King", "why": "She {did}.", "n": 3}
    described = NUMBER | {"prompt": "{q}", "answer": {"type": "exact", "column": "{first} {last}"}}
    (example,) = make(
        tmp_path, described | {"rationale": "Well: {why}", "id": "item-{n}", "question": "{q} ({n})"}, [row]
    ).load("train")
    assert (example.answer, example.id, example.question) == ("Ada King", "item-3", "Who? (3)")
    assert example.demonstration == "Well: She {did}.\nAnswer: Ada King"


def test_keys_that_a_table_keeps_as_floats(tmp_path):
    answer = {"type": "choice", "column": "key", "options": "all", "given_as": "index"}
    _, example = one(tmp_path, answer, {"q": "Q?", "all": ["ant", "cat"], "key": 1.0, "n": 7.0}, id="n")
    assert (example.answer, example.id) == ("B", "7")


def test_normalisers_by_name(tmp_path):
    answer = {"type": "exact", "column": "key", "normalise": ["case", "articles", "units", "numbers"]}
    task, example = one(tmp_path, answer, {"q": "How far?", "key": "1,500 km"})
    for said, right in (("1500 kilometres", True), ("1500.0 km", True), ("1500 m", False), ("1500", False)):
        assert task.grade(example, f"Answer: {said}").correct == right, said


def test_rows_that_cannot_be_read_are_dropped_where_the_file_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path / "cache"))
    rows = [SUMS[0], {"a": 1, "sum": 3}, {"a": 1, "b": 2, "sum": "many"}, {"a": 1, "b": None, "sum": 3}, SUMS[1]]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{oops\n")
    task = make(tmp_path, NUMBER | {"on_error": "drop"})
    assert [example.id for example in task.load("train")] == ["train/1", "train/5"]
    said = capsys.readouterr().err
    assert "warning: sums, train: 4 of 6 rows (66.7%) are DROPPED" in said
    assert f"{tmp_path / 'train.jsonl'}, line 6: not JSON" in said
    assert "line 2: there is no column 'b'" in said
    with pytest.raises(UsageError, match="line 6: not JSON"):
        make(tmp_path, NUMBER).load("train")
    (tmp_path / "train.jsonl").write_text("{oops\n[1]\n{}\n")
    with pytest.raises(UsageError, match="has no rows"):
        make(tmp_path, NUMBER | {"on_error": "drop"}).load("train")


def test_a_folder_and_a_split_of_a_file(tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.csv").write_text("a,b,sum\n1,2,3\n")
    (tmp_path / "all.json").write_text(json.dumps({"dev": SUMS, "train": SUMS[:1]}))
    data = {"train": "rows", "test": {"file": "all.json", "split": "dev"}}
    task = make(tmp_path, NUMBER | {"data": data})
    assert [len(task.load(split)) for split in task.splits] == [1, 2]


def test_a_huge_cell_is_named(tmp_path):
    told = refused(tmp_path, NUMBER, [{"a": "x" * 1_000_001, "b": 1, "sum": 2}])
    assert "line 1: the column 'a': it is a text of 1,000,001 characters" in told


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
    assert all(f"| `{name}` |" in page for name in NORMALISERS)
    names: dict = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    task = names["Doubling"](highest=9)
    assert isinstance(task, Task)
    assert [example.answer for example in task.load("train")] == ["2", "6", "10", "14"]
    assert all(task.grade(example, example.demonstration).correct for example in task.load("test"))


def test_the_exam_of_the_page_is_read(tmp_path):
    page = (ROOT / "docs" / "custom_tasks.md").read_text(encoding="utf-8")
    exam = page.split("```yaml\n")[2].split("```")[0]
    (tmp_path / "exam.yaml").write_text(exam, encoding="utf-8")
    rows = [EXAM | {"answer": given, "why": "Cats do."} for given in ("C", "(c)", "cat", "C. cat")]
    (tmp_path / "train.json").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    examples = CustomTask(tmp_path / "exam.yaml").load("train")
    assert [example.answer for example in examples] == ["C"] * 4
    assert examples[0].prompt == EXAM["prompt"]
    assert examples[0].demonstration == "<reasoning>\nCats do.\n</reasoning>\n<answer>C</answer>"


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
