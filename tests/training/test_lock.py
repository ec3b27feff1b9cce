import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from unisd.errors import UsageError
from unisd.training import lock
from unisd.training.lock import LOCK_FILE, run_lock

HOLD = "import sys, time; from pathlib import Path; from unisd.training.lock import run_lock\n"
HOLD += "with run_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


@pytest.fixture
def holder(tmp_path):
    """Another process that writes into the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_another_process_is_refused_by_name_and_a_dead_ones_lock_is_free(tmp_path, holder):
    with pytest.raises(UsageError) as refused, run_lock(tmp_path / "run"):
        pass
    assert f"a run is writing there (process {holder.pid} on {socket.gethostname()}, since 20" in str(refused.value)
    assert "wait for its end, or choose another folder" in str(refused.value)
    with run_lock(tmp_path / "run", owner=False):  # a rank that leaves it to the first
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / LOCK_FILE).exists()
    with run_lock(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / LOCK_FILE).read_text())["process"] == os.getpid()


def test_nothing_is_left_and_what_came_stays(tmp_path):
    with run_lock(tmp_path / "a/b"), run_lock(tmp_path / "a/b"):  # who holds it may ask again
        pass
    assert list(tmp_path.iterdir()) == []
    with run_lock(tmp_path / "a/b"):
        (tmp_path / "a/b/file").write_text("x")
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["file"]


def test_a_forked_child_holds_nothing(tmp_path):
    read, write = os.pipe()
    with run_lock(tmp_path / "run"):
        child = os.fork()
        if not child:
            os.read(read, 1)  # it outlives the lock
            os._exit(0)
        time.sleep(0.05)
        handle = os.open(tmp_path / "run" / LOCK_FILE, os.O_RDWR)
        with pytest.raises(BlockingIOError):  # the child's closing of its copy has not let go of it
            lock._locked(handle)
        os.close(handle)
    with run_lock(tmp_path / "run"):
        pass
    os.write(write, b"x")
    os.waitpid(child, 0)


@pytest.mark.parametrize("said", [{}, {"process": 1}, {"process": "x"}, {"process": -5}, []], ids=str)
def test_without_locks_the_file_counts_as_long_as_its_process_lives(tmp_path, monkeypatch, said):
    monkeypatch.setattr(lock, "fcntl", None)
    (tmp_path / LOCK_FILE).write_text(json.dumps(said | {"host": socket.gethostname()} if said else said))
    if said == {"process": 1}:  # it always lives
        with pytest.raises(UsageError, match=r"if it has ended, remove run\.lock"), run_lock(tmp_path):
            pass
        (tmp_path / LOCK_FILE).write_text(json.dumps({"process": 2**22 - 1, "host": socket.gethostname()}))
    with run_lock(tmp_path):
        pass
    (tmp_path / LOCK_FILE).write_text(json.dumps({"process": 2**22 - 1, "host": "elsewhere"}))
    with pytest.raises(UsageError, match="on elsewhere"), run_lock(tmp_path):
        pass
