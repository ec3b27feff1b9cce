"""Each example and notebook is run from start to end, on a tiny random model; run files of real size are read."""

import json
import os
import runpy
import sys
from pathlib import Path

import pytest

import tiny
from unisd import tasks
from unisd.cli.main import main
from unisd.tasks.registry import TASKS
from unisd.training.runfile import assemble

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
YAML = sorted(EXAMPLES.glob("*/task.yaml"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = {
    "training.max_steps": 2, "training.per_device_train_batch_size": 2, "training.use_cpu": "true", "lora.r": 2,
    "rollout.max_completion_length": 8, "contexts.max_prompt_length": 1900,
}  # fmt: skip


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples") / "model"
    tiny.model().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return str(folder)


def train_and_evaluate(task, model, run):
    settings = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    asked = ["train", "--recipe", "core", "--task", str(task), "--model", model, "--output", str(run), "--quiet"]
    assert main([*asked, *settings]) == 0
    assert main(["evaluate", str(run), "--task", str(task), "--limit", "2", "--max-new-tokens", "6", "--quiet"]) == 0
    return json.loads((run / "evaluation" / f"{tasks.get(str(task)).name}.json").read_text())


@pytest.fixture
def postcard():
    """The task of the example with a grader of its own, registered as its script does."""
    module = runpy.run_path(str(EXAMPLES / "free_text/task.py"))
    tasks.register("postcard", module["Postcard"])
    yield "postcard"
    TASKS.entries.pop("postcard", None)


def test_there_are_six_and_each_is_named_on_the_cookbooks_page():
    page = (ROOT / "docs/cookbook.md").read_text(encoding="utf-8")
    folders = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "large")
    assert folders == ["choice", "code", "custom_task", "free_text", "python_api", "tools"]
    assert [name for name in folders if f"examples/{name}" not in page] == []


@pytest.mark.parametrize("file", YAML, ids=lambda file: file.parent.name)
def test_a_task_of_yaml_holds(file):
    """Gold is right, the empty answer and another item's gold are not, and no item is in two splits."""
    task = tasks.get(str(file))
    train, test = task.load("train"), task.load("test")
    assert not {e.prompt for e in train} & {e.prompt for e in test}
    for example, other in zip(train, [*train[1:], train[0]], strict=True):
        assert example.demonstration is not None
        assert task.grade(example, example.demonstration).correct
        assert not task.grade(example, "").correct
        if example.answer != other.answer:
            assert not task.grade(example, other.demonstration).correct


def test_the_grader_of_the_postcards(postcard):
    task = tasks.get(postcard)
    example = task.load("train")[0]
    assert task.grade(example, example.demonstration).correct
    for text in ("", "The harbour.", "The harbour in the rain. It is wet.", f"harbour rain {'word ' * 20}"):
        assert not task.grade(example, text).correct
    assert task.grade(example, "The harbour.").scores["share"] == pytest.approx(2 / 3)


@pytest.mark.slow
@pytest.mark.parametrize("file", YAML, ids=lambda file: file.parent.name)
def test_a_task_of_yaml_is_trained_on(file, tmp_path, model_folder):
    assert train_and_evaluate(file, model_folder, tmp_path / "run")["n"] == 2


@pytest.mark.slow
def test_the_task_with_its_own_grader_is_trained_on(postcard, tmp_path, model_folder):
    assert "share" in train_and_evaluate(postcard, model_folder, tmp_path / "run")["scores"]


@pytest.mark.slow
def test_the_python_interface(tmp_path, model_folder, monkeypatch, capsys):
    words = ["train.py", "--model", model_folder, "--steps", "2", "--output", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(EXAMPLES / "python_api/train.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "before: " in printed
    assert "ema teacher: acts" in printed
    assert (tmp_path / "run/adapter/adapter_model.safetensors").is_file()


@pytest.mark.parametrize("file", sorted((EXAMPLES / "large").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_run_file_of_real_size_is_one(file, tmp_path):
    settings = assemble(file=file)
    settings.config(tmp_path)
    assert settings.model.dtype == "bfloat16"
    assert tasks.get(settings.task.name).name == settings.task.name


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_and_holds_no_outputs(file, tmp_path, model_folder, monkeypatch):
    """Its cells in order in one namespace, as a kernel would."""
    monkeypatch.setenv("UNISD_NOTEBOOK_MODEL", model_folder)
    monkeypatch.setenv("UNISD_NOTEBOOK_STEPS", "2")
    monkeypatch.setenv("UNISD_NOTEBOOK_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(file.parent)
    notebook = json.loads(file.read_text(encoding="utf-8"))
    names = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            exec(compile("".join(cell["source"]), f"{file.name}, {cell['id']}", "exec"), names)
    assert not [name for name in os.listdir(file.parent) if not name.endswith(".ipynb")]
