"""One writer for a run's folder: a lock that lasts as long as its process, and no longer."""

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unisd.errors import UsageError
from unisd.files import is_partial, named_write_errors, process_lives

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = "run.lock"
_TAKEN = (errno.EAGAIN, errno.EACCES)
_held: dict[Path, int] = {}
"""The lock files that this process holds, with their open handles: who holds one may ask again."""


@contextlib.contextmanager
def run_lock(folder: Path, owner: bool = True) -> Iterator[None]:
    """Let this process alone write into a run's folder, until the block ends or the process does, however it dies.

    The operating system holds the lock (``flock``, which Linux passes on to the server of a network file system), so
    one that was left by a dead process is free. The file names who holds it. Where the file system has no locks, the
    file itself counts, as long as the process that it names lives, or is on another machine.

    Args:
        folder: the run's; it is made if it is not there, and removed again if nothing has come into it.
        owner: false: this process leaves it to another one of its run (a rank that is not the first).

    Raises:
        UsageError: another process writes there; the line names it.
        UniSDError: the folder cannot be written.
    """
    path = folder.resolve() / LOCK_FILE
    if not owner or path in _held:
        yield
        return
    made = [p for p in (folder.absolute(), *folder.absolute().parents) if not p.exists()]
    with named_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = _acquired(path)
    _held[path] = handle
    try:
        yield
    finally:
        del _held[path]
        path.unlink(missing_ok=True)
        os.close(handle)
        with contextlib.suppress(OSError):  # something lies in it
            for empty in made:
                empty.rmdir()


def at_rest(folder: Path) -> bool:
    """Return whether nobody writes into a run's folder, and nobody was killed there while writing."""
    return folder.is_dir() and not any(path.name == LOCK_FILE or is_partial(path) for path in folder.iterdir())


def _acquired(path: Path) -> int:
    """Return an open handle of the lock file, which is ours."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            before = _read(handle)
            if not _locked(handle) and _may_live(before):
                raise _taken(path, before)
            if not _is_still(handle, path):  # whoever held it has removed it meanwhile
                os.close(handle)
                continue
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(_own()).encode(), 0)
            return handle
        except BlockingIOError:
            before = _read(handle)
            os.close(handle)
            raise _taken(path, before) from None
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(handle)
            raise


def _locked(handle: int) -> bool:
    """Take the lock; return False where there are none.

    Raises:
        BlockingIOError: another process has it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            raise BlockingIOError from error
        return False
    return True


def _is_still(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _own() -> dict[str, Any]:
    return {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _read(handle: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(handle, 4096, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _may_live(holder: dict[str, Any]) -> bool:
    """Return whether the process that a lock file names may be at work, where nothing else tells."""
    number = holder.get("process")
    if not isinstance(number, int) or number <= 0 or number == os.getpid():
        return False
    return holder.get("host") != socket.gethostname() or process_lives(number)


def _taken(path: Path, holder: dict[str, Any]) -> UsageError:
    who = f"process {holder.get('process', 'unknown')} on {holder.get('host', 'an unknown machine')}"
    since = f", since {holder['since']}" if "since" in holder else ""
    return UsageError(
        f"{path.parent}: a run is writing there ({who}{since}); wait for its end, or choose another folder "
        f"(if it has ended, remove {path.name})"
    )


def _let_go() -> None:
    """In a forked child: close its copies, which would hold the locks of a parent that is no more."""
    for handle in _held.values():
        with contextlib.suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
