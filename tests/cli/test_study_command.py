"""``unisd study``: plans, states and refusals; whole studies are run in tests/studies."""

import importlib.util

import pytest
import yaml

from unisd.cli.main import main


@pytest.fixture
def study(tmp_path, monkeypatch, model_folder):
    """Makes a study's file; its keys may be changed."""
    monkeypatch.chdir(tmp_path)
    values = {
        "tasks": {"cos_e": {"source": "sample", "test": 4}}, "models": [model_folder], "designs": ["one-at-a-time"],
        "settings": {"training": {"max_steps": 2}}, "seconds_per_step": 1.5, "price": 3600.0,
    }  # fmt: skip

    def make(**changes):
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**values, **changes}))
        return "tiny.yaml"

    return make


def test_a_dry_run_lists_arms_and_jobs_with_time_and_cost_and_writes_nothing(study, capsys, tmp_path):
    assert main(["study", study(), "--dry-run"]) == 0
    said = capsys.readouterr().out
    for word in ("core+clipping", "18", "1 min", "0.0 hours of one device, 56 at 3600 an hour"):
        assert word in said
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml"}


def test_a_dry_run_counts_without_data_that_are_not_here_and_says_so(study, answered, capsys):
    words = ["study", study(tasks={"scienceqa": {"test": 4}}), "--dry-run"]
    assert main(words) == 0
    assert "scienceqa is counted without its items" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert answered()["lacking"].keys() == {"scienceqa"}


def test_a_status_before_anything_was_run(study, answered):
    assert main(["study", study(), "--status", "--json"]) == 0
    found = answered()["phases"]
    assert [(phase["phase"], phase["waiting"]) for phase in found] == [
        ("bases", 1), ("runs to choose by", 0), ("runs", 18),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words", "said"),
    [
        ({}, ["--workers", "0"], "--workers: 0"),
        ({}, ["--on", "cloud"], "--on cloud: choose one of local, slurm, ray"),
        ({"sedes": [1]}, [], "sedes"),
        ({"tasks": {"gpqa": None}}, [], "gpqa has no split beside 'test'"),
        ({"tasks": {"cos": None}}, [], "cos"),
        ({"arms": {"a": {"set": {"training": {"max_steps": 3}}}}}, [], "training.max_steps: 2 in core, 3 in a"),
        ({}, ["--output", "tiny.yaml"], "holds no study"),
        ({}, ["--option", "gpus"], "gpus"),
        ({}, ["--max-time", "soon"], "--max-time soon"),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line(study, refused, changes, words, said):
    assert said in refused("study", study(**changes), *words)


def test_a_file_that_is_missing(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "none.yaml" in refused("study", "none.yaml")


def test_an_analysis_that_cannot_be_is_said_before_anything_is_run(study, monkeypatch, capsys, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "scipy" else found(name, *a))
    assert main(["study", study()]) == 1
    assert "needs scipy, which is not installed; pip install 'unisd[study]'" in capsys.readouterr().err
    assert not (tmp_path / "studies").exists()


def test_quiet_says_nothing_of_single_jobs_and_still_what_failed(study, monkeypatch, capsys):
    class Broken:
        def run(self, folders):
            yield from ((folder, "no such device") for folder in folders)

    monkeypatch.setattr("unisd.studies.engines.make_engine", lambda *_: Broken())
    assert main(["study", study()]) == 1
    loud = capsys.readouterr()
    assert "failed: no such device" in loud.out
    assert main(["study", study(), "--quiet"]) == 1
    calm = capsys.readouterr()
    assert "failed: no such device" not in calm.out
    assert "no such device" in calm.err
