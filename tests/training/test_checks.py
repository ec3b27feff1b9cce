"""A run that does not train does not end as a success, and what is saved is what was trained."""

import json

import pytest
import torch
from peft import AdaLoraConfig, ArrowConfig, LoraConfig, PeftModel, get_peft_model, inject_adapter_in_model
from safetensors.torch import load_file, save_file

import tiny
from unisd.errors import UniSDError, UsageError
from unisd.mechanisms.teacher import InitialTeacher
from unisd.models.adapters import trained
from unisd.models.saved import check_saved
from unisd.training.checks import GradientWatch
from unisd.training.trainer import UniSDTrainer

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def trainer_of(tmp_path, tokenizer):
    def make(model, peft_config=None, **changes):
        changes = {"max_steps": 3} | changes
        return UniSDTrainer(
            model,
            tiny.arguments(tmp_path / "run", **changes),
            train_dataset=tiny.rows(),
            processing_class=tokenizer,
            peft_config=peft_config,
        )

    return make


def frozen():
    return tiny.lora(tiny.model(), trained=True).requires_grad_(False)


def merged():
    model = tiny.lora(tiny.model(), trained=True)
    model.merge_adapter()
    return model


def with_a_trained_base():
    model = tiny.lora(tiny.model())
    model.get_base_model().model.layers[0].self_attn.k_proj.requires_grad_(True)
    return model


def nested():
    return get_peft_model(tiny.lora(tiny.model()), tiny.lora_config())


def in_place():
    return inject_adapter_in_model(tiny.lora_config(), tiny.model())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (frozen, "none of its parameters is trainable.*is_trainable=True"),
        (lambda: tiny.model().requires_grad_(False), "none of its parameters is trainable.*peft_config"),
        (merged, "its adapter is merged.*unmerge_adapter"),
        (with_a_trained_base, "1 trained tensors of the base .*k_proj.* would not be saved.*modules_to_save"),
        (nested, "an adapter lies on an adapter.*merge"),
        (in_place, "was added in place.*get_peft_model"),
    ],
)
def test_what_would_not_train_or_not_be_saved_is_refused(trainer_of, make, said):
    with pytest.raises(UsageError, match=said) as seen:
        trainer_of(make())
    assert len(str(seen.value).splitlines()) == 1


def test_a_second_adapter_is_not_put_on_the_first(trainer_of):
    with pytest.raises(UsageError, match="has an adapter already; leave peft_config out"):
        trainer_of(tiny.lora(tiny.model()), tiny.lora_config())


class Dead(torch.autograd.Function):
    """A kernel whose backward pass gives zeros."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros_like(gradient)


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (lambda module, inputs, out: Dead.apply(out), "step 1: the gradient is exactly zero, though the loss asks"),
        (lambda module, inputs, out: out.detach(), "nothing that is trained takes part"),
    ],
)
def test_a_model_that_passes_no_gradient_on_stops(trainer_of, hook, said):
    model = tiny.lora(tiny.model(), trained=True)
    model.get_base_model().model.norm.register_forward_hook(hook)
    with pytest.raises(UniSDError, match=said):
        trainer_of(model).train()


def test_what_gets_no_gradient_is_named_once(trainer_of, capsys):
    model = tiny.model("qwen2")
    model.unused = torch.nn.Linear(3, 3)
    trainer_of(model).train()
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(said) == 1
    assert "2 of 29 trained tensors (unused.bias, unused.weight) got no gradient" in said[0]


def test_a_new_adapter_under_warm_up_is_not_accused(trainer_of, capsys):
    """The first factor of LoRA has no gradient until the second has moved, which warm-up puts off by a step."""
    trainer_of(tiny.model(), tiny.lora_config(), lr_scheduler_type="linear", warmup_steps=2, max_steps=4).train()
    assert "gradient" not in capsys.readouterr().err


def test_a_run_in_which_nothing_counts_warns_once_and_fails_at_its_end(trainer_of, capsys):
    model = tiny.lora(tiny.model(), trained=True)
    with pytest.raises(UniSDError, match="no step had a gradient, so nothing was trained"):
        trainer_of(model, clipping={"cap": 1e-9}).train()
    assert capsys.readouterr().err.count("nothing to learn") == 1


def test_an_adapter_of_another_name_lies_where_peft_looks(trainer_of, tmp_path):
    model = get_peft_model(tiny.model(), tiny.lora_config(), adapter_name="mine")
    trainer = trainer_of(model)
    trainer.train()
    trainer.save_weights(tmp_path / "a")
    loaded = PeftModel.from_pretrained(tiny.model(), tmp_path / "a")
    with torch.no_grad():
        assert torch.equal(loaded.eval()(IDS).logits, model.eval()(IDS).logits)


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize("harm", ["value", "missing"])
def test_what_was_saved_otherwise_is_noticed(tmp_path, adapter, harm):
    model = tiny.lora(tiny.model(), trained=True) if adapter else tiny.model()
    model.save_pretrained(tmp_path)
    check_saved(model, tmp_path)
    file = next(tmp_path.glob("*.safetensors"))
    tensors = load_file(file)
    name = next(iter(tensors))
    if harm == "value":
        tensors[name].view(-1)[0] += 1
    else:
        del tensors[name]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UniSDError, match="is not what was trained: 1 tensors are missing or differ"):
        check_saved(model, tmp_path)


def test_a_configuration_of_another_adapter_is_noticed(tmp_path):
    model = tiny.lora(tiny.model(), trained=True)
    model.save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 8}))
    with pytest.raises(UniSDError, match="missing or differ"):
        check_saved(model, tmp_path)


def test_a_resumed_run_whose_last_steps_have_nothing_to_learn_is_a_success(tmp_path, tokenizer):
    def trained(grade, resume=None):
        trainer = UniSDTrainer(
            tiny.model(),
            tiny.arguments(tmp_path, max_steps=2, save_strategy="steps", save_steps=1, success={"prefer": "correct"}),
            train_dataset=tiny.rows(),
            processing_class=tokenizer,
            peft_config=tiny.lora_config(),
            grader=lambda ids, texts: [grade] * len(ids),
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    trained(1.0)
    again = trained(0.0, str(tmp_path / "checkpoints/checkpoint-1"))
    assert again.state.global_step == 2
    with pytest.raises(UniSDError, match="no step had a gradient"):
        trained(0.0)


# -- what was learned is there when the run says so -------------------------------------------------------------------


def two_at_once():
    model = get_peft_model(tiny.model(), tiny.lora_config(), adapter_name="a")
    model.add_adapter("b", tiny.lora_config())
    model.base_model.set_adapter(["a", "b"])
    return model


def switched_off_layers():
    model = tiny.lora(tiny.model(), trained=True)
    model.base_model.disable_adapter_layers()
    return model


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (two_at_once, r"2 adapters are on at once \(a, b\).*add_weighted_adapter"),
        (switched_off_layers, r"enable_adapter_layers\(\)"),
    ],
)
def test_adapters_that_could_not_be_saved_as_they_are_on_are_refused(trainer_of, make, said):
    with pytest.raises(UsageError, match=said):
        trainer_of(make())


@pytest.mark.parametrize("frozen", ["lora_A", "layers.0."])
def test_what_the_user_froze_of_an_adapter_stays_as_it_was(trainer_of, frozen):
    model = tiny.lora(tiny.model(), trained=True)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name and frozen not in name)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    trainer_of(model).train()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if "lora_" in name and frozen not in name}


def test_switching_off_for_a_while_leaves_what_is_trained():
    model = tiny.lora(tiny.model())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_B" in name)
    teacher = InitialTeacher(model)
    assert teacher._off
    with teacher.weights():
        pass
    assert {name.split(".")[-3] for name in trained(model)} == {"lora_B"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": 1e-30}, "every trained weight is as it was: .*model.dtype=float32"),
        (
            {"learning_rate": 1e6},
            "is no number|logits are not finite",
        ),
    ],
)
def test_a_run_that_changed_nothing_or_spoilt_everything_is_no_success(trainer_of, changes, said):
    model = tiny.model("qwen2")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    with pytest.raises(UniSDError, match=said) as seen:
        trainer_of(model, **changes).train()
    assert len(str(seen.value).splitlines()) == 1


def test_weights_too_coarse_for_the_steps_are_named(trainer_of, capsys):
    trainer_of(tiny.model("qwen2"), learning_rate=3e-9).train()  # norms are 1, other weights near 0.02
    assert "norm.weight) are as before: steps are less than their precision; see model.dtype" in capsys.readouterr().err


def test_one_step_of_warm_up_says_that_it_changed_nothing(trainer_of, capsys):
    trainer_of(tiny.model(), tiny.lora_config(), max_steps=1, lr_scheduler_type="linear", warmup_steps=1).train()
    assert "the one step was taken at a learning rate of 0" in capsys.readouterr().err


def test_a_model_that_cannot_run_is_one_line(trainer_of):
    model = tiny.model("qwen2")
    model.lm_head.bfloat16()
    with pytest.raises(UsageError, match=r"^model: it cannot read a few tokens \(RuntimeError: .*by itself$"):
        trainer_of(model)


@pytest.mark.parametrize("kind", ["initial", "live", "ema", "none"])
def test_a_model_whose_logits_are_no_numbers_is_called_so(trainer_of, kind):
    model = tiny.model()
    model.model.norm.weight.data.fill_(float("nan"))
    changes = {"teacher": {"kind": kind}}
    if kind == "none":
        rollout = {"source": "gold", "max_completion_length": 40}
        changes = {"divergence": {"kind": "cross_entropy"}, "rollout": rollout}
    with pytest.raises(UsageError, match=r"^model: its logits are no numbers before the first step: .*model\.dtype"):
        trainer_of(model, **changes)


def test_the_schedule_of_adalora_is_said_not_to_run(trainer_of, capsys):
    config = AdaLoraConfig(total_step=10, init_r=4, target_r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    trainer_of(tiny.model(), config)
    assert "AdaLoRA's schedule of ranks and its orthogonal term are not run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"init_lora_weights": "eva"}, "init_lora_weights: eva starts from what data say.*initialize_lora_eva_weights"),
        ({"init_lora_weights": "lora_ga"}, "preprocess_loraga"),
        ({"task_type": "SEQ_CLS"}, "task_type: SEQ_CLS .*CAUSAL_LM"),
        ({"inference_mode": True}, "inference_mode"),
        ({"use_qalora": True}, "use_qalora: it has no effect"),
        ({"megatron_config": {"a": 1}}, "lora: .*megatron"),
        ({"arrow_config": ArrowConfig()}, r"^peft_config: PEFT cannot make .*one of these out: arrow_config$"),
    ],
)
def test_configurations_that_peft_would_pass_over_are_refused(trainer_of, changes, said):
    config = LoraConfig(**({"r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"} | changes))
    with pytest.raises(UsageError, match=said):
        trainer_of(tiny.model(), config)


def test_a_run_without_any_step_is_an_error(tmp_path, tokenizer):
    args = tiny.arguments(tmp_path, max_steps=-1, num_train_epochs=1, dataloader_drop_last=True)
    trainer = UniSDTrainer(tiny.lora(tiny.model()), args, train_dataset=tiny.rows(3), processing_class=tokenizer)
    with pytest.raises(UsageError, match="dataloader_drop_last: 3 rows are no batch of 4; leave it out"):
        trainer.train()


def test_a_watch_that_saw_no_step_says_so():
    with pytest.raises(UniSDError, match="no step was taken"):
        GradientWatch(lambda value: value).finish(tiny.lora(tiny.model()))
