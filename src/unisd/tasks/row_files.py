"""Rows as people bring them, in a file or a folder: what it holds says how it is read, and not what it is called."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from unisd.errors import UsageError, warn
from unisd.files import cache_folder, fingerprint, write_jsonl
from unisd.tasks.sources import Place, Row, hub_set, optional

OnError = Literal["stop", "drop"]
"""What becomes of a row that cannot be read: the work stops, or the row is left out, counted and named."""
Rows = list[tuple[Row, Place]]
Bad = list[tuple[Place, str]]
"""Rows that were left out, and why."""

FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather")
"""Endings of files with rows; one of `PACKED` may follow those of texts."""
PACKED = (".gz", ".bz2", ".xz", ".zst")
_TEXTS = FILES[:5]
_WRAPPERS = ("data", "rows", "examples")
"""Keys under which a JSON file may keep its rows, beside a version or a licence."""
_UNPACKED: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ\x00": lzma.decompress,
    b"\x28\xb5\x2f\xfd": lambda data: _zstandard(data),
}
_NO_TEXT = {
    b"PK\x03\x04": "it is a zip archive or a spreadsheet; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "it is a spreadsheet; save the sheet as CSV",
    b"SQLite": "it is a database; save the table as CSV",
    b"version https://git-lfs": "it is a pointer of Git LFS and not the file; fetch it with git lfs pull",
}


def has_rows(name: str) -> bool:
    """Return whether a file of this name can be read by :func:`file_rows`."""
    return name.lower().endswith(FILES) or _bare(name).endswith(_TEXTS)


def is_csv(name: str) -> bool:
    """Return whether a file of this name is one of separated values, which know no types."""
    return _bare(name).endswith((".csv", ".tsv"))


def file_rows(path: Path, splits: Sequence[str] = (), bad: Bad | None = None) -> Rows:
    """Read the rows of a file, or of a folder that holds one file a split or what ``datasets`` saved.

    JSON may be a list, an object a line or behind the other, columns, or objects by id; CSV may be separated by commas,
    semicolons or tabs; texts may be packed (`PACKED`).

    Args:
        path: the file or the folder.
        splits: names of the split that is wanted, best first, where there are several.
        bad: where rows that cannot be read are listed; None: the first one raises.

    Raises:
        UsageError: there is nothing of that name, or of that split, its ending is of no known kind, or it is damaged.
    """
    if path.is_dir():
        return _folder_rows(path, splits, bad)
    if not path.exists():
        raise UsageError(f"{path}: no such file; check the path")
    if not has_rows(path.name):
        raise UsageError(f"{path}: no file with one of the endings {', '.join(FILES)}; save it as one of them")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    if path.name.lower().endswith(FILES[len(_TEXTS) :]) or data.startswith((b"PAR1", b"ARROW1")):
        return _table_rows(path, data)
    text = _decoded(path, data, lenient=bad is not None)
    if is_csv(path.name) and not _is_json(text):
        return _csv_rows(path, text, bad)
    return _json_rows(path, text, splits, bad)


def _bare(name: str) -> str:
    name = name.lower()
    return next((name.removesuffix(end) for end in PACKED if name.endswith(end)), name)


def tell_bad(bad: Bad, kept: int, what: str) -> Path:
    """Warn of rows that were left out: how many, the first ones and why; return the file that names them all.

    Args:
        bad: the rows' places, and why each was left out.
        kept: rows that stayed.
        what: whose rows they are.

    Raises:
        UniSDError: the file cannot be written.
    """
    places = [str(place) for place, _ in bad]
    file = cache_folder() / "dropped" / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', what)}-{fingerprint(places[0])[:8]}.jsonl"
    write_jsonl(file, [{"row": str(place), "why": why} for place, why in bad])
    first = "; ".join(f"{place}: {why}" for place, why in bad[:3]) + ("; …" if len(bad) > 3 else "")
    share = f"{len(bad):,} of {len(bad) + kept:,} rows ({len(bad) / (len(bad) + kept):.1%})"
    warn(f"{what}: {share} are DROPPED, as on_error=drop says: {first} (all of them: {file})")
    return file


# Bytes


def _decoded(path: Path, data: bytes, lenient: bool) -> str:
    """Return a file's text; where ``lenient``, bytes that are no UTF-8 become halves of pairs, which no text holds."""
    for magic, unpack in _UNPACKED.items():
        if data.startswith(magic):
            try:
                data = unpack(data)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise UsageError(f"cannot read {path}: {_line(error)}; get the file again") from error
            break
    for magic, why in _NO_TEXT.items():
        if data.startswith(magic):
            raise UsageError(f"cannot read {path}: {why}")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in data[:400]:
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in (data[:1], data[1:2])
        what = "UTF-16" if wide else "no text"
        raise UsageError(f"cannot read {path}: line 1 is no UTF-8 (it is {what}); save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if lenient:
            return data.decode("utf-8-sig", "surrogateescape")
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"cannot read {path}: line {line} is no UTF-8 ({error.reason}); save it as UTF-8") from error


def _zstandard(data: bytes) -> bytes:
    arrow = optional("pyarrow", "zstandard is")
    with arrow.CompressedInputStream(arrow.BufferReader(data), "zstd") as stream:
        return bytes(stream.read())


def _table_rows(path: Path, data: bytes) -> Rows:
    if not data:
        raise UsageError(f"cannot read {path}: it is empty; get the file again")
    try:
        if data[:4] == b"PAR1":
            table = optional("pyarrow.parquet", f"{path} is").read_table(io.BytesIO(data))
        else:
            ipc = optional("pyarrow.ipc", f"{path} is")
            table = (ipc.open_file if data[:6] == b"ARROW1" else ipc.open_stream)(data).read_all()
        rows = table.to_pylist()
    except UsageError:
        raise
    except Exception as error:  # of many kinds, for a damaged file
        raise UsageError(f"cannot read {path}: {_line(error)}; get the file again") from error
    if twice := [name for name, times in Counter(table.column_names).items() if times > 1]:
        raise UsageError(f"{path}: two columns are called {twice[0]!r}; rename one of them")
    return _numbered(rows, path)


def _numbered(rows: Iterable[Any], where: Any) -> Rows:
    return [(row, Place(where, number, "row")) for number, row in enumerate(rows)]


# JSON


def _json_rows(path: Path, text: str, splits: Sequence[str], bad: Bad | None) -> Rows:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if len(lines) > 1 and any(isinstance(_parsed(line), dict) for _, line in lines[: 5 if bad is None else None]):
        listed = text.lstrip().startswith("[") and _parsed(text) is not None
        if not listed:
            return list(_of_lines(path, lines, bad))
    try:
        value = json.loads(text) if lines else []
    except (ValueError, RecursionError) as error:
        if several := _one_behind_the_other(path, text):
            return several
        line = getattr(error, "lineno", 1)
        raise UsageError(f"{path}, line {line}: not JSON ({_why(error)}); repair or remove the line") from error
    by_line = _bare(path.name).endswith((".jsonl", ".ndjson")) and len(lines) == 1
    if by_line and isinstance(value, dict) and not (splits and any(name in value for name in splits)):
        return [(value, Place(path, lines[0][0]))]
    return _of_value(path, value, splits, bad)


def _of_lines(path: Path, lines: Iterable[tuple[int, str]], bad: Bad | None) -> Iterator[tuple[Row, Place]]:
    for number, line in lines:
        place, why = Place(path, number), ""
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                why = f"a JSON object was expected, not {type(row).__name__}; remove the line"
            elif bad is not None and not line.isascii():
                why = _no_utf8(line)
        except (ValueError, RecursionError) as error:
            row, why = {}, f"not JSON ({_why(error)}); repair or remove the line"
        if not why:
            yield row, place
        elif bad is None:
            raise UsageError(f"{place}: {why}")
        else:
            bad.append((place, why))


def _one_behind_the_other(path: Path, text: str) -> Rows:
    """Return the objects of a text that holds nothing but two objects or more, as jq writes them; else nothing."""
    decoder, rows, at = json.JSONDecoder(), [], 0
    while match := re.compile(r"\s*(?=\{)").match(text, at):
        try:
            row, end = decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            return []
        rows.append((row, Place(path, text.count("\n", 0, match.end()) + 1)))
        at = end
    return rows if len(rows) > 1 and not text[at:].strip() else []


def _of_value(path: Path, value: Any, splits: Sequence[str], bad: Bad | None) -> Rows:
    """Return the rows of a whole JSON file: a list, a split of several, columns, objects by id, or one row."""
    if isinstance(value, dict):
        for name in [*splits, *_WRAPPERS]:
            if _is_rows(value.get(name)):
                return _of_value(path, value[name], (), bad)
        kinds = {type(inner) for inner in value.values()}
        if not kinds:
            return []
        if kinds == {list} and all(map(_is_rows, value.values())) and splits:
            raise UsageError(f"{path}: it holds {', '.join(value)} and no split '{splits[0]}'; name one of them")
        if kinds == {list}:
            value = _of_columns(path, value)
        elif kinds == {dict} and all(
            inner and list(inner) == list(map(str, range(len(inner)))) for inner in value.values()
        ):
            value = _of_columns(path, {name: list(inner.values()) for name, inner in value.items()})  # as pandas has it
        elif kinds == {dict}:
            value = [{"id": key, **inner} for key, inner in value.items()]
        else:
            value = [value]
    if not isinstance(value, list):
        raise UsageError(f"{path}: a list of objects was expected, not {type(value).__name__}; get the file again")
    rows: Rows = []
    for number, item in enumerate(value):
        place = Place(path, number, "item")
        if isinstance(item, dict):
            rows.append((item, place))
            continue
        why = f"an object was expected, not {type(item).__name__}; write each row as {{column: value}}"
        if bad is None:
            raise UsageError(f"{place}: {why}")
        bad.append((place, why))
    return rows


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _of_columns(path: Path, columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{name}: {length}" for name, length in islice(lengths.items(), 4))
        raise UsageError(f"{path}: its columns differ in length ({told}); write one object a line")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_json(text: str) -> bool:
    """Return whether a text in a file that is called CSV is JSON all the same."""
    first = text.lstrip().partition("\n")[0]
    return first[:1] in ("{", "[") and (isinstance(_parsed(first), dict) or _parsed(text) is not None)


# CSV


def _csv_rows(path: Path, text: str, bad: Bad | None) -> Rows:
    csv.field_size_limit(2**31 - 1)  # the default refuses texts of more than 131,072 characters
    # Without `newline` a text would be split, within its fields, at characters that end no line of a CSV file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(path, text), strict=True)
    rows: Rows = []
    names: list[str] = []
    try:
        for fields in reader:
            place = Place(path, reader.line_num)
            if not fields:
                continue
            if not names:
                names = _header(path, fields)
                continue
            why = "" if len(fields) == len(names) else _other_length(len(fields), len(names))
            if not why and bad is not None:
                why = _no_utf8("".join(fields))
            if not why:
                rows.append((dict(zip(names, fields, strict=True)), place))
            elif bad is None:
                raise UsageError(f"{place}: {why}")
            else:
                bad.append((place, why))
    except csv.Error as error:
        what = "a quote is never closed" if "end of data" in str(error) else str(error)
        raise UsageError(f"{path}, line {reader.line_num}: not CSV ({what}); repair the quotes") from error
    return rows


def _other_length(found: int, named: int) -> str:
    return f"not as many fields as the header names ({found}, not {named}); put texts with separators into quotes"


def _header(path: Path, names: list[str]) -> list[str]:
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise UsageError(f"{path}: the header names {twice[0]!r} twice; rename one of the columns")
    return names


def _separator(path: Path, text: str) -> str:
    """Return what separates fields: what stands oftenest in the header, outside of quotes."""
    header = re.sub(r'"[^"]*"', "", next((line for line in text.splitlines() if line.strip()), ""))
    usual = "\t" if _bare(path.name).endswith(".tsv") else ","
    return max((usual, ",", ";", "\t"), key=header.count)


def _no_utf8(text: str) -> str:
    """Return why bytes that were read leniently are no text; empty where they are."""
    return "it is no UTF-8; save it as UTF-8" if re.search("[\udc80-\udcff]", text) else ""


# Folders and sets on the hub


def named_rows(name: str | Path, splits: Sequence[str] = (), bad: Bad | None = None) -> Rows:
    """Read the rows of a file or a folder (:func:`file_rows`), or of the set on the hub that is called ``owner/name``.

    Raises:
        UsageError: as :func:`file_rows`, or there is no such set.
        UniSDError: the hub cannot be reached.
    """
    path = Path(os.path.expanduser(name))  # which leaves what is nobody's home as it is
    if path.exists() or has_rows(path.name) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", str(name)):
        return file_rows(path, splits, bad)
    found = hub_set(str(name), None, None)
    split = _chosen(found, splits, str(name))
    return _numbered(found[split], f"{name}, {split}")


def _chosen(found: Mapping[str, Any], splits: Sequence[str], where: object) -> str:
    """Return which of several splits is wanted."""
    name = next((name for name in splits if name in found), None)
    if name is None:
        wanted = f" and no split '{splits[0]}'" if splits else ""
        raise UsageError(f"{where}: it holds {', '.join(found)}{wanted}; name one of them")
    return name


def _folder_rows(folder: Path, splits: Sequence[str], bad: Bad | None) -> Rows:
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return _saved_rows(folder, splits)
    for name in splits:
        found: list[Path] = []
        for place in (folder, folder / "data"):
            own = re.compile(rf"{re.escape(name)}(-\d+-of-\d+)?\.", re.IGNORECASE)
            inside = sorted(place.iterdir()) if place.is_dir() else []
            found += [path for path in inside if own.match(path.name) and has_rows(path.name)]
        if found:
            _check_shards(folder, name, found)
            return [row for path in found for row in file_rows(path, splits, bad)]
    wanted = f", and none called {splits[0]} (.jsonl, .csv, .parquet, …) lies in it" if splits else ""
    raise UsageError(f"{folder}: it is a folder{wanted}; name a file in it")


def _check_shards(folder: Path, name: str, found: Sequence[Path]) -> None:
    """Raise a UsageError unless files are one, or all parts of one."""
    whole = {part[1] for path in found if (part := re.search(r"-\d+-of-(\d+)\.", path.name))}
    if len(found) > 1 and (len(whole) != 1 or len({_ending(path) for path in found}) > 1):
        raise UsageError(f"{folder}: {found[0].name} and {found[1].name} are both of the split '{name}'; name one")
    if whole and int(whole.pop()) != len(found):
        raise UsageError(f"{folder}: parts of the split '{name}' are missing ({len(found)} lie there); get them")


def _ending(path: Path) -> str:
    return re.sub(r"^.*?-of-\d+", "", path.name)


def _saved_rows(folder: Path, splits: Sequence[str]) -> Rows:
    """Read what ``save_to_disk`` of ``datasets`` wrote: one set, or several splits."""
    datasets = optional("datasets", f"{folder} is")
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # of many kinds, for a damaged folder
        raise UsageError(f"cannot read {folder}: {_line(error)}; save it again") from error
    if isinstance(found, Mapping):
        name = _chosen(found, splits, folder)
        found, folder = found[name], folder / name
    return _numbered(found.with_format(None), folder)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _why(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(getattr(error, "msg", error))
