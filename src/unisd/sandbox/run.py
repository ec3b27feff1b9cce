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
both processes is in `_confine`. What is printed goes nowhere. ``__name__`` is not ``"__main__"`` in a program.
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
