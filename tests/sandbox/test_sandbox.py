"""The sandbox survives hostile programs and judges them as failed; honest programs pass."""

# ruff: noqa: E501 (tables of programs)

import os
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd.errors import UniSDError, UsageError
from unisd.sandbox import Limits, Protection, protection, run, run_tests

pytestmark = pytest.mark.skipif(not protection().minimum, reason="this system cannot shut programs in")

QUICK = Limits(seconds=3, cpu_seconds=2, memory_bytes=400 << 20, folder_bytes=4 << 20)
TESTS = ["assert f(1) == 2", "assert f(5) == 6"]

WRONG = "def f(x): return None\n"

HOSTILE = {
    "syntax": ("def f(x: return", "SyntaxError"),
    "lone surrogate": ("def f(x): return '\ud800'", "Error"),
    "missing": ("def g(x): return x + 1", "NameError: name 'f' is not defined"),
    "deep source": ("f = " + "(" * 5000 + ")" * 5000, "Error"),
    "infinite loop": ("while True: pass", "took longer than 1 s"),
    "sleep between calls": ("import time\ndef f(x):\n if x > 1: time.sleep(60)\n return x + 1", "took longer than 1 s"),
    "sys.exit": ("import sys; sys.exit(0)", "ended before its assertions ran"),
    "os._exit": ("import os; os._exit(0)", "ended before its assertions ran"),
    "atexit": (WRONG + "import atexit, os; atexit.register(os._exit, 0)", "assertion 1 of 2 failed"),
    "memory in steps": ("x = []\nwhile True: x.append(bytearray(1 << 20))", "out of memory"),
    "huge value": ("def f(x): return 'a' * (1 << 36)", "out of memory"),
    "huge answer": ("def f(x): return 'a' * (80 << 20)", "answered more than 67108864 bytes"),
    "prints for ever": ("while True: print('x' * 100_000)", "took longer than 1 s"),
    "many threads": ("import threading, time\nthreading.stack_size(65536)\nwhile True: threading.Thread(target=lambda: time.sleep(60)).start()", "started more than"),
    "fork quietly": ("import os\ntry:\n while True: os.fork()\nexcept OSError: pass\n" + WRONG, "assertion 1"),
    "exec in f": ("import os, sys\ndef f(x): os.execv(sys.executable, [sys.executable, '-c', ''])", "Error"),
    "kill everyone": ("import os\ntry: os.kill(-1, 9)\nexcept OSError: pass\n" + WRONG, "assertion 1"),
    "kill the launcher": ("import os\ntry: os.kill(os.getppid(), 9)\nexcept OSError: pass\n" + WRONG, ""),
    "kill the judge": ("import os\nfor n in range(1, 9):\n try: os.kill(n, 9) if n != os.getpid() else None\n except OSError: pass\n" + WRONG, "assertion 1"),
    "stop itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n" + WRONG, "took longer"),
    "alarm": ("import signal, time; signal.setitimer(signal.ITIMER_REAL, 0.01); time.sleep(60)", "SIGALRM"),
    "recursion": ("def f(x): return f(x)", "RecursionError"),
    "crash": ("import ctypes\ndef f(x): ctypes.string_at(0)", "SIGSEGV"),
    "exit in a finaliser": ("import os\nclass D:\n def __del__(self): os._exit(0)\ndef f(x): D()", "ended before"),
    "f raises": ("def f(x): raise ValueError('no such thing')", "test 1 of 2: ValueError: no such thing"),
    "odd exception": ("class E(BaseException):\n def __str__(self): raise E\n __repr__ = __str__\ndef f(x): raise E(1)", "test 1 of 2: E"),
    # what the worker itself needs
    "built-ins": (WRONG + "import builtins\nfor n in dir(builtins):\n if n[0] != '_' and n not in ('setattr', 'dir'): setattr(builtins, n, lambda *a, **k: True)", ""),
    "functions": (WRONG + "import os, json, sys\nos.write = os._exit = json.dumps = lambda *a: None", ""),
    "closed files, right": ("import os; os.closerange(0, 200)\ndef f(x): return x + 1", "ended before its assertions ran"),
    "closed files, then sleep": ("import os, time; os.closerange(0, 200); time.sleep(60)", "ended before its assertions ran"),
    "no message": ("import os\nfor i in range(200):\n try: os.write(i, b'x' * 3000)\n except OSError: pass\n" + WRONG, "answered what cannot be read"),
    "half a message": ("import os, time\nfor i in range(3, 9):\n try: os.write(i, b'0000000000000100[')\n except OSError: pass\ntime.sleep(60)", "took longer than 1 s"),
    "verdict": ("import os, json\nfor i in range(30):\n try: os.write(i, json.dumps({'kind': 'passed', 'reason': ''}).encode())\n except OSError: pass\nos._exit(0)", "ended before its assertions ran"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_program_fails(name: str) -> None:
    program, reason = HOSTILE[name]
    started = time.monotonic()
    seconds = 1 if reason.startswith("took longer") else 4
    limits = Limits(seconds=seconds, cpu_seconds=4, memory_bytes=400 << 20)
    outcome = run_tests(program, TESTS, limits=limits)
    assert not outcome.passed
    assert reason in outcome.reason
    assert outcome.reason
    assert "\n" not in outcome.reason
    assert time.monotonic() - started < 20


def probe_program(body: str) -> str:
    """A program that passes only if ``body`` managed to set ``reached``."""
    inner = textwrap.indent(body, "    ")
    return f"reached = False\ntry:\n{inner}\nexcept OSError: pass\ndef f(x): return x + 1 if reached else None"


OUT_OF_REACH = {
    "a user's file": "reached = bool(open({secret!r}).read())",
    "a user's folder": "import os; reached = bool(os.listdir({folder!r}))",
    "a way around": "import os; reached = bool(open('/proc/self/root' + {secret!r}).read())",
    "a link": "import os; os.symlink({secret!r}, 'link'); reached = bool(open('link').read())",
    "passwords": "reached = bool(open('/etc/passwd').read())",
    "other processes": "import os; reached = bool(open('/proc/1/environ', 'rb').read())",
    "the process's own memory": "reached = bool(open('/proc/self/mem', 'rb'))",
    "writing beside": "open({folder!r} + '/new', 'w').write('x'); reached = True",
    "changing Python": "import os; os.remove(os.__file__); reached = True",
    "writing into Python": "import os; open(os.__file__, 'a'); reached = True",
    "TCP": "import socket; socket.create_connection(('127.0.0.1', {port}), 1); reached = True",
    "UDP": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM); reached = True",
    "Unix sockets": "import socket; socket.socket(socket.AF_UNIX); reached = True",
    "a big file": "open('big', 'wb').write(b'x' * (5 << 20)); reached = True",
    "the disk": "for i in range(1000): open(str(i), 'wb').write(b'x' * 100_000)\nreached = True",
    "memory files": "import os; os.memfd_create('x'); reached = True",
    "new privileges": "import os; os.setuid(0); reached = True",
    "namespaces": "import os; os.unshare(0x10000000) if hasattr(os, 'unshare') else os.mkfifo('/x'); reached = True",
    "priorities": "import os; os.setpriority(os.PRIO_PROCESS, 0, -20); reached = True",
    "raised limits": "import resource\ntry: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)); reached = True\nexcept ValueError: pass",
}  # fmt: skip


@pytest.mark.parametrize("name", OUT_OF_REACH)
def test_out_of_reach(name: str, tmp_path: Path) -> None:
    import socket

    secret = tmp_path / "secret"
    secret.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        body = OUT_OF_REACH[name].format(secret=str(secret), folder=str(tmp_path), port=server.getsockname()[1])
        outcome = run_tests(probe_program(body), TESTS, limits=QUICK)
    assert not outcome.passed
    assert "assertion 1 of 2" in outcome.reason
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_the_probe_program_would_pass() -> None:
    assert run_tests(probe_program("reached = True"), TESTS, limits=QUICK).passed


def test_limits_are_limits() -> None:
    limits = Limits(seconds=20, cpu_seconds=1)
    assert "processor time" in run_tests("while True: pass", TESTS, limits=limits).reason
    with pytest.raises(UsageError, match="no tests"):
        run_tests("f = 1", [])
    with pytest.raises(UsageError, match="seconds must be a positive number"):
        Limits(seconds=0)


def test_refuses_without_protection(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Protection()
    assert not bare.minimum
    assert any("not protected" in line for line in bare.lines)
    monkeypatch.setattr(run, "protection", lambda: bare)
    with pytest.raises(UniSDError, match="UNISD_ALLOW_UNPROTECTED"):
        run_tests("def f(x): return x + 1", TESTS)
    before = set(Path(tempfile.gettempdir()).glob("unisd-sandbox-*"))
    program = "import os\nos.makedirs('a/b'); os.chmod('a/b', 0); os.chmod('a', 0)\ndef f(x): return x + 1"
    assert run_tests(program, TESTS, allow_unprotected=True).passed
    monkeypatch.setenv("UNISD_ALLOW_UNPROTECTED", "1")
    assert run_tests(program, TESTS).passed
    assert not run_tests("def f(x): return x", TESTS, allow_unprotected=True).passed
    endless = run_tests("while True: pass", TESTS, limits=Limits(seconds=1), allow_unprotected=True)
    assert "took longer" in endless.reason
    assert set(Path(tempfile.gettempdir()).glob("unisd-sandbox-*")) == before


@pytest.mark.skipif(not {"landlock", "seccomp"} <= set(protection().kinds), reason="needs Landlock and seccomp")
def test_landlock_alone_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "protection", lambda: Protection(("landlock", "seccomp")))
    assert run_tests("from fractions import Fraction\ndef f(x): return Fraction(x + 1)", TESTS).passed
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for body in (f"reached = bool(open({str(secret)!r}).read())", "open('new', 'w'); reached = True",
                 "import socket; socket.socket(); reached = True", "import os; os.kill(os.getppid(), 0); reached = True",
                 "reached = bool(open('/etc/passwd').read())", "import os; os.fork(); reached = True"):  # fmt: skip
        assert "assertion 1 of 2" in run_tests(probe_program(body), TESTS, limits=QUICK).reason, body


LAUNCHERS = {
    "ends at once": ("import os; os._exit(0)", "ended without an answer"),
    "is killed": ("import os; os.kill(os.getpid(), 9)", "ended without an answer"),
    "fails after its answer": ("import os; os.write(1, b'{\"passed\": true}'); os._exit(1)", "ended without an answer"),
    "says something else": ("print([1])", "ended without an answer"),
    "raises": ("1 / 0", "ZeroDivisionError"),
    "hangs": ("import time; time.sleep(60)", "no answer within 0.6 s"),
}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_without_an_answer_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["unisd.sandbox.run"]
    start, reason = LAUNCHERS[name]
    monkeypatch.setattr(module, "_START", start)
    monkeypatch.setattr(module, "_START_SECONDS", 0.1)
    with pytest.raises(UniSDError, match=reason):
        run_tests("def f(x): return x + 1", TESTS, limits=Limits(seconds=0.5))
    if name == "raises":
        found = protection.__wrapped__()
        assert found.kinds == ()
        assert all("ZeroDivisionError: division by zero" in problem for problem in found.problems.values())
        assert not found.minimum
        assert "landlock: the sandbox cannot be set up: ZeroDivisionError" in "\n".join(found.lines)


@pytest.mark.parametrize(
    ("file", "part"), [("_judge", "def judge"), ("_wire", "class Wire"), ("_program", "def serve")]
)
def test_a_judge_that_is_being_edited_gives_no_verdict(
    file: str, part: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = sys.modules["unisd.sandbox.run"]
    folder = Path(module.__file__ or "").parent
    for path in folder.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(module, "_START", module._START.replace(str(folder), str(tmp_path)))
    assert run_tests("def f(x): return x + 1", TESTS).passed
    path = tmp_path / f"{file}.py"
    path.write_text(path.read_text(encoding="utf-8").replace(part, f"{part}_"), encoding="utf-8")
    with pytest.raises(UniSDError, match="cannot be set up"):
        run_tests("def f(x): return x + 1", TESTS)


def leftovers(marker: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["unisd.sandbox.run"]
    name = f"marker-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setattr(module, "_START", f"{module._START}  # {name}")
    before = set(Path(tempfile.gettempdir()).glob("unisd-sandbox-*"))
    mounts = Path("/proc/self/mounts").read_text()
    alone = "import os\nos.setsid() if os.getsid(0) != os.getpid() else 0\nwhile True: pass"
    if {"landlock", "seccomp"} <= set(protection().kinds):
        module._judged(("landlock", "seccomp"), alone, TESTS, "", Limits(seconds=0.5))
    programs = [HOSTILE[name][0] for name in ("infinite loop", "fork quietly", "many threads")]
    for program in programs:
        run_tests(program, TESTS, limits=Limits(seconds=0.5))
    deadline = time.monotonic() + 5
    while leftovers(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert leftovers(name) == []
    assert Path("/proc/self/mounts").read_text() == mounts
    assert set(Path(tempfile.gettempdir()).glob("unisd-sandbox-*")) == before


def test_parallel_runs_do_not_mix() -> None:
    def one(number: int) -> bool:
        wanted = number if number % 3 else number + 1
        return run_tests(f"def f(): return {number}", [f"assert f() == {wanted}"]).passed

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(24))) == [number % 3 != 0 for number in range(24)]


@given(st.text(max_size=60), st.text(alphabet="def f(x):\n return+*'\"\\assert=[]{}\0", max_size=60))
@settings(max_examples=12, deadline=None)
def test_any_text_gives_an_outcome(program: str, test: str) -> None:
    outcome = run_tests(program, [test, "assert missing_name"], limits=QUICK)
    assert not outcome.passed
    assert outcome.reason
