"""Whole studies of a tiny model: killed and resumed, and on other engines, the report is the same but for times."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from studies.conftest import SMALL
from unisd.errors import Stopped, UniSDError
from unisd.studies.engines import make_engine
from unisd.studies.report import write_report
from unisd.studies.settings import read_study
from unisd.studies.study import run_study
from unisd.studies.work import work

pytestmark = pytest.mark.slow
RUNS = 12


class Here:
    """An engine of this process, which has imported everything already."""

    def run(self, folders):
        for folder in folders:
            try:
                work(folder)
            except (UniSDError, Stopped) as error:
                yield folder, str(error)
            else:
                yield folder, ""


@pytest.fixture(scope="module")
def file(tmp_path_factory, tiny_folder):
    """The study's file: twelve runs."""
    path = tmp_path_factory.mktemp("study") / "small.yaml"
    path.write_text(yaml.safe_dump({**SMALL, "models": [tiny_folder]}))
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, file):
    """The study's report where nothing came between."""
    folder = tmp_path_factory.mktemp("undisturbed") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNISD_CACHE", str(folder.parent / "cache"))
        run = run_study(read_study(file), folder, Here(), lambda line: None)
    assert (run.finished, run.failed) == (RUNS + 1, {})
    return report(folder)


def report(folder: Path) -> dict[str, bytes]:
    """Return the files of a study's report, made of its results without what was timed."""
    for file in folder.glob("jobs/*/result.json"):
        result = json.loads(file.read_text())
        result["seconds"] = 0.0
        for name, values in (result.get("telemetry") or {}).items():
            if name.startswith(("time/", "speed/", "memory/")):
                result["telemetry"][name] = [0.0] * len(values)
        file.write_text(json.dumps(result))
    write_report(folder, ("html", "md", "csv"))
    written = [folder / "report.html", folder / "report.md", *sorted((folder / "report").iterdir())]
    return {path.name: path.read_bytes() for path in written}


def test_a_study_that_is_killed_and_resumed_has_the_same_report(tmp_path, file, undisturbed):
    results = tmp_path / "results"
    words = [sys.executable, "-m", "unisd.cli.main", "study", str(file), "--output", str(results), "--workers", "2"]
    first = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finished = lambda: len(list(results.glob("jobs/*/result.json")))  # noqa: E731
    while finished() < RUNS // 2 and first.poll() is None:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    left = finished()
    assert left < RUNS
    patience = time.monotonic() + 60
    while list(results.glob("jobs/*/run.lock")) and time.monotonic() < patience:
        time.sleep(0.1)  # its workers notice, and end in order
    before = {path: path.stat().st_mtime_ns for path in results.glob("jobs/*/result.json")}
    second = subprocess.run(words, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert f"{RUNS + 1} jobs finished" in second.stdout
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert not list(results.glob("runs/*/checkpoints"))
    assert report(results) == undisturbed


@pytest.mark.engine
def test_the_same_through_ray(tmp_path, file, undisturbed):
    pytest.importorskip("ray")
    run = run_study(read_study(file), tmp_path / "results", make_engine("ray", 2, {"num_cpus": 2}), lambda line: None)
    assert (run.finished, run.failed) == (RUNS + 1, {})
    assert report(tmp_path / "results") == undisturbed


def test_a_run_that_cannot_be_trained_is_named_with_its_log(tmp_path, file, tiny_folder):
    """A worker of its own, which says in one line why."""
    study = read_study(file)
    said = []
    engine = make_engine("local", 1)
    folder = tmp_path / "results"
    weights = Path(tiny_folder) / "model.safetensors"
    content = weights.read_bytes()

    class Damaged:
        """The model's file is cut off once the study has looked at it."""

        def run(self, folders):
            weights.write_bytes(content[:100])
            yield from engine.run(folders[:1])

    try:
        run = run_study(study, folder, Damaged(), said.append)
    finally:
        weights.write_bytes(content)
    assert run.failed
    place, why = next(iter(run.failed.items()))
    assert "\n" not in why
    assert "Traceback" not in (place / "log.txt").read_text()
    assert os.path.basename(tiny_folder) in why or "model" in why
