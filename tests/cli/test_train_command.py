import json
import os
import re
import resource
import shutil
import signal
import threading
import time
from types import SimpleNamespace

import pytest
import yaml

from unisd.cli.main import main
from unisd.mechanisms import Acting
from unisd.tasks import names
from unisd.training.run import RunResult
from unisd.training.runfile import assemble, recipe_names

COS_E = ["--task", "cos_e", "--source", "sample"]
SMALL = [
    "--set", "training.max_steps=2", "--set", "training.per_device_train_batch_size=2", "--set", "task.limit=8",
    "--set", "rollout.max_completion_length=8", "--set", "training.use_cpu=true", "--set", "training.save_steps=1",
    "--set", "lora.r=2", "--set", "contexts.max_prompt_length=1500", "--set", "contexts.count=2",
    "--set", "contrast.per_item=1",
]  # fmt: skip


def words(model_folder, output, *more, recipe="core"):
    return ["train", "--recipe", recipe, *COS_E, "--model", model_folder, "--output", str(output), *SMALL, *more]


def train(model_folder, output, *more, recipe="core"):
    return main(words(model_folder, output, "--quiet", *more, recipe=recipe))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model_folder):
    """The folder of a finished run; a test that changes something works on a copy."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert train(model_folder, folder) == 0
    return folder


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# -- what a run leaves ------------------------------------------------------------------------------------------------


def test_train_evaluate_and_plain_peft(tmp_path, finished, model_folder, capsys):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert {"config.yaml", "metrics.jsonl", "checkpoints", "adapter", "summary.json"} <= {p.name for p in run.iterdir()}
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), run / "adapter")
    assert "adapted by self-distillation on cos_e" in (run / "adapter/README.md").read_text()
    capsys.readouterr()
    asked = ["evaluate", str(run), *COS_E, "--limit", "3", "--max-new-tokens", "4", "--json"]
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out)["result"]["results"][0]["n"] == 3
    assert len((run / "evaluation/cos_e.jsonl").read_text().splitlines()) == 3


def test_the_whole_method_and_a_second_run_of_its_config(tmp_path, model_folder):
    """unisd writes negatives with the tiny model; whether any is verified or none, the outcome is clean."""
    code = train(model_folder, tmp_path / "run", "--set", "contrast.weight=0", recipe="unisd")
    assert code == 0
    again = ["train", str(tmp_path / "run/config.yaml"), "--output", str(tmp_path / "again"), "--quiet"]
    assert main(again) == 0
    a, b = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("run", "again"))
    for one, other in zip(a, b, strict=True):
        one, other = json.loads(one), json.loads(other)
        assert {k: v for k, v in one.items() if "/" not in k} == {k: v for k, v in other.items() if "/" not in k}


def test_a_run_with_an_audit_and_a_trace(tmp_path, model_folder):
    run = tmp_path / "run"
    more = ["--set", "rollout.max_completion_length=6", "--audit", "5", "--profile"]
    assert train(model_folder, run, *more) == 0
    assert "## What the teacher had to teach" in (run / "adapter/README.md").read_text()
    assert "markdown" in json.loads((run / "audit.json").read_text())
    assert json.loads((run / "profile.json").read_text())["traceEvents"]
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["speed/tokens_per_second"] > 0
    assert {"time/sample", "time/score", "time/learn", "time/update", "time/other"} <= last.keys()


# -- what is printed --------------------------------------------------------------------------------------------------


@pytest.fixture
def canned(monkeypatch, tmp_path):
    """Training is not done, but said to be done; what it was asked for is kept."""
    asked = SimpleNamespace(acting=[Acting("ema teacher", "moved by 0.1", True)])

    def train_run(settings, folder, resume, quiet, loaded, audit, profiled_steps):
        asked.settings, asked.resume, asked.quiet, asked.steps = settings, resume, quiet, profiled_steps
        asked.loaded, asked.audit = loaded, audit
        folder.mkdir(exist_ok=True)
        (folder / "summary.json").write_text('{"steps": 5}\n')
        return RunResult(folder, folder / "adapter", 5, 12.4, asked.acting, None)

    monkeypatch.setattr("unisd.training.run.train_run", train_run)
    return asked


def test_a_person_is_told_what_acted_and_what_comes_next(canned, tmp_path, capsys):
    output = tmp_path / "run"
    assert main(["train", "--recipe", "ema", "--output", str(output), "--task", "cos_e"]) == 0
    printed = capsys.readouterr().out
    row = next(line.split() for line in printed.splitlines() if "ema teacher" in line)
    assert row == ["ema", "teacher", "yes", "moved", "by", "0.1"]
    assert printed.splitlines()[-2:] == [
        f"5 steps in 12 s; weights in {output / 'adapter'}",
        f"next: unisd evaluate {output}",
    ]
    assert not canned.quiet


def test_quiet_prints_nothing_and_json_the_summary(canned, tmp_path, capsys):
    assert main(["train", "--recipe", "core", "--output", str(tmp_path / "a"), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert canned.quiet
    assert main(["train", "--recipe", "core", "--output", str(tmp_path / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"] == {"steps": 5}
    assert canned.quiet


def test_of_several_processes_the_first_alone_prints(canned, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    for more in ([], ["--json"]):
        assert main(["train", "--recipe", "core", "--output", str(tmp_path / f"run{len(more)}"), *more]) == 0
        assert capsys.readouterr().out == ""
        assert canned.quiet


def test_options_and_their_ranks_reach_the_run(canned, tmp_path):
    """A file lays values over its recipe, named options over the file, --set over all."""
    file = tmp_path / "mine.yaml"
    file.write_text("recipe: ema\nteacher: {decay: 0.5}\ntask: {name: mbpp, limit: 7}\n", encoding="utf-8")
    asked = ["train", str(file), "--output", str(tmp_path / "run"), *COS_E, "--model", "qwen2.5-0.5b"]
    assert main([*asked, "--set", "task.limit=3", "--set", "training.seed=5", "--profile", "4", "--quiet"]) == 0
    settings = canned.settings
    assert (settings.recipe, settings.groups["teacher"]["kind"], settings.groups["teacher"]["decay"]) == (
        "ema",
        "ema",
        0.5,
    )
    assert (settings.task.name, settings.task.source, settings.task.limit) == ("cos_e", "sample", 3)
    assert settings.model.name == "Qwen/Qwen2.5-0.5B-Instruct"
    assert settings.training["seed"] == 5
    assert canned.steps == 4
    assert not canned.resume


def test_without_profile_no_step_is_traced_and_without_a_number_one(canned, tmp_path):
    for more, steps in (([], 0), (["--profile"], 1)):
        assert main(["train", "--recipe", "core", "--output", str(tmp_path / str(steps)), "--quiet", *more]) == 0
        assert canned.steps == steps


def test_an_audit_shows_its_tables_and_hands_its_model_on(canned, tmp_path, model_folder, capsys):
    asked = words(model_folder, tmp_path / "run", "--audit", "2", "--set", "rollout.max_completion_length=2")
    assert main(asked) == 0
    printed = capsys.readouterr().out
    assert "2 items are too few to say" in printed
    model, tokenizer = canned.loaded
    assert model.config.hidden_size == 32
    assert tokenizer.chat_template
    assert canned.audit["task"] == "cos_e"
    assert canned.audit["markdown"].startswith("| | correct | parsable |")


def test_dry_run_starts_nothing(tmp_path, capsys):
    asked = ["train", "--recipe", "unisd", "--output", str(tmp_path / "run"), "--dry-run"]
    assert main([*asked, "--set", "teacher.decay=0.7"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main([*asked, "--set", "teacher.decay=0.7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"] == found
    assert found["teacher"] == {**found["teacher"], "kind": "ema", "decay": 0.7}
    assert found == assemble("unisd", overrides=["teacher.decay=0.7"]).plain()
    assert not (tmp_path / "run").exists()


# -- going on ---------------------------------------------------------------------------------------------------------


def test_resume_after_a_kill_gives_the_same_adapter(tmp_path, finished):
    from safetensors.torch import load_file

    shutil.copytree(finished, tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed/checkpoints/checkpoint-2")
    shutil.rmtree(tmp_path / "killed/adapter")
    assert main(["train", "--output", str(tmp_path / "killed"), "--resume", "--quiet"]) == 0
    a, b = (load_file(folder / "adapter/adapter_model.safetensors") for folder in (finished, tmp_path / "killed"))
    assert a.keys() == b.keys()
    assert all((a[k] == b[k]).all() for k in a)


def test_resume_with_other_settings_is_refused(finished, model_folder, refused):
    before = files(finished)
    line = refused(*words(model_folder, finished, "--resume", "--set", "training.learning_rate=0.5"))
    assert "training.learning_rate is 0.5" in line
    assert line.endswith("own settings")
    assert files(finished) == before


def test_resume_with_the_same_settings_takes_those_of_the_run_and_audits_nothing(
    canned, finished, tmp_path, model_folder
):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run/finished.json").unlink()
    assert main(words(model_folder, tmp_path / "run", "--resume", "--audit", "5", "--quiet")) == 0
    assert canned.resume
    assert canned.audit is None
    assert canned.settings.plain() == assemble(file=tmp_path / "run/config.yaml").plain()


def test_a_stopped_run_goes_on_ends_and_goes_on_longer(tmp_path, model_folder, capsys, refused):
    run = tmp_path / "run"

    def ask():
        while not (run / "metrics.jsonl").is_file() or not (run / "metrics.jsonl").read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask)
    asking.start()
    assert train(model_folder, run, "--set", "training.max_steps=9", "--set", "training.save_strategy=no") == 3
    asking.join()
    said = capsys.readouterr().err.splitlines()
    found = re.fullmatch(r"unisd: stopped by SIGTERM after step (\d) of 9, which is saved; to go on: (.*)", said[-1])
    assert found[2] == f"unisd train --output {run} --resume"
    assert (run / f"checkpoints/checkpoint-{found[1]}").is_dir()
    assert not {"adapter", "finished.json", "run.lock"} & {path.name for path in run.iterdir()}
    resume = ["train", "--output", str(run), "--resume"]
    # Without a recipe, too, what is asked for is compared.
    for more, named in ((["--set", "lora.r=8"], "lora.r is 8"), (["--task", "mbpp"], "task.name is 'mbpp'"),
                        (["--set", "training.max_steps=5"], "training.max_steps is 5")):  # fmt: skip
        assert f"--resume: {named} but the run in {run} has" in refused(*resume, *more)
    assert main([*resume, "--quiet"]) == 0
    before = {name: (run / name).read_bytes() for name in files(run)}
    for left in ("run.lock", ".summary.json.1a2b3c4d-999999.x.partial"):  # of a kill after the very last file
        (run / left).write_text("{}")
    capsys.readouterr()
    assert main(resume) == 0
    assert f"{run} is finished (9 steps): nothing was changed; to go on" in capsys.readouterr().out
    assert main([*resume, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["steps"] == 9
    assert {name: (run / name).read_bytes() for name in files(run)} == before
    assert main([*resume, "--quiet", "--set", "training.max_steps=10"]) == 0
    assert "training.max_steps is 10 and was 9" in capsys.readouterr().err
    assert json.loads((run / "summary.json").read_text())["steps"] == 10
    assert yaml.safe_load((run / "config.yaml").read_text())["training"]["max_steps"] == 10


def test_finished_weights_that_were_damaged_are_saved_again(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    file = tmp_path / "run/adapter/adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-7] + bytes(7))
    assert main(["train", "--output", str(tmp_path / "run"), "--resume", "--quiet"]) == 0
    assert file.read_bytes() == whole


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_kill_before_the_settings_were_kept_blocks_nothing(canned, tmp_path, more, refused):
    run = tmp_path / "run"
    run.mkdir()
    for name in (".config.yaml.1a2b3c4d-999999.x.partial", "run.lock", "rows.json"):
        (run / name).write_text("{}")
    (run / ".adapter.partial").mkdir()
    if more:
        assert "give --recipe as at first" in refused("train", "--output", run, "--resume")
    assert main(["train", "--recipe", "core", "--output", str(run), "--quiet", *more]) == 0
    (run / "notes.txt").write_text("x")
    assert "no config.yaml" in refused("train", "--recipe", "core", "--output", run, "--resume")


def test_a_time_that_is_over_before_a_step_leaves_nothing(tmp_path, model_folder, refused):
    assert "--max-time soon: write a time above 0" in refused(
        *words(model_folder, tmp_path / "x", "--max-time", "soon")
    )
    line = refused(*words(model_folder, tmp_path / "run", "--max-time", "0.05"), code=3)
    assert line.startswith("unisd: stopped by --max-time; what was saved is kept: run the command again")
    assert not (tmp_path / "run").exists()


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "named", "remedy"),
    [
        ([], "nothing to train", "give --recipe NAME or a run file"),
        (["--recipe", "unisdd"], "unisdd", "did you mean 'unisd'?"),
        (["--recipe", "zzz"], "zzz", "choose one of " + ", ".join(recipe_names()[:3])),
        (["--recipe", "core", "--task", "cose"], "cose", "did you mean 'cos_e'?"),
        (["--recipe", "core", "--task", "zzz"], "zzz", "choose one of " + ", ".join(names())),
        (["--recipe", "core", "--source", "nofolder"], "nofolder", "use hub, sample, or a folder"),
        (["--recipe", "core", "--set", "teacher.kid=ema"], "teacher.kid", "did you mean 'kind'?"),
        (["--recipe", "core", "--set", "techer.kind=ema"], "techer", "did you mean 'teacher'?"),
        (["--recipe", "core", "--set", "training.max_step=3"], "training.max_step", "did you mean 'max_steps'?"),
        (["--recipe", "core", "--set", "lora.r"], "--set lora.r", "write group.field=value"),
        (["--recipe", "core", "--set", "lora.r=["], "--set lora.r=[", "quote it"),
        (["--recipe", "core", "--set", "lora.r=few"], "lora.r", "'few' is not a whole number"),
        (["--recipe", "agreement_token", "--set", "contexts.count=1"], "contexts.count", "needs 2 or more"),
        (["--recipe", "agreement_token", "--set", "agreement.gamma=-1"], "agreement.gamma", "use 0 or more"),
        (["--recipe", "core", "--resume"], "no run to resume", "check --output"),
        (["--resume"], "no run to resume", "check --output"),
        (["nofile.yaml"], "cannot read nofile.yaml", "give a YAML file"),
        (["--resume", "--dry-run"], "--dry-run", "give --recipe NAME or a run file"),
        (["--recipe", "core", "--dry-run", "--task", "cose"], "cose", "did you mean 'cos_e'?"),
        (["--recipe", "core", "--dry-run", "--set", "teacher.decay=2"], "teacher.decay", "use a value below 1"),
        (
            ["--recipe", "agreement_token", "--dry-run", "--set", "contexts.count=1"],
            "contexts.count",
            "needs 2 or more",
        ),
        (
            ["--recipe", "core", "--dry-run", "--set", "training.lr_scheduler_type=zzz"],
            "training.lr_scheduler_type:",
            "zzz",
        ),
        (["--resume", "--plan"], "--plan", "give --recipe NAME or a run file"),
        (["--recipe", "core", "--plan", "--memory", "0"], "--memory 0", "in GiB"),
        (["--recipe", "core", "--plan", "--ranks", "0"], "--ranks 0", "use 1 or more"),
        (["--recipe", "core", "--plan", "--prompt-tokens", "0"], "--prompt-tokens 0", "use 1 or more"),
        (["--recipe", "core", "--plan", "--context-tokens", "-3"], "--context-tokens -3", "use 1 or more"),
        (["--recipe", "core", "--plan", "--device", "mps"], "--device mps", "cuda or cpu"),
        (["--recipe", "core", "--memory", "80"], "--memory", "belongs to --plan"),
        (["--recipe", "core", "--device", "gpu"], "model.device: 'gpu' is no device", "choose auto, cpu"),
        (["--recipe", "core", "--profile", "-1"], "--profile -1", "use 1 step or more"),
        (["--recipe", "core", "--audit", "1"], "--audit", "use 2 items or more"),
        (["--recipe", "core", "--audit", "-5"], "--audit", "use 2 items or more"),
    ],
)
def test_something_wrong_was_asked(more, named, remedy, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    line = refused("train", "--output", "x", *more)
    assert named in line
    assert remedy in line
    assert not list(tmp_path.iterdir())


def test_a_run_needs_a_folder(refused):
    assert "--output: a run needs a folder" in refused("train", "--recipe", "core")


def test_a_plan_needs_a_configuration_alone(tmp_path, model_folder, capsys):
    shutil.copy(f"{model_folder}/config.json", tmp_path)
    asked = ["train", "--recipe", "sft", "--model", str(tmp_path / "config.json"), "--plan", "--memory", "1"]
    asked += [*SMALL[:4], "--prompt-tokens", "30"]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert (found["fits"], found["prompt_tokens"]) == (True, 30)
    assert found["peak"] == max(found["phases"].values())
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_an_audit_on_several_processes_is_refused(tmp_path, monkeypatch, refused):
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = refused("train", "--recipe", "core", "--output", tmp_path / "x", "--audit", "8")
    assert "one process" in line
    assert line.endswith("run unisd audit before")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("text", "named"),
    [("teacher: [", "line 1"), ("- 1\n", "a mapping of settings"), ("tasks: {name: cos_e}\n", "did you mean 'task'?")],
)
def test_a_run_file_that_cannot_be_read(text, named, tmp_path, refused):
    file = tmp_path / "run.yaml"
    file.write_text(text, encoding="utf-8")
    assert named in refused("train", file, "--output", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path, model_folder, refused):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/precious.txt").write_text("x")
    line = refused(*words(model_folder, tmp_path / "run"))
    assert "in use" in line
    assert "add --resume" in line
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["precious.txt"]


def test_an_output_that_is_a_file(tmp_path, model_folder, refused):
    (tmp_path / "run").write_text("x")
    line = refused(*words(model_folder, tmp_path / "run"))
    assert "a file of that name exists; choose another folder" in line
    assert (tmp_path / "run").read_text() == "x"


def test_a_prompt_that_cannot_fit(tmp_path, model_folder, capsys):
    assert train(model_folder, tmp_path / "run", "--set", "contexts.max_prompt_length=20") == 2
    assert "every one of the 8 rows is dropped" in capsys.readouterr().err
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]


def test_a_model_that_does_not_exist(tmp_path, refused):
    line = refused(*words("/nowhere", tmp_path / "run"), code=1)
    assert "/nowhere" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "kilobytes"), [("steps", 16), ("steps", 64), ("no", 16)])
def test_a_disk_that_takes_no_more_is_one_line(tmp_path, model_folder, strategy, kilobytes, capsys):
    """Real writes fail, by a limit on the size of a file: torch, safetensors and ours each say it in their own way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, before[1]))
    try:
        code = train(model_folder, tmp_path / "run", "--set", "lora.r=8", "--set", f"training.save_strategy={strategy}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capsys.readouterr().err
    assert code == 1
    assert "Traceback" not in said
    assert "cannot write" in said.strip().splitlines()[-1]
    assert "free space" in said.strip().splitlines()[-1]
    assert not (tmp_path / "run/adapter").exists()
    assert not list((tmp_path / "run").rglob("*.partial"))
    assert not list((tmp_path / "run").glob("checkpoints/checkpoint-*"))


def test_the_config_of_a_run_says_everything_and_who_made_it(finished):
    import unisd

    kept = yaml.safe_load((finished / "config.yaml").read_text())
    assert kept["recipe"] == "core"
    assert kept["versions"]["unisd"] == unisd.__version__
    assert (kept["task"]["name"], kept["task"]["limit"]) == ("cos_e", 8)


@pytest.mark.parametrize("more", [[], ["--json"], ["--quiet"], ["--max-time", "1h"]])
def test_a_finished_run_is_left_to_the_byte(finished, capsys, more):
    before = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in finished.rglob("*")}
    folder = finished.stat().st_mtime_ns
    assert main(["train", "--output", str(finished), "--resume", *more]) == 0
    after = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in finished.rglob("*")}
    assert (after, finished.stat().st_mtime_ns) == (before, folder)
    out = capsys.readouterr().out
    assert ("is finished" in out, out == "") == (not {"--json", "--quiet"} & {*more}, "--quiet" in more)
