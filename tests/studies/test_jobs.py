"""Jobs are known by what determines their result, and by nothing else."""

import json
import shutil

import pytest

from unisd.errors import UniSDError, UsageError
from unisd.studies.jobs import Jobs, is_damaged, read_result
from unisd.studies.study import plan
from unisd.tasks import get
from unisd.training.prepare import load_examples
from unisd.training.runfile import assemble


def runs(study):
    return {(job.arm, job.seed): job for job in plan(study).runs({})}


def keys(study):
    return {place: job.key for place, job in runs(study).items()}


def test_the_same_study_has_the_same_jobs_and_each_arm_and_seed_its_own(small):
    first = keys(small())
    assert first == keys(small())
    assert len(set(first.values())) == len(first) == 12


def test_a_job_has_another_name_where_anything_that_counts_is_other(small, tmp_path, tiny_folder):
    first = keys(small())["core", 0]
    settings = {**small().about.settings, "training": {**small().about.settings["training"], "learning_rate": 0.02}}
    assert keys(small(settings=settings))["core", 0] != first
    task = {"source": "sample", "items": 8, "validation": 4, "test": 6}
    for changed in ({"items": 7}, {"test": 5}, {"validation": 5}):
        assert keys(small(tasks={"cos_e": {**task, **changed}}))["core", 0] != first
    assert keys(small(evaluate={"at": [1], "max_new_tokens": 5}))["core", 0] != first
    other = tmp_path / "model"
    shutil.copytree(tiny_folder, other)
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    assert keys(small(models=[str(other)]))["core", 0] != first


def test_names_and_questions_of_a_study_do_not_count(small):
    first = keys(small())
    assert keys(small(name="other", description="why?", price=2.0, reference=["core"])) == first
    assert keys(small(arms={"more": {"recipe": "sft"}})).items() >= first.items()


def test_equal_arms_are_one_job(small):
    found = runs(small(arms={"twin": {"recipe": "core"}}))
    assert found["twin", 0].key == found["core", 0].key
    assert found["twin", 0].run_key != found["core", 1].run_key


def test_a_longer_look_shares_the_run(small):
    first, second = runs(small())["core", 0], runs(small(evaluate={"at": [1], "max_new_tokens": 9}))["core", 0]
    assert first.run_key == second.run_key
    assert first.key != second.key


def test_no_run_is_trained_on_what_is_chosen_by_or_tested_with(small):
    jobs = plan(small(select={"values": [0.01, 0.02]}))
    validation = {e.id for e in jobs.choosing()[0].exam.examples()}
    test = {e.id for e in jobs.runs({})[0].exam.examples()}
    run = assemble("core", given=jobs.more("cos_e", "smollm2-135m", 0) | {"training": {"max_steps": 2}})
    trained = {e.id for e in load_examples(run)[1]}
    assert (len(validation), len(test), len(trained)) == (4, 6, 8)
    assert not validation & test
    assert not trained & (validation | test)
    questions = {e.id: e.question for split in get("cos_e").splits for e in get("cos_e").load(split, "sample")}
    assert not {questions[name] for name in trained} & {questions[name] for name in validation | test}


def test_every_arm_tries_the_same_values_once(small):
    jobs = plan(small(select={"values": [0.01, 0.02]}, seeds=[0, 1, 2]))
    tried = [(job.arm, job.value) for job in jobs.choosing()]
    assert sorted(tried) == sorted((arm.name, value) for arm in jobs.arms for value in (0.01, 0.02))
    assert {job.exam.part for job in jobs.choosing()} == {"validation"}
    chosen = {(arm.name, "cos_e", jobs.study.about.models[0]): 0.02 for arm in jobs.arms}
    assert {job.run["training"]["learning_rate"] for job in jobs.runs(chosen)} == {0.02}
    assert jobs.runs({}, whole=False) == []


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"source": "sample", "test": 100_000}, "100000 test items are asked for"),
        ({"source": "sample", "validation": 100_000}, "validation|hold_out"),
        ({"source": "sample", "split": "train"}, "no split beside 'train'"),
        ({"source": "sample", "split": "tests"}, "no split 'tests'"),
        ({"source": "sample", "cluster": "passage"}, r"tasks\.cos_e\.cluster: not all items have 'passage'"),
    ],
)
def test_items_that_are_not_there(small, task, said):
    with pytest.raises(UsageError, match=said):
        plan(small(tasks={"cos_e": task}, select={"values": [0.1]} if task.get("validation") else None))


def test_a_task_without_a_test_split(small):
    with pytest.raises(UsageError, match="gpqa has no split beside 'test'"):
        plan(small(tasks={"gpqa": {}}))


def test_data_that_are_not_here_are_named_and_only_a_dry_run_counts_without(small):
    study = small(tasks={"scienceqa": {"test": 4}})
    with pytest.raises(UniSDError, match=r"scienceqa|ScienceQA") as refused:
        plan(study)
    assert "\n" not in str(refused.value)
    jobs = plan(study, without_data=True)
    assert len(jobs.runs({})) == 12
    assert jobs.lacking.keys() == {"scienceqa"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"points": 3}',
        '{"points": []}',
        '{"points": [3], "seconds": 1}',
        "null",
        '{"a": 1}',
        "[" * 100_000,
    ],
)
def test_a_damaged_result_is_none(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    assert read_result(tmp_path) is None
    assert is_damaged(tmp_path)


def test_a_job_says_in_which_state_it_is(small, tmp_path):
    job: Jobs = plan(small()).runs({})[0]
    folder = job.folder(tmp_path)
    assert job.state(tmp_path) == "waiting"
    job.write(tmp_path, None)
    assert json.loads((folder / "job.json").read_text())["run_key"] == job.run_key
    assert job.state(tmp_path) == "waiting"
    (folder / "log.txt").write_text("x")
    assert job.state(tmp_path) == "started"
    (folder / "failed").write_text("why")
    assert job.state(tmp_path) == "failed"
    (folder / "result.json").write_text('{"points": [{"ids": ["a"], "correct": [1], "parsed": ["x"]}], "seconds": 1}')
    assert job.state(tmp_path) == "finished"
