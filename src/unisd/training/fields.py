"""What each field of ``TrainingArguments`` does here: it works, it does not apply, or it leaves the results.

Every field of the installed transformers is in exactly one of `WORKS`, `REFUSED` and `LEAVES`. One that is in none is
of a version that nobody has tried: its default alone is taken.
"""

import contextlib
import copy
import dataclasses
import functools
import inspect
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

from unisd.errors import UsageError

_EVALUATION = "evaluation gives the objective alone, no predictions; ask with unisd evaluate, or your own callback"
_HUB = "nothing is uploaded during a run; publish it when it is done: unisd push RUN"
_WHOLE = "every process holds the whole model; use LoRA, model.quantization, or activation_checkpointing to save memory"
_COMPILED = (
    "packed rows have another length each, and would be compiled anew each time; leave it out, or see model.fast"
)
_LENGTHS = "rows are packed, so that equal lengths save nothing; leave it out"
_PRECISION = "evaluation reads the model as it is trained; choose model.dtype, or bf16"

WORKS = {
    "output_dir": "the run's folder",
    "per_device_train_batch_size": "items a micro-batch",
    "num_train_epochs": "passes over the items",
    "max_steps": "steps, in place of epochs",
    "learning_rate": "the highest rate of the schedule",
    "lr_scheduler_type": "the schedule",
    "lr_scheduler_kwargs": "the schedule's own arguments",
    "warmup_steps": "steps, or below 1 a share of them, until the highest rate",
    "optim": "the optimizer; those that want another loop are refused by name",
    "optim_args": "the optimizer's own arguments",
    "weight_decay": "of the optimizer",
    "adam_beta1": "of the optimizer",
    "adam_beta2": "of the optimizer",
    "adam_epsilon": "of the optimizer",
    "gradient_accumulation_steps": "micro-batches a step, which are planned at once",
    "max_grad_norm": "gradients are cut to this norm; 0: never",
    "bf16": "forward passes in bfloat16 under autocast",
    "fp16": "forward passes in float16 under autocast, on an accelerator",
    "logging_strategy": "when trackers get the metrics; metrics.jsonl has every step",
    "logging_steps": "how often trackers get the metrics; metrics.jsonl has every step",
    "logging_first_step": "trackers get the first step, too",
    "report_to": "trackers, by transformers' names",
    "run_name": "the run's name in trackers; without it, its folder's",
    "project": "the project in trackio",
    "trackio_space_id": "passed to trackio",
    "trackio_bucket_id": "passed to trackio",
    "trackio_static_space_id": "passed to trackio",
    "eval_strategy": "when the objective is measured on eval_dataset",
    "eval_steps": "how often it is measured",
    "eval_delay": "steps or epochs before it is measured first",
    "eval_on_start": "it is measured before the first step, too",
    "per_device_eval_batch_size": "items that are measured together",
    "save_strategy": "when checkpoints are written",
    "save_steps": "how often checkpoints are written",
    "save_total_limit": "checkpoints that are kept",
    "save_only_model": "checkpoints without the optimizer, from which no run goes on",
    "load_best_model_at_end": "the best checkpoint's weights in the end",
    "metric_for_best_model": "what the best is measured by",
    "greater_is_better": "which way the best is",
    "ignore_data_skip": "a resumed run begins its epoch's items again",
    "restore_callback_states_from_checkpoint": "a resumed run's callbacks go on from their state",
    "seed": "of everything that is drawn",
    "data_seed": "of the order of items alone",
    "use_cpu": "train on the CPU",
    "dataloader_drop_last": "a last batch that is not full is left out",
    "train_sampling_strategy": "random, or sequential",
    "disable_tqdm": "no progress bar",
}

REFUSED = {
    "optim_target_modules": "it is for optimizers that are not supported; adapters keep what is trained small",
    "average_tokens_across_devices": "normalisers are always those of the whole step on all processes; leave it out",
    "label_smoothing_factor": "there are no labels to smooth; the teacher's distribution is the target",
    "bf16_full_eval": _PRECISION,
    "fp16_full_eval": _PRECISION,
    "torch_compile": _COMPILED,
    "torch_compile_backend": _COMPILED,
    "torch_compile_mode": _COMPILED,
    "use_liger_kernel": "the loss never holds a row's logits anyway, which is what Liger saves; leave it out",
    "liger_kernel_config": "Liger's kernels are not used; leave it out",
    "neftune_noise_alpha": "its noise would depend on how rows are packed; use lora.dropout",
    "torch_empty_cache_steps": "memory is bounded by tokens_per_row; lower that",
    "auto_find_batch_size": "the batch is part of the loss; lower tokens_per_row, which changes memory alone",
    "include_num_input_tokens_seen": "metrics.jsonl counts tokens already; leave it out",
    "eval_do_concat_batches": _EVALUATION,
    "eval_use_gather_object": _EVALUATION,
    "eval_accumulation_steps": _EVALUATION,
    "include_for_metrics": _EVALUATION,
    "batch_eval_metrics": _EVALUATION,
    "label_names": _EVALUATION,
    "do_predict": _EVALUATION,
    "enable_jit_checkpoint": "a run that was stopped would be taken for finished; lower save_steps, and resume",
    "push_to_hub": _HUB,
    "hub_token": _HUB,
    "hub_private_repo": _HUB,
    "hub_model_id": _HUB,
    "hub_strategy": _HUB,
    "hub_always_push": _HUB,
    "hub_revision": _HUB,
    "accelerator_config": "how items are shared among processes is the trainer's; leave it out (data_seed works)",
    "parallelism_config": _WHOLE,
    "fsdp": _WHOLE,
    "fsdp_config": _WHOLE,
    "deepspeed": _WHOLE,
    "dataloader_in_order": "items out of order could not be had again; leave it out",
    "length_column_name": _LENGTHS,
    "ddp_static_graph": "the rows of a step differ in what they use; leave it out",
    "debug": "its hooks see replaced layers; take a trace with --profile",
    "resume_from_checkpoint": "the trainer does not read it; use --resume, or train(resume_from_checkpoint=True)",
}

LEAVES = {
    "tf32": "precision of products on some GPUs; results to rounding",
    "activation_checkpointing": "less memory, more time; results to rounding",
    "activation_checkpointing_kwargs": "how layers are run again",
    "gradient_checkpointing": "an earlier name of activation_checkpointing",
    "gradient_checkpointing_kwargs": "an earlier name of activation_checkpointing_kwargs",
    "use_cache": "what a checkpoint's config says; passes choose for themselves",
    "log_on_each_node": "which processes print",
    "logging_nan_inf_filter": "whether trackers see a loss that is no number; metrics.jsonl does",
    "log_level": "what transformers prints",
    "log_level_replica": "what transformers prints",
    "prediction_loss_only": "evaluation gives losses alone anyway",
    "save_on_each_node": "where checkpoints lie",
    "full_determinism": "kernels that repeat to the bit, on GPUs",
    "dataloader_num_workers": "processes that hand over items",
    "dataloader_pin_memory": "how items are handed over",
    "dataloader_persistent_workers": "processes that hand over items",
    "dataloader_prefetch_factor": "how items are handed over",
    "dataloader_multiprocessing_context": "how those processes start",
    "remove_unused_columns": "rows are no dictionaries; contexts stay",
    "ddp_find_unused_parameters": "how gradients are exchanged",
    "ddp_bucket_cap_mb": "how gradients are exchanged",
    "ddp_broadcast_buffers": "how buffers are exchanged",
    "ddp_backend": "how several processes talk",
    "ddp_timeout": "how long processes wait",
    "skip_memory_metrics": "whether the summary of train() has memory",
    "do_train": "read by scripts alone",
    "do_eval": "read by scripts alone",
    "local_rank": "set by launchers",
}

# Values of fields that work which do not, by what they begin with.
_REFUSED_VALUES = {
    "optim": {
        "galore": "it projects whole weights; with LoRA they are small already; choose adamw_torch",
        "apollo": "it projects whole weights; with LoRA they are small already; choose adamw_torch",
        "lomo": "it steps inside of the backward pass, and a step here has several; choose adamw_torch",
        "adalomo": "it steps inside of the backward pass, and a step here has several; choose adafactor",
        "schedule_free": "it has other weights in training and between; choose lr_scheduler_type=constant_with_warmup",
    },
    "train_sampling_strategy": {"group_by_length": _LENGTHS, "batch_rebalance": _LENGTHS},
}

_CHOICES = {"train_sampling_strategy": ("random", "sequential")}

# Values of refused fields that ask for nothing: what transformers itself makes of the defaults, or hides.
_NOTHING: dict[str, tuple[Any, ...]] = {
    "hub_token": ("<HUB_TOKEN>",),
    "include_num_input_tokens_seen": (False,),
    "fsdp": (False,),
    "eval_do_concat_batches": (None,),
}

LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_steps": -1,
    "num_train_epochs": 0,
    "weight_decay": 0,
    "max_grad_norm": 0,
    "save_total_limit": 1,
    "save_steps": 0,
    "seed": 0,
    "data_seed": 0,
    "eval_steps": 0,
    "eval_delay": 0,
    "logging_steps": 0,
    "dataloader_num_workers": 0,
    "dataloader_prefetch_factor": 1,
    "ddp_timeout": 1,
    "ddp_bucket_cap_mb": 1,
}

# Names of earlier versions that have the reason of a field of today; `foreign` has the others.
_FORMER = {
    "group_by_length": _LENGTHS,
    "predict_with_generate": _EVALUATION,
    "torchdynamo": _COMPILED,
    "include_inputs_for_metrics": _EVALUATION,
    "mp_parameters": _WHOLE,
    "sharded_ddp": _WHOLE,
}

# How launchers ask for what `REFUSED` refuses.
_ENVIRONMENT = {
    "ACCELERATE_USE_FSDP": "fsdp",
    "ACCELERATE_USE_DEEPSPEED": "deepspeed",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "parallelism_config",
    "ACCELERATE_DYNAMO_BACKEND": "torch_compile",
}


def check_fields(values: Mapping[str, Any], defaults: Iterable[Mapping[str, Any]], where: str = "") -> None:
    """Check that every value of ``TrainingArguments`` that is given has an effect here, or asks for nothing.

    Args:
        values: fields as they are given.
        defaults: values that ask for nothing, besides those of transformers: the package's own.
        where: what messages put before a field's name.

    Raises:
        UsageError: a field does not apply, is of a version that is not known, or is out of range; in one line.
    """
    theirs = _defaults()
    for name, value in values.items():
        shown = f"{where}{name}"
        if name not in theirs:
            if name in _FORMER:
                raise UsageError(f"{shown}: no such setting; {_FORMER[name]}")
            continue
        if name in LEAST and isinstance(value, int | float) and value < LEAST[name]:
            raise UsageError(f"{shown}: {value!r} is not allowed; use {LEAST[name]} or more")
        if name == "seed" and isinstance(value, int) and value >= 2**32:
            raise UsageError(f"{shown}: {value!r} is not allowed; use {2**32 - 1} or less")
        if name in ("max_steps", "num_train_epochs") and value == 0:
            raise UsageError(f"{shown}: 0 would train nothing; use more, or leave it out")
        for start, why in _REFUSED_VALUES.get(name, {}).items():
            if str(getattr(value, "value", value)).startswith(start):
                raise UsageError(f"{shown}: {getattr(value, 'value', value)!r} does not apply here: {why}")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise UsageError(f"{shown}: {value!r} is not one of {', '.join(_CHOICES[name])}")
        if name in WORKS or name in LEAVES or _asks_for_nothing(name, value, [theirs, *defaults]):
            continue
        why = REFUSED.get(name) or _FORMER.get(name) or "this version of transformers has it, and it is not known yet"
        raise UsageError(f"{shown}: {_short(value)} does not apply here: {why}")


def check_environment(values: Mapping[str, Any]) -> None:
    """Check that no launcher asks for what does not apply, and ``values`` for nothing that wants a launcher.

    Raises:
        UsageError: it does; the message names the variable.
    """
    for variable, field in _ENVIRONMENT.items():
        value = os.environ.get(variable, "").lower()
        if value not in ("", "0", "false", "no"):
            raise UsageError(f"{variable}={value}: {field} does not apply here: {REFUSED[field]}")
    if values.get("ddp_backend") is not None and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        raise UsageError("training.ddp_backend: there is one process; start several with torchrun")


@functools.cache
def _defaults() -> dict[str, Any]:
    return {
        field.name: field.default if field.default is not dataclasses.MISSING else _made(field.default_factory)
        for field in dataclasses.fields(TrainingArguments)
        if field.init
    }


def _made(factory: Any) -> Any:
    return None if factory is dataclasses.MISSING else factory()


def _asks_for_nothing(name: str, value: Any, defaults: Iterable[Mapping[str, Any]]) -> bool:
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    plain = getattr(value, "value", value)
    if plain in _NOTHING.get(name, ()) or any(name in known and plain == _plain(known[name]) for known in defaults):
        return True
    if name == "accelerator_config" and isinstance(plain, dict):
        from transformers.trainer_pt_utils import AcceleratorConfig

        return bool(AcceleratorConfig().to_dict() | plain == AcceleratorConfig().to_dict())
    # An empty list, mapping or text says what None and each other say; False and 0 are values.
    return plain in ("", [], {}, None) and _plain(_defaults()[name]) in ("", [], {}, None, False)


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


def _short(value: Any) -> str:
    shown = " ".join(repr(_plain(value)).split())
    return shown if len(shown) <= 60 else shown[:60] + "…"


def check_made(args: Any, own: Mapping[str, Any]) -> None:
    """Try out what whole arguments name and the trainer makes only when it starts: optimizer, schedule, trackers.

    Args:
        args: whole arguments.
        own: the package's own defaults.

    Raises:
        UsageError: a package that is missing, or arguments that have no effect together; in one line.
    """
    if args.mixed_precision == "fp16" and args.device.type == "cpu":
        raise UsageError("training.fp16: float16 needs an accelerator; use bf16, or leave it out")
    evaluates = args.eval_strategy.value != "no"
    needed = {"eval_steps": args.eval_strategy.value == "steps", "eval_delay": evaluates or args.eval_on_start}
    needed |= dict.fromkeys(("load_best_model_at_end", "metric_for_best_model", "greater_is_better"), evaluates)
    for name, has_effect in needed.items():
        if getattr(args, name) and not has_effect:
            raise UsageError(f"training.{name}: it has no effect with eval_strategy={args.eval_strategy.value}")
    for name, (other, has_effect) in _needing(args).items():
        if getattr(args, name) != _defaults()[name] and not has_effect:
            raise UsageError(f"training.{name}: it has no effect without {other}; leave it out")
    if args.save_strategy.value == "best" and not evaluates:
        raise UsageError("training.save_strategy: what is best is not known without eval_strategy; choose steps")
    _check_optimizer(args, own)
    _check_trackers(args)


def _needing(args: Any) -> dict[str, tuple[str, bool]]:
    """Return, for fields that work beside another alone, what that is, and whether it is so."""
    trackio = ("report_to=trackio", "trackio" in args.report_to)
    return {
        **{name: trackio for name, does in WORKS.items() if does.endswith("trackio")},
        "dataloader_persistent_workers": ("dataloader_num_workers", args.dataloader_num_workers > 0),
        "data_seed": ("train_sampling_strategy=random", args.train_sampling_strategy != "sequential"),
    }


def _check_optimizer(args: Any, own: Mapping[str, Any]) -> None:
    kind = args.optim.value
    for part in str(args.optim_args or "").split(","):
        if part and not re.fullmatch(r"\s*\w+\s*=[^=()\[\]{}]+", part):
            raise UsageError(
                f"training.optim_args: {args.optim_args!r} cannot be read; write name=value, with commas between, each "
                "value a number or a name (betas are training.adam_beta1 and adam_beta2)"
            )
    with _named("optim", kind):
        made, values = Trainer.get_optimizer_cls_and_kwargs(args, None)
    # What an optimizer does not read leaves what it is made with as it was.
    for part in str(args.optim_args or "").replace(" ", "").split(","):
        fewer = ",".join(p for p in str(args.optim_args).replace(" ", "").split(",") if p != part)
        if part and _optimizer_values(args, optim_args=fewer or None) == values:
            raise UsageError(f"training.optim_args: {part} has no effect with optim={kind}; leave it out")
    for name in ("adam_beta1", "adam_beta2", "adam_epsilon"):
        default = _defaults()[name]
        if getattr(args, name) != default and _optimizer_values(args, **{name: default}) == values:
            raise UsageError(f"training.{name}: it has no effect with optim={kind}; leave it out")
    with _named("optim_args" if args.optim_args else "optim", args.optim_args or kind):
        optimizer = made([torch.nn.Parameter(torch.zeros(1))], **values)
    _check_schedule(args, optimizer, own)


def _check_schedule(args: Any, optimizer: torch.optim.Optimizer, own: Mapping[str, Any]) -> None:
    kind = args.lr_scheduler_type
    if not isinstance(args.lr_scheduler_kwargs or {}, Mapping):
        raise UsageError(
            f"training.lr_scheduler_kwargs: {_short(args.lr_scheduler_kwargs)} is no mapping; write {{name: value}}"
        )
    reads = inspect.signature(TYPE_TO_SCHEDULER_FUNCTION[kind]).parameters
    whole = any(parameter.kind is parameter.VAR_KEYWORD for parameter in reads.values())
    for name in args.lr_scheduler_kwargs or {}:
        if name not in reads and not whole:
            raise UsageError(f"training.lr_scheduler_kwargs: {name} has no effect with lr_scheduler_type={kind.value}")
    if "num_warmup_steps" not in reads and args.warmup_steps not in (0, own["warmup_steps"]):
        raise UsageError(f"training.warmup_steps: it has no effect with lr_scheduler_type={kind.value}; leave it out")
    with _named("lr_scheduler_kwargs" if args.lr_scheduler_kwargs else "lr_scheduler_type", kind.value):
        get_scheduler(kind, optimizer, args.get_warmup_steps(100), 100, args.lr_scheduler_kwargs)


def _optimizer_values(args: Any, **changes: Any) -> Any:
    other = copy.copy(args)
    for name, value in changes.items():
        setattr(other, name, value)
    return Trainer.get_optimizer_cls_and_kwargs(other, None)[1]


def _check_trackers(args: Any) -> None:
    packages = {"comet_ml": "comet-ml", "azure_ml": "azureml-sdk", "flyte": "flytekit"}
    for name in args.report_to:
        with _named("report_to", name):
            callbacks = get_reporting_integration_callbacks([name])
        with _named("report_to", f"{name} (pip install {packages.get(name, name)}, or leave it out)"):
            for callback in callbacks:
                callback()


@contextlib.contextmanager
def _named(field: str, value: Any) -> Iterator[None]:
    """Say in one line what transformers, or a package that it asks for, does not take."""
    try:
        yield
    except Exception as error:  # whatever a package says: it is about this value
        cause = " ".join(str(error).split())[:250] or type(error).__name__
        if missing := re.search(r"missing \d+ required [\w-]+ arguments?: (.+)$", cause):
            of = "lr_scheduler_kwargs" if field.startswith("lr_scheduler") else "optim_args"
            names = re.findall(r"'(\w+)'", missing[1])
            cause = f"it needs {' and '.join(names)}; set training.{of}"
        elif isinstance(error, AttributeError | KeyError | IndexError):
            cause = f"it cannot be made with these arguments ({type(error).__name__}: {cause}); leave them out"
        raise UsageError(f"training.{field}: {value}: {cause}") from error
