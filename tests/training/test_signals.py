import os
import signal
import subprocess
import sys
import time

import pytest

from unisd.errors import UsageError
from unisd.training.signals import NAMES, STOP, Interrupted, listening, seconds_of


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_is_noted_while_something_is_finished_and_else_ends_the_work(name, capfd):
    before = signal.getsignal(getattr(signal, name))
    with listening() as stop:
        assert stop.reason() == ""
        with stop.finishing():
            os.kill(os.getpid(), getattr(signal, name))
            assert stop.reason() == name
        assert "finishing the step and saving it; a second signal ends at once" in capfd.readouterr().err
        stop.clear()
        with pytest.raises(Interrupted, match=name):
            os.kill(os.getpid(), getattr(signal, name))
    assert signal.getsignal(getattr(signal, name)) is before


@pytest.mark.parametrize(("launched", "code"), [(False, -signal.SIGTERM), (True, 0)])
def test_a_second_signal_ends_at_once_and_a_launchers_repetition_does_not(launched, code):
    script = (
        "import os, signal; from unisd.training.signals import listening\nwith listening() as stop, stop.finishing():\n"
    )
    script += "    [os.kill(os.getpid(), signal.SIGTERM) for _ in range(2)]"
    environment = {key: value for key, value in os.environ.items() if key != "TORCHELASTIC_RUN_ID"}
    environment |= {"TORCHELASTIC_RUN_ID": "x"} if launched else {}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == code


def test_a_time_is_over_before_a_step_that_does_not_fit():
    with listening() as stop, stop.finishing():
        stop.within(100)
        assert stop.reason(needed=50) == ""
        assert stop.reason(needed=101) == "--max-time"
        stop.within(0.01)
        time.sleep(0.05)
        assert stop.reason() == "--max-time"
    with listening() as stop:
        stop.within(0.05)
        with pytest.raises(Interrupted, match="--max-time"):
            time.sleep(5)
    STOP.clear()
    assert STOP.reason(1e9) == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("90m", 5400), ("2h30m", 9000), ("1d", 86400), ("1:30:00", 5400), ("10:30", 630),
     ("1-00:00:01", 86401), (" 2H ", 7200), ("45min", 2700)],
)  # fmt: skip
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "two hours", "h", "1m2h", "1:2:3:4", "nan"])
def test_no_times(text):
    with pytest.raises(UsageError, match=r"--max-time .*: write a time above 0"):
        seconds_of(text)
