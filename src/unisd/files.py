"""Files that are written whole or not at all, and fingerprints that caches are keyed by."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from unisd.errors import UniSDError, UsageError


def cache_folder() -> Path:
    """Return the user's cache folder: ``$UNISD_CACHE``, else ``$XDG_CACHE_HOME/unisd``, else ``~/.cache/unisd``."""
    if chosen := os.environ.get("UNISD_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unisd"


@contextlib.contextmanager
def named_write_errors(path: Path) -> Iterator[None]:
    """Turn whatever a library raises where nothing more can be written into one line that names ``path``.

    Raises:
        UniSDError: the disk is full, or there is no permission. Other errors pass as they are.
    """
    try:
        yield
    except Exception as error:
        cause = _write_failure(error)
        if cause is None:
            raise
        raise UniSDError(f"cannot write {path}: {cause}; free space or choose another folder") from error


def _write_failure(error: Exception) -> str | None:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if type(error).__name__ == "SafetensorError" and "I/O error" in str(error):
        return str(error).split("I/O error: ")[-1]
    if isinstance(error, RuntimeError) and ("inline_container" in str(error) or "PytorchStreamWriter" in str(error)):
        return "the file was cut short (is the disk full?)"
    return None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path`` atomically, on failure it is removed.

    Raises:
        UniSDError: the file cannot be written (no space, no permission).
    """
    temporary: Path | None = None
    try:
        with named_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
            os.close(handle)
            temporary = Path(name)
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path, owner: bool = True) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it takes the place of ``path``, on failure it is removed.

    Args:
        path: the folder to write.
        owner: whether this process moves it into place; of several that write together, one does.

    Raises:
        UniSDError: it cannot be written (no space, no permission).
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with named_write_errors(path):
            temporary.mkdir(parents=True, exist_ok=True)
            yield temporary
            if owner:
                shutil.rmtree(path, ignore_errors=True)
                temporary.replace(path)
    finally:
        if owner:
            shutil.rmtree(temporary, ignore_errors=True)


def check_writable(path: Path, option: str, folder: bool) -> None:
    """Make sure, before any work, that ``path`` can be written later: as a folder, or as a file.

    Raises:
        UsageError: something of the other kind is there, or there is no permission; ``option`` is named.
    """
    if path.exists() and path.is_dir() != folder:
        what = "a file" if folder else "a folder"
        raise UsageError(f"{option} {path}: {what} of that name exists; choose another name")
    existing = next(p for p in [path, *path.absolute().parents] if p.exists())
    if not existing.is_dir() and existing != path:
        raise UsageError(f"{option} {path}: {existing} is a file, not a folder; choose another name")
    if not os.access(existing, os.W_OK):
        raise UsageError(f"{option} {path}: no permission to write in {existing}; choose another folder")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path``, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path``, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line to ``path``, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read one JSON object a line.

    Raises:
        UsageError: the file is missing, or a line is not a JSON object; the message names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"no such file: {path}; check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}; it must be UTF-8 text, one JSON object a line") from error
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits, and deep nesting, too
            why = getattr(error, "msg", error)
            raise UsageError(f"{path}, line {number}: not JSON ({why}); repair or remove the line") from error
        if not isinstance(row, dict):
            raise UsageError(f"{path}, line {number}: a JSON object was expected, not {type(row).__name__}")
        rows.append(row)
    return rows


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no stable fingerprint")


def fingerprint(*parts: Any) -> str:
    """Return a stable hexadecimal hash (16 characters) of JSON-like values, dataclasses, sets and paths."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return hashlib.blake2b(text.encode("utf-8"), digest_size=8).hexdigest()


def stable_integer(*parts: Any) -> int:
    """Return a stable integer in [0, 2⁶³) for JSON-like ``parts``: a seed that does not depend on the process."""
    return int(fingerprint(*parts), 16) >> 1
