import json
import shutil

import pytest

from unisd import tasks
from unisd.cli.audit_command import show_audit
from unisd.cli.main import main
from unisd.evaluation.audit import KINDS, LAYOUTS, Audit, Auditor, audit_sample
from unisd.tasks.registry import TASKS

COS_E = ["--task", "cos_e", "--source", "sample"]


@pytest.fixture
def asked(monkeypatch):
    """Every audit that is asked for: the auditor, and what it is to measure. Only a small part of it is measured."""
    calls = []
    audit = Auditor.audit

    def spied(self, examples, layouts, kinds, negatives):
        calls.append((self, examples, layouts, kinds, negatives))
        return audit(self, examples[:2], layouts[:1], kinds[:1], False)

    monkeypatch.setattr(Auditor, "audit", spied)
    return calls


def test_audit_says_what_the_teacher_has_to_teach(tmp_path, model_folder, capsys):
    words = ["audit", *COS_E, "--model", model_folder, "--items", "6", "--max-new-tokens", "6", "--probes", "2"]
    assert main([*words, "--output", str(tmp_path / "audit"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    found = answer["result"]
    assert answer["files"] == [str(tmp_path / "audit/audit.json")]
    assert found == json.loads((tmp_path / "audit/audit.json").read_text())
    assert set(found["divergence"]) == set(LAYOUTS)
    assert found["agreement"]["probes"] == 2
    assert found["verdict"][0].startswith("6 items are too few to say")
    assert found["evaluations"]["student"]["n"] == 6
    assert any(why.startswith("negative: ") for why in found["dropped"])
    stems = {path.stem for path in (tmp_path / "audit/answers").glob("*.jsonl")}
    assert {"student", "teacher-gold-turn", f"teacher-random-{found['layout']}"} <= stems
    assert len((tmp_path / "audit/answers/teacher-gold-turn.jsonl").read_text().splitlines()) == 6


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_variables_of_the_chat_template_reach_every_prompt(model_folder, asked):
    words = ["audit", *COS_E, "--model", model_folder, "--max-new-tokens", "3", "--quiet"]
    assert main([*words, "--template-kwargs", "{enable_thinking: false}"]) == 0
    ((auditor, *_),) = asked
    assert auditor.builder.variables == {"enable_thinking": False}


def test_where_the_model_runs_is_an_option(model_folder, asked, refused):
    words = ["audit", *COS_E, "--model", model_folder, "--max-new-tokens", "3", "--quiet"]
    assert "--device: 'gpu' is no device" in refused(*words, "--device", "gpu")
    assert main([*words, "--device", "cpu", "--device-map", "auto"]) == 0
    assert next(asked[0][0].model.parameters()).device.type == "cpu"


def test_what_is_not_chosen_is_the_default(model_folder, capsys, asked):
    assert main(["audit", *COS_E, "--model", model_folder, "--max-new-tokens", "3", "--quiet"]) == 0
    ((auditor, examples, layouts, kinds, negatives),) = asked
    pool = tasks.get("cos_e").load("train", "sample")
    assert auditor.pool == pool
    assert examples == audit_sample(pool, 64, 42)
    assert (tuple(layouts), tuple(kinds), negatives) == (LAYOUTS, KINDS, True)
    assert (auditor.probes, auditor.seed, auditor.sampler.batch_size, auditor.progress) == (3, 42, 32, False)


def test_every_choice_reaches_the_audit(model_folder, capsys, asked):
    words = ["audit", *COS_E, "--split", "validation", "--model", model_folder, "--items", "5", "--layout", "turn"]
    words += ["--layout", "system", "--context", "retrieval", "--context", "random", "--probes", "4", "--no-negatives"]
    assert main([*words, "--max-new-tokens", "3", "--batch-size", "2", "--seed", "7"]) == 0
    ((auditor, examples, layouts, kinds, negatives),) = asked
    pool = tasks.get("cos_e").load("validation", "sample")
    assert auditor.pool == pool
    assert examples == audit_sample(pool, 5, 7)
    assert (layouts, kinds, negatives) == (["turn", "system"], ["retrieval", "random"], False)
    assert (auditor.max_new_tokens, auditor.probes, auditor.seed) == (3, 4, 7)
    assert (auditor.sampler.batch_size, auditor.progress) == (2, True)


def test_a_person_gets_two_tables_and_the_verdict_and_of_too_few_items_that_alone(
    model_folder, capsys, asked, monkeypatch
):
    words = ["audit", *COS_E, "--model", model_folder, "--items", "2", "--max-new-tokens", "3", "--quiet"]
    assert main([*words, "--layout", "turn"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("2 items are too few to say")
    monkeypatch.setattr(Audit, "too_few", False)
    assert main([*words, "--layout", "turn"]) == 0
    printed = capsys.readouterr()
    assert "Audit of cos_e, 2 training items, 95 % intervals" in printed.out
    assert all(f"  {name}  " in printed.out for name in ("student", "teacher, gold, turn", "teacher, random, turn"))
    assert "teacher, gold, paper" not in printed.out
    assert "divergence, turn" in printed.out
    assert "2 items are too few" in printed.out.splitlines()[-1]
    assert "answer/s" not in printed.err


def test_what_could_not_be_had_is_shown(capsys, model_folder, asked, monkeypatch):
    monkeypatch.setattr(Audit, "too_few", False)
    assert main(["audit", *COS_E, "--model", model_folder, "--items", "2", "--max-new-tokens", "3", "--json"]) == 0
    auditor = asked[0][0]
    found = auditor.audit(auditor.pool[:2], ["paper"], ["random"], False)
    found.unavailable["retrieval"] = "no item has one that is fit"
    found.dropped["negative: the text is not surely wrong"] = 3
    capsys.readouterr()
    show_audit(found)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "not to be had: retrieval no item has one that is fit" in lines
    assert "dropped: negative: the text is not surely wrong 3" in lines


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (["--items", "1"], "--items: 1 is too few"),
        (["--probes", "1"], "--probes: 1 is too few"),
        (["--max-new-tokens", "0"], "--max-new-tokens: 0 is too few"),
        (["--batch-size", "0"], "--batch-size: 0 is too few"),
        (["--layout", "side"], "--layout side: choose from paper, turn, system"),
        (["--context", "gold"], "unknown kind of context 'gold'; choose from random, retrieval, induction"),
        (["--split", "exam"], "no split 'exam'; choose one of train, validation"),
        (["--task", "cose"], "there is no task 'cose'; did you mean 'cos_e'?"),
        (["--source", "nofolder"], "no such source: nofolder; use hub, sample, or a folder"),
    ],
)
def test_something_wrong_was_asked(wrong, named, tmp_path, monkeypatch, model_folder, refused):
    monkeypatch.chdir(tmp_path)
    line = refused("audit", *COS_E, "--model", model_folder, "--quiet", "--output", "audit", *wrong)
    assert named in line
    assert not list(tmp_path.iterdir())


def test_the_least_that_is_allowed(model_folder, asked):
    words = ["audit", *COS_E, "--model", model_folder, "--items", "2", "--probes", "2", "--max-new-tokens", "1"]
    assert main([*words, "--batch-size", "1", "--quiet"]) == 0
    assert len(asked) == 1


def test_an_output_that_is_a_file(tmp_path, model_folder, refused):
    (tmp_path / "audit").write_text("x")
    line = refused("audit", *COS_E, "--model", model_folder, "--output", tmp_path / "audit")
    assert line.endswith("a file of that name exists; choose another name")


def test_a_task_without_demonstrations_has_no_teacher(monkeypatch, model_folder, refused):
    class Bare(type(tasks.get("cos_e"))):
        name = "bare"

        def load(self, split, source=None):
            return [tasks.Example("1", "What?", "What?", "A")]

    monkeypatch.setattr(TASKS, "entries", dict(TASKS.entries))
    tasks.register("bare", Bare)
    assert "--task bare: it has no demonstrations" in refused("audit", "--task", "bare", "--model", model_folder)


def test_a_folder_that_is_no_model(tmp_path, refused):
    assert f"{tmp_path}: neither a run" in refused("audit", *COS_E, "--model", tmp_path)


def test_a_run_says_what_it_learned(tmp_path, adapter_folder, model_folder, asked, capsys):
    run = tmp_path / "run"
    shutil.copytree(adapter_folder, run / "adapter")
    text = f"model: {{name: '{model_folder}', dtype: float32}}\ntask: {{name: cos_e, source: sample}}\n"
    (run / "config.yaml").write_text(text + "rollout: {max_completion_length: 4}\n", encoding="utf-8")
    assert main(["audit", "--model", str(run), "--items", "2"]) == 0
    assert (asked[0][0].task.name, asked[0][0].max_new_tokens) == ("cos_e", 4)
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"as {run} was trained: --task cos_e --source sample --max-new-tokens 4"


def test_without_a_run_a_task_must_be_named(model_folder, refused):
    assert "name a task (unisd list tasks)" in refused("audit", "--model", model_folder)
