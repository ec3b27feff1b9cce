"""Every PEFT method that packed rows can be read with: its teachers, a step, its saved form, and its merged form."""

import json
import warnings

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

import tiny
from compatibility import TABLES, observed
from unisd.errors import UsageError
from unisd.mechanisms.teacher import AverageTeacher, InitialTeacher, LiveTeacher
from unisd.models.adapters import bare_names, trained
from unisd.models.load import put_on, weights_fingerprint
from unisd.models.saved import check_saved, finish_adapter, moved_weights
from unisd.training.checks import check_start
from unisd.training.trainer import UniSDTrainer

IDS = torch.tensor([[1, 5, 9, 30, 6, 7]])
TARGETS = ["q_proj", "v_proj", "up_proj"]


def lora(**changes):
    return LoraConfig(**({"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "task_type": "CAUSAL_LM"} | changes))


def other(name, **changes):
    return getattr(peft, name)(**({"target_modules": TARGETS, "task_type": "CAUSAL_LM"} | changes))


METHODS = {
    "LoRA": lambda: lora(),
    "LoRA, a trained one": lambda: lora(init_lora_weights=False),
    "rsLoRA": lambda: lora(use_rslora=True),
    "DoRA": lambda: lora(use_dora=True),
    "LoRA, all biases": lambda: lora(bias="all"),
    "LoRA, its biases": lambda: lora(bias="lora_only"),
    "LoRA, a bias of B": lambda: lora(lora_bias=True, target_modules=["q_proj", "v_proj"]),
    "LoRA, PiSSA": lambda: lora(init_lora_weights="pissa"),
    "LoRA, OLoRA and rsLoRA": lambda: lora(init_lora_weights="olora", use_rslora=True, rank_pattern={"q_proj": 2}),
    "LoRA, orthogonal": lambda: lora(init_lora_weights="orthogonal"),
    "LoRA, trained head": lambda: lora(modules_to_save=["lm_head"]),
    "LoRA, trained norms": lambda: lora(modules_to_save=["norm", "input_layernorm"]),
    "LoRA, trained tokens": lambda: lora(trainable_token_indices=[5, 6]),
    "LoRA, embedding": lambda: lora(target_modules=[*TARGETS, "embed_tokens"]),
    "LoRA, parameters": lambda: lora(target_modules=[], target_parameters=["up_proj.weight"]),
    "LoHa": lambda: other("LoHaConfig", r=4, alpha=8),
    "LoKr": lambda: other("LoKrConfig", r=4, alpha=8),
    "AdaLoRA": lambda: other("AdaLoraConfig", total_step=10, init_r=4, target_r=2),
    "IA3": lambda: other("IA3Config", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "OFT": lambda: other("OFTConfig", oft_block_size=4, r=0),
    "BOFT": lambda: other("BOFTConfig", boft_block_size=4),
    "VeRA": lambda: other("VeraConfig", r=4),
    "LN tuning": lambda: other("LNTuningConfig", target_modules=["input_layernorm"]),
    "FourierFT": lambda: other("FourierFTConfig", n_frequency=20),
    "HRA": lambda: other("HRAConfig", r=4),
    "VB-LoRA": lambda: other("VBLoRAConfig", r=4, num_vectors=8, vector_length=4, topk=2),
    "RandLoRA": lambda: other("RandLoraConfig", r=4),
    "MiSS": lambda: other("MissConfig", r=4),
    "RoAd": lambda: other("RoadConfig", group_size=4),
    "SHiRA": lambda: other("ShiraConfig", r=2),
    "Trainable tokens": lambda: peft.TrainableTokensConfig(token_indices=[5, 6], task_type="CAUSAL_LM"),
}
REFUSED = {
    "prompt tuning": lambda: peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    "prefix tuning": lambda: peft.PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    "p-tuning": lambda: peft.PromptEncoderConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    "multitask prompt tuning": lambda: peft.MultitaskPromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    "adaption prompt": lambda: peft.AdaptionPromptConfig(adapter_len=4, adapter_layers=1, task_type="CAUSAL_LM"),
    "aLoRA": lambda: lora(alora_invocation_tokens=[1, 5]),
    "Poly": lambda: other("PolyConfig", r=4),
    "Lily": lambda: other("LilyConfig", r=4),
}


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def family(name):
    return "llama" if name == "Trainable tokens" else "qwen2"


def adapted(name):
    torch.manual_seed(3)
    return get_peft_model(tiny.model(family(name)), METHODS[name]()).eval()


@torch.no_grad()
def move(model, std=0.05):
    torch.manual_seed(4)
    for parameter in trained(model).values():
        parameter.add_(std * torch.randn_like(parameter))


@torch.no_grad()
def logits(model):
    return model.eval()(IDS).logits


def close(one, other):
    return bool((one - other).abs().max() <= 1e-4 * one.abs().max())


@pytest.mark.parametrize("name", METHODS)
def test_every_teacher_starts_as_the_student_and_the_first_one_stays(name):
    model = adapted(name)
    start = logits(model)
    teachers = [InitialTeacher(model), LiveTeacher(model), AverageTeacher(model, 0.5, 1)]
    state = torch.get_rng_state()
    for teacher in teachers:
        check_start(model, teacher)
        with teacher.weights() as taught:
            torch.testing.assert_close(logits(taught), start)
    assert torch.equal(torch.get_rng_state(), state)
    move(model)
    after = logits(model)
    assert not close(after, start)
    for teacher, expected in zip(teachers, [start, after, start], strict=True):
        with teacher.weights() as taught:
            torch.testing.assert_close(logits(taught), expected)
    assert torch.equal(logits(model), after)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_is_that_of_plain_forward_passes(name, tmp_path, tokenizer):
    """Packed, shared, lean and merged paths: the loss, and the gradient of everything that is trained."""
    model = adapted(name)
    trainer = UniSDTrainer(model, tiny.arguments(tmp_path), train_dataset=tiny.rows(), processing_class=tokenizer)
    move(model)
    model.train()
    rows = trainer.train_dataset[:3]
    plan = trainer.planner.plan(rows, 0)
    loss = trainer.learner.learn(model, plan)
    found = {key: value.grad for key, value in trained(model).items()}
    model.zero_grad(set_to_none=True)
    values = []
    for row, sequence in zip(rows, plan.sequences, strict=True):
        done, gold = list(sequence.completion_ids), row.contexts["gold"][0]
        with trainer.teacher.weights():
            p = (model(torch.tensor([[*gold, *done]])).logits[0, len(gold) - 1 : -1] / 0.7).log_softmax(-1)
        own = row.student_ids
        q = (model(torch.tensor([[*own, *done]])).logits[0, len(own) - 1 : -1] / 0.7).log_softmax(-1)
        values.append((p.exp() * (p - q)).sum(-1))
    expected = torch.cat(values).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-4, atol=1e-5)
    for key, value in trained(model).items():
        torch.testing.assert_close(found[key], value.grad, rtol=2e-3, atol=1e-5 * float(value.grad.abs().max() + 1))


@pytest.mark.parametrize("name", METHODS)
def test_saved_loaded_merged(name, tmp_path):
    model = adapted(name)
    start = moved_weights(model)
    bare = tiny.model(family(name))
    parameters = dict(bare.named_parameters()) | dict(bare.named_buffers())
    assert set(bare_names(model).values()) == set(parameters)
    base_kept = close(logits(bare), _off(model))
    kept = weights_fingerprint(bare) == weights_fingerprint(model, adapter=False)
    assert kept or not base_kept or name == "LoRA, orthogonal"
    off = InitialTeacher(model)._off
    before = weights_fingerprint(model)
    move(model)
    assert weights_fingerprint(model) != before
    model.save_pretrained(tmp_path)
    finish_adapter(model, tmp_path, start)
    check_saved(model, tmp_path, moved=bool(start))
    loaded = PeftModel.from_pretrained(tiny.model(family(name)), tmp_path)
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-4, atol=1e-4)
    if start:  # what is saved belongs on the base as it was
        torch.testing.assert_close(_off(loaded), logits(bare))
    on = put_on(tiny.model(family(name)), str(tmp_path), trainable=True)
    assert start or trained(on).keys() == trained(model).keys()
    expected = logits(model)
    try:
        merged = close(logits(model.merge_and_unload()), expected)
    except RuntimeError:
        merged = None
    assert merged is not False or name == "Trainable tokens"
    if merged and not _merges_where_tied(name):
        merged = False
    observed(
        "peft",
        name,
        teacher="the adapter off" if off else "a copy of what is trained",
        saved="as LoRA of twice the rank" if start else "as it is",
        merges={True: "yes", None: "no", False: "not where the embedding is the head"}[merged],
    )


def _merges_where_tied(name):
    """Whether it merges into a model whose embedding is the head, if it can be put there at all."""
    try:
        tied = get_peft_model(tiny.model("llama"), METHODS[name]()).eval()
        move(tied)
        expected = logits(tied)
        return close(logits(tied.merge_and_unload()), expected)
    except (RuntimeError, ValueError):
        return True


def _off(model):
    with model.disable_adapter():
        return logits(model)


@pytest.mark.parametrize("name", REFUSED)
def test_methods_that_read_whole_rows_are_refused_by_name(name, tmp_path, tokenizer):
    data = {"train_dataset": tiny.rows(), "processing_class": tokenizer}
    with pytest.raises(UsageError, match=r"an adapter of kind \w+ cannot be used here, because .*; use LoRA") as seen:
        UniSDTrainer(tiny.model(), tiny.arguments(tmp_path), peft_config=REFUSED[name](), **data)
    model = get_peft_model(tiny.model(), REFUSED[name]())
    with pytest.raises(UsageError, match="cannot be used here"):
        UniSDTrainer(model, tiny.arguments(tmp_path), **data)
    why = str(seen.value).split("because ")[1].split(";")[0]
    observed("peft", name, teacher="refused: " + why, saved="", merges="")


@pytest.mark.parametrize("how", ["configuration", "state"])
def test_what_could_not_be_loaded_is_refused_before_training(how, tmp_path, tokenizer):
    """Of some methods PEFT saves the tensors, and not the part of the configuration that makes them."""
    tuner = pytest.importorskip("peft.tuners.lora.config")
    if how == "configuration":
        config = lora(monteclora_config=tuner.MontecloraConfig())
        model, lost = get_peft_model(tiny.model(), config), r"lora_monteclora_sampler"
    else:
        model = get_peft_model(tiny.model(), lora())
        model.base_model.model.model.norm.lora_gain = torch.nn.Parameter(torch.ones(2))
        lost = "norm.lora_gain"
    with pytest.raises(UsageError, match=rf"trained tensors of the (adapter|base) \(.*{lost}.*would not be"):
        UniSDTrainer(model, tiny.arguments(tmp_path), train_dataset=tiny.rows(2), processing_class=tokenizer)


def test_the_table_holds_no_row_that_no_test_observes():
    record = json.loads((TABLES / "peft.json").read_text(encoding="utf-8"))
    assert set(record["rows"]) == {*METHODS, *REFUSED}
