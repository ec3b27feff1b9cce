"""Quantised bases. What needs bitsandbytes is skipped where it is not installed."""

import importlib.util
import json
import shutil
import types

import pytest
import torch
from peft import LoraConfig, PeftModel
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import tiny
from compatibility import TABLES, observed
from unisd import fast
from unisd.cli.main import main
from unisd.errors import UniSDError, UsageError
from unisd.evaluation.models import Loaded
from unisd.fast.replaced import linear_layers
from unisd.models import load_model, quantised
from unisd.models.packed import PackedSequence
from unisd.models.quantised import check_adapter_trains, declared_quantization, keep_gradients, quantization_of
from unisd.models.reading import completion_states
from unisd.training.runfile import assemble
from unisd.training.trainer import UniSDTrainer

with_bnb = pytest.mark.skipif(not importlib.util.find_spec("bitsandbytes"), reason="bitsandbytes is not installed")
KINDS = ["4bit", "8bit"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose layers are wide enough for blocks of 64 weights."""
    made = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**tiny._SHARED | {"hidden_size": 64, "intermediate_size": 128}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(15.0)
    model.save_pretrained(made)
    tiny.tokenizer().save_pretrained(made)
    return str(made)


def train(folder, to, *settings):
    everything = [
        "training.max_steps=2", "training.use_cpu=true", "task.limit=4", "training.per_device_train_batch_size=2",
        "training.gradient_accumulation_steps=1", "rollout.max_completion_length=4", "lora.r=2", *settings,
    ]  # fmt: skip
    sets = [part for setting in everything for part in ("--set", setting)]
    return main(["train", "--recipe", "core", "--task", "cos_e", "--source", "sample", "--model", folder,
                 "--output", str(to), "--quiet", *sets])  # fmt: skip


def trainer(model, to, adapter=True, **changes):
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj"], task_type="CAUSAL_LM")
    return UniSDTrainer(
        model,
        tiny.arguments(to, **{"max_steps": 2} | changes),
        train_dataset=tiny.rows(),
        processing_class=tiny.tokenizer(),
        peft_config=config if adapter else None,
    )


def gradients(made):
    return [json.loads(line)["grad_norm"] for line in made.metrics_log.path.read_text().splitlines()]


@with_bnb
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_trained_saved_and_loaded_on_few_bits(kind, dtype, folder, tmp_path, capsys):
    to = tmp_path / "run"
    assert train(folder, to, f"model.quantization={kind}", f"model.dtype={dtype}") == 0
    assert all(json.loads(line)["grad_norm"] > 0 for line in (to / "metrics.jsonl").read_text().splitlines())
    loaded = Loaded(str(to))
    assert quantization_of(loaded.model.get_base_model()) == kind
    ids = torch.arange(3, 40)[None]
    plain = PeftModel.from_pretrained(load_model(folder, dtype), to / "adapter")
    with torch.no_grad():
        few, whole = loaded.model(ids).logits, plain(ids).logits
        with loaded.weights(base=True) as base:
            start = base(ids).logits
        assert torch.equal(start, load_model(folder, dtype, quantization=kind)(ids).logits)
    assert not torch.equal(few, start)
    assert not torch.equal(whole, few)
    trained = {name: tensor for name, tensor in plain.named_parameters() if "lora_" in name}
    for name, tensor in loaded.model.named_parameters():
        if "lora_" in name:
            torch.testing.assert_close(tensor, trained[name], msg=name)
    found = "an adapter trains; saved, it loads on the same and on the plain base"
    observed("quantisation", f"bitsandbytes {kind}, {dtype}", observed=found)


@with_bnb
@pytest.mark.parametrize("kind", KINDS)
def test_fast_paths_leave_these_layers_alone(kind, folder):
    model = tiny.lora(load_model(folder, quantization=kind), trained=True)
    few = {id(m) for m in model.modules() if type(m).__module__.startswith("bitsandbytes")}
    assert few
    assert not few & {id(layer) for layer in linear_layers(model)}
    sequences = [PackedSequence(list(range(3, 30)), [5, 6, 7]), PackedSequence(list(range(3, 20)), [9, 10])]
    with torch.no_grad():
        states = {}
        for mode in ("auto", "off"):
            with fast.use(mode):
                states[mode] = completion_states(model, sequences, share=True)
        alone = torch.cat([completion_states(model, [sequence]) for sequence in sequences])
    far = max((states[mode] - alone).abs().max().item() for mode in states) / alone.abs().max().item()
    # LLM.int8 rounds what comes into a layer, too, and so steps over rounding's differences.
    assert far < (1e-4 if kind == "4bit" else 0.1)
    packs = "equal to rounding" if kind == "4bit" else "equal to the rounding of 8 bits"
    observed("quantisation", f"bitsandbytes {kind}, packed rows", observed=f"packed and separate are {packs}")


@with_bnb
def test_checkpoints_that_arrive_quantised(folder, tmp_path):
    load_model(folder, quantization="4bit").save_pretrained(tmp_path / "few")
    tiny.tokenizer().save_pretrained(tmp_path / "few")
    few = str(tmp_path / "few")
    for asked in ("none", "4bit"):
        assert quantization_of(load_model(few, quantization=asked)) == "4bit"
    with pytest.raises(UsageError, match=r"model\.quantization: the checkpoint is quantised already \(4bit\)"):
        load_model(few, quantization="8bit")
    made = trainer(load_model(few), tmp_path / "run")
    made.train()
    assert min(gradients(made)) > 0
    observed("quantisation", "a checkpoint in 4 bits", observed="an adapter trains; 8bit is refused")


@with_bnb
def test_reading_does_not_cut_gradients(folder, tmp_path, monkeypatch):
    """A CPU with AVX512-BF16, whose kernel for packed weights has no gradient, is stood in for."""
    import bitsandbytes.functional

    def without_gradient(x, weight, out=None, state=None):
        plain, before = bitsandbytes.functional._convert_weight_packed_for_cpu_inverse(weight.data.clone(), copy(state))
        with torch.no_grad():
            return x @ bitsandbytes.functional.dequantize_4bit(plain, before).to(x.dtype).t()

    def copy(state):
        other = bitsandbytes.functional.QuantState.__new__(bitsandbytes.functional.QuantState)
        other.__dict__.update(state.__dict__)
        return other

    monkeypatch.setattr(bitsandbytes.functional, "gemv_4bit", without_gradient)
    model = load_model(folder, quantization="4bit")
    packing = [m for m in model.modules() if hasattr(m, "support_avx512bf16_for_cpu")]
    assert packing
    assert not any(m.support_avx512bf16_for_cpu for m in packing)
    for module in packing:
        module.support_avx512bf16_for_cpu = True
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        before = model.eval()(ids).logits
    assert all(m.weight.quant_state.packing_format_for_cpu for m in packing)
    hidden = model.get_input_embeddings()(ids).detach().requires_grad_()
    model.model.layers[0].mlp.up_proj.train()
    assert not model.model.layers[0].mlp.up_proj(hidden).requires_grad  # the fault
    made = trainer(model, tmp_path)
    made.train()
    assert min(gradients(made)) > 0
    assert not any(getattr(m.weight.quant_state, "packing_format_for_cpu", False) for m in packing)
    with torch.no_grad(), made.model.disable_adapter():
        torch.testing.assert_close(made.model(ids).logits, before, atol=0.3, rtol=0.1)


@with_bnb
def test_all_weights_are_not_trained(folder, tmp_path):
    with pytest.raises(UsageError, match=r"model\.quantization: weights in few bits \(4bit\) cannot be trained"):
        trainer(load_model(folder, quantization="4bit"), tmp_path, adapter=False)


@with_bnb
@pytest.mark.parametrize("optimizer", ["adamw_bnb_8bit", "paged_adamw_32bit", "lion_8bit"])
def test_optimizers_of_bitsandbytes(optimizer, tmp_path):
    made = trainer(tiny.model(), tmp_path, optim=optimizer)
    before = {n: p.detach().clone() for n, p in made.model.named_parameters() if p.requires_grad}
    made.train()
    assert any(not torch.equal(before[n], p) for n, p in made.model.named_parameters() if n in before)


def test_few_bits_without_an_adapter_are_refused_with_the_settings():
    with pytest.raises(UsageError, match=r"model\.quantization: weights in few bits cannot be trained; leave lora"):
        assemble("core", overrides=["model.quantization=4bit", "lora.enabled=false"])
    with pytest.raises(UsageError, match=r"model\.quantization: '3bit' is not one of none, 4bit, 8bit"):
        assemble("core", overrides=["model.quantization=3bit"])
    with pytest.raises(UsageError, match=r"model\.quantization: unknown value '3bit'"):
        load_model("anything", quantization="3bit")


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_package_is_one_line(kind, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda name: None)
    assert train(folder, tmp_path / "run", f"model.quantization={kind}") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"unisd: model.quantization: {kind} needs bitsandbytes; pip install 'unisd[bnb]'")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("declared", "package"),
    [
        ({"quant_method": "gptq", "bits": 4}, "(?i)gptq"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, "(?i)awq|gptq"),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {}}}, "(?i)hqq"),
        ({"quant_method": "aqlm"}, "(?i)aqlm"),
    ],
)
def test_quantised_checkpoints_whose_package_is_missing(declared, package, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "few")
    config = json.loads((tmp_path / "few/config.json").read_text())
    (tmp_path / "few/config.json").write_text(json.dumps(config | {"quantization_config": declared}))
    assert declared_quantization(str(tmp_path / "few")) == declared
    with pytest.raises(UniSDError, match=package) as raised:
        load_model(str(tmp_path / "few"))
    assert "\n" not in str(raised.value)
    with pytest.raises(UsageError, match=rf"the checkpoint is quantised already \({declared['quant_method']}\)"):
        load_model(str(tmp_path / "few"), quantization="4bit")
    observed("quantisation", f"a checkpoint in {declared['quant_method'].upper()}",
             observed="recognised; a missing package is one line")  # fmt: skip


class Quantizer:
    """As much as is asked of transformers' quantizers."""

    def __init__(self, method, trains):
        self.quantization_config = types.SimpleNamespace(to_dict=lambda: {"quant_method": method})
        self.is_trainable = trains


def test_methods_that_pass_no_gradients_are_refused():
    base, wrapped = nn.Linear(2, 2), nn.Sequential()
    cpu = torch.device("cpu")
    check_adapter_trains(base, base, cpu)
    base.hf_quantizer = Quantizer("gptq", trains=True)
    check_adapter_trains(wrapped, base, cpu)
    with pytest.raises(UsageError, match="made for cpu, training is on cuda"):
        check_adapter_trains(wrapped, base, torch.device("cuda"))
    base.hf_quantizer = Quantizer("spqr", trains=False)
    with pytest.raises(UsageError, match="no adapter can be trained on weights of the kind spqr"):
        check_adapter_trains(wrapped, base, cpu)


def test_layers_that_were_packed_for_reading_are_unpacked():
    class Linear4bit(nn.Module):
        support_avx512bf16_for_cpu = True

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2), requires_grad=False)
            self.weight.quant_state = types.SimpleNamespace(packing_format_for_cpu=True)

        def _save_to_state_dict(self, destination, prefix, keep_vars):
            self.weight.quant_state.packing_format_for_cpu = False

    model = nn.Sequential(Linear4bit(), nn.Linear(2, 2))
    keep_gradients(model)
    assert not model[0].support_avx512bf16_for_cpu
    assert not model[0].weight.quant_state.packing_format_for_cpu


ROWS = {
    *(f"bitsandbytes {kind}, {what}" for kind in KINDS for what in ("float32", "bfloat16", "packed rows")),
    "a checkpoint in 4 bits",
    *(f"a checkpoint in {method}" for method in ("GPTQ", "AWQ", "HQQ", "AQLM")),
}


def test_the_record_holds_no_row_that_is_not_observed():
    assert set(json.loads((TABLES / "quantisation.json").read_text(encoding="utf-8"))["rows"]) == ROWS
