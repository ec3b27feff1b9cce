"""Running a generated program with its tests, and judging it.

Program and judge never share a process. The judge runs the tests in an interpreter of its own, where the names that
they take from the program are stand-ins: a call sends plain data to the confined program and gets plain data back,
changed arguments and exceptions included. What is compared is the judge's own object of a standard type, and expected
values stay out of the program's process, so nothing that a program does in its own reaches a verdict. The rules:

* A value of a type derived from a standard one (`int`, `str`, `list`, `Fraction`) is compared as the standard one is.
* An object of the program's own stays with it. Its truth, its members and what is in it are its own to say, as
  officially. Compared with a standard value, it is what it says it stands for before it sees that value: the number it
  converts to, what it contains, or its only attribute; one that stands for nothing equals nothing. Arithmetic with a
  standard value needs a conversion to a number, or gives an object that only the program's own are compared with.
* Objects of the program's are compared with each other in its process: the outcome then says ``separable=False``.
* Tests that reach into the process (`_judge.shared_process` says which) or hand over objects of classes of their own
  share it with the program, as in the official harness; the outcome says so. There, a program that knows this judge can
  pass without being right. No program can choose that: it follows from the tests alone.

The outcome of a program that leaves early, hangs, floods or answers nonsense is a failure with a reason. What confines
both processes is in `_confine`; what works of it here is found out by trying. What is printed goes nowhere.
``__name__`` is not ``"__main__"`` in a program.
"""

import contextlib
import dataclasses
import functools
import json
import math
import os
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisd.errors import UniSDError, UsageError

WAIVER = "UNISD_ALLOW_UNPROTECTED"
"""Environment variable; 1 runs programs even where nothing protects from them."""
# The judge's interpreter finds its files as a package of their own: they need nothing else of this one.
_START = (
    "import sys, types; sys.modules['box'] = types.ModuleType('box');"
    f" sys.modules['box'].__path__ = [{str(Path(__file__).parent)!r}]; from box import _runner; _runner.main()"
)
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/usr/share/zoneinfo")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_FOLDER = "/sandbox"  # as in _confine; named here because that module loads on Linux only
_START_SECONDS = 30.0
"""How much longer than its own limit a judge may take before it counts as stuck (loaded machines start slowly)."""
_KINDS = ("namespaces", "landlock", "seccomp")


@dataclass(frozen=True)
class Limits:
    """What one program may use. A limit that is reached fails the program."""

    seconds: float = 10.0
    """Wall time from the start of both processes, measured outside of them."""
    cpu_seconds: float = 10.0
    """Processor time of a process, all threads together, rounded up to whole seconds."""
    memory_bytes: int = 1 << 30
    """Address space, the interpreter's own (about 100 MB with its threads' stacks) included."""
    file_bytes: int = 16 << 20
    """Size of one file."""
    folder_bytes: int = 64 << 20
    """All files in the private folder together; they live in memory."""
    processes: int = 64
    """Threads at a time. New processes are forbidden altogether where system calls can be filtered."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"limit {name} must be a positive number, not {value}; leave it out for the default")


@dataclass(frozen=True)
class Outcome:
    """How a program did."""

    passed: bool
    """Whether every test ran to its end and every assertion held."""
    reason: str
    """Why not, in one line; empty if passed."""
    separable: bool = True
    """Whether the judge alone decided; otherwise the program's own types, or code in the judge's process, had a say."""


@dataclass(frozen=True)
class Protection:
    """What shuts a program in on this machine."""

    kinds: tuple[str, ...] = ()
    """What works here, together: ``namespaces`` (a root, processes and a network of its own), ``landlock`` (rules on
    paths), ``seccomp`` (no new processes, programs, network or signals)."""
    problems: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Why the other kinds do not work."""

    @property
    def minimum(self) -> bool:
        """Whether files, network and processes are out of reach: without this, programs run only if told to."""
        return "namespaces" in self.kinds or {"landlock", "seccomp"} <= set(self.kinds)

    @property
    def lines(self) -> list[str]:
        """What `unisd doctor` prints, one line each."""
        full = "namespaces" in self.kinds
        lines = [f"sandbox: {'full' if full else 'minimum' if self.minimum else 'no'} protection"]
        lines += [f"{kind}: {'yes' if kind in self.kinds else self.problems.get(kind, 'missing')}" for kind in _KINDS]
        lines.append(f"limits on time, memory and files: {'yes' if os.name == 'posix' else 'missing'}")
        if not self.minimum:
            lines.append(f"files and network are not protected: generated programs run only with {WAIVER}=1")
        elif not full:
            lines.append("without namespaces, programs cannot write files at all, not even in their own folder")
        return lines


def run_tests(
    program: str,
    tests: Sequence[str],
    setup: str = "",
    limits: Limits = Limits(),
    allow_unprotected: bool = False,
) -> Outcome:
    """Run ``program`` in one fresh process, ``setup`` and then each test in another, and judge it. Thread-safe.

    Args:
        program: Python source, of any origin.
        tests: Python statements, for example ``assert f(1) == 2``. They share one name space with the names of setup
            and program. At least one assertion of every test that has any must run; a test without one just has to
            run to its end, so that it can prepare something that needs the program's names.
        setup: Python source that the tests need, and that the program may use; it runs in both processes. In the tests
            its names win over the program's.
        limits: what the program may use.
        allow_unprotected: whether to run even where neither files nor network can be protected.

    Raises:
        UniSDError: this machine offers no protection and it was not waived (see :func:`require_protection`), or the
            sandbox cannot be set up.
        UsageError: there are no tests.
    """
    if not tests:
        raise UsageError("run_tests: no tests were given, so nothing could fail; pass at least one")
    require_protection(allow_unprotected)
    return _judged(protection().kinds, program, tests, setup, limits)


def require_protection(allow_unprotected: bool = False) -> None:
    """Make sure that programs can be run here with a minimum of protection.

    Args:
        allow_unprotected: waive it; so does the environment variable ``UNISD_ALLOW_UNPROTECTED=1``.

    Raises:
        UniSDError: they cannot, and nobody waived it; the message says what to do.
    """
    if os.name != "posix":
        raise UniSDError("programs can be run on Linux and other POSIX systems only; use one, or a container")
    waived = allow_unprotected or os.environ.get(WAIVER) == "1"
    if not waived and not protection().minimum:
        raise UniSDError(
            "programs cannot be run safely: files and network cannot be protected here (see `unisd doctor`); use Linux "
            f"5.13 or later with namespaces or Landlock, or set {WAIVER}=1 on a machine that holds nothing of value"
        )


@functools.cache
def protection() -> Protection:
    """Return what this machine offers. The first call tries it out (about half a second), later ones remember."""
    kinds: tuple[str, ...] = ()
    problems = {}
    for kind in _KINDS if sys.platform == "linux" else ():
        try:
            problem = _judged((*kinds, kind), "import fractions", ["assert True"], "", Limits(20.0, 20.0)).reason
        except UniSDError as error:
            problem = str(error)
        if problem:
            problems[kind] = problem
        else:
            kinds += (kind,)
    return Protection(kinds, problems)


def _judged(kinds: Sequence[str], program: str, tests: Sequence[str], setup: str, limits: Limits) -> Outcome:
    readable, importable = _python_paths()
    # With namespaces the private folder is made in memory, and nothing is left on this machine's disks.
    on_disk = functools.partial(tempfile.TemporaryDirectory, prefix="unisd-sandbox-", ignore_cleanup_errors=True)
    with contextlib.nullcontext(_FOLDER) if "namespaces" in kinds else on_disk() as home:
        job = {"program": program, "setup": setup, "kinds": kinds, "limits": dataclasses.asdict(limits)}
        job |= {"readable": [*readable, home], "path": importable}
        for together in (False, True):
            head = json.dumps({**job, "together": together})
            # The tests are apart: only the judge reads them.
            answer = _ask(f"{len(head):016x}{head}{json.dumps(list(tests))}", limits, home)
            if not answer["together"]:
                break
    return Outcome(answer["passed"] is True, answer["reason"], answer["separable"] and not together)


def _ask(job: str, limits: Limits, home: str) -> dict[str, Any]:
    """Start a judge; return its answer. One that ended or hung without one gives no verdict: UniSDError."""
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": home, "TMPDIR": home, "PYTHONHASHSEED": "0"}
    environment |= dict.fromkeys(["PYTHONUTF8", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"], "1")
    environment["MALLOC_ARENA_MAX"] = "2"  # more would reserve address space for every thread
    trouble = "the judge ended without an answer"
    with subprocess.Popen(
        [sys.executable, "-s", "-P", "-S", "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home if os.path.isdir(home) else "/",
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            # JSON keeps lone surrogates as escapes, so this is ASCII
            output, errors = process.communicate(job.encode("ascii"), limits.seconds + _START_SECONDS)
            trouble = [trouble, *errors.decode("utf-8", "replace").strip().splitlines()][-1]
        except subprocess.TimeoutExpired:
            output, trouble = b"", f"the judge gave no answer within {limits.seconds + _START_SECONDS:g} s"
        finally:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)  # the program dies with its judge; this is for other systems
    reasons = {
        -signal.SIGALRM: f"took longer than {limits.seconds:g} s",
        -signal.SIGSEGV: "the tests ended with SIGSEGV",
    }
    reasons[-signal.SIGXCPU] = f"the tests used more than {math.ceil(limits.cpu_seconds)} s of processor time"
    if process.returncode in reasons:
        return {"passed": False, "reason": reasons[process.returncode], "separable": True, "together": False}
    with contextlib.suppress(ValueError):
        answer = json.loads(output)
        if process.returncode == 0 and isinstance(answer, dict):
            return answer
    raise UniSDError(f"the sandbox cannot be set up: {trouble}; see what `unisd doctor` says of it")


@functools.cache
def _python_paths() -> tuple[list[str], list[str]]:
    """Return the paths that a program may read, and those of them that it imports installed packages from."""
    paths = sysconfig.get_paths()
    packages = list(dict.fromkeys([paths["purelib"], paths["platlib"], *site.getsitepackages()]))
    readable = [paths["stdlib"], paths["platstdlib"], *packages, *_LIBRARIES, *_DEVICES]
    if sys.base_prefix not in ("/", "/usr"):
        readable.append(os.path.join(sys.base_prefix, "lib"))
    readable += [os.path.realpath(path) for path in readable]
    return list(dict.fromkeys(path for path in readable if os.path.exists(path))), packages
