"""A worker: what it does with a job that cannot be done, when its parent dies, and what it keeps of answers."""

import json
import os
import signal
import threading
from types import SimpleNamespace

import pytest

from unisd.studies import work
from unisd.studies.jobs import PARENT
from unisd.studies.study import plan


def test_a_worker_stops_in_order_where_whoever_started_it_is_dead(monkeypatch):
    came, sent = threading.Event(), []

    def kill(number, which):
        sent.append((number, which))
        came.set()

    monkeypatch.setattr(work, "os", SimpleNamespace(getppid=lambda: 1, getpid=os.getpid, kill=kill))
    work._end_with(7)
    assert came.wait(5)
    assert sent == [(os.getpid(), signal.SIGTERM)]


@pytest.fixture
def job(small, tmp_path, monkeypatch):
    """The folder of a job, whose worker would watch this process."""
    monkeypatch.setenv(PARENT, str(os.getppid()))
    jobs = plan(small())
    one = jobs.runs({})[0]
    return one.write(tmp_path, jobs.base_of(one).key)


def test_what_cannot_be_done_is_one_line(job, capsys):
    values = json.loads((job / "job.json").read_text())
    values["run"]["model"]["name"] = str(job / "nothing")
    values["asking"]["retention"] = False
    (job / "job.json").write_text(json.dumps(values))
    assert work.main(str(job)) == 1
    err = capsys.readouterr().err.strip().splitlines()
    assert err[-1].startswith("failed: ")
    assert str(job / "nothing") in err[-1]
    assert not (job / "result.json").exists()


def test_a_run_is_not_trained_for_a_base_that_was_not_asked(job, capsys):
    assert work.main(str(job)) == 1
    assert "the base has not been asked" in capsys.readouterr().err
    assert not (job.parent.parent / "runs").exists()


def test_a_signal_is_no_failure(job, capsys, monkeypatch):
    def stopped(folder):
        raise KeyboardInterrupt("SIGTERM")

    monkeypatch.setattr(work, "work", stopped)
    assert work.main(str(job)) == 3
    assert capsys.readouterr().err == "stopped: SIGTERM\n"


def test_a_run_is_asked_on_the_way_and_after_its_last_step():
    assert work._steps({"asking": {"at": [10, 5, 40, 60, 0]}}, 40) == [5, 10, 40]
    assert work._steps({"asking": {"at": []}}, 3) == [3]


def test_long_answers_are_kept_apart():
    first, second = "a" * 200, "a" * 199 + "b"
    assert work._short("short") == "short"
    assert work._short(first) != work._short(second)
    assert len(work._short(first)) < 120
