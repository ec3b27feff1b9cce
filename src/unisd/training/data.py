"""What a data set may come as: every container that people bring is read into a list of rows here."""

import os
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

from unisd.errors import UniSDError, UsageError, warn
from unisd.tasks.row_files import Bad, OnError, is_csv, named_rows, tell_bad
from unisd.tasks.sources import Row

STREAMED = 100_000
"""Rows of a stream that are held at most: what has no length may have no end."""
_TRAIN = ("train", "training")
_VALIDATION = ("validation", "valid", "val", "dev", "eval")
_HELD_OUT = {"eval_dataset": (*_VALIDATION, "test"), "test_dataset": ("test", *_VALIDATION)}


def training_rows(given: Any, on_error: OnError = "stop") -> list[Any]:
    """Return the rows of a training set.

    Args:
        given: a list of mappings (or any other sequence or iterable of them), a data set of ``datasets`` or torch, a
            table (pandas, polars, Arrow), the path of a file or a folder (:mod:`unisd.tasks.row_files`), the name of a
            set on the hub (``owner/name``), or a mapping of splits. Of several splits ``train`` is taken. A stream is
            read to its end, up to `STREAMED` rows.
        on_error: drop leaves out what of a file is no row, with a warning and a list in a file; stop raises.

    Raises:
        UsageError: it is something else, a damaged file, or a stream that does not end.
    """
    return _rows(_split(given, _TRAIN, "train_dataset"), "train_dataset", _TRAIN, on_error)


def evaluation_rows(
    given: Any, where: str = "eval_dataset", on_error: OnError = "stop"
) -> list[Any] | dict[str, list[Any]]:
    """Return the rows of an evaluation set, or of several by name.

    Args:
        given: as :func:`training_rows` takes it, but that a plain mapping holds sets by name; of a ``DatasetDict`` the
            split for validation is taken, or else the one for tests.
        where: ``eval_dataset``, or ``test_dataset``, of which the split for tests is taken first.
        on_error: as there.

    Raises:
        UsageError: as there.
    """
    if not isinstance(given, Mapping) or _is_dataset_dict(given) or "prompt" in given:
        return _rows(_split(given, _HELD_OUT[where], where), where, _HELD_OUT[where], on_error)
    if not given or not all(isinstance(name, str) and name for name in given):
        raise UsageError(f"{where}: a mapping of names to data sets was expected; give each a name")
    splits = _HELD_OUT[where]
    return {name: _rows(rows, f"{where}[{name!r}]", splits, on_error) for name, rows in given.items()}


def _split(given: Any, names: Sequence[str], where: str) -> Any:
    if not isinstance(given, Mapping) or "prompt" in given:
        return given
    for name in names:
        if name in given:
            return given[name]
    held = ", ".join(map(str, given)) or "nothing"
    raise UsageError(f"{where}: it holds {held:.200} and no split '{names[0]}'; choose one, as with data['…']")


def _is_dataset_dict(given: Any) -> bool:
    # Whoever holds one has imported the package, which need not be installed otherwise, and takes a second to import.
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(given, datasets.DatasetDict | datasets.IterableDatasetDict)


def _rows(given: Any, where: str, splits: Sequence[str], on_error: OnError) -> list[Any]:
    if isinstance(given, Mapping):
        whole = all(isinstance(value, list | tuple) for value in given.values())
        todo = "datasets.Dataset.from_dict(it) makes rows of columns" if whole else "put rows into a list"
        raise UsageError(f"{where}: a mapping is no list of rows; {todo}")
    if isinstance(given, str | os.PathLike):
        return _named(given, where, splits, on_error)
    if isinstance(given, DataLoader):
        raise UsageError(f"{where}: a DataLoader was given; give its data set, for the trainer makes the batches")
    if hasattr(given, "to_pylist"):  # Arrow
        return list(given.to_pylist())
    if hasattr(given, "to_dicts"):  # polars
        return list(given.to_dicts())
    if hasattr(given, "columns") and hasattr(given, "to_dict"):  # pandas
        names = list(given.columns)
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"{where}: the table has two columns {twice[0]!r}; rename one of them")
        return list(given.to_dict("records"))
    # Of datasets: rows, whatever they are shown as; but a transform that the user set makes them.
    if hasattr(given, "with_format") and getattr(given, "format", {}).get("type") != "custom":
        given = given.with_format(None)
    return _listed(given, where)


def _listed(given: Any, where: str) -> list[Any]:
    sized, indexed, iterable = (hasattr(type(given), name) for name in ("__len__", "__getitem__", "__iter__"))
    if isinstance(given, bytes | bytearray | type) or not (indexed or iterable):
        what = "a function was given; call it" if callable(given) else f"no data set, but {type(given).__name__}"
        raise UsageError(f"{where}: {what}; give a list of rows, a datasets.Dataset, a table or a file's path")
    if sized:
        return list(given) if iterable else [given[i] for i in range(len(given))]
    rows = list(islice(iter(given), STREAMED + 1))
    if len(rows) > STREAMED:
        raise UsageError(f"{where}: a stream of more than {STREAMED:,} rows is not held; give a part of it (.take(n))")
    warn(f"{where}: a stream has no length, so its {len(rows):,} rows were read and are held in memory")
    return rows


def _named(name: str | os.PathLike[str], where: str, splits: Sequence[str], on_error: OnError) -> list[Any]:
    bad: Bad | None = [] if on_error == "drop" else None
    name = os.fspath(name)
    try:
        rows = named_rows(name, splits, bad)
    except UniSDError as error:
        raise type(error)(f"{where}: {error}") from error
    if bad:
        tell_bad(bad, len(rows), where)
    return [_with_gaps(row) if is_csv(str(place.source)) else row for row, place in rows]


def _with_gaps(row: Row) -> Row:
    """Return a row of a CSV file, which has no other way to leave a cell out than an empty text."""
    return {name: value or None for name, value in row.items()}
