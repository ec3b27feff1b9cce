"""Files and folders of rows: what they hold says how they are read, and what is wrong is said in a line."""

import bz2
import csv
import gzip
import io
import json
import lzma
import sys
import types

import hypothesis
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisd.errors import UniSDError, UsageError
from unisd.tasks.row_files import FILES, PACKED, file_rows, has_rows, named_rows, tell_bad

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


# What a file holds decides


def rows_of(path, *splits, bad=None):
    return [dict(row) for row, _ in file_rows(path, splits, bad)]


NUMBERS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def as_csv(rows, separator=","):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.ndjson"])
@pytest.mark.parametrize(
    "text",
    [
        "\n".join(map(json.dumps, NUMBERS)),
        "\r\n\r\n".join(map(json.dumps, NUMBERS)) + "\r\n",
        "\r".join(map(json.dumps, NUMBERS)),
        "\n".join(json.dumps(row, indent=2) for row in NUMBERS),
        json.dumps(NUMBERS),
        json.dumps(NUMBERS, indent=1),
        "[" + ",\n".join(map(json.dumps, NUMBERS)) + "]",
        "\ufeff" + json.dumps(NUMBERS),
        json.dumps({"data": NUMBERS, "version": 1}, indent=2),
        json.dumps({"train": NUMBERS, "test": [{"a": 3}]}, indent=2),
        json.dumps({"train": NUMBERS, "test": [{"a": 3}]}),
    ],
)
def test_json_is_read_by_what_it_holds(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert rows_of(tmp_path / name, "train") == NUMBERS


def test_json_of_columns_by_id_and_of_one_row(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"a": [1, 2], "b": ["x", "y"]}))
    assert rows_of(path) == NUMBERS
    path.write_text(json.dumps({"a": {"0": 1, "1": 2}, "b": {"0": "x", "1": "y"}}))
    assert rows_of(path) == NUMBERS
    path.write_text(json.dumps({"k": {"a": 1}, "m": {"a": 2}}))
    assert rows_of(path) == [{"id": "k", "a": 1}, {"id": "m", "a": 2}]
    path.write_text('{"a": 1, "b": "x"}')
    assert rows_of(path) == NUMBERS[:1]
    (tmp_path / "one.jsonl").write_text('{"prompt": {"default": "x"}}\n')
    assert rows_of(tmp_path / "one.jsonl") == [{"prompt": {"default": "x"}}]
    path.write_text(json.dumps({"a": [1, 2], "b": ["x"]}))
    with pytest.raises(UsageError, match=r"its columns differ in length \(a: 2, b: 1\)"):
        file_rows(path)
    path.write_text(json.dumps({"one": NUMBERS, "two": NUMBERS}))
    with pytest.raises(UsageError, match="it holds one, two and no split 'train'"):
        file_rows(path, ("train",))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_separators_are_those_of_the_header(tmp_path, name, separator):
    (tmp_path / name).write_text(as_csv([{"q": "a, b; c\td", "a": "1"}], separator), encoding="utf-8")
    assert rows_of(tmp_path / name) == [{"q": "a, b; c\td", "a": "1"}]


def test_a_csv_of_one_column_and_json_by_the_name_of_csv(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("q\nhi\nho, ho\n")
    with pytest.raises(UsageError, match=r"line 3: not as many fields .*\(2, not 1\); put texts with sep"):
        file_rows(path)
    path.write_text("q\nhi\n\nho\n")
    assert rows_of(path) == [{"q": "hi"}, {"q": "ho"}]
    path.write_text(LINES)
    assert rows_of(path) == ROWS


def test_a_quote_that_is_never_closed_swallows_no_rows(tmp_path):
    (tmp_path / "rows.csv").write_text('q,a\nhi,"5\nho,6\n')
    with pytest.raises(UsageError, match=r"not CSV \(a quote is never closed\); repair the quotes"):
        file_rows(tmp_path / "rows.csv")


PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.Codec("zstd").compress(data, asbytes=True),
}


@pytest.mark.parametrize("ending", PACKED)
def test_packed_files_whatever_their_names(tmp_path, ending):
    packed = PACKERS[ending](LINES.encode())
    for name in (f"rows.jsonl{ending}", "rows.jsonl"):
        (tmp_path / name).write_bytes(packed)
        assert rows_of(tmp_path / name) == ROWS
    (tmp_path / f"plain.jsonl{ending}").write_text(LINES)  # unpacked on the way, as browsers do
    assert rows_of(tmp_path / f"plain.jsonl{ending}") == ROWS
    (tmp_path / "torn.jsonl").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UsageError, match=r"cannot read .*torn.jsonl: .*get the file again"):
        file_rows(tmp_path / "torn.jsonl")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n".encode("utf-16"), "it is UTF-16.; save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "it is UTF-16"),
        (b"PK\x03\x04rest", "zip archive or a spreadsheet; unpack it, or save"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "spreadsheet; save the sheet as CSV"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"abc\x00def", "no text"),
        ("q,a\ncaf\xe9,1\n".encode("latin-1"), "line 2 is no UTF-8"),
    ],
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_what_is_no_utf8_is_said_in_one_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        file_rows(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arrow_files_of_both_kinds(tmp_path):
    table = pyarrow.Table.from_pylist(NUMBERS)
    pyarrow.feather.write_feather(table, str(tmp_path / "rows.feather"))
    with pyarrow.ipc.new_stream(str(tmp_path / "rows.arrow"), table.schema) as stream:
        stream.write_table(table)
    pyarrow.parquet.write_table(table, tmp_path / "rows.json")  # a name that lies
    for name in ("rows.feather", "rows.arrow", "rows.json"):
        assert rows_of(tmp_path / name) == NUMBERS
    for data, said in ((b"", "it is empty"), (b"ARROW1 torn", "get the file again")):
        (tmp_path / "torn.arrow").write_bytes(data)
        with pytest.raises(UsageError, match=said):
            file_rows(tmp_path / "torn.arrow")


# Rows that are dropped


def test_lines_that_are_no_rows_are_left_out_and_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{oops\n[2]\n{"a": "\xff"}\n{"a": "\xc3\xa9"}\n')
    bad: list = []
    assert rows_of(path, bad=bad) == [{"a": 1}, {"a": "é"}]
    assert [(place.number, why.split(";")[0]) for place, why in bad] == [
        (2, "not JSON (Expecting property name enclosed in double quotes)"),
        (3, "a JSON object was expected, not list"),
        (4, "it is no UTF-8"),
    ]
    (tmp_path / "rows.csv").write_bytes(b"a,b\n1,2\n3\n4,\xff\n5,6\n")
    bad = []
    assert rows_of(tmp_path / "rows.csv", bad=bad) == [{"a": "1", "b": "2"}, {"a": "5", "b": "6"}]
    assert [place.number for place, _ in bad] == [3, 4]
    (tmp_path / "rows.json").write_text('[{"a": 1}, 2, {"a": 3}]')
    bad = []
    assert rows_of(tmp_path / "rows.json", bad=bad) == [{"a": 1}, {"a": 3}]
    assert "item 1: an object was expected, not int" in f"{bad[0][0]}: {bad[0][1]}"


def test_a_first_line_that_is_broken_is_one_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1,,}\n{"a": 2}\n{"a": 3}\n')
    with pytest.raises(UsageError, match="line 1: not JSON"):
        file_rows(path)
    bad: list = []
    assert rows_of(path, bad=bad) == [{"a": 2}, {"a": 3}]
    assert len(bad) == 1


def test_dropped_rows_are_told_loudly_and_all_in_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "rows.jsonl"
    path.write_text("oops\n" * 5 + '{"a": 1}\n')
    bad: list = []
    file_rows(path, (), bad)
    file = tell_bad(bad, 1, "my task, train")
    said = capsys.readouterr().err
    assert said.startswith("warning: my task, train: 5 of 6 rows (83.3%) are DROPPED, as on_error=drop says: ")
    assert said.count("\n") == 1
    assert f"{path}, line 3: not JSON" in said
    assert "line 4:" not in said
    assert str(file) in said
    listed = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["row"] for row in listed] == [f"{path}, line {n}" for n in range(1, 6)]


# Folders and the hub


def test_a_folder_holds_a_file_a_split(tmp_path):
    (tmp_path / "train.jsonl").write_text(LINES)
    (tmp_path / "data").mkdir()
    for part in range(2):
        table = pyarrow.Table.from_pylist([NUMBERS[part]])
        pyarrow.parquet.write_table(table, tmp_path / "data" / f"test-0000{part}-of-00002.parquet")
    assert rows_of(tmp_path, "train") == ROWS
    assert rows_of(tmp_path, "validation", "test") == NUMBERS
    (tmp_path / "data" / "test-00001-of-00002.parquet").unlink()
    with pytest.raises(UsageError, match="parts of the split 'test' are missing"):
        file_rows(tmp_path, ("test",))
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"train.csv and train.jsonl are both of the split 'train'; name one"):
        file_rows(tmp_path, ("train",))
    with pytest.raises(UsageError, match="none called dev"):
        file_rows(tmp_path, ("dev",))


def test_what_datasets_saved(tmp_path):
    import datasets

    table = datasets.Dataset.from_list(NUMBERS)
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=table, other=table.select([1])).save_to_disk(tmp_path / "several")
    assert rows_of(tmp_path / "one", "train") == NUMBERS
    assert rows_of(tmp_path / "several", "train") == NUMBERS
    assert rows_of(tmp_path / "several" / "other") == NUMBERS[1:]
    with pytest.raises(UsageError, match="it holds train, other and no split 'test'"):
        file_rows(tmp_path / "several", ("test",))
    (tmp_path / "one" / "state.json").write_text("{")
    with pytest.raises(UsageError, match=r"cannot read .*one: .*save it again"):
        file_rows(tmp_path / "one")


def test_a_name_of_the_hub(tmp_path, monkeypatch):
    module = types.ModuleType("datasets")
    module.load_dataset = lambda name, config, split: {"train": NUMBERS, "test": NUMBERS[:1]}
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.chdir(tmp_path)
    found = named_rows("owner/name", ("validation", "test"))
    assert [row for row, _ in found] == NUMBERS[:1]
    assert str(found[0][1]) == "owner/name, test, row 0"
    with pytest.raises(UsageError, match="owner/name: it holds train, test and no split 'dev'"):
        named_rows("owner/name", ("dev",))
    for name in ("owner/name.jsonl", "one", "a/b/c", "/owner/name"):
        with pytest.raises(UsageError, match="no such file"):
            named_rows(name, ("train",))

    def offline(*names, split):
        raise ConnectionError("no network")

    module.load_dataset = offline
    with pytest.raises(UniSDError, match="cannot load owner/name from the hub: no network; check the network"):
        named_rows("owner/name", ("train",))


# Round trips

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)


@given(
    st.lists(
        st.fixed_dictionaries({"a": CELLS, "b, c": CELLS, 'd"': CELLS}), min_size=2, max_size=4
    )  # one row might be columns, or objects by id
)
@hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=50, deadline=None
)
@hypothesis.example([{"a": "\r", "b, c": "\u2028", 'd"': '"'}, {"a": "[", "b, c": "{", 'd"': "\x85"}])
def test_every_format_gives_the_rows_that_were_written(tmp_path, rows):
    table = pyarrow.Table.from_pylist(rows)
    (tmp_path / "a.jsonl").write_bytes("\n".join(map(json.dumps, rows)).encode())
    (tmp_path / "b.json").write_bytes(json.dumps(rows, ensure_ascii=False, indent=1).encode())
    (tmp_path / "c.csv").write_bytes(as_csv(rows).encode())
    (tmp_path / "d.tsv").write_bytes(as_csv(rows, "\t").encode())
    pyarrow.parquet.write_table(table, tmp_path / "e.parquet")
    pyarrow.feather.write_feather(table, str(tmp_path / "f.feather"))
    (tmp_path / "g.csv.gz").write_bytes(gzip.compress(as_csv(rows, ";").encode()))
    for path in sorted(tmp_path.iterdir()):
        assert rows_of(path, "train", bad=[]) == rows, path.name
