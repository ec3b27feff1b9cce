"""The launcher: reads one job from standard input, shuts itself in, runs judge and program, prints the outcome.

Imported by a bare interpreter that `unisd.sandbox.protection` starts (so that its bytecode is cached). Judge and
program are two processes, both shut in, with nothing between them but two pipes; neither can signal the other or the
launcher. The launcher's one line of output is JSON: {"passed", "reason", "separable"}, {"together"} where the tests
need to share a process with the program (and another launcher has to see to it), or {"error"} where the sandbox could
not be set up.

With the argument ``probe`` it prints instead what the kernel offers.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from itertools import pairwise

_HERE = os.path.dirname(os.path.abspath(__file__))

TYPE_CHECKING = False  # importing typing would take a tenth of the launcher's start
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from unisd.sandbox import _confine, _judge, _program, _wire
else:
    import _judge
    import _program
    import _wire

    if sys.platform == "linux":
        import _confine

_VERDICT_LIMIT = 4096
_STACK_BYTES = 64 << 20  # for deep recursion


# ---------------------------------------------------------------- the workers


def _fork(
    job: dict[str, Any],
    output: int,
    pipes: tuple[int, ...],
    trouble: Callable[[str], Any],
    work: Callable[[], Any],
    reads_tests: bool = False,
) -> int:
    """Start a process that shuts itself in, but for ``pipes``, and then works; ``trouble`` says why it could not.

    Only what ``reads_tests`` ever has them in its memory: the launcher has not read them, so the program has not.
    """
    pid = os.fork()
    if pid == 0:
        try:
            if reads_tests:
                job["tests"] = json.loads(_read(None))
            _become_worker(job, output, pipes)
            work()
        except BaseException as error:
            trouble(f"{type(error).__name__}: {error}")
        finally:
            os._exit(1)
    return pid


def _start(job: dict[str, Any], output: int, verdict: int, token: bytes) -> list[int]:
    """Start the judge and the program; or one process for both, where the tests need that."""

    def end(kind: str, reason: str = "", separable: bool = True) -> NoReturn:
        message = json.dumps({"kind": kind, "reason": reason[:500], "separable": separable})
        os.write(verdict, token + message.encode())
        os._exit(0)

    def trouble(reason: str) -> None:
        end("trouble", reason)

    if job["together"]:
        return [_fork(job, output, (verdict,), trouble, lambda: _judge.judge_together(job, end), True)]
    asked, asking = os.pipe()
    answers, answering = os.pipe()
    # The judge is first: the first process of a PID namespace takes all others with it when it ends.
    pipes = (verdict, asking, answers)
    pids = [_fork(job, output, pipes, trouble, lambda: _judge.judge(job, answers, asking, end), True)]
    send = _wire.Wire(asked, answering, 1, 0, print).send
    refused = lambda reason: send(["trouble", reason])  # noqa: E731
    pids += [_fork(job, output, (asked, answering), refused, lambda: _program.serve(job, asked, answering))]
    for pipe in (asked, asking, answers, answering):
        os.close(pipe)
    return pids


def _become_worker(job: dict[str, Any], output: int, pipes: tuple[int, ...]) -> None:
    """Give up everything but the output, the pipes, the private folder and the readable paths."""
    os.setsid()
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    null = os.open("/dev/null", os.O_RDWR)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    for before, pipe in pairwise([2, *sorted(pipes), 1 << 16]):
        os.closerange(before + 1, pipe)
    sys.path[:] = [path for path in sys.path if path != _HERE] + job["path"]
    limits = job["limits"]
    if job["mode"] != "none":
        _confine.no_new_privileges()
        if job["landlock"]:
            _confine.landlock(job["readable"], [_confine.FOLDER] if job["mode"] == "namespaces" else [])
        if job["seccomp"]:
            _confine.seccomp()
    _set_limits(math.ceil(limits["cpu_seconds"]), limits["memory_bytes"], limits["file_bytes"])


def _set_limits(cpu_seconds: int, memory_bytes: int, file_bytes: int) -> None:
    """Set the kernel's limits: processor time, address space, size of a file, open files, no core file, the stack."""
    import resource

    wanted = {
        resource.RLIMIT_CPU: (cpu_seconds, cpu_seconds + 1),
        resource.RLIMIT_AS: (memory_bytes, memory_bytes),
        resource.RLIMIT_FSIZE: (file_bytes, file_bytes),
        resource.RLIMIT_NOFILE: (128, 128),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_STACK: (_STACK_BYTES, _STACK_BYTES),
    }
    for which, (soft, hard) in wanted.items():
        ceiling = resource.getrlimit(which)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        with contextlib.suppress(OSError, ValueError):  # macOS knows the address space limit but refuses to set it
            resource.setrlimit(which, (soft, hard))


# ---------------------------------------------------------------- the launcher


def _watch(pids: list[int], limits: dict[str, Any], tasks: int | None, output: int, verdict: int) -> tuple[bytes, str]:
    """Wait for the judge, the first of ``pids``, and kill all where one breaks a limit.

    Return what the judge sent, and the limit that was broken.
    """
    deadline = time.monotonic() + limits["seconds"]
    received, printed, broken = b"", 0, ""
    open_pipes = {output, verdict}
    with contextlib.suppress(AttributeError, OSError):  # wakes the loop when the judge ends; it may close its pipes
        open_pipes.add(os.pidfd_open(pids[0]))
    while True:
        ready, _, _ = select.select(list(open_pipes), [], [], max(0.0, min(0.05, deadline - time.monotonic())))
        for handle in open_pipes.intersection(ready, (output, verdict)):
            data = os.read(handle, 1 << 16)
            if not data:
                open_pipes.discard(handle)
            elif handle == verdict:
                received += data
            else:
                printed += len(data)
        if printed > limits["output_bytes"]:
            broken = f"printed more than {limits['output_bytes']} bytes"
        elif len(received) > _VERDICT_LIMIT:
            broken = "wrote to files that are not its own"
        elif tasks is not None and max(_task_count(tasks, pid) for pid in pids) > limits["processes"]:
            broken = f"started more than {limits['processes']} threads"
        elif time.monotonic() >= deadline:
            broken = f"took longer than {limits['seconds']:g} s"
        # The judge alone has the other end; and as the first of its namespace, it cannot end before the others.
        done = len(pids) > 1 and verdict not in open_pipes
        if broken or done or os.waitid(os.P_PID, pids[0], os.WEXITED | os.WNOWAIT | os.WNOHANG):
            if verdict in open_pipes and not broken:
                received += _rest(verdict)
            return received, broken


def _rest(handle: int) -> bytes:
    os.set_blocking(handle, False)
    with contextlib.suppress(BlockingIOError):
        return os.read(handle, _VERDICT_LIMIT + 1)
    return b""


def _reap(pid: int, patience: float) -> int:
    """Return how a process ended; one that has not ended after ``patience`` seconds is killed."""
    end = time.monotonic() + patience
    while time.monotonic() < end and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
        time.sleep(0.005)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):  # what it may have left behind where processes could be started
        os.killpg(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _task_count(processes: int, pid: int) -> int:
    try:
        return os.stat(f"{pid}/task", dir_fd=processes).st_nlink - 2
    except OSError:
        return 0


def _ending(status: int, limits: dict[str, Any], alone: bool) -> str:
    """Say how a program without a verdict ended; one that was not ``alone`` may have been killed behind the judge."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if not number or (number == signal.SIGKILL and not alone):
        return "ended before its assertions ran"
    if number in (signal.SIGXCPU, signal.SIGKILL):
        return f"used more than {math.ceil(limits['cpu_seconds'])} s of processor time, or was killed"
    return f"ended before its assertions ran ({signal.Signals(number).name})"


def launch(job: dict[str, Any]) -> dict[str, Any]:
    """Shut this process in, run the job in a child, and return the outcome."""
    tasks = None
    with contextlib.suppress(OSError):
        tasks = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if job["mode"] == "namespaces":
            _confine.new_namespaces()
            _confine.private_root(job["readable"], job["limits"]["folder_bytes"])
    except (OSError, StopIteration) as error:
        return {"error": str(error) or "no place for a private root"}
    token = os.urandom(32) if job["together"] else b""  # otherwise no one but the judge can write a verdict
    output_end, output = os.pipe()
    verdict_end, verdict = os.pipe()
    pids = _start(job, output, verdict, token)
    os.close(output)
    os.close(verdict)
    received, broken = _watch(pids, job["limits"], tasks, output_end, verdict_end)
    answer: dict[str, Any] = {"kind": "lost", "reason": "", "separable": not job["together"]}
    if received.startswith(token) and not broken:
        answer |= json.loads(received.removeprefix(token))
    # The program may still be ending by itself, and how it does says what it ran into.
    lost = answer["kind"] == "lost" and not broken
    endings = [_reap(pid, 0.5 if lost else 0.0) for pid in reversed(pids)]
    if answer["kind"] == "trouble":
        return {"error": answer["reason"]}
    if answer["kind"] == "together":
        return {"together": True}
    reason = broken or (_ending(endings[0], job["limits"], job["together"]) if lost else answer["reason"])
    reason = " ".join("".join(letter if letter.isprintable() else " " for letter in reason).split())
    return {"passed": answer["kind"] == "passed", "reason": reason, "separable": answer["separable"]}


def _read(size: int | None) -> bytes:
    """Read ``size`` bytes of standard input, or all of it."""
    data = b""
    while (size is None or len(data) < size) and (part := os.read(0, 1 << 20 if size is None else size - len(data))):
        data += part
    return data


def _works(action: Any) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _filtered() -> None:
    _confine.no_new_privileges()
    _confine.seccomp()


def probe() -> dict[str, Any]:
    """Return what this kernel offers: each namespace, the Landlock version, and the system-call filter."""
    if sys.platform != "linux":
        return {"namespaces": {}, "landlock": 0, "seccomp": False}
    user = _confine.NAMESPACES["user"]
    kinds = _confine.NAMESPACES.items()
    found = {name: _works(lambda flag=flag: _confine.unshare(user | flag)) for name, flag in kinds}
    return {"namespaces": found, "landlock": _confine.landlock_version(), "seccomp": _works(_filtered)}


def main() -> NoReturn:
    """Answer on standard output what standard input, or the argument ``probe``, asks."""
    answer = probe() if sys.argv[1:] == ["probe"] else launch(json.loads(_read(int(_read(16), 16))))
    os.write(1, json.dumps(answer).encode() + b"\n")
    os._exit(0)
