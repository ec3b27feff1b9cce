"""A sample of ``make test-kill``: real kills at file events and random instants, and damaged files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kills.py")


@pytest.mark.slow
def test_a_run_survives_kills_and_damage():
    asked = ["--events", "2", "--instants", "0", "--two-ranks", "0", "--fuzz", "2", "--cases", "1", "--seed", "3"]
    done = subprocess.run([sys.executable, str(SCRIPT), *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] >= 2
    assert (found["other endings"], found["neither recovered nor one line"]) == (0, 0)
