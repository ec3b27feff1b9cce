"""The judge's process: reads one job from standard input, starts the program's, shuts both in, prints the outcome.

A bare interpreter that `unisd.sandbox.run` starts imports this (so that its bytecode is cached). Between judge
and program there is nothing but two pipes; neither can signal the other. The kernel ends the judge where it takes too
long, and the program with the judge. The one line of output is JSON: {"passed", "reason", "separable", "together"}, the
last where the tests need to share a process with the program (and another judge has to see to it).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from itertools import pairwise

from . import _confine
from ._judge import judge, together
from ._program import serve
from ._wire import Wire

TYPE_CHECKING = False  # importing typing would take a tenth of the judge's start
if TYPE_CHECKING:
    from typing import Any, NoReturn

_STACK_BYTES = 64 << 20  # for deep recursion


def _fork(work: Callable[[], Any]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)  # read where it is not shut in yet
        finally:
            os._exit(1)
    return pid


def _shut_in(job: dict[str, Any], *kept: int) -> None:
    """Give up everything but the files ``kept``, the private folder and the readable paths."""
    for before, handle in pairwise([2, *sorted(kept), 1 << 16]):
        os.closerange(before + 1, handle)
    sys.path += job["path"]
    limits = job["limits"]
    if sys.platform == "linux":
        _confine.end_with_parent()
    if "seccomp" in job["kinds"]:
        _confine.seccomp()
    cpu = math.ceil(limits["cpu_seconds"])
    wanted = {
        resource.RLIMIT_CPU: (cpu, cpu + 1),
        resource.RLIMIT_AS: (limits["memory_bytes"],) * 2,
        resource.RLIMIT_FSIZE: (limits["file_bytes"],) * 2,
        resource.RLIMIT_NOFILE: (128, 128),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_STACK: (_STACK_BYTES, _STACK_BYTES),
    }
    for which, (soft, hard) in wanted.items():
        ceiling = resource.getrlimit(which)[1]
        ceiling = hard if ceiling == resource.RLIM_INFINITY else min(hard, ceiling)
        with contextlib.suppress(OSError, ValueError):  # macOS knows the address space limit but refuses to set it
            resource.setrlimit(which, (min(soft, ceiling), ceiling))


def _silence() -> None:
    """Read nothing and print nowhere; until here, what goes wrong is told on standard error."""
    null = os.open("/dev/null", os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(null, handle)
    os.close(null)


def _ending(pid: int, cpu_seconds: float) -> str:
    """Say how a program ended that was to answer; it may still be ending, or have closed its pipes."""
    for _ in range(100):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done and os.WIFSIGNALED(status):
            if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
                return f"used more than {math.ceil(cpu_seconds)} s of processor time, or was killed"
            return f"ended before its assertions ran ({signal.Signals(os.WTERMSIG(status)).name})"
        if done:
            break
        time.sleep(0.005)
    return "ended before its assertions ran"


def main() -> NoReturn:
    """Judge the job that standard input holds."""
    sys.dont_write_bytecode = True
    for number in (signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    job = json.loads(_read(int(_read(16), 16)))
    limits = job["limits"]
    tasks = os.open("/proc" if os.path.isdir("/proc") else "/", os.O_RDONLY | os.O_DIRECTORY)
    if "namespaces" in job["kinds"]:
        _confine.new_namespaces()
        _confine.private_root(job["readable"], limits["folder_bytes"])
        # Signals do not end the first process of a PID namespace, so that is not the program.
        _fork(_confine.wait_for_the_end)
    if job["kinds"]:
        _confine.no_new_privileges()
    if "landlock" in job["kinds"]:
        _confine.landlock(job["readable"], [_confine.FOLDER] if "namespaces" in job["kinds"] else [])
    answer = os.dup(1)
    asked, asking = os.pipe()
    answers, answering = os.pipe()

    def program() -> None:
        _shut_in(job, asked, answering)
        wire = Wire(asked, answering, 1, lambda reason: os._exit(0))
        wire.operations["together"] = lambda secret, tests: together(job, tests) or secret
        wire.send(["ready"])
        _silence()
        serve(job, wire)

    pid = _fork(program)
    signal.setitimer(signal.ITIMER_REAL, limits["seconds"])
    # Only now are the tests read: the program's process has never had them in its memory.
    tests = json.loads(_read(None))
    _shut_in(job, answer, tasks, asking, answers)

    def end(reason: str, separable: bool = True, together: bool = False) -> NoReturn:
        reason = " ".join("".join(letter if letter.isprintable() else " " for letter in reason).split())[:500]
        outcome = {"passed": not reason, "reason": reason, "separable": separable, "together": together}
        os.write(answer, json.dumps(outcome).encode() + b"\n")
        os._exit(0)

    wire = Wire(answers, asking, 0, lambda reason: os._exit(1))
    if wire.receive() != ["ready"]:
        os._exit(1)
    _silence()

    def waiting() -> None:
        with contextlib.suppress(OSError):  # there is a folder for each thread
            if os.stat(f"{pid}/task", dir_fd=tasks).st_nlink - 2 > limits["processes"]:
                end(f"started more than {limits['processes']} threads")

    wire.waiting = waiting
    wire.fatal = lambda reason: end(reason or _ending(pid, limits["cpu_seconds"]))
    judge(job, tests, wire, end)


def _read(size: int | None) -> bytes:
    """Read ``size`` bytes of standard input, or all of it."""
    data = b""
    while (size is None or len(data) < size) and (part := os.read(0, 1 << 20 if size is None else size - len(data))):
        data += part
    return data
