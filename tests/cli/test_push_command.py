"""What is published of a run, what must not be, and the hub's answers, asked by the hub's own client."""

import json
import os
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import hub as hubs
import tiny
from unisd.cli.main import main
from unisd.evaluation.publish import publication
from unisd.models import load_model, load_tokenizer

SMALL = {
    "training.max_steps": 2, "training.per_device_train_batch_size": 2, "task.limit": 8, "training.use_cpu": "true",
    "rollout.max_completion_length": 8, "lora.r": 2, "contexts.max_prompt_length": 1500,
}  # fmt: skip
COS_E = ["--task", "cos_e", "--source", "sample"]


def train(model, folder, **changes):
    words = [word for name, value in (SMALL | changes).items() for word in ("--set", f"{name}={value}")]
    asked = ["train", "--recipe", "ema", *COS_E, "--model", str(model), "--output", str(folder), "--quiet", *words]
    assert main(asked) == 0


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "my_base"
    tiny.model().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model_folder):
    """A finished run, with an evaluation; a test that changes something works on a copy."""
    run = tmp_path_factory.mktemp("run") / "my run"
    train(model_folder, run)
    assert main(["evaluate", str(run), *COS_E, "--limit", "3", "--max-new-tokens", "4", "--base", "--quiet"]) == 0
    return run


@pytest.fixture
def run(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "my run")
    return tmp_path / "my run"


@pytest.fixture
def hub(monkeypatch):
    """A hub that this process takes for the only one, and a token for it."""
    with hubs.serving() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        where = found.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", where)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", hubs.TOKEN)
        yield found


def said(capsys, *words, code=0):
    capsys.readouterr()
    assert main(["push", *map(str, words)]) == code
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if not line.startswith("warning: ")]
    assert len(errors) == (code != 0), printed.err
    return errors[0] if errors else printed.out


def places(folder: Path) -> list[tuple[str, str]]:
    """Every mention of a folder of this machine in a folder's files, whatever they are."""
    here = {str(part) for part in (Path.cwd(), Path.home(), folder.parent, Path(os.environ["UNISD_CACHE"]))}
    here |= {"/tmp/", "my_base/"} - {"/"}
    return [
        (file.name, place)
        for file in folder.rglob("*")
        if file.is_file()
        for place in here
        if place.encode() in file.read_bytes()
    ]


# -- what a run saves -------------------------------------------------------------------------------------------------


def test_nothing_of_the_machine_is_in_what_a_run_saves(finished):
    assert places(finished / "adapter") == []
    config = json.loads((finished / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None
    assert not (finished / "adapter/training_args.bin").exists()
    assert places(finished) != []  # its settings hold some: the check sees them


def test_a_whole_model_holds_no_place_either(tmp_path, model_folder):
    train(model_folder, tmp_path / "whole", **{"lora.enabled": "false"})
    assert places(tmp_path / "whole/model") == []
    with publication(tmp_path / "whole") as found:
        assert {"model.safetensors", "config.json", "README.md"} <= set(found.files)


def test_the_base_is_found_from_the_run_and_from_its_adapter(finished, model_folder, tmp_path):
    ids = torch.tensor([[5, 6, 7, 8]])
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), finished / "adapter")
    for name in (finished, finished / "adapter"):
        with torch.no_grad():
            torch.testing.assert_close(load_model(str(name))(ids).logits, plain(ids).logits)
    shutil.copytree(finished / "adapter", tmp_path / "alone")
    with pytest.raises(Exception, match="names no base model"):
        load_model(str(tmp_path / "alone"))
    assert len(load_tokenizer(str(tmp_path / "alone"))) == tiny.VOCABULARY


def test_the_card_tells_what_was_done_and_found(finished):
    card = (finished / "adapter/README.md").read_text()
    for part in (
        "4 different items seen of 8 at hand, in 2 steps", "a folder called my_base", "| ema teacher | ",
        "unisd train --recipe ema --task cos_e --source sample --model '…/my_base'", "--set training.max_steps=2",
        "3 items (source sample, split validation) | before |", "McNemar p = 1", "Jin, Yiqiao", "@software{unisd",
    ):  # fmt: skip
        assert part in card, part
    assert "base_model:" not in card


# -- what is published ------------------------------------------------------------------------------------------------


def test_what_is_published_is_what_a_stranger_loads(hub, run, capsys, tmp_path, model_folder):
    out = said(capsys, run, "--base-model", "ada/base")
    assert out.splitlines()[-1] == f"published at {hub.url}/ada/my-run"
    there = hub.repositories["ada/my-run"]
    expected = {
        ".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja",
        "tokenizer.json", "tokenizer_config.json", "unisd.json",
    }  # fmt: skip
    assert set(there) == expected
    assert "ada/my-run" not in hub.private
    assert b"base_model: ada/base" in there["README.md"]
    got = huggingface_hub.snapshot_download("ada/my-run", cache_dir=tmp_path / "cache", endpoint=hub.url)
    assert places(Path(got)) == []
    stranger = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), got)
    assert stranger.peft_config["default"].base_model_name_or_path == "ada/base"
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(stranger(ids).logits, load_model(str(run))(ids).logits)
    assert AutoTokenizer.from_pretrained(got).chat_template == tiny.CHATML


def test_a_dry_run_asks_nobody_and_shows_the_card(hub, run, capsys):
    out = said(capsys, run, "--dry-run")
    assert "adapter_model.safetensors" in out
    assert "## Citation" in out
    assert hub.asked == []


def test_private_and_a_second_version(hub, run, capsys):
    said(capsys, run, "--to", "ada/mine", "--private", "--quiet")
    assert hub.private == {"ada/mine"}
    assert "it is there already; choose another name, or add --update" in said(capsys, run, "--to", "ada/mine", code=2)
    assert json.loads(said(capsys, run, "--to", "ada/mine", "--update", "--json"))["result"]["published"].endswith(
        "/ada/mine"
    )
    hub.private.clear()
    assert "and public" in said(capsys, run, "--to", "ada/mine", "--update", "--private", code=2)


def test_an_upload_that_broke_off_is_taken_up(hub, run, capsys):
    hub.broken = 413
    assert "too large" in said(capsys, run, "--to", "ada/mine", code=1)
    hub.broken = 0
    said(capsys, run, "--to", "ada/mine")
    assert "README.md" in hub.repositories["ada/mine"]


@pytest.mark.parametrize(
    ("change", "words", "told"),
    [
        ({"HF_TOKEN": "", "HF_TOKEN_PATH": "/nowhere"}, [], "no token for http://127.0.0.1"),
        ({"HF_TOKEN": "hf_" + "z" * 30}, [], "does not know the token"),
        ({}, ["--to", "eve/model"], "may not write there"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, [], "http://127.0.0.1:9 cannot be reached"),
        ({}, ["--to", "a/b/c"], "no name for a repository"),
    ],
)
def test_why_nothing_was_published_is_one_line(hub, run, capsys, monkeypatch, change, words, told):
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    if "HF_TOKEN_PATH" in change:
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    code = 2 if "a/b/c" in words else 1
    assert told in said(capsys, run, *words, code=code)
    assert hub.repositories == {}


def test_offline_is_said_at_once(hub, run, capsys, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in said(capsys, run, code=1)


# -- what must not be published ---------------------------------------------------------------------------------------


def test_what_is_not_whole_is_refused(run, tmp_path, capsys):
    assert "is no run" in said(capsys, tmp_path / "nothing", "--dry-run", code=2)
    weights = run / "adapter/adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"\x01")
    assert "not what the run saved" in said(capsys, run, "--dry-run", code=2)
    weights.write_bytes(whole)
    (run / "finished.json").unlink()
    assert "is not finished" in said(capsys, run, "--dry-run", code=2)


def test_answers_rows_and_settings_stay_unless_they_are_asked_for(run, capsys):
    (run / "adapter/rows.jsonl").write_text('{"prompt": "secret exam"}\n')
    out = json.loads(said(capsys, run, "--dry-run", "--json"))["result"]
    assert out["left"] == ["rows.jsonl"]
    assert not any(name.endswith((".jsonl", ".yaml", ".bin")) for name in out["files"])
    out = json.loads(said(capsys, run, "--dry-run", "--json", "--include", "evaluation/cos_e.jsonl"))["result"]
    assert "evaluation/cos_e.jsonl" in out["files"]
    assert "names a place of this machine" in said(capsys, run, "--dry-run", "--include", "config.yaml", code=2)
    assert "no such file" in said(capsys, run, "--dry-run", "--include", "../my run/config.yml", code=2)
