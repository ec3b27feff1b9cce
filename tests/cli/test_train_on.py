"""A run, or an adapter, as the model of another run: trained on, or merged; what is saved is what plain PEFT loads."""

import json
import shutil

import pytest
import torch
import yaml
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from cli.test_train_command import COS_E, SMALL, train
from unisd.cli.main import main
from unisd.evaluation.models import Loaded
from unisd.models import load_model

IDS = torch.tensor([[5, 6, 7, 8]])


@torch.no_grad()
def logits(model):
    return model.eval()(IDS).logits


def plainly(folder):
    """The adapter as plain PEFT loads it, on the base that its run knows."""
    base = json.loads((folder.parent / "base.json").read_text())["adapter"]
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder.parent / base), folder)


@pytest.fixture(scope="module")
def first(tmp_path_factory, model_folder):
    folder = tmp_path_factory.mktemp("first") / "run"
    assert train(model_folder, folder, "--set", "training.learning_rate=0.1") == 0
    return folder


def test_a_run_is_trained_on_from_where_it_ended(tmp_path, first):
    asked = ["train", "--recipe", "core", *COS_E, "--model", str(first), "--output", str(tmp_path / "b"), "--quiet"]
    words = [w for pair in zip(SMALL[::2], SMALL[1::2], strict=True) if not pair[1].startswith("lora.") for w in pair]
    assert main([*asked, *words, "--set", "training.learning_rate=0.1"]) == 0
    start, end = load_model(str(first)), plainly(tmp_path / "b/adapter")
    assert (logits(end) - logits(start)).abs().max() > 1e-3
    assert end.peft_config["default"].r == 2  # its own, not the recipe's 64
    kept = yaml.safe_load((tmp_path / "b/config.yaml").read_text())
    assert kept["lora"]["r"] == 2
    loaded = Loaded(str(tmp_path / "b"))
    torch.testing.assert_close(logits(loaded.model), logits(end))
    with loaded.weights(base=True) as base:
        torch.testing.assert_close(logits(base), logits(start))
    assert loaded.fingerprint() != loaded.fingerprint(base=True) == Loaded(str(first)).fingerprint()
    card = (tmp_path / "b/adapter/README.md").read_text()
    assert "an adapter of kind LORA" in card
    assert "14 lora_A, 14 lora_B" in card
    again = ["train", str(tmp_path / "b/config.yaml"), "--output", str(tmp_path / "c"), "--dry-run"]
    assert main(again) == 0


@pytest.mark.parametrize("enabled", ["true", "false"])
def test_a_run_is_merged_and_a_new_one_started(tmp_path, first, enabled):
    more = ["--set", "lora.start=merge", "--set", f"lora.enabled={enabled}", "--set", "training.learning_rate=0.01"]
    assert train(str(first), tmp_path / "b", *more) == 0
    shutil.move(tmp_path / "b", tmp_path / "moved")
    loaded = Loaded(str(tmp_path / "moved"))
    start = load_model(str(first))
    with loaded.weights(base=True) as base:
        torch.testing.assert_close(logits(base), logits(start), rtol=1e-4, atol=1e-4)
    assert (logits(loaded.model) - logits(start)).abs().max() > 1e-3
    if enabled == "true":
        shutil.move(tmp_path / "moved", tmp_path / "b")
        torch.testing.assert_close(logits(plainly(tmp_path / "b/adapter")), logits(loaded.model))
    else:
        whole = AutoModelForCausalLM.from_pretrained(tmp_path / "moved/model")
        torch.testing.assert_close(logits(whole), logits(loaded.model))
        assert "the model itself" in (tmp_path / "moved/model/README.md").read_text()


@pytest.mark.parametrize("part", ["", "/adapter"])
def test_settings_that_contradict_the_adapter_are_refused(tmp_path, first, refused, part):
    name = ["train", "--recipe", "core", *COS_E, "--model", f"{first}{part}", "--output", tmp_path / "b"]
    assert "lora.r: 16 was asked for, but the adapter" in refused(*name, "--set", "lora.r=16")
    assert "lora.enabled: false" in refused(*name, "--set", "lora.enabled=false")
    assert not (tmp_path / "b").exists()


def test_other_kinds_and_starts(tmp_path, model_folder, tokenizer, refused):
    """Prompt tuning is refused by name wherever an adapter is taken; PiSSA's base is the base, not what it leaves."""
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    for name, config in {
        "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "pissa": LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="pissa", task_type="CAUSAL_LM"),
    }.items():
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(model_folder), config)
        model.save_pretrained(tmp_path / name)
    for command in (["train", "--recipe", "core", "--output", tmp_path / "x", "--model"], ["evaluate"]):
        said = refused(*command, tmp_path / "prompt", *COS_E)
        assert "PROMPT_TUNING" in said
        assert "use LoRA" in said
    loaded = Loaded(str(tmp_path / "pissa"))
    with loaded.weights(base=True) as before:
        torch.testing.assert_close(logits(before), logits(base))
    assert loaded.fingerprint(base=True) == Loaded(model_folder).fingerprint()


def test_a_run_that_trusts_its_models_code_is_evaluated_with_it(tmp_path, first, monkeypatch):
    shutil.copytree(first, tmp_path / "run")
    path = tmp_path / "run/config.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["model"]["trust_remote_code"] = True
    path.write_text(yaml.safe_dump(settings))
    asked = []
    kept = AutoModelForCausalLM.from_pretrained

    def seen(name, **more):
        asked.append(more["trust_remote_code"])
        return kept(name, **more)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", seen)
    Loaded(str(tmp_path / "run"))
    Loaded(str(first))
    assert asked == [True, False]
