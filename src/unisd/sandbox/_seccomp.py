"""The system calls that a sandboxed program may not make (seccomp, man 2 seccomp), for x86-64 and 64-bit ARM.

A list of what is forbidden, not of what is allowed: interpreters and C libraries use ever new harmless calls. Forbidden
are new processes (threads may start), other programs, network addresses, signals to anyone else, memory that escapes
the memory limit, and the calls that have opened kernels to attack.
"""

import ctypes
import errno
import os

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
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH_*
# clone, clone3, prctl, kill, tgkill: judged by their arguments
_BY_ARGUMENT = {0: (56, 435, 157, 62, 234), 1: (220, 435, 167, 129, 131)}
_ALLOWED_PRCTL = (15, 16, 0x53564D41)  # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
_CLONE_THREAD = 0x00010000

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENT_0 = 0, 4, 16  # offsets in struct seccomp_data (low half of the argument)

_Step = tuple[int, int, int, int]


class _Filter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filters", ctypes.POINTER(_Filter))]


def supported() -> bool:
    """Whether the filter is known for this machine's architecture."""
    return os.uname().machine in _MACHINES


def build(own_pid: int) -> tuple[_Program, ctypes.Array[_Filter]]:
    """Return the filter for prctl(PR_SET_SECCOMP) and the array that it points into (keep it alive).

    Args:
        own_pid: the only process that may be sent a signal, as the process itself sees its id.
    """
    column, architecture = _MACHINES[os.uname().machine]
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    allow = (_RETURN, 0, 0, _ALLOW)
    steps: list[_Step] = [
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
    clone, clone3, prctl, kill, tgkill = _BY_ARGUMENT[column]
    # The C library falls back to clone, whose flags can be read here, where clone3 does not exist.
    steps += [(_JUMP_EQUAL, 0, 1, clone3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    steps += _with_argument(clone, [(_JUMP_SET, 0, 1, _CLONE_THREAD), allow, refuse])
    steps += _with_argument(prctl, [s for k in _ALLOWED_PRCTL for s in ((_JUMP_EQUAL, 0, 1, k), allow)] + [refuse])
    for signalling in (kill, tgkill):
        steps += _with_argument(signalling, [(_JUMP_EQUAL, 0, 1, own_pid), allow, refuse])
    steps.append(allow)
    filters = (_Filter * len(steps))(*(_Filter(*step) for step in steps))
    return _Program(len(steps), filters), filters


def _with_argument(number: int, then: list[_Step]) -> list[_Step]:
    return [(_JUMP_EQUAL, 0, len(then) + 1, number), (_LOAD, 0, 0, _ARGUMENT_0), *then]
