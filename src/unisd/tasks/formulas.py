"""Whether two answers are the same number or formula, where ``math-verify`` (the extra ``math``) is installed.

Some short formulas keep a computer algebra system busy for hours, and it cannot be stopped from within a thread. So it
runs in a process of its own, which ends where one comparison takes too long: then the answers count as different.
"""

import atexit
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any, cast

_CPU_SECONDS = 5.0
_lock = threading.Lock()
_running: tuple[int, "subprocess.Popen[str]"] | None = None
"""The process that compares, and whose child it is: a fork must not use its parent's."""


def installed() -> bool:
    """Return whether formulas can be compared here."""
    return hasattr(signal, "setitimer") and importlib.util.find_spec("math_verify") is not None


def same(expected: str, given: str, tolerance: float) -> bool:
    """Return whether two formulas (`formula_in`) are equal: numbers up to a relative ``tolerance``, else as algebra."""
    global _running
    if not installed():
        return False
    with _lock, contextlib.suppress(OSError):
        if _running is None or _running[0] != os.getpid() or _running[1].poll() is not None:
            command, pipe = [sys.executable, "-P", __file__, str(_CPU_SECONDS)], subprocess.PIPE
            started = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
            _running = os.getpid(), started
        process, answer = cast(Any, _running[1]), ""
        try:
            process.stdin.write(json.dumps([expected, given, tolerance]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        finally:
            if not answer:  # it ended, or somebody interrupts: an answer that comes later must not be the next one's
                _end()
        return bool(answer == "True\n")
    return False


@atexit.register
def _end() -> None:
    if _running is not None and _running[0] == os.getpid():
        with contextlib.suppress(OSError), _running[1] as process:
            process.kill()


def _compared(expected: str, given: str, tolerance: float) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify
    from math_verify.parser import NormalizationConfig

    # Units stay: without them, 5 m would be 5 s. Its parser of plain texts is left out: it evaluates them as Python.
    config = LatexExtractionConfig(boxed_match_priority=-1, normalization_config=NormalizationConfig())
    a, b = (parse(f"${text}$", [config], "no_fallback", parsing_timeout=None)[0] for text in (expected, given))
    if a.free_symbols or b.free_symbols:
        return bool(verify(a, b, timeout_seconds=None))
    x, y = a.evalf(), b.evalf()
    return bool(x.is_finite and y.is_finite and abs(x - y) <= tolerance * max(abs(x), abs(y)))


def _serve(seconds: float) -> None:
    """Answer each line of the standard input, until it ends or a line takes too long."""
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends the process, even inside a C function
        try:
            equal = _compared(*json.loads(line))
        except Exception:  # not a formula after all
            equal = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(equal, flush=True)


if __name__ == "__main__":
    _serve(float(sys.argv[1]))
