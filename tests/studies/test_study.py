"""Running a study: what is done is not done again, what fails stops nobody, and choices see validation items alone."""

import json
from contextlib import suppress

import pytest

from unisd.errors import UsageError
from unisd.studies.jobs import BASE
from unisd.studies.study import INDEX_FILE, STUDY_FILE, choose, estimate, plan, run_study, status

ITEMS = ["a", "b", "c", "d"]


class Instead:
    """An engine that writes made-up results; ``right`` says how many of four items a job gets right."""

    def __init__(self, right=lambda job: 2, fails=lambda job: ""):
        self.right, self.fails, self.did = right, fails, []

    def run(self, folders):
        for folder in folders:
            job = json.loads((folder / "job.json").read_text())
            (folder / "log.txt").write_text("log")
            self.did.append(job)
            why = self.fails(job)
            if not why:
                right = self.right(job)
                point = {
                    "step": 2, "ids": ITEMS, "correct": [int(i < right) for i in range(4)], "parsed": ITEMS,
                    "gold": ITEMS, "groups": [""] * 4, "chance": [0.2] * 4, "mean_tokens": 2.0, "finished": 1.0,
                }  # fmt: skip
                result = {"points": [point], "seconds": 30.0, "acting": [], "telemetry": {}, "run": job["run"]}
                (folder / "result.json").write_text(json.dumps(result))
            else:
                (folder / "failed").write_text(why)
            yield folder, why


def test_what_is_finished_is_not_done_again(small, tmp_path):
    first, second = Instead(), Instead()
    assert run_study(small(), tmp_path / "s", first, lambda line: None).finished == 13
    assert len(first.did) == 13
    run = run_study(small(arms={"sft": {"recipe": "sft"}}), tmp_path / "s", second, lambda line: None)
    assert [(job["arm"], job["seed"]) for job in second.did] == [("sft", 0), ("sft", 1)]
    assert (run.finished, run.failed) == (15, {})
    assert len(json.loads((tmp_path / "s" / INDEX_FILE).read_text())) == 15


def test_a_failed_job_stops_nobody_and_is_named_and_tried_again(small, tmp_path):
    said = []
    engine = Instead(fails=lambda job: "no memory" if (job["arm"], job["seed"]) == ("core", 1) else "")
    run = run_study(small(), tmp_path / "s", engine, said.append)
    assert run.finished == 12
    assert list(run.failed.values()) == ["no memory"]
    (line,) = [line for line in said if "failed" in line]
    assert "core, cos_e" in line
    assert "seed 1" in line
    assert "log.txt" in line
    assert [counts["failed"] for _, counts, _ in status(plan(small()), tmp_path / "s")] == [0, 0, 1]
    again = Instead()
    assert run_study(small(), tmp_path / "s", again, said.append).failed == {}
    assert len(again.did) == 1


def test_a_damaged_result_is_made_again_and_said(small, tmp_path):
    run_study(small(), tmp_path / "s", Instead(), lambda line: None)
    result = next(tmp_path.glob("s/jobs/*/result.json"))
    before = result.read_text()
    result.write_text(before[: len(before) // 2])
    said, engine = [], Instead()
    run_study(small(), tmp_path / "s", engine, said.append)
    assert len(engine.did) == 1
    assert result.read_text() == before
    assert any(str(result.parent) in line and "damaged" in line for line in said)


def test_a_folder_of_another_study_or_of_anything_else_is_left_alone(small, tmp_path):
    run_study(small(), tmp_path / "s", Instead(), lambda line: None)
    with pytest.raises(UsageError, match="it holds the results of study 'small', not 'other'"):
        run_study(small(name="other"), tmp_path / "s", Instead(), print)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds no study"):
        run_study(small(), tmp_path / "mine", Instead(), print)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="holds no study"):
        run_study(small(), tmp_path / "file", Instead(), print)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_a_study_that_is_stopped_goes_on(small, tmp_path):
    def stop(line):
        if "5/12" in line:
            raise KeyboardInterrupt

    first, second = Instead(), Instead()
    with suppress(KeyboardInterrupt):
        run_study(small(), tmp_path / "s", first, stop)
    run_study(small(), tmp_path / "s", second, lambda line: None)
    assert len(first.did) + len(second.did) == 13


SELECT = {"values": [0.01, 0.02, 0.03]}


def test_arms_choose_by_validation_items_and_run_with_what_they_chose(small, tmp_path):
    """On the test items another value is better, which must not be seen."""

    def right(job):
        rate = job["run"]["training"]["learning_rate"] if job["run"] else 0
        if job["exam"]["part"] == "validation":
            return {0.01: 1, 0.02: 3 if job["arm"] == "core" else 1, 0.03: 2}.get(rate, 0)
        return {0.01: 4}.get(rate, 0)

    engine = Instead(right)
    run = run_study(small(select=SELECT), tmp_path / "s", engine, lambda line: None)
    assert {arm: value for (arm, _, _), value in run.chosen.items()} == {
        arm: 0.02 if arm == "core" else 0.03 for arm, _, _ in run.chosen
    }
    tested = [job for job in engine.did if job["exam"]["part"] == "test" and job["run"]]
    assert len(tested) == 12
    assert all(job["run"]["training"]["learning_rate"] == (0.02 if job["arm"] == "core" else 0.03) for job in tested)
    parts = [job["exam"]["part"] for job in engine.did if job["arm"] == BASE]
    assert sorted(parts) == ["test", "validation"]


def test_an_arm_of_which_a_run_to_choose_by_is_missing_does_not_run_yet(small, tmp_path):
    study = small(select=SELECT)
    engine = Instead(fails=lambda job: "x" if job["arm"] == "core" and job["value"] == 0.02 else "")
    run_study(study, tmp_path / "s", engine, lambda line: None)
    tested = {job["arm"] for job in engine.did if job["exam"]["part"] == "test"}
    assert "core" not in tested
    assert len(tested) == 6  # five others and the base
    assert "core" not in {arm for arm, _, _ in choose(plan(study), tmp_path / "s")}
    again = Instead()
    run_study(study, tmp_path / "s", again, lambda line: None)
    assert [(job["arm"], job["exam"]["part"]) for job in again.did] == [
        ("core", "validation"), ("core", "test"), ("core", "test"),
    ]  # fmt: skip


def test_estimates_come_from_what_was_measured_or_from_the_file(small, tmp_path):
    assert [phase.seconds for phase in estimate(plan(small()), tmp_path / "s")] == [None, 0, None]
    given = estimate(plan(small(seconds_per_step=5)), tmp_path / "s")
    assert [(phase.missing, phase.seconds) for phase in given] == [(1, 5), (0, 0), (12, 120)]
    run_study(
        small(), tmp_path / "s", Instead(fails=lambda job: "x" if job["arm"] != "core" else ""), lambda line: None
    )
    assert [phase.seconds for phase in estimate(plan(small()), tmp_path / "s")] == [None, 0, 300]


def test_nothing_is_written_where_a_study_cannot_be(small, tmp_path):
    study = small(arms={"longer": {"set": {"training": {"max_steps": 3}}}})
    with pytest.raises(UsageError, match="arms differ"):
        run_study(study, tmp_path / "s", Instead(), print)
    assert not (tmp_path / "s").exists()


def test_the_study_file_lies_beside_the_results(small, tmp_path):
    run_study(small(), tmp_path / "s", Instead(), lambda line: None)
    assert "name: small" in (tmp_path / "s" / STUDY_FILE).read_text()
