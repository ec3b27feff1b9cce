"""Who is trained: a model by its name, or as it is given, and the adapter that it gets."""

import dataclasses

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

import tiny
from unisd import fast
from unisd.errors import UsageError
from unisd.fast.lean import lean_adapters
from unisd.models import LoraSettings, attach, has_adapter
from unisd.training.student import in_words
from unisd.training.trainer import UniSDTrainer


@pytest.fixture
def name(tmp_path):
    tiny.model().save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def trainer_of(folder, given, peft_config=None, **changes):
    return UniSDTrainer(
        given,
        tiny.arguments(folder, **({"max_steps": 2} | changes)),
        train_dataset=tiny.rows(4),
        processing_class=tiny.tokenizer(),
        peft_config=peft_config,
    )


def test_a_name_and_nothing_else_trains_the_recipes_adapter(tmp_path, name, capsys):
    trainer = trainer_of(tmp_path / "run", str(name), disable_tqdm=False)
    config, usual = trainer.model.peft_config["default"], LoraSettings()
    assert (config.r, config.lora_alpha, config.lora_dropout) == (usual.r, usual.alpha, usual.dropout)
    trainer.train()
    said = capsys.readouterr().err
    assert "training a new LoRA adapter: 59,392 of 83,200 weights; lora.enabled=false trains all\n" in said


def test_all_weights_are_trained_when_asked_for(tmp_path, name):
    trainer = trainer_of(tmp_path / "run", name, lora={"enabled": False})
    assert not has_adapter(trainer.model)
    assert in_words(trainer.model, new=False) == "training all 23,808 weights"
    given = trainer_of(tmp_path / "given", tiny.model())
    assert not has_adapter(given.model)


def test_what_is_given_gets_an_adapter_where_one_is_asked_for(tmp_path, name):
    by_group = trainer_of(tmp_path / "group", tiny.model(), lora=LoraSettings(r=2, dropout=0.0))
    assert by_group.model.peft_config["default"].r == 2
    by_peft = trainer_of(tmp_path / "peft", name, tiny.lora_config())
    assert by_peft.model.peft_config["default"].r == 4
    assert by_peft.args.to_dict().get("lora") is None
    assert by_group.args.to_dict()["lora"]["r"] == 2


def test_the_model_may_stand_in_the_arguments(tmp_path, name):
    trainer = trainer_of(tmp_path / "run", None, model={"name": str(name), "dtype": "bfloat16"})
    assert trainer.model.get_base_model().dtype == torch.bfloat16
    assert trainer.args.to_dict()["model"] == {"name": str(name), "dtype": "bfloat16"}


@pytest.mark.parametrize("asked", [{"use_dora": True}, {"use_rslora": True}, {"target_modules": "all-linear"}])
def test_an_adapter_of_each_kind_loads_with_plain_peft_and_is_trained_on(tmp_path, name, asked):
    trainer = trainer_of(tmp_path / "run", name, lora={"r": 4, "alpha": 8, **asked})
    trainer.train()
    trainer.save_weights(tmp_path / "adapter")
    tokens = torch.arange(5, 40)[None]
    with torch.no_grad():
        before = AutoModelForCausalLM.from_pretrained(name)(tokens).logits
        plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(name), tmp_path / "adapter").eval()
        assert torch.allclose(plain(tokens).logits, trainer.model.eval()(tokens).logits, atol=1e-5)
        assert (plain(tokens).logits - before).abs().max() > 1e-3
    on = trainer_of(tmp_path / "on", str(tmp_path / "adapter"))
    config = on.model.peft_config["default"]
    assert (config.use_dora, config.use_rslora) == (asked.get("use_dora", False), asked.get("use_rslora", False))
    assert in_words(on.model, new=False).startswith("training the model's LoRA adapter: ")
    with pytest.raises(UsageError, match=r"lora.r: 5 was asked for, but the adapter .* has 4; leave it out"):
        trainer_of(tmp_path / "other", str(tmp_path / "adapter"), lora={"r": 5})


@pytest.mark.parametrize("asked", [{"use_dora": True}, {"use_rslora": True}])
def test_fast_paths_give_the_gradients_of_plain_peft(asked):
    settings = dataclasses.replace(LoraSettings(r=4, alpha=8, dropout=0.0), **asked)
    torch.manual_seed(0)
    model = attach(tiny.model(), settings.peft_config()).train()
    tiny.move(model, 0.2)
    found = []
    for mode in ("auto", "off"):
        fast.use(mode)
        try:
            with lean_adapters(model):
                model(torch.arange(5, 40)[None]).logits.square().mean().backward()
        finally:
            fast.use("auto")
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        model.zero_grad()
    lean, plain = found
    assert lean.keys() == plain.keys()
    assert any("magnitude" in key for key in lean) == ("use_dora" in asked)
    assert all(torch.allclose(lean[key], plain[key], rtol=1e-4, atol=1e-6) for key in lean)


REFUSED = {
    "both": ({"peft_config": tiny.lora_config(), "lora": {"r": 2}}, "lora: peft_config is given, too; leave one"),
    "task": ({"task": {"name": "cos_e"}}, "task: in Python rows are given, as train_dataset"),
    "twice": ({"model_group": {"name": "x"}}, "model: it is given as an argument and in args"),
    "unknown": ({"lora": {"rank": 3}}, "lora.rank: no such setting"),
    "quantisation": ({"model_group": {"quantisation": "4bit"}}, "model.quantisation: no such setting; did you mean"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_one_line(tmp_path, case):
    changes, line = REFUSED[case]
    changes = {{"model_group": "model"}.get(key, key): value for key, value in changes.items()}
    peft_config = changes.pop("peft_config", None)
    with pytest.raises(UsageError, match=line):
        UniSDTrainer(
            tiny.model(),
            tiny.arguments(tmp_path, **changes),
            train_dataset=tiny.rows(2),
            processing_class=tiny.tokenizer(),
            peft_config=peft_config,
        )


def test_an_adapter_that_is_there_is_not_replaced_in_silence(tmp_path):
    with pytest.raises(UsageError, match="lora: the model has an adapter, which is trained on as it is"):
        trainer_of(tmp_path, tiny.lora(tiny.model()), lora={"r": 2})
