import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

import tiny
from unisd.errors import UsageError
from unisd.models import LoraSettings, attach
from unisd.models.targets import check_targets, default_targets, unadapted_experts

OTHERS = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=2, n_head=2, n_positions=16)),
    "phi3": lambda: Phi3ForCausalLM(
        Phi3Config(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
                   pad_token_id=0)
    ),
    "falcon": lambda: FalconForCausalLM(
        FalconConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    ),
    "mixtral": lambda: MixtralForCausalLM(
        MixtralConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
                      num_key_value_heads=1, num_local_experts=2)
    ),
}  # fmt: skip
LAYERS = {
    "gpt2": {"c_attn", "c_proj", "c_fc"},
    "phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    "falcon": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
    "mixtral": {"q_proj", "k_proj", "v_proj", "o_proj"},
}


def lora(**settings):
    return LoraConfig(r=2, task_type="CAUSAL_LM", **{"target_modules": ["q_proj"], **settings})


def adapted(model):
    return {
        name.split(".lora_A")[0].rpartition(".")[2]
        for name, _ in model.named_parameters()
        if name.endswith("lora_A.default.weight")
    }


@pytest.mark.parametrize("family", OTHERS)
def test_all_linear_is_the_default_where_a_usual_name_is_missing(family):
    model = OTHERS[family]()
    if family != "mixtral":  # in which PEFT takes the experts for linear layers, too, and has no dropout for them
        assert default_targets(model) == "all-linear"
    assert adapted(attach(model, LoraSettings(r=2).peft_config(model))) == LAYERS[family]


def test_the_usual_names_are_the_default_where_a_model_has_them_all():
    model = tiny.model()
    usual = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert adapted(attach(model, LoraSettings(r=2).peft_config(model))) == usual


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"target_modules": ["o_proj", "qkv", "foo"]}, r"lora\.target_modules: no module of the model is called 'foo', "
         r"'qkv'; did you mean 'qkv_proj'\? there are .*o_proj, qkv_proj, gate_up_proj, down_proj"),
        ({"target_modules": ["attn.o_proj"]}, "no module of the model is called 'attn.o_proj'"),
        ({"target_modules": "o_proj,down_proj"}, "as a regular expression 'o_proj,down_proj' matches no whole name"),
        ({"target_modules": "o_proj"}, "as a regular expression 'o_proj' .* did you mean 'o_proj'"),
        ({"target_modules": "(o_proj"}, r"'\(o_proj' is no regular expression"),
        ({"target_modules": ["mlp"]}, r"lora\.target_modules: .*not supported"),
        ({"target_modules": ["o_proj"], "exclude_modules": ["o_pro"]}, r"lora\.exclude_modules: .* 'o_pro'; did you"),
        ({"target_modules": ["o_proj"], "exclude_modules": "o_proj"}, r"lora\.exclude_modules: as a regular"),
        ({"target_modules": ["o_proj"], "exclude_modules": ["o_proj"]}, "'o_proj' is in lora.exclude_modules or"),
        ({"target_modules": ".*o_proj", "exclude_modules": ["o_proj"]}, "all that '.*o_proj' matches is excluded"),
        ({"target_modules": ["o_proj"], "modules_to_save": ["class"]}, r"lora\.modules_to_save: .* called 'class'"),
        ({"target_modules": ["o_proj"], "modules_to_save": ["self_attn"]}, "'o_proj' is in lora.exclude_modules or m"),
        ({"target_modules": ["o_proj"], "layers_to_transform": [0, 3]}, r"no adapted layer in block 3; .* from 0 to 0"),
        ({"target_modules": ["o_proj"], "layers_to_transform": 7}, "no adapted layer in block 7"),
        ({"target_modules": ["o_proj"], "layers_to_transform": [0], "layers_pattern": "h"}, "pattern: 'h' is no"),
        ({"target_modules": ["o_proj"], "rank_pattern": {"down_proj": 4}}, r"lora\.rank_pattern: no adapted layer is "
         r"called 'down_proj'; there are o_proj"),
        ({"target_modules": ["o_proj"], "alpha_pattern": {"o_prj": 4}}, "lora.alpha_pattern: .* there are o_proj"),
        ({"target_modules": ["o_proj"], "target_parameters": ["experts.w"]}, r"lora\.target_parameters: no parameter"),
    ],
)  # fmt: skip
def test_what_names_nothing_is_said_in_one_line(settings, named):
    model = OTHERS["phi3"]()
    before = [name for name, _ in model.named_modules()]
    with pytest.raises(UsageError, match=named) as raised:
        attach(model, lora(**settings))
    assert "\n" not in str(raised.value)
    if "supported" not in named:
        assert [name for name, _ in model.named_modules()] == before


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_modules": "all-linear"},
        {"target_modules": "ALL-LINEAR"},
        {"target_modules": None},
        {"target_modules": r".*\.layers\.1\..*(q|v)_proj"},
        {"target_modules": ["layers.0.self_attn.q_proj", "v_proj"]},
        {"target_modules": ["embed_tokens", "q_proj"], "modules_to_save": ["norm"]},
        {"layers_to_transform": [1]},
        {"layers_to_transform": 1, "layers_pattern": "layers"},
        {"rank_pattern": {"layers.0.self_attn.q_proj": 4, r"^model\.layers\.1\.self_attn\.q_proj": 3}},
        {"exclude_modules": ["layers.0.self_attn.q_proj"]},
        {"exclude_modules": ["down_proj"]},
        {"target_modules": "all-linear", "modules_to_save": ["embed_tokens"], "exclude_modules": r".*down_proj"},
    ],
)
def test_what_peft_takes_whole_passes(settings):
    config = lora(**settings)
    model = tiny.model()
    check_targets(model, config)
    assert config.target_modules == lora(**settings).target_modules
    assert adapted(get_peft_model(model, config))


def test_other_methods_are_checked_alike():
    config = IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "up_proj"], feedforward_modules=["up_proj"])
    config.feedforward_modules = ["up_poj"]
    with pytest.raises(UsageError, match=r"lora\.feedforward_modules: .*'up_poj'; did you mean 'up_proj'"):
        check_targets(tiny.model(), config)
    config.feedforward_modules = ["up_proj"]
    check_targets(tiny.model(), config)


def test_experts_are_named_until_they_are_adapted():
    model = OTHERS["mixtral"]()
    settings = LoraSettings(r=2)
    assert unadapted_experts(attach(model, settings.peft_config(model))) == [
        "experts.gate_up_proj",
        "experts.down_proj",
    ]
    model = OTHERS["mixtral"]()
    settings = LoraSettings(r=2, dropout=0.0, target_parameters=["experts.gate_up_proj", "experts.down_proj"])
    whole = attach(model, settings.peft_config(model))
    assert unadapted_experts(whole) == []
    whole(input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()
    assert sum("experts" in name and p.grad is not None for name, p in whole.named_parameters()) == 4
    model = OTHERS["mixtral"]()
    with pytest.raises(UsageError, match=r"lora\.dropout: weights of experts"):
        attach(model, LoraSettings(r=2, target_modules="all-linear").peft_config(model))


def test_names_of_an_earlier_layout_are_read_as_peft_reads_them():
    model = OTHERS["mixtral"]()
    whole = attach(model, lora(target_modules=["q_proj", "w2"]))
    assert unadapted_experts(whole) == ["experts.gate_up_proj"]
    with pytest.raises(UsageError, match=r"lora\.target_modules: Cannot convert .* without also targeting w3"):
        attach(OTHERS["mixtral"](), lora(target_modules=["w1"]))
