"""Reading files of data: whatever is wrong with one is said in a line, and no character splits a text."""

import gzip
import json
import sys
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisd.errors import UsageError
from unisd.tasks.base import Example
from unisd.tasks.sources import (
    FILES,
    checked,
    csv_rows,
    file_rows,
    has_rows,
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


ROWS = [{"a": "x", "b": "1"}, {"a": "y", "b": "2"}]
LINES = "\n".join(json.dumps(row) for row in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", LINES),
        ("rows.jsonl", "\ufeff" + LINES.replace("\n", "\r\n\r\n")),
        ("rows.ndjson", LINES),
        ("ROWS.JSONL", LINES),
        ("rows.json", json.dumps(ROWS)),
        ("rows.json", json.dumps(ROWS, indent=2)),
        ("rows.json", LINES),  # as many who write JSON Lines call it
        ("rows.jsonl", json.dumps(ROWS, indent=2)),
        ("rows.csv", "a,b\nx,1\ny,2\n"),
    ],
)
def test_a_file_is_read_by_what_it_holds(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    assert [dict(row) for row, _ in file_rows(tmp_path / name)] == ROWS
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    assert [dict(row) for row, _ in file_rows(tmp_path / f"{name}.gz")] == ROWS


def test_parquet_files(tmp_path):
    import pandas

    pandas.DataFrame(ROWS).to_parquet(tmp_path / "rows.parquet")
    found = file_rows(tmp_path / "rows.parquet")
    assert [row for row, _ in found] == ROWS
    assert str(found[1][1]) == f"{tmp_path / 'rows.parquet'}, row 1"
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"cannot read .*get the file again"):
        file_rows(tmp_path / "rows.parquet")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.jsonl", LINES.encode() + b"\n{oops", "line 3: not JSON"),
        ("rows.jsonl", LINES.encode() + b"\n5", "line 3: a JSON object was expected, not int"),
        ("rows.jsonl", LINES.encode() + b'\n{"a": "\xff"}', "line 3 is no UTF-8 .*save it as UTF-8"),
        ("rows.jsonl", "a".encode("utf-16"), "line 1 is no UTF-8"),
        ("rows.jsonl", b'{"a": ' + b"9" * 5000 + b"}", "line 1: not JSON"),
        ("rows.json", b'{"a": 1', "not JSON"),
        ("rows.json", b"[1]", "item 0: an object was expected, not int"),
        ("rows.csv", b"a,b,a\n1,2,3\n", "the header names 'a' twice; rename"),
        ("rows.csv", b"a,b\n1\n", "line 2: not as many fields"),
        ("rows.txt", b"a", r"endings \.jsonl, .*; save it as one of them"),
        ("rows.parquet.gz", b"a", "endings"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        file_rows(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(UsageError, match="is a folder; name a file in it"):
        file_rows(tmp_path)
    with pytest.raises(UsageError, match="no such file; check the path"):
        file_rows(tmp_path / "none.csv")


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=60)
@hypothesis.example(b"")
@hypothesis.example(b"[" * 50_000)
def test_any_bytes_are_rows_or_refused_in_a_line(tmp_path, data):
    for ending in FILES:
        path = tmp_path / f"rows{ending}"
        path.write_bytes(data)
        try:
            fine = all(isinstance(row, dict) for row, _ in file_rows(path))
        except UsageError as error:
            fine = str(path) in str(error)
        assert fine


def test_names_of_files_with_rows():
    assert all(map(has_rows, ("a.jsonl", "a.CSV", "a.json.gz", "a.parquet")))
    assert not any(map(has_rows, ("a.txt", "a.parquet.gz", "jsonl", "a.gz")))


def test_a_package_that_a_source_needs_and_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"^someone/set of the hub is read with the package datasets, which is miss"):
        hub_rows("someone/set", None, "train")
    (tmp_path / "rows.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(UsageError, match=r"rows\.parquet is read with the package pyarrow, which is missing; pip"):
        file_rows(tmp_path / "rows.parquet")
