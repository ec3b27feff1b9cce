"""Running a generated program with its tests, and judging it.

What a program that passes has done: every test ran to its end, in a fresh process, and every assertion in the tests
held. The verdict is a random number that the worker sends last; whatever else a program writes, to whichever file, is
no pass. Exiting early, printing, replacing built-in functions or library functions, and objects that equal everything
all end in a failure (see `_judge`, `_trust` and `_rewrite` for how, `_confine` and `_seccomp` for what shuts the
process in).

What remains possible, as program and tests share one interpreter: code written against this very judge. A program can
learn what is expected of it from the frames of the tests that call it and return just that; it can change the variables
of those frames; a finaliser may run while the judge does; and machine code (forged bytecode, a faulty extension module)
can do anything inside the worker. None of it leaves the sandbox. Only the operators that stand in the tests and setup
are watched, not those inside the functions and methods that they call (``[2].count(f(1))``, ``unittest``, the program's
own). Tests that need a class or function to differ from the program's should use ``setup``: its names win over the
program's.

Conventions follow. A comparison between a value and an object whose type the program gave operators of its own
(``__eq__``, ``__sub__``) fails, and so does a truth value that such a type decides. Values are what holds only values
and is of Python's own types, NumPy's, or a type of the standard library that `_trust` lists, or has no operators at
all. Objects of another library may be compared among themselves only; ``unittest.mock`` objects, proxies, and
``pytest.approx`` with a tolerance above 0.01 with nothing, on whichever side they stand. Programs run outside of
Python's main thread, so they cannot set signal handlers, and ``__name__`` is not ``"__main__"``.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from unisd.errors import UniSDError, UsageError
from unisd.sandbox.protection import protection, start

WAIVER = "UNISD_ALLOW_UNPROTECTED"
"""Environment variable; 1 runs programs even where nothing protects from them."""


@dataclass(frozen=True)
class Limits:
    """What one program may use. A limit that is reached fails the program."""

    seconds: float = 10.0
    """Wall time from the start of the worker, measured outside of it."""
    cpu_seconds: float = 10.0
    """Processor time of all threads together, rounded up to whole seconds."""
    memory_bytes: int = 1 << 30
    """Address space, the interpreter's own (about 100 MB with its threads' stacks) included."""
    file_bytes: int = 16 << 20
    """Size of one file."""
    folder_bytes: int = 64 << 20
    """All files in the private folder together; they live in memory."""
    processes: int = 64
    """Threads at a time. New processes are forbidden altogether where system calls can be filtered."""
    output_bytes: int = 1 << 20
    """Standard output and error together. What is printed is read and thrown away."""

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
    """Whether the judge alone decided; otherwise types or functions of the program's own may have had a say."""


def run_tests(
    program: str,
    tests: Sequence[str],
    setup: str = "",
    limits: Limits = Limits(),
    allow_unprotected: bool = False,
) -> Outcome:
    """Run ``setup``, then ``program``, then each test, in one fresh process, and judge it. Thread-safe.

    Args:
        program: Python source, of any origin.
        tests: Python statements, for example ``assert f(1) == 2``. They share one name space with the names of setup
            and program. At least one assertion of every test that has any must run; a test without one just has to
            run to its end, so that it can prepare something that needs the program's names.
        setup: Python source that the tests need and that is not judged. Its names win over the program's.
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
    shield = protection()
    sources = {"program": program, "tests": list(tests), "setup": setup}
    answer = start(shield, sources, dataclasses.asdict(limits))
    return Outcome(passed=answer["passed"] is True, reason=answer["reason"], separable=answer["separable"])


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
