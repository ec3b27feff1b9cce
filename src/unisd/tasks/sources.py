"""Where a task's data lies: the hub, or a folder with the official files; each row with its place, for messages."""

import contextlib
import csv
import gzip
import importlib
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisd import hub
from unisd.errors import UniSDError, UsageError
from unisd.tasks.base import Example

Row = Mapping[str, Any]
FILES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
"""Endings of files with rows; ``.gz`` may follow all but the last."""


@dataclass(frozen=True)
class Place:
    """Where a row came from, as a message names it."""

    source: str | Path
    number: int
    unit: str = "line"

    def __str__(self) -> str:
        return f"{self.source}, {self.unit} {self.number}"


def check_split(task: Any, split: str) -> None:
    """Raise a UsageError that lists the splits unless ``task`` has this one."""
    if split not in task.splits:
        raise UsageError(f"{task.name} has no split '{split}'; choose one of {', '.join(task.splits)}")


def official_folder(task: str, source: str, sample: bool = False) -> Path:
    """Return the folder with a task's official files: ``source``, or the folder named like the task inside it.

    ``sample`` says that the task comes with a sample, so that a message can name it.

    Raises:
        UsageError: there is no such folder.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        bundled = " sample," if sample else ""
        raise UsageError(f"{task}: no such source: {source}; use hub,{bundled} or a folder with the official files")
    inside = folder / task
    return inside if inside.is_dir() else folder


def first_file(task: str, folder: Path, *patterns: str) -> Path:
    """Return the first file in ``folder`` or its direct subfolders that matches; earlier patterns rank first.

    Raises:
        UsageError: none does.
    """
    for pattern in patterns:
        if found := sorted([*folder.glob(pattern), *folder.glob(f"*/{pattern}")]):
            return found[0]
    raise UsageError(f"{task}: {folder} holds no {' or '.join(patterns)}; put the official file there")


def hub_rows(
    hub_id: str, config: str | None, split: str, *, gated: bool = False, sample: bool = False
) -> list[tuple[Row, Place]]:
    """Return the rows of a set on the hub; ``gated`` sets need an account that was given access.

    ``sample`` says that the task comes with a sample, so that a message can name it.

    Raises:
        UniSDError: it cannot be had; the message says what to do, for a gated set how to get access.
    """
    bundled = "'sample' or " if sample else ""
    instead = f"use {bundled}a folder with the official files as source"
    hub.require(hub_id, "data set", instead)
    datasets = optional("datasets", f"{hub_id} of the hub is")
    name = hub_id if config is None else f"{hub_id} ({config})"
    try:
        with hub.access(hub_id, "data set", instead):
            rows = list(datasets.load_dataset(hub_id, config, split=split))
    except UniSDError:
        raise
    except Exception as error:  # the client raises many kinds of errors for one fact: the data cannot be had
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        todo = f"check the network, or {instead}"
        if gated:
            todo = f"accept its terms at huggingface.co/datasets/{hub_id}, then hf auth login; or {todo}"
        raise UniSDError(f"cannot load {name} from the hub: {cause}; {todo}") from error
    return [(row, Place(f"{name}, {split}", number, "row")) for number, row in enumerate(rows)]


def optional(module: str, what: str) -> Any:
    """Import what few sources need: it may be missing, and takes a second that the others should not cost.

    Args:
        module: its name.
        what: what is read with it, and the verb, for the message.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or module).partition(".")[0]
        todo = f"pip install {package}, or give JSONL, JSON or CSV files"
        raise UsageError(f"{what} read with the package {package}, which is missing; {todo}") from error


def has_rows(name: str) -> bool:
    """Return whether a file of this name can be read by :func:`file_rows`."""
    return name.lower().endswith(FILES) or name.lower().removesuffix(".gz").endswith(FILES[:-1])


def file_rows(path: Path) -> list[tuple[Row, Place]]:
    """Read a file of rows by its ending; JSON may be one list, or one object a line, whatever it is called.

    Raises:
        UsageError: no such file, an ending of no known kind, or a damaged file (named, with its line).
    """
    if path.is_dir() or not path.exists():
        what = "is a folder; name a file in it" if path.is_dir() else "no such file; check the path"
        raise UsageError(f"{path}: {what}")
    if not has_rows(path.name):
        raise UsageError(f"{path}: no file with one of the endings {', '.join(FILES)}; save it as one of them")
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    if kind == ".parquet":
        return _parquet_rows(path)
    if kind == ".csv":
        return csv_rows(path, unique=True)
    return json_items(path) if _holds_one_value(path, kind) else json_lines(path)


def _holds_one_value(path: Path, kind: str) -> bool:
    lines = [line for line in _text(path).split("\n") if line.strip()]
    if not lines or lines[0].lstrip()[:1] == "[":
        return bool(lines)
    try:
        return kind == ".json" and not (len(lines) > 1 and isinstance(json.loads(lines[0]), dict))
    except (ValueError, RecursionError):
        return kind == ".json"


def _parquet_rows(path: Path) -> list[tuple[Row, Place]]:
    parquet = optional("pyarrow.parquet", f"{path} is")
    try:
        rows = parquet.read_table(path).to_pylist()
    except Exception as error:  # of many kinds, for a damaged file
        raise UsageError(f"cannot read {path}: {' '.join(str(error).split())[:200]}; get the file again") from error
    return [(row, Place(path, number, "row")) for number, row in enumerate(rows)]


def json_lines(path: Path) -> list[tuple[Row, Place]]:
    """Read one JSON object a line; a name that ends with ``.gz`` is unpacked.

    Raises:
        UsageError: the file cannot be read, or a line is not a JSON object (the message names it).
    """
    rows: list[tuple[Row, Place]] = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            rows.append((_json_object(line, Place(path, number)), Place(path, number)))
    return rows


def json_items(path: Path) -> list[tuple[Row, Place]]:
    """Read a JSON file that holds one list of objects, or one object of objects (its keys become ``id``).

    Raises:
        UsageError: the file cannot be read or is not JSON (the message names the line), or holds something else.
    """
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise UsageError(f"{path}, line {line}: not JSON ({_why(error)}); get the file again") from error
    if isinstance(value, dict):
        value = [{"id": key, **item} if isinstance(item, dict) else item for key, item in value.items()]
    if not isinstance(value, list):
        raise UsageError(f"{path}: a list of objects was expected, not {type(value).__name__}; get the file again")
    rows: list[tuple[Row, Place]] = []
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise UsageError(f"{path}, item {number}: an object was expected, not {type(item).__name__}")
        rows.append((item, Place(path, number, "item")))
    return rows


def csv_rows(path: Path, unique: bool = False) -> list[tuple[Row, Place]]:
    """Read a CSV file with a header line, whose names must differ where ``unique`` says so.

    Raises:
        UsageError: the file cannot be read, or a row has not as many fields as the header (the message names it).
    """
    csv.field_size_limit(2**31 - 1)  # the default refuses texts of more than 131,072 characters
    # Without `newline` a text would be split, within its fields, at characters that end no line of a CSV file.
    reader = csv.DictReader(io.StringIO(_text(path), newline=""))
    rows: list[tuple[Row, Place]] = []
    try:
        names = reader.fieldnames or []
        if unique and (twice := [name for name in names if names.count(name) > 1]):
            raise UsageError(f"{path}: the header names {twice[0]!r} twice; rename one of the columns")
        for row in reader:
            place = Place(path, reader.line_num)
            if None in row or None in row.values():
                raise UsageError(f"{place}: not as many fields as the header names; get the file again")
            rows.append((row, place))
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: not CSV ({error}); get the file again") from error
    return rows


def checked(examples: Sequence[Example], task: str, where: object) -> list[Example]:
    """Return the examples of a split if there are some and each has an id of its own; ``where`` names their source.

    Raises:
        UsageError: there are none, or an id is empty or comes a second time.
    """
    if not examples:
        raise UsageError(f"{task}: no items in {where}; check the source and the task's options")
    seen: set[str] = set()
    for number, example in enumerate(examples, start=1):
        if not example.id.strip():
            raise UsageError(f"{task}: item {number} of {where} has no id; get the data again")
        if example.id in seen:
            raise UsageError(f"{task}: the id {example.id} comes a second time in {where}; remove one of the two")
        seen.add(example.id)
    return list(examples)


def identifier(value: Any) -> str:
    """Return a cell that holds an id as text; ValueError unless it is a whole number or a text that is not empty."""
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise ValueError(f"an id was expected, not {value!r}")
    return str(value)


def texts(value: Any) -> list[str]:
    """Return a cell that holds a list of texts; TypeError for any other."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError(f"a list of texts was expected, not {value!r:.60}")
    return value


def whole(value: Any) -> int:
    """Return a cell that holds a whole number; TypeError for any other, and for true and false."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a whole number was expected, not {value!r:.60}")
    return value


@contextlib.contextmanager
def reading(place: object, what: str) -> Iterator[None]:
    """Turn what goes wrong while a row is read into one line that names ``place`` and ``what`` it should hold.

    Raises:
        UsageError: in place of a KeyError, ValueError, TypeError, AttributeError, IndexError or UsageError.
    """
    try:
        yield
    except KeyError as error:
        raise UsageError(f"{place}: the field {error} is missing; get the data again") from error
    except (ValueError, TypeError, AttributeError, IndexError, UsageError) as error:
        raise UsageError(f"{place}: not {what} ({error}); get the data again") from error


def _json_object(line: str, place: Place) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: not JSON ({_why(error)}); repair or remove the line") from error
    if not isinstance(row, dict):
        raise UsageError(f"{place}: a JSON object was expected, not {type(row).__name__}")
    return row


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    return str(getattr(error, "msg", error))


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix.lower() == ".gz" else data).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"no such file: {path}; check the path") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"cannot read {path}: line {line} is no UTF-8 ({error.reason}); save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"cannot read {path}: {error}; it must be UTF-8 text") from error
