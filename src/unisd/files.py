"""Files that are written whole or not at all, and fingerprints that caches are keyed by."""

import contextlib
import dataclasses
import errno
import glob
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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

    What came to lie there is on the disk: the file first, then its name. What a killed process left of an earlier try
    is removed.

    Raises:
        UniSDError: the file cannot be written (no space, no permission).
    """
    temporary: Path | None = None
    try:
        with named_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_left(path)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{_writer()}.", suffix=_PARTIAL)
            os.close(handle)
            temporary = Path(name)
            yield temporary
            to_disk(temporary)
            temporary.chmod(0o644)
            temporary.replace(path)
            to_disk(path.parent)
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
    temporary, former = (path.with_name(f".{path.name}{part}{_PARTIAL}") for part in ("", ".former"))
    try:
        with named_write_errors(path):
            if owner:  # what a killed process left must not get in among what is written now
                for left in (temporary, former):
                    shutil.rmtree(left, ignore_errors=True)
                temporary.mkdir(parents=True)
            yield temporary
            if owner:
                tree_to_disk(temporary)
                if path.exists():
                    path.replace(former)
                temporary.replace(path)
                to_disk(path.parent)
    finally:
        if owner:
            for left in (temporary, former):
                shutil.rmtree(left, ignore_errors=True)


_PARTIAL = ".partial"


def _writer() -> str:
    """Return the name of this process among all that may write into a folder: its machine, and its number there."""
    machine = hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()
    return f"{machine}-{os.getpid()}"


def _remove_left(path: Path) -> None:
    """Remove what processes of this machine that live no more left when they wrote ``path``."""
    machine = _writer().split("-")[0]
    for left in path.parent.glob(f".{glob.escape(path.name)}.{machine}-*{_PARTIAL}"):
        number = left.name.removeprefix(f".{path.name}.{machine}-").split(".")[0]
        if number.isdigit() and not process_lives(int(number)):
            left.unlink(missing_ok=True)


def process_lives(number: int) -> bool:
    """Return whether there is a process of this number on this machine."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's, or a number that no process can have
        return True
    return True


def is_partial(path: Path) -> bool:
    """Return whether a file or folder has the name of something half written, by this or an earlier version."""
    return path.name.startswith(".") and path.name.endswith(_PARTIAL)


def remove_partial(folder: Path) -> None:
    """Remove everything half written from a folder that this process alone writes into."""
    for left in filter(is_partial, list(folder.iterdir()) if folder.is_dir() else []):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():  # Windows opens no folders
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot do this for folders: they have no other way.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF) or not path.is_dir():
            raise
    finally:
        os.close(handle)


def tree_to_disk(folder: Path) -> None:
    """Wait until everything in a folder is on the disk: files first, then the folders that name them."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            to_disk(Path(place) / name)
        to_disk(Path(place))


def content_hash(path: Path) -> str:
    """Return a hash (32 hexadecimal characters) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def contents(
    folder: Path, leave_out: Collection[str] = (), names: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Return size and hash of every file in a folder, or of those named, by its path there."""
    if names is not None:
        return _contents(folder, names)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return _contents(folder, [name for name in names if name not in leave_out and not is_partial(Path(name))])


def _contents(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    with ThreadPoolExecutor(4) as pool:  # hashing lets other threads work
        hashes = list(pool.map(lambda name: content_hash(folder / name), names))
    sizes = [(folder / name).stat().st_size for name in names]
    return {name: {"bytes": size, "hash": found} for name, size, found in zip(names, sizes, hashes, strict=True)}


def first_damage(folder: Path, expected: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return what is wrong with the first file of a folder that is not as `contents` found it, or None."""
    for name, entry in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["bytes"]:
            return f"{name} has {path.stat().st_size} bytes and had {entry['bytes']}"
    try:
        found = _contents(folder, list(expected))
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read ({error.strerror})"
    return next((f"{name} has changed" for name, entry in expected.items() if found[name] != entry), None)


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
