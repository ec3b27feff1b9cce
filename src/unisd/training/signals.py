"""Stopping in order: by a signal, or when a time is up. Nothing here needs torch."""

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from unisd.errors import UsageError

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_ALARM: int | None = getattr(signal, "SIGALRM", None)  # Windows has none: there a run looks at the clock at its steps
_ONE_REQUEST = 2.0
"""Seconds within which a launcher repeats what the terminal has told its processes already."""


class Interrupted(KeyboardInterrupt):
    """A signal came where nothing has to be finished first. Its text names the signal."""


class Stop:
    """Whether work is asked to end, and why. One for the process: `STOP`."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything, as before a command."""
        self.signal = ""
        self.deadline: float | None = None
        self._came = 0.0
        self._finishes = False

    def within(self, seconds: float) -> None:
        """Ask for an end so many seconds from now."""
        self.deadline = time.monotonic() + seconds
        if _ALARM is not None and threading.current_thread() is threading.main_thread():
            # And again: what is raised inside of a destructor is lost.
            signal.setitimer(signal.ITIMER_REAL, seconds, 10.0)

    def reason(self, needed: float = 0.0) -> str:
        """Return why work is to end now, or an empty text.

        Args:
            needed: seconds that the next piece of work would take.
        """
        if self.signal:
            return self.signal
        return "--max-time" if self.deadline is not None and time.monotonic() + needed > self.deadline else ""

    @contextlib.contextmanager
    def finishing(self) -> Iterator[None]:
        """Inside, a signal is noted, and whoever works looks at `reason` where a piece of work is done."""
        before, self._finishes = self._finishes, True
        try:
            yield
        finally:
            self._finishes = before

    def over(self, number: int, frame: Any = None) -> None:
        """Take the alarm at the end of the time, where nothing has to be finished first.

        Raises:
            Interrupted: so it is.
        """
        if not self._finishes and self.deadline is not None:
            raise Interrupted("--max-time")

    def come(self, number: int, frame: Any = None) -> None:
        """Take a signal: the first asks for an end, a second one ends the process at once.

        Raises:
            Interrupted: nothing has to be finished first.
        """
        again, now = bool(self.signal), time.monotonic()
        if again and "TORCHELASTIC_RUN_ID" in os.environ and now - self._came < _ONE_REQUEST:
            return
        if again:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.signal, self._came = signal.Signals(number).name, now
        if not self._finishes:
            raise Interrupted(self.signal)
        if os.environ.get("RANK", "0") == "0":
            os.write(2, f"\n{self.signal}: finishing the step and saving it; a second signal ends at once\n".encode())


STOP = Stop()


@contextlib.contextmanager
def listening() -> Iterator[Stop]:
    """Listen for the signals that ask for an end; outside of the main thread, where Python cannot, do nothing."""
    STOP.clear()
    if threading.current_thread() is not threading.main_thread():
        yield STOP
        return
    before: dict[int, Any] = {} if _ALARM is None else {_ALARM: signal.signal(_ALARM, STOP.over)}
    for name in NAMES:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup's choice stays
            before[number] = signal.signal(number, STOP.come)
    try:
        yield STOP
    finally:
        if _ALARM is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        STOP.clear()


def seconds_of(text: str) -> float:
    """Return a time in seconds: ``5400``, ``90m``, ``1h30m``, ``1d``, ``1:30:00``.

    Raises:
        UsageError: it cannot be read, or is not above 0.
    """
    plain = text.strip().lower()
    found = re.fullmatch(r"(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m(?:in)?)?\s*(?:(\d+(?:\.\d+)?)s?)?", plain)
    clock = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", plain)
    parts = found.groups() if found else clock.groups() if clock else ()
    seconds = sum(float(part or 0) * unit for part, unit in zip(parts, (86400, 3600, 60, 1), strict=False))
    if not seconds > 0:
        raise UsageError(f"--max-time {text}: write a time above 0, for example 90m, 2h30m or seconds")
    return seconds
