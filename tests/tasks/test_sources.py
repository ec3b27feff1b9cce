"""Reading files of data: whatever is wrong with one is said in a line, and no character splits a text."""

import gzip
import sys
from pathlib import Path

import pytest

from unisd.errors import UsageError
from unisd.tasks.base import Example
from unisd.tasks.sources import (
    checked,
    csv_rows,
    hub_rows,
    identifier,
    json_items,
    json_lines,
    texts,
    whole,
)

DEEP = "[" * 100_000


def csv_file(folder: Path, text: str) -> list[dict]:
    (folder / "rows.csv").write_bytes(text.encode())
    return [dict(row) for row, _ in csv_rows(folder / "rows.csv")]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0c", "\x0b", "\x1c"])
def test_only_line_ends_split_a_csv_file(tmp_path, character):
    assert csv_file(tmp_path, f"q,a\nhi{character}x,5\nho,6\n") == [
        {"q": f"hi{character}x", "a": "5"},
        {"q": "ho", "a": "6"},
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    assert csv_file(tmp_path, "\ufeffq,a\nhi,5\n") == [{"q": "hi", "a": "5"}]
    (tmp_path / "rows.jsonl").write_bytes('\ufeff{"a": 1}\n'.encode())
    assert [row for row, _ in json_lines(tmp_path / "rows.jsonl")] == [{"a": 1}]
    (tmp_path / "rows.json").write_bytes('\ufeff[{"a": 1}]'.encode())
    assert [row for row, _ in json_items(tmp_path / "rows.json")] == [{"a": 1}]


def test_csv_lines_end_in_any_way_and_quoted_texts_keep_theirs(tmp_path):
    assert csv_file(tmp_path, 'q,a\r\n"one\r\ntwo",5\r\n') == [{"q": "one\r\ntwo", "a": "5"}]
    assert csv_file(tmp_path, 'q,a\n"one\ntwo",5\n\nx,6') == [{"q": "one\ntwo", "a": "5"}, {"q": "x", "a": "6"}]


def test_a_long_text_of_a_csv_file(tmp_path):
    assert csv_file(tmp_path, f"q,a\n{'x' * 300_000},5\n") == [{"q": "x" * 300_000, "a": "5"}]


def test_a_csv_row_of_another_length_is_named_by_its_line(tmp_path):
    for text in ("q,a\n1,2\n3\n", "q,a\n1,2\n3,4,5\n"):
        with pytest.raises(UsageError, match=r"rows.csv, line 3: not as many fields as the header names"):
            csv_file(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rows.jsonl", f'{{"a": 1}}\n{DEEP}\n', "rows.jsonl, line 2: not JSON (nested too deep)"),
        ("rows.jsonl", '{"a": 1}\n{\n', "rows.jsonl, line 2: not JSON"),
        ("rows.jsonl", "[1]", "rows.jsonl, line 1: a JSON object was expected, not list"),
        ("rows.json", DEEP, "rows.json, line 1: not JSON (nested too deep)"),
        ("rows.json", '[\n{"a": }]', "rows.json, line 2: not JSON"),
        ("rows.json", "3", "a list of objects was expected, not int"),
        ("rows.json", "[3]", "rows.json, item 0: an object was expected, not int"),
    ],
)
def test_damaged_json_is_named_by_file_and_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        (json_lines if name.endswith("l") else json_items)(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_or_no_archive_are_named(tmp_path):
    packed = bytearray(gzip.compress(b'{"a": 1}\n' * 50))
    packed[12] ^= 255
    for name, data in (("a.jsonl", b"\xff\xfe{"), ("b.jsonl.gz", b"not packed"), ("c.jsonl.gz", bytes(packed))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match=f"cannot read .*{name}"):
            json_lines(tmp_path / name)
    with pytest.raises(UsageError, match="no such file: "):
        json_lines(tmp_path / "none.jsonl")


def example(item_id: str) -> Example:
    return Example(id=item_id, prompt="?", question="?", answer="A")


def test_examples_are_there_and_have_ids_of_their_own():
    good = [example("a"), example("b")]
    assert checked(good, "task", "file") == good
    for examples, message in (
        ([], "task: no items in file;"),
        ([example("a"), example(" ")], "task: item 2 of file has no id"),
        ([*good, example("a")], "task: the id a comes a second time in file"),
    ):
        with pytest.raises(UsageError, match=message):
            checked(examples, "task", "file")


def test_cells_are_of_the_type_they_should_be():
    assert (identifier("a"), identifier(7), texts(["a"]), texts([]), whole(0)) == ("a", "7", ["a"], [], 0)
    for value in (None, "", " ", True, 1.5, ["a"]):
        with pytest.raises(ValueError, match="an id was expected"):
            identifier(value)
    for value in ("abc", None, {"a": 1}, [1], ["a", None]):
        with pytest.raises(TypeError, match="a list of texts was expected"):
            texts(value)
    for value in (True, None, "1", 1.0):
        with pytest.raises(TypeError, match="a whole number was expected"):
            whole(value)


def test_a_package_that_a_source_needs_and_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"^someone/set of the hub is read with the package datasets, which is miss"):
        hub_rows("someone/set", None, "train")
