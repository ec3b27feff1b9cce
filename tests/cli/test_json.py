"""Every command with ``--json``, on a tiny model: one shape, and nothing else on standard output."""

import json
import re
from pathlib import Path

import pytest

from unisd import __version__
from unisd.cli.answer import STATUS
from unisd.cli.main import COMMANDS, main

COS_E = ["--task", "cos_e", "--source", "sample"]
TINY = {
    "training.max_steps": 1, "training.per_device_train_batch_size": 2, "training.use_cpu": "true", "task.limit": 4,
    "rollout.max_completion_length": 4, "lora.r": 2, "contexts.max_prompt_length": 1900, "contrast.weight": 0,
    "features.weight": 0,
}  # fmt: skip
SMALL = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
WORDS = {
    "demo": ["--task", "cos_e", "--set", "model.name={model}", "--output", "demo", "--items", "2",
             "--headroom-items", "2", *SMALL],
    "train": ["--recipe", "core", *COS_E, "--model", "{model}", "--output", "run", *SMALL],
    "evaluate": ["{model}", *COS_E, "--limit", "2", "--max-new-tokens", "3", "--output", "answers"],
    "audit": [*COS_E, "--model", "{model}", "--items", "2", "--max-new-tokens", "2", "--layout", "turn",
              "--context", "random", "--no-negatives", "--output", "audit"],
    "prepare": ["--recipe", "core", *COS_E, "--model", "{model}", "--output", "rows.jsonl", *SMALL],
    "check": ["cos_e", "--source", "sample", "--split", "validation", "--model", "{model}"],
    "report": ["answers"],
    "study": ["study.yaml", "--dry-run"],
    "push": ["run", "--dry-run"],
    "list": ["settings", "temperature"],
    "doctor": [],
}  # fmt: skip
"""A command that is asked something small and right."""
RESULTS = {
    "demo": {"seconds"}, "train": {"steps", "mechanisms"}, "evaluate": {"results", "comparisons", "left_out"},
    "audit": {"verdict", "evaluations"}, "prepare": {"items", "dropped"}, "list": {"sort", "entries"},
    "doctor": {"checks"}, "check": {"name", "counts", "lengths", "answers", "grading", "findings", "errors", "seen"},
    "report": {"pages"}, "study": {"arms", "phases", "hours", "cost"},
    "push": {"published", "files", "bytes", "left"},
}  # fmt: skip
"""What its result has among others, as docs/json.md says."""
PAGE = Path(__file__).parents[2] / "docs/json.md"


def answer(capsys, command, *words):
    """Run a command; return what it answered, checked, and its exit code."""
    capsys.readouterr()
    code = main([command, *words, "--json"])
    printed = capsys.readouterr()
    found = json.loads(printed.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert list(found) == KEYS
    assert (found["command"], found["version"]) == (command, __version__)
    assert (found["exit_code"], found["status"]) == (code, STATUS[code])
    assert (found["message"] is None) == (code == 0)
    assert all(isinstance(text, str) for text in [*found["warnings"], *found["files"]])
    assert all(Path(file).exists() for file in found["files"])
    return found, printed.err


KEYS = ["command", "version", "status", "exit_code", "message", "result", "warnings", "files"]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_found_has_the_one_shape(command, tmp_path, monkeypatch, model_folder, capsys):
    monkeypatch.chdir(tmp_path)
    if command == "report":
        answer(capsys, "evaluate", *(word.format(model=model_folder) for word in WORDS["evaluate"]))
    if command == "study":
        tasks = "{cos_e: {source: sample, test: 4}}"
        text = f"tasks: {tasks}\nmodels: ['{model_folder}']\ndesigns: [one-at-a-time]\n"
        Path("study.yaml").write_text(text + "settings: {training: {max_steps: 2}}\n")
    if command == "push":  # a finished run
        assert main(["train", *(word.format(model=model_folder) for word in WORDS["train"]), "--quiet"]) == 0
    found, _ = answer(capsys, command, *(word.format(model=model_folder) for word in WORDS[command]))
    assert found["exit_code"] == 0 or command == "doctor"
    assert RESULTS[command] <= found["result"].keys()
    assert bool(found["files"]) == ("--output" in WORDS[command] or command == "report")


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_refused_has_the_one_shape(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found, err = answer(capsys, command, "--no-such-option")
    assert (found["status"], found["result"], found["files"]) == ("refused", None, [])
    assert err == f"unisd: {found['message']}\n"


def test_the_page_says_what_there_is():
    text = PAGE.read_text(encoding="utf-8")
    fields = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert fields[: len(KEYS)] == KEYS
    commands = re.findall(r"^\| `unisd (\w+)` \| (.*) \|$", text, re.MULTILINE)
    assert {name for name, _ in commands} == set(COMMANDS) == set(WORDS)
    for name, about in commands:
        assert RESULTS[name] <= set(re.findall(r"`(\w+)`", about))
    for code, status in STATUS.items():
        assert f"`{status}` ({code}" in text
