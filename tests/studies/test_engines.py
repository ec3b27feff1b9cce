"""Engines: each job in a process of its own, whatever becomes of it; and one line where an engine is not there."""

import os
import sys
import time
import types

import pytest

from unisd.errors import UsageError
from unisd.studies import engines
from unisd.studies.engines import Local, make_engine, run_job

WORKER = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def stopped(*_):
    (folder / "stopped").touch()
    sys.exit(3)
signal.signal(signal.SIGTERM, stopped)
print("for", os.environ["UNISD_STUDY_PARENT"])
print("begins", os.environ.get("OMP_NUM_THREADS"), flush=True)
name = folder.name.split("-")[0]
if name == "fails":
    sys.exit(print("failed: no such thing", file=sys.stderr) or 1)
if name == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
if name == "waits":
    time.sleep(60)
if name != "nothing":
    (folder / "result.json").write_text("{}")
"""


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Makes folders of jobs that end as their names say."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    monkeypatch.setattr(engines, "WORKER", (sys.executable, str(script)))

    def make(*names):
        made = [tmp_path / "jobs" / f"{name}-{number}" for number, name in enumerate(names)]
        for folder in made:
            folder.mkdir(parents=True)
        return made

    return make


def test_a_job_that_fails_or_is_killed_stops_nobody_and_says_why(folders):
    jobs = folders("good", "fails", "dies", "nothing", "good")
    why = dict(Local(2).run(jobs))
    assert [why[job] for job in jobs[:3]] == ["", "no such thing", "killed by SIGKILL (out of memory?)"]
    assert why[jobs[3]].startswith("begins")  # it ended well, and left nothing
    assert why[jobs[4]] == ""
    assert [(job / "failed").is_file() for job in jobs] == [False, True, True, True, False]
    assert "no such thing" in (jobs[1] / "log.txt").read_text()


def test_what_failed_once_may_succeed(folders):
    (job,) = folders("good")
    (job / "failed").write_text("before")
    assert run_job(str(job)) == ""
    assert not (job / "failed").exists()


def test_threads_are_shared_out(folders):
    (job,) = folders("good")
    assert list(Local(1).run([job])) == [(job, "")]
    assert f"begins {len(os.sched_getaffinity(0))}" in (job / "log.txt").read_text()


def test_whoever_stops_early_stops_the_workers_in_order(folders):
    jobs = folders("good", "waits", "waits", "good")
    running = Local(2).run(jobs)
    assert next(running) == (jobs[0], "")
    while not (jobs[1] / "log.txt").is_file() or not (jobs[1] / "log.txt").read_text():
        time.sleep(0.02)
    started = time.monotonic()
    running.close()
    assert time.monotonic() - started < 20
    assert (jobs[1] / "stopped").is_file()
    assert not (jobs[1] / "failed").exists()
    assert not (jobs[3] / "result.json").exists()


def test_a_worker_knows_who_started_it(folders):
    """Its parent may be dead before it can ask."""
    (job,) = folders("good")
    run_job(str(job))
    assert f"for {os.getpid()}" in (job / "log.txt").read_text()


@pytest.mark.parametrize(("name", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_an_engine_that_is_not_installed_is_one_line(name, package, monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(UsageError, match=rf"--on {name}: {package} is not installed; pip install 'unisd\[{name}\]'"):
        make_engine(name, None)


def test_an_engine_that_does_not_exist():
    with pytest.raises(UsageError, match="--on cloud: choose one of local, slurm, ray"):
        make_engine("cloud", None)


class Executor:
    """What stands for submitit's: it runs what it is given at once."""

    made: list["Executor"]

    def __init__(self, folder, cluster):
        self.folder, self.cluster, self.parameters, self.cancelled = folder, cluster, {}, []
        Executor.made.append(self)

    def update_parameters(self, **parameters):
        self.parameters = parameters

    def map_array(self, function, given):
        return [Array(self, function, folder) for folder in given]


class Array:
    def __init__(self, executor, function, folder):
        self.executor, self.function, self.folder, self.ended = executor, function, folder, False

    def result(self):
        self.ended = True
        if "lost" in self.folder:
            raise RuntimeError("Job 7 has no result\n  node n3 is down")
        return self.function(self.folder)

    def done(self):
        return self.ended

    def cancel(self, check=True):
        self.executor.cancelled.append(self.folder)


@pytest.fixture
def slurm(monkeypatch):
    Executor.made = []
    module = types.ModuleType("submitit")
    module.AutoExecutor = Executor
    module.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "submitit", module)
    return make_engine("slurm", 5, {"slurm_partition": "gpu", "timeout_min": 30})


def test_slurm_gets_one_array_with_what_was_asked_for(slurm, folders):
    jobs = folders("good", "fails", "lost")
    assert list(slurm.run(jobs)) == [
        (jobs[0], ""),
        (jobs[1], "no such thing"),
        (jobs[2], "RuntimeError: node n3 is down"),
    ]
    (executor,) = Executor.made
    assert executor.cluster == "slurm"
    assert executor.folder == str(jobs[0].parent.parent / "slurm")
    assert executor.parameters == {
        "slurm_partition": "gpu", "timeout_min": 30, "gpus_per_node": 1, "cpus_per_task": 8,
        "slurm_array_parallelism": 5,
    }  # fmt: skip
    assert executor.cancelled == []


def test_slurm_jobs_that_nobody_waits_for_are_cancelled(slurm, folders):
    jobs = folders("good", "good", "good")
    running = slurm.run(jobs)
    assert next(running) == (jobs[0], "")
    running.close()
    assert Executor.made[0].cancelled == [str(job) for job in jobs[1:]]


def test_no_jobs_are_no_array(slurm):
    assert list(slurm.run([])) == []
    assert Executor.made == []
