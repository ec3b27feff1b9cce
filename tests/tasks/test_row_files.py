"""Files and folders of rows: what they hold says how they are read, and what is wrong is said in a line."""

import gzip
import json

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisd.errors import UsageError
from unisd.tasks.row_files import FILES, file_rows, has_rows

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
