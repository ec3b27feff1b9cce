"""Shutting a process in with what the Linux kernel offers: namespaces, Landlock, seccomp, capabilities.

Runs inside the launcher (see `_runner`), which has loaded it by path; it knows only the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Sequence

TYPE_CHECKING = False  # importing typing would take a tenth of the launcher's start
if TYPE_CHECKING:
    from typing import Any

    from unisd.sandbox import _seccomp
else:
    import _seccomp

NAMESPACES = {"user": 1 << 28, "mount": 1 << 17, "pid": 1 << 29, "network": 1 << 30, "ipc": 1 << 27, "uts": 1 << 26}
FOLDER = "/sandbox"
"""The private folder inside the private root; not /tmp, below which an installation may lie."""
_MS_BIND, _MS_REC, _MS_PRIVATE, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 4096, 16384, 1 << 18, 2, 4, 8
_MNT_DETACH, _AT_FDCWD, _AT_RECURSIVE, _ATTR_RDONLY, _ATTR_NOSUID = 2, -100, 0x8000, 1, 2
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _PR_SET_DUMPABLE = 1, 22, 38, 4
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # Landlock; the same on every architecture
_MOUNT_SETATTR = 442
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# How many file-system rights each Landlock version knows, from version 1 on; asking for more is an error.
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> int:
    """Call a C library function (or ``syscall``) and raise OSError, naming it, where it says that it failed."""
    result: int = getattr(_libc, name)(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def unshare(flags: int) -> None:
    """Move this process (or, for "pid", its later children) into new namespaces. OSError where that is refused."""
    _call("unshare", ctypes.c_int(flags))


def new_namespaces() -> None:
    """Enter one new namespace of each kind, as user 1000 with no rights outside of it."""
    user, group = os.geteuid(), os.getegid()
    unshare(sum(NAMESPACES.values()))
    for name, line in (("setgroups", "deny"), ("uid_map", f"1000 {user} 1"), ("gid_map", f"1000 {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(line)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    texts = [None if text is None else text.encode() for text in (source, target, kind, options)]
    _call("mount", texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])


def _read_only(path: str, recursive: bool) -> None:
    attributes = (ctypes.c_uint64 * 4)(_ATTR_RDONLY | _ATTR_NOSUID, 0, 0, 0)
    flags = ctypes.c_uint(_AT_RECURSIVE if recursive else 0)
    _call("syscall", _MOUNT_SETATTR, _AT_FDCWD, path.encode(), flags, attributes, ctypes.c_size_t(32))


def private_root(readable: Sequence[str], folder_bytes: int) -> None:
    """Make a root of our own that holds ``readable`` (unchangeable) and an empty folder of ``folder_bytes`` bytes.

    The folder (`FOLDER`) becomes the working folder. All of it lives in memory and in the mount namespace, so it
    vanishes with the last process inside.
    """
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    base = next(
        place
        for place in ("/sys", "/proc", "/mnt", "/srv")
        if os.path.isdir(place) and not any(os.path.realpath(path).startswith(place + "/") for path in readable)
    )
    _mount("tmpfs", base, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,nr_inodes=4096,mode=755")
    for path in _outermost(readable):
        target = base + path
        if os.path.isdir(path):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        _mount(path, target, None, _MS_BIND | _MS_REC)
        if not path.startswith("/dev/"):
            _read_only(target, recursive=True)
    os.makedirs(base + FOLDER, exist_ok=True)
    options = f"size={folder_bytes},nr_inodes=4096,mode=700"
    _mount("tmpfs", base + FOLDER, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options)
    os.chdir(base)
    _call("syscall", _PIVOT_ROOT[os.uname().machine], b".", b".")
    _call("umount2", b".", _MNT_DETACH)
    os.chdir(FOLDER)
    _read_only("/", recursive=False)


def _outermost(paths: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for path in sorted(set(paths)):
        if os.path.exists(path) and not any(path.startswith(parent + "/") for parent in kept):
            kept.append(path)
    return kept


def landlock_version() -> int:
    """Return the kernel's Landlock version; 0 where there is none."""
    version: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    return max(version, 0)


def landlock(readable: Sequence[str], writable: Sequence[str]) -> None:
    """Let this process read ``readable`` and change ``writable`` only, and start no program. OSError if refused.

    The caller has set "no new privileges".
    """
    version = landlock_version()
    rights = (1 << _RIGHTS.get(version, 16)) - 1
    attributes = [rights]
    if version >= 4:
        attributes.append(3)  # TCP: no bind, no connect
    if version >= 6:
        attributes.append(3)  # no abstract sockets, no signals to the outside
    block = (ctypes.c_uint64 * len(attributes))(*attributes)
    ruleset = _call("syscall", _CREATE_RULESET, block, ctypes.c_size_t(8 * len(attributes)), ctypes.c_uint(0))
    reading = _READ_FILE | _READ_DIR
    allowed = [(path, reading) for path in readable]
    allowed += [("/dev/null", reading | 2), *((path, rights & ~1) for path in writable)]
    for path, access in allowed:
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            if not os.path.isdir(path):
                access &= 1 | 2 | 4
            # struct landlock_path_beneath_attr, packed: 64 bits of rights, 32 bits of file descriptor
            rule = access.to_bytes(8, "little") + handle.to_bytes(4, "little")
            _call("syscall", _ADD_RULE, ruleset, 1, rule, ctypes.c_uint(0))
            os.close(handle)
    _call("syscall", _RESTRICT_SELF, ruleset, ctypes.c_uint(0))
    os.close(ruleset)


def no_new_privileges() -> None:
    """Give up ever gaining a right again, and those held now; die when the process that started this one ends."""
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _call("syscall", _CAPSET[os.uname().machine], header, (ctypes.c_uint32 * 6)())
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)  # no one of the same user may attach
    _call("prctl", _PR_SET_PDEATHSIG, 9, 0, 0, 0)


def seccomp() -> None:
    """Forbid the calls listed in `_seccomp`. OSError where the kernel or the architecture has no filter."""
    if not _seccomp.supported():
        raise OSError(38, f"no system-call filter for {os.uname().machine}")
    program, _filters = _seccomp.build(os.getpid())
    _call("prctl", _PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0)
