import json
import subprocess
import sys
import time

import pytest

import tiny
from unisd.cli.main import main


@pytest.fixture
def model_folder(tmp_path, tokenizer):
    tiny.model().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


SMALL = [
    "--set", "training.max_steps=2", "--set", "training.per_device_train_batch_size=2", "--set", "task.limit=8",
    "--set", "rollout.max_completion_length=8", "--set", "training.use_cpu=true", "--set", "training.save_steps=1",
    "--set", "lora.r=2", "--set", "contexts.max_prompt_length=1500", "--set", "contexts.count=2",
    "--set", "contrast.per_item=1",
]  # fmt: skip


def train(model_folder, output, *more, recipe="core"):
    words = ["train", "--recipe", recipe, "--task", "cos_e", "--source", "sample", "--model", model_folder]
    return main([*words, "--output", str(output), *SMALL, "--quiet", *more])


def test_train_evaluate_and_plain_peft(tmp_path, model_folder, capsys):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = tmp_path / "run"
    assert train(model_folder, run) == 0
    assert {"config.yaml", "metrics.jsonl", "checkpoints", "adapter", "summary.json"} <= {p.name for p in run.iterdir()}
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), run / "adapter")
    assert "adapted by self-distillation on cos_e" in (run / "adapter/README.md").read_text()
    capsys.readouterr()
    words = ["evaluate", str(run), "--task", "cos_e", "--source", "sample", "--limit", "3", "--max-new-tokens", "4"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 3
    assert len((run / "evaluation/cos_e.jsonl").read_text().splitlines()) == 3


def test_the_whole_method_and_a_second_run_of_its_config(tmp_path, model_folder, monkeypatch):
    """unisd writes negatives with the tiny model; whether any is verified or none, the outcome is clean."""
    code = train(model_folder, tmp_path / "run", "--set", "contrast.weight=0", recipe="unisd")
    assert code == 0
    again = ["train", str(tmp_path / "run/config.yaml"), "--output", str(tmp_path / "again"), "--quiet"]
    assert main(again) == 0
    a, b = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("run", "again"))
    for one, other in zip(a, b, strict=True):
        one, other = json.loads(one), json.loads(other)
        assert {k: v for k, v in one.items() if "/" not in k} == {k: v for k, v in other.items() if "/" not in k}


def test_resume_after_a_kill_gives_the_same_adapter(tmp_path, model_folder):
    import shutil

    from safetensors.torch import load_file

    assert train(model_folder, tmp_path / "whole") == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed/checkpoints/checkpoint-2")
    shutil.rmtree(tmp_path / "killed/adapter")
    resume = ["train", "--output", str(tmp_path / "killed"), "--resume", "--quiet"]
    assert main(resume) == 0
    a, b = (load_file(tmp_path / name / "adapter/adapter_model.safetensors") for name in ("whole", "killed"))
    assert all((a[k] == b[k]).all() for k in a)


def test_resume_with_other_settings_is_refused(tmp_path, model_folder, capsys):
    assert train(model_folder, tmp_path / "run") == 0
    assert train(model_folder, tmp_path / "run", "--resume", "--set", "training.learning_rate=0.5") == 2
    assert "training.learning_rate is 0.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["train", "--output", "x"], "nothing to train"),
        (["train", "--recipe", "unisdd", "--output", "x"], "did you mean 'unisd'"),
        (["train", "--recipe", "core", "--task", "cose", "--output", "x"], "did you mean 'cos_e'"),
        (["train", "--recipe", "core", "--output", "x", "--set", "teacher.kid=ema"], "did you mean 'kind'"),
        (["train", "--recipe", "agreement_token", "--output", "x", "--set", "contexts.count=1"], "contexts.count"),
        (["train", "--recipe", "agreement_token", "--output", "x", "--set", "agreement.gamma=-1"], "agreement.gamma"),
        (["train", "--recipe", "core"], "--output"),
        (["train", "--recipe", "core", "--output", "x", "--resume"], "no run to resume"),
        (["train", "nofile.yaml", "--output", "x"], "cannot read nofile.yaml"),
        (["train", "--recipe", "core", "--output", "x", "--source", "nofolder"], "nofolder"),
        (["evaluate", "x", "--task", "cos_e", "--limit", "0"], "--limit"),
        (["evaluate", "x"], "--task"),
        (["demo", "--items", "0"], "--items"),
        (["list", "recipies"], "recipies"),
        (["trane"], "trane"),
        ([], "COMMAND"),
    ],
)
def test_something_wrong_was_asked(words, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert named in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path, model_folder, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/precious.txt").write_text("x")
    assert train(model_folder, tmp_path / "run") == 2
    assert "in use" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["precious.txt"]


def test_a_prompt_that_cannot_fit(tmp_path, model_folder, capsys):
    assert train(model_folder, tmp_path / "run", "--set", "contexts.max_prompt_length=20") == 2
    assert "every one of the 8 rows is dropped" in capsys.readouterr().err
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]


def test_a_model_that_does_not_exist(tmp_path, capsys):
    assert train("/nowhere", tmp_path / "run") == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("strategy", "kilobytes"), [("steps", 16), ("steps", 64), ("no", 16)])
def test_a_disk_that_takes_no_more_is_one_line(tmp_path, model_folder, strategy, kilobytes):
    """Real writes fail, by a limit on the size of a file: torch, safetensors and ours each say it in their own way."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes} * 1024,) * 2)"
    words = ["train", "--recipe", "core", "--task", "cos_e", "--source", "sample", "--model", model_folder]
    words += ["--output", str(tmp_path / "run"), *SMALL, "--set", "lora.r=8", "--quiet"]
    words += ["--set", f"training.save_strategy={strategy}"]
    code = f"{limit}; import sys; from unisd.cli.main import main; sys.exit(main({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot write" in done.stderr.strip().splitlines()[-1]
    assert "free space" in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "run/adapter").exists()
    assert not list((tmp_path / "run").rglob("*.partial"))
    assert not list((tmp_path / "run").glob("checkpoints/checkpoint-*"))


def test_dry_run_starts_nothing(tmp_path, capsys):
    assert main(["train", "--recipe", "unisd", "--output", str(tmp_path / "run"), "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["teacher"]["kind"] == "ema"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("recipes", "unisd"),
        ("tasks", "cos_e"),
        ("models", "smollm2-135m"),
        ("mechanisms", "contrast"),
        ("settings", "contrast.margin"),
    ],
)
def test_list(what, name, capsys):
    assert main(["list", what, "--json"]) == 0
    assert name in json.loads(capsys.readouterr().out)
    assert main(["list", what]) == 0
    assert any(line.startswith(name + " ") for line in capsys.readouterr().out.splitlines())


def test_doctor(capsys):
    assert main(["doctor", "--json"]) in (0, 1)
    assert {"torch", "python", "device"} <= {check["name"] for check in json.loads(capsys.readouterr().out)}


@pytest.mark.parametrize("command", [[], ["demo"], ["train"], ["evaluate"], ["list"], ["doctor"]])
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as done:
        main([*command, "--help"])
    assert done.value.code == 0
    assert "unisd" in capsys.readouterr().out


def test_help_loads_no_heavy_library():
    code = "import sys; from unisd.cli.main import parser; parser(); print({'torch'} & set(sys.modules))"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert time.perf_counter() - started < 5
