"""Shutting a process in with what the Linux kernel offers: namespaces, Landlock, seccomp, capabilities.

The system calls are a list of what may not be done, not of what may: interpreters and C libraries use ever new harmless
ones. Forbidden are new processes (threads may start), other programs, network addresses, signals to anyone else, memory
that escapes the memory limit, and the calls that have opened kernels to attack.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import struct
from collections.abc import Sequence

TYPE_CHECKING = False  # importing typing would take a tenth of the launcher's start
if TYPE_CHECKING:
    from typing import Any

_NAMESPACES = 1 << 28 | 1 << 17 | 1 << 29 | 1 << 30 | 1 << 27 | 1 << 26  # user, mount, pid, network, ipc, uts
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

# By reason: name, number on x86-64, number on 64-bit ARM; - where the architecture has no such call.
_FORBIDDEN = """
# network addresses (socketpair stays: event loops use it)
socket 41 198, connect 42 203, accept 43 202, bind 49 200, listen 50 201, accept4 288 242
# processes and programs
execve 59 221, execveat 322 281, ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271
process_madvise 440 440, tkill 200 130, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240
pidfd_send_signal 424 424, pidfd_open 434 434, pidfd_getfd 438 438
# memory that the address-space limit does not count
memfd_create 319 279, memfd_secret 447 447, shmget 29 194, shmat 30 196, msgget 68 186, semget 64 190
mq_open 240 180
# namespaces, mounts, the system as a whole
unshare 272 97, setns 308 268, mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, open_tree 428 428
move_mount 429 429, fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433, mount_setattr 442 442
swapon 167 224, swapoff 168 225, reboot 169 142, sethostname 170 161, setdomainname 171 162, acct 163 89
quotactl 179 60, personality 135 92, init_module 175 105, delete_module 176 106, finit_module 313 273
kexec_load 246 104, kexec_file_load 320 294
# ways around checks, and frequent causes of kernel faults
bpf 321 280, perf_event_open 298 241, userfaultfd 323 282, io_uring_setup 425 425, io_uring_enter 426 426
io_uring_register 427 427, open_by_handle_at 304 265, name_to_handle_at 303 264, add_key 248 217
request_key 249 218, keyctl 250 219, fork 57 -, vfork 58 -
"""
# AUDIT_ARCH_*, column above; pivot_root, capset; clone, clone3, prctl, kill, tgkill: judged by their arguments
_MACHINES = {
    "x86_64": (0xC000003E, 0, 155, 126, (56, 435, 157, 62, 234)),
    "aarch64": (0xC00000B7, 1, 41, 91, (220, 435, 167, 129, 131)),
}
_ALLOWED_PRCTL = (15, 16, 0x53564D41)  # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
_CLONE_THREAD = 0x00010000

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENT_0 = 0, 4, 16  # offsets in struct seccomp_data (low half of the argument)

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> int:
    """Call a C library function (or ``syscall``) and raise OSError, naming it, where it says that it failed."""
    result: int = getattr(_libc, name)(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def _machine() -> Any:
    if os.uname().machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"the system calls of {os.uname().machine} are not known here")
    return _MACHINES[os.uname().machine]


def new_namespaces() -> None:
    """Enter one new namespace of each kind, as user 1000 with no rights outside of it."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", ctypes.c_int(_NAMESPACES))
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
    own = f"size={folder_bytes},nr_inodes=4096,mode=700"
    _mount("tmpfs", base + FOLDER, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, own)
    os.chdir(base)
    _call("syscall", _machine()[2], b".", b".")
    _call("umount2", b".", _MNT_DETACH)
    os.chdir(FOLDER)
    _read_only("/", recursive=False)


def _outermost(paths: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for path in sorted(set(paths)):
        if os.path.exists(path) and not any(path.startswith(parent + "/") for parent in kept):
            kept.append(path)
    return kept


def landlock(readable: Sequence[str], writable: Sequence[str]) -> None:
    """Let this process read ``readable`` and change ``writable`` only, and start no program. OSError if refused.

    The caller has set "no new privileges".
    """
    version = _call("syscall", _CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1))
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
    """Give up ever gaining a right again, and those held now."""
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _call("syscall", _machine()[3], header, (ctypes.c_uint32 * 6)())
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)  # no one of the same user may attach


def end_with_parent() -> None:
    """Die when the process ends that started this one; the kernel lets it where both are under the same Landlock."""
    _call("prctl", _PR_SET_PDEATHSIG, 9, 0, 0, 0)


def wait_for_the_end() -> None:
    """Do nothing until the process ends that started this one."""
    no_new_privileges()
    end_with_parent()
    os.closerange(0, 1 << 16)
    signal.pause()


def seccomp() -> None:
    """Filter this process's system calls (man 2 seccomp). OSError where kernel or architecture has no filter."""
    architecture, column, _, _, (clone, clone3, prctl, kill, tgkill) = _machine()
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    allow = (_RETURN, 0, 0, _ALLOW)
    steps: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_AT_LEAST, 0, 1, 0x40000000),  # the x32 calls have numbers of their own
        refuse,
    ]
    for line in _FORBIDDEN.strip().splitlines():
        for call in line.split(", ") if line[0] != "#" else ():
            number = call.split()[1 + column]
            if number != "-":
                steps += [(_JUMP_EQUAL, 0, 1, int(number)), refuse]
    # The C library falls back to clone, whose flags can be read here, where clone3 does not exist.
    steps += [(_JUMP_EQUAL, 0, 1, clone3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    allowed = [
        (clone, [(_JUMP_SET, 0, 1, _CLONE_THREAD), allow]),
        (prctl, [step for option in _ALLOWED_PRCTL for step in ((_JUMP_EQUAL, 0, 1, option), allow)]),
        *((signalling, [(_JUMP_EQUAL, 0, 1, os.getpid()), allow]) for signalling in (kill, tgkill)),
    ]
    for call_number, then in allowed:
        steps += [(_JUMP_EQUAL, 0, len(then) + 2, call_number), (_LOAD, 0, 0, _ARGUMENT_0), *then, refuse]
    steps.append(allow)
    filters = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("HP", len(steps), ctypes.addressof(filters))  # struct sock_fprog
    _call("prctl", _PR_SET_SECCOMP, 2, program, 0, 0)
