"""Every field of TrainingArguments, observed: what it changes, or in which line it is refused."""

import dataclasses
import importlib.util
import json
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, TrainingArguments
from transformers.training_args import OptimizerNames

import tiny
from compatibility import TABLES, observed
from unisd.errors import UsageError
from unisd.settings import plain
from unisd.training import fields
from unisd.training.arguments import OwnArguments, UniSDConfig
from unisd.training.fields import LEAVES, REFUSED, WORKS, check_environment, check_fields
from unisd.training.runfile import assemble, dumped
from unisd.training.trainer import UniSDTrainer

FIELDS = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}


def run(folder, callbacks=None, resume=None, evaluated=None, rows=10, **changes):
    """Train a few steps; return what is seen of it."""
    values = {"max_steps": 3, "per_device_train_batch_size": 2, "divergence": {"kind": "cross_entropy"}}
    args = tiny.arguments(folder, **(values | {"rollout": {"source": "gold", "max_completion_length": 40}} | changes))
    trainer = UniSDTrainer(
        tiny.model(),
        args,
        train_dataset=tiny.rows(rows),
        eval_dataset=evaluated,
        processing_class=tiny.tokenizer(),
        peft_config=tiny.lora_config(changes.pop("dropout", 0.0)),
        callbacks=callbacks,
    )
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_weights(Path(folder) / "adapter")
    return seen(Path(folder), trainer)


def seen(folder, trainer):
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    log = [row for row in log if "grad_norm" in row]  # the others are evaluations
    return types.SimpleNamespace(
        steps=[(row["step"], row["loss"], row["grad_norm"], row["learning_rate"]) for row in log],
        weights=load_file(folder / "adapter/adapter_model.safetensors"),
        checkpoints=sorted(path.name for path in folder.glob("checkpoints/checkpoint-*")),
        logged=[row["step"] for row in trainer.state.log_history if "loss" in row],
        evaluated=[row["step"] for row in trainer.state.log_history if "eval_loss" in row],
        folder=folder,
        trainer=trainer,
    )


def same(one, other, to=0.0):
    """Whether two runs gave the same, to the bit or to a distance."""
    far = max((one.weights[name] - other.weights[name]).abs().max().item() for name in one.weights)
    losses = [abs(a - b) for x, y in zip(one.steps, other.steps, strict=False) for a, b in zip(x, y, strict=True)]
    return len(one.steps) == len(other.steps) and far <= to and max(losses) <= to


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    return run(tmp_path_factory.mktemp("plain"))


def test_every_field_is_in_exactly_one_list():
    lists = [*WORKS, *REFUSED, *LEAVES]
    assert len(lists) == len(set(lists))
    assert set(lists) >= FIELDS
    tested = {*CHANGES, *SHOWN_BELOW}
    assert set(WORKS) == tested
    left = {field for values in (SAME | SAME_TO_ROUNDING).values() for field in values}
    assert set(LEAVES) == {*left, "ddp_backend"}  # which test_ranks.py shows


CHANGES = {
    "per_device_train_batch_size": 3,
    "max_steps": 2,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "linear",
    "warmup_steps": {"warmup_steps": 2, "lr_scheduler_type": "linear"},
    "optim": "sgd",
    "weight_decay": 0.5,
    "adam_beta1": 0.5,
    "adam_beta2": 0.5,
    "adam_epsilon": 1e-1,
    "gradient_accumulation_steps": 2,
    "max_grad_norm": 1e-3,
    "bf16": True,
    "seed": 7,
    "data_seed": 7,
    "train_sampling_strategy": "sequential",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_field_that_works_changes_what_is_learned(name, plain_run, tmp_path):
    value = CHANGES[name]
    found = run(tmp_path, **(value if isinstance(value, dict) else {name: value}))
    assert not same(found, plain_run)
    assert all(torch.isfinite(tensor).all() for tensor in found.weights.values())


SHOWN_BELOW = {
    "output_dir", "num_train_epochs", "dataloader_drop_last", "lr_scheduler_kwargs", "optim_args", "fp16", "use_cpu",
    "logging_strategy", "logging_steps", "logging_first_step", "disable_tqdm", "report_to", "run_name", "project",
    "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "eval_strategy", "eval_steps", "eval_delay",
    "eval_on_start", "per_device_eval_batch_size", "save_strategy", "save_steps", "save_total_limit", "save_only_model",
    "load_best_model_at_end", "metric_for_best_model", "greater_is_better", "ignore_data_skip",
    "restore_callback_states_from_checkpoint",
}  # fmt: skip


def test_epochs_and_last_batches(tmp_path):
    counted = {}
    for epochs, drop in ((1, False), (1, True), (2, False)):
        found = run(tmp_path / f"{epochs}{drop}", rows=5, max_steps=-1, num_train_epochs=epochs,
                    dataloader_drop_last=drop)  # fmt: skip
        counted[epochs, drop] = len(found.steps)
        assert found.folder.is_dir()
    assert counted == {(1, False): 3, (1, True): 2, (2, False): 6}


def test_arguments_of_schedules_and_optimizers(tmp_path):
    found = run(tmp_path, optim="sgd", optim_args="momentum=0.5, nesterov=true", lr_scheduler_type="cosine_with_min_lr",
                lr_scheduler_kwargs={"min_lr": 5e-3})  # fmt: skip
    group = found.trainer.optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.5, True)
    assert min(rate for *_, rate in found.steps) > 5e-3
    assert found.trainer.lr_scheduler.get_last_lr() == [5e-3] * len(found.trainer.optimizer.param_groups)


def test_when_trackers_are_told(tmp_path):
    def logged(name, **changes):
        return run(tmp_path / name, **changes).logged

    assert logged("each") == [1, 2, 3]
    assert logged("second", logging_steps=2) == [2]
    assert logged("first", logging_steps=2, logging_first_step=True) == [1, 2]
    assert logged("never", logging_strategy="no") == []
    assert len((tmp_path / "never/metrics.jsonl").read_text().splitlines()) == 3


def test_no_progress_bar(tmp_path, capsys):
    run(tmp_path / "with", disable_tqdm=False)
    assert "training:" in capsys.readouterr().err
    run(tmp_path / "without", disable_tqdm=True)
    assert "training:" not in capsys.readouterr().err


def test_when_the_objective_is_measured(tmp_path):
    def measured(name, **changes):
        return run(tmp_path / name, evaluated=tiny.rows(5), **changes)

    assert measured("steps", eval_strategy="steps", eval_steps=2).evaluated == [2, 3]  # and in the end
    assert measured("delay", eval_strategy="steps", eval_steps=1, eval_delay=2).evaluated == [2, 3]
    assert measured("start", eval_on_start=True).evaluated == [0]
    losses = [
        measured(f"size{size}", eval_on_start=True, per_device_eval_batch_size=size, max_steps=1)
        .trainer.state.log_history[0]["eval_loss"] for size in (1, 5)
    ]  # fmt: skip
    assert losses[0] != losses[1]  # a mean over tokens, taken batch by batch


def test_checkpoints(tmp_path):
    first = run(tmp_path / "steps", save_strategy="steps", save_steps=1, save_total_limit=2)
    assert first.checkpoints == ["checkpoint-2", "checkpoint-3"]
    only = run(tmp_path / "only", save_strategy="epoch", save_only_model=True, max_steps=-1, num_train_epochs=1)
    assert only.checkpoints == ["checkpoint-5"]
    assert not list(only.folder.glob("checkpoints/*/optimizer.*"))
    with pytest.raises(UsageError, match=r"checkpoint-5 holds the model alone \(save_only_model\)"):
        run(tmp_path / "only", resume=True)


@pytest.mark.parametrize("greater", [True, False])
def test_the_best_weights_come_back(greater, tmp_path):
    found = run(tmp_path, evaluated=tiny.rows(4), eval_strategy="steps", eval_steps=1, save_strategy="steps",
                save_steps=1, load_best_model_at_end=True, metric_for_best_model="loss", learning_rate=0.05,
                greater_is_better=greater)  # fmt: skip
    values = {row["step"]: row["eval_loss"] for row in found.trainer.state.log_history if "eval_loss" in row}
    best = (max if greater else min)(values, key=values.get)
    kept = load_file(found.folder / f"checkpoints/checkpoint-{best}/adapter_model.safetensors")
    assert len(set(values.values())) == 3
    assert all(torch.equal(kept[name], tensor) for name, tensor in found.weights.items())


def test_a_metric_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"metric_for_best_model: 'accuracy' is not measured; .*loss"):
        run(tmp_path, evaluated=tiny.rows(4), eval_strategy="steps", eval_steps=1, save_strategy="best",
            metric_for_best_model="accuracy")  # fmt: skip


def test_measuring_wants_rows(tmp_path):
    for changes in ({"eval_strategy": "steps"}, {"eval_on_start": True}):
        with pytest.raises(UsageError, match="eval_dataset"):
            run(tmp_path, **changes)
    for setting in ("eval_strategy=epoch", "eval_on_start=true"):
        with pytest.raises(UsageError, match=r"training\.eval_strategy: a run holds no items back"):
            assemble("core", overrides=[f"training.{setting}", "training.use_cpu=true"]).config(tmp_path)


def test_what_a_resumed_run_goes_on_with(tmp_path):
    whole = run(tmp_path / "whole", max_steps=4, save_strategy="steps", save_steps=2)
    assert same(run(tmp_path / "whole", max_steps=4, save_strategy="steps", save_steps=2,
                    resume=str(tmp_path / "whole/checkpoints/checkpoint-2")), whole)  # fmt: skip
    again = run(tmp_path / "whole", max_steps=4, save_strategy="steps", save_steps=2, ignore_data_skip=True,
                resume=str(tmp_path / "whole/checkpoints/checkpoint-2"))  # fmt: skip
    assert not same(again, whole)


def test_callbacks_go_on_from_their_state(tmp_path):
    def patience(restored):
        stop = EarlyStoppingCallback(early_stopping_patience=5)
        known = {"evaluated": tiny.rows(4), "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps",
                 "save_steps": 1, "metric_for_best_model": "loss", "load_best_model_at_end": True}  # fmt: skip
        folder = tmp_path / str(restored)
        stop.early_stopping_patience_counter = 3
        run(folder, callbacks=[stop], max_steps=1, learning_rate=1e-20, **known)
        fresh = EarlyStoppingCallback(early_stopping_patience=9)
        found = run(folder, callbacks=[fresh], max_steps=2, learning_rate=1e-20, resume=True,
                    restore_callback_states_from_checkpoint=restored, **known)  # fmt: skip
        used = [c for c in found.trainer.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)]
        return used[0].early_stopping_patience

    assert (patience(True), patience(False)) == (5, 9)


def test_precision_and_devices(monkeypatch):
    with pytest.raises(UsageError, match=r"training\.fp16: float16 needs an accelerator; use bf16"):
        tiny.arguments("unused", fp16=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(UsageError, match=r"training\.fp16"):
        tiny.arguments("unused")
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    assert tiny.arguments("unused", use_cpu=True).device.type == "cpu"


@pytest.mark.parametrize("more", [{}, {"divergence": {"kind": "jsd"}, "clipping": {"quantile": 0.9}}])
def test_bfloat16_on_a_cpu_samples_scores_and_learns(more, tmp_path):
    values = {"divergence": {}, "rollout": {"max_completion_length": 6}, "max_steps": 2} | more
    found = run(tmp_path, bf16=True, teacher={"kind": "ema", "every": 1}, **values)
    assert all(gradient > 0 for _, _, gradient, _ in found.steps)


@pytest.mark.gpu
def test_float16_on_an_accelerator(tmp_path):
    found = run(tmp_path, use_cpu=False, fp16=True)
    assert all(torch.isfinite(tensor).all() for tensor in found.weights.values())
    assert UniSDConfig("unused").device.type != "cpu"


# Each run is the plain one, to the bit or to rounding; what cannot be seen apart is set at once.
SAME = {
    "what is said, and where": {
        "log_on_each_node": False, "logging_nan_inf_filter": False, "log_level": "error", "log_level_replica": "error",
        "save_on_each_node": True, "use_cache": True, "prediction_loss_only": True, "remove_unused_columns": True,
        "do_train": True, "do_eval": True, "local_rank": 0, "tf32": False, "ddp_find_unused_parameters": True,
        "ddp_bucket_cap_mb": 3, "ddp_broadcast_buffers": False, "ddp_timeout": 60, "dataloader_pin_memory": False,
    },
    "workers": {
        "dataloader_num_workers": 2, "dataloader_persistent_workers": True, "dataloader_prefetch_factor": 1,
        "dataloader_multiprocessing_context": "fork",
    },
    "full_determinism": {"full_determinism": True},
    "skip_memory_metrics": {"skip_memory_metrics": False},
}  # fmt: skip
SAME_TO_ROUNDING = {
    "checkpointing": {
        "activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": True},
    },
    "checkpointing by its earlier name": {
        "gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "skip_memory_metrics" else ())
        for name in [*SAME, *SAME_TO_ROUNDING]
    ],
)
def test_fields_that_leave_results(name, plain_run, tmp_path):
    values = (SAME | SAME_TO_ROUNDING)[name]
    try:
        found = run(tmp_path, **{field: value for field, value in values.items() if field in FIELDS})
    finally:
        torch.use_deterministic_algorithms(False)
    assert same(found, plain_run, 0.0 if name in SAME else 1e-5)


NOT = {
    "optim_target_modules": "all-linear",
    "average_tokens_across_devices": False,
    "label_smoothing_factor": 0.1,
    "torch_compile_backend": "eager",
    "torch_compile_mode": "default",
    "liger_kernel_config": {"rope": True},
    "neftune_noise_alpha": 5.0,
    "torch_empty_cache_steps": 1,
    "include_num_input_tokens_seen": "all",
    "eval_do_concat_batches": False,
    "eval_accumulation_steps": 1,
    "include_for_metrics": ["loss"],
    "label_names": ["labels"],
    "hub_token": "secret",
    "hub_model_id": "me/model",
    "hub_strategy": "end",
    "hub_revision": "main",
    "accelerator_config": {"split_batches": True},
    "parallelism_config": {"tp_size": 2},
    "fsdp": "full_shard",
    "fsdp_config": {"version": 2},
    "deepspeed": {"zero_optimization": {"stage": 2}},
    "dataloader_in_order": False,
    "length_column_name": "tokens",
    "debug": "underflow_overflow",
    "resume_from_checkpoint": "checkpoint-1",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_field_that_does_not_apply_is_refused_in_one_line(name, tmp_path):
    value = NOT.get(name, True)
    with pytest.raises(UsageError, match=rf"training\.{name}: .* does not apply here: \w") as raised:
        tiny.arguments(tmp_path, **{name: value})
    assert "\n" not in str(raised.value)
    with pytest.raises(UsageError, match=rf"training\.{name}"):
        assemble("core", given={"training": {name: value}})


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_every_field_is_recorded(name):
    kind = "works" if name in WORKS else "does not apply" if name in REFUSED else "leaves results"
    observed("arguments", name, here=kind, meaning=(WORKS | REFUSED | LEAVES)[name])


def test_the_record_holds_no_field_that_is_not_observed():
    assert set(json.loads((TABLES / "arguments.json").read_text(encoding="utf-8"))["rows"]) == FIELDS


def test_defaults_ask_for_nothing(tmp_path):
    defaults = TrainingArguments(str(tmp_path), use_cpu=True)
    for values in (vars(defaults), defaults.to_dict(), tiny.arguments(tmp_path).to_dict()):
        check_fields({name: values[name] for name in FIELDS}, [plain(OwnArguments())])


def test_what_a_run_keeps_can_be_read_again(tmp_path):
    settings = assemble("core", overrides=["training.use_cpu=true"])
    kept = settings.opened(tmp_path)[1]
    (tmp_path / "config.yaml").write_text(dumped(kept), encoding="utf-8")
    again = assemble(file=tmp_path / "config.yaml")
    assert again.opened(tmp_path)[1] == kept


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"optim_args": {"eps": 1e-5}}, "optim_args: {'eps': 1e-05} is not a text"),
        ({"optim_args": "betas=(0.8,0.9)"}, r"optim_args: 'betas=\(0.8,0.9\)' cannot be read; write name=value, with"),
        ({"optim_args": "eps"}, "optim_args: 'eps' cannot be read; write name=value"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "it needs num_decay_steps; set training.lr_scheduler_kwargs"),
        ({"lr_scheduler_type": "bend"}, "lr_scheduler_type: bend is not a valid"),
        ({"lr_scheduler_kwargs": [1]}, r"lr_scheduler_kwargs: \[1\] is no mapping"),
        ({"metric_for_best_model": 3}, "metric_for_best_model: 3 is not a text"),
        ({"warmup_ratio": 0.1}, "warmup_ratio: no such setting; give the share as warmup_steps"),
        ({"evaluation_strategy": "steps"}, "it is eval_strategy now"),
        ({"group_by_length": True}, "rows are packed"),
        ({"train_sampling_strategy": "group_by_length"}, r"train_sampling_strategy: 'group_by_length' does not apply"),
        ({"train_sampling_strategy": "sideways"}, "training.train_sampling_strategy: 'sideways' is not one of"),
        ({"use_ipex": True}, "use_ipex: no such setting"),
        ({"jit_mode_eval": True}, "jit_mode_eval: no such setting"),
        ({"predict_with_generate": True}, "ask with unisd evaluate"),
        ({"report_to": "wanbd"}, r"training\.report_to: wanbd: wanbd is not supported, only .*wandb"),
        ({"optim": "adamw"}, r"training\.optim: .*adamw.* not a valid"),
        ({"optim": "galore_adamw"}, r"optim: 'galore_adamw' does not apply here"),
        ({"optim": OptimizerNames.LOMO}, r"optim: 'lomo' does not apply here: it steps inside"),
        ({"optim_args": "beta3=0.1"}, r"training\.optim_args: beta3=0.1 has no effect with optim=adamw_torch_fused"),
        ({"optim": "sgd", "optim_args": "momentum=1,foo=2"}, r"optim_args: foo=2 has no effect with optim=sgd"),
        ({"optim": "sgd", "optim_args": "momentum=x"}, r"training\.optim: sgd: could not convert"),
        ({"optim": "sgd", "optim_args": "momentum=-1"}, r"training\.optim_args: momentum=-1: Invalid momentum"),
        ({"optim": "sgd", "adam_beta1": 0.5}, r"training\.adam_beta1: it has no effect with optim=sgd"),
        ({"adam_beta2": 1.5}, r"training\.optim: .*Invalid beta"),
        ({"lr_scheduler_kwargs": {"foo": 1}}, r"lr_scheduler_kwargs: foo has no effect with .*=constant"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, r"training\.lr_scheduler_type: cosine_with_min_lr: .*min_lr"),
        ({"lr_scheduler_type": "cosin"}, r"training.lr_scheduler_type: cosin is not a valid Sch"),
        ({"warmup_steps": 5}, r"training\.warmup_steps: it has no effect with lr_scheduler_type=constant"),
        ({"eval_steps": 5}, r"training\.eval_steps: it has no effect with eval_strategy=no"),
        ({"metric_for_best_model": "loss"}, r"training\.metric_for_best_model: it has no effect"),
        ({"per_device_train_batch_size": 0}, r"training\.per_device_train_batch_size: 0 is not allowed; use 1 or more"),
        ({"per_device_train_batch_size": 1.5}, r"training\.per_device_train_batch_size: 1\.5 is not a whole number"),
        ({"gradient_accumulation_steps": 0}, "use 1 or more"),
        ({"save_total_limit": 0}, "use 1 or more"),
        ({"save_total_limit": "x"}, "save_total_limit: 'x' is not a whole number"),
        ({"max_grad_norm": -1.0}, "use 0 or more"),
        ({"accelerator_config": "nowhere.json"}, "accelerator_config: 'nowhere.json' does not apply"),
        ({"dataloader_prefetch_factor": 2}, r"training: .*prefetch"),
        ({"load_best_model_at_end": True}, r"load_best_model_at_end: it has no effect"),
        ({"save_strategy": "best"}, r"training\.save_strategy: what is best is not known"),
        ({"ddp_backend": "gloo"}, r"training\.ddp_backend: there is one process"),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 1.0}}, "lr_scheduler_kwargs: polynom"),
    ],
)
def test_values_without_effect_are_said_in_one_line(settings, named, tmp_path):
    with pytest.raises(UsageError, match=named) as raised:
        tiny.arguments(tmp_path, **settings)
    assert "\n" not in str(raised.value)


MISSING = {
    "adamw_bnb_8bit": "bitsandbytes", "paged_lion_8bit": "bitsandbytes", "adamw_torch_4bit": "torchao",
    "grokadamw": "grokadamw", "stable_adamw": "torch-optimi", "adamw_anyprecision": "torchdistx",
}  # fmt: skip


@pytest.mark.parametrize("name", MISSING)
def test_an_optimizer_whose_package_is_missing(name, tmp_path):
    module = {"torch-optimi": "optimi"}.get(MISSING[name], MISSING[name])
    if importlib.util.find_spec(module):
        pytest.skip(f"{module} is installed")
    with pytest.raises(UsageError, match=rf"training\.optim: {name}: .*{MISSING[name]}"):
        tiny.arguments(tmp_path, optim=name)


def test_a_field_that_nobody_has_tried(monkeypatch, tmp_path):
    known = {**fields._defaults(), "quantum_mode": False}
    monkeypatch.setattr(fields, "_defaults", lambda: known)
    check_fields({"quantum_mode": False}, [])
    with pytest.raises(UsageError, match=r"quantum_mode: True does not apply here: this version of transformers"):
        check_fields({"quantum_mode": True}, [])


def test_launchers_that_ask_for_what_does_not_apply(monkeypatch, tmp_path):
    check_environment({})
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "no")
    check_environment({})
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UsageError, match="ACCELERATE_USE_FSDP=true: fsdp does not apply here: every process holds"):
        tiny.arguments(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": 0.0}, r"training\.learning_rate: 0\.0 is not allowed"),
        ({"max_steps": 0}, r"training\.max_steps: 0 would train nothing"),
        ({"max_steps": -1, "num_train_epochs": 0}, r"training\.num_train_epochs: 0 would train nothing"),
        ({"dataloader_persistent_workers": True}, "no effect without dataloader_num_workers"),
        ({"project": "mine"}, "no effect without report_to=trackio"),
        ({"train_sampling_strategy": "sequential", "data_seed": 3}, "no effect without train_sampling_strategy=random"),
        (
            {"divergence": {"kind": "sampled_reverse_kl"}, "rollout": {"mask_truncated_completions": True}},
            r"rollout\.mask_truncated_completions: sampled_reverse_kl learns from tokens",
        ),
    ],
)
def test_values_that_would_train_nothing_or_change_nothing_are_refused(changes, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        tiny.arguments(tmp_path, **changes)
