"""What other trainers take and do, as this one takes it; or one line that says what to do instead."""

import contextlib
import copy
import dataclasses
import difflib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainingArguments, set_seed

from unisd.errors import UniSDError, UsageError, warn
from unisd.models import load_model, load_tokenizer
from unisd.models.load import base_model, placed
from unisd.training.arguments import OwnArguments, UniSDConfig
from unisd.training.foreign import hint

_INSTEAD = {
    "data_collator": "rows are joined by the trainer; leave it out",
    "compute_loss_func": "the loss is what args.divergence says; leave it out",
    "compute_metrics": "the logits that it reads are never kept; pass grader=, or use `unisd evaluate` on the result",
    "preprocess_logits_for_metrics": "logits are never kept; leave it out",
    "formatting_func": "put texts into the columns prompt, privileged_context and completion of the rows",
    "ref_model": "the teacher is the model itself; see args.teacher",
    "teacher_model": "the teacher is the model itself; see args.teacher",
    "reward_funcs": "pass grader=, which says how right completions are",
    "quantization_config": "load the model with it, and pass the model",
    "model_init_kwargs": "load the model with them, and pass the model",
}


def arguments_of(given: Any) -> UniSDConfig:
    """Return arguments as `UniSDConfig`.

    Args:
        given: such arguments; transformers' own, of which every value is kept, with the defaults of UniSD for all that
            they do not have; a mapping of settings; or None.

    Raises:
        UsageError: something else, or arguments of another trainer that are set and would have no effect.
    """
    if given is None:
        return UniSDConfig(output_dir="unisd-run")
    if isinstance(given, UniSDConfig):
        return given
    if isinstance(given, Mapping):
        return UniSDConfig(**{str(name): value for name, value in given.items()})
    if not isinstance(given, TrainingArguments):
        raise UsageError(f"args: UniSDConfig or TrainingArguments were expected, not {type(given).__name__}")
    theirs = {field.name: field for field in dataclasses.fields(TrainingArguments) if field.init}
    for field in dataclasses.fields(given):
        unset = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if field.init and field.name not in theirs and getattr(given, field.name, unset) != unset:
            known = hint(field.name)
            todo = (
                f"use UniSDConfig, where {known}"
                if known
                else "use UniSDConfig; `unisd list settings` shows its settings"
            )
            raise UsageError(f"args: {field.name} of {type(given).__name__} has no effect here; {todo}")
    usual = TrainingArguments(given.output_dir)
    values = {name: getattr(given, name) for name in theirs}
    kept = {field.name for field in dataclasses.fields(OwnArguments)} - _OURS  # type: ignore[arg-type]
    changed = {name: value for name, value in values.items() if name in kept or value != getattr(usual, name)}
    return UniSDConfig(**{"output_dir": given.output_dir, **changed})


_OURS = {"remove_unused_columns", "ddp_find_unused_parameters", "tokens_per_row"}


def refuse(known: Iterable[str], **given: Any) -> None:
    """Refuse arguments that have no meaning here; None passes.

    Raises:
        UsageError: one that is given, with what to do instead.
    """
    for name, value in given.items():
        if name == "data_collator" and value is not None and not callable(value):
            raise UsageError("data_collator: a data set stands there; name it: train_dataset=…")
        if value is None and name in _INSTEAD:
            continue
        near = difflib.get_close_matches(name, list(known), 1)
        todo = (
            _INSTEAD.get(name)
            or hint(name)
            or (f"did you mean '{near[0]}'?" if near else "is it a setting? see UniSDConfig")
        )
        raise UsageError(f"{name}: no argument of UniSDTrainer; {todo}")


def bare_model(
    model: Any, model_init: Callable[..., Any] | None, seed: int, device: torch.device | None = None
) -> tuple[nn.Module, str]:
    """Return the model without wrappers for speed or several devices, and the name that it was loaded by, or ``""``.

    It is placed here, once: before anything is copied from it, or read with it.

    Args:
        model: a model, or the name of one.
        model_init: makes the model instead; it may take one argument, which is None.
        seed: set before ``model_init`` is called.
        device: where training runs; None leaves it where it is.

    Raises:
        UsageError: neither or both are given, or it is no causal language model with its weights.
        UniSDError: nothing of that name can be loaded.
    """
    if model_init is not None:
        if model is not None:
            raise UsageError("model and model_init are both given; leave one out")
        if not callable(model_init):
            raise UsageError("model_init: a function that makes the model was expected; a model itself is model=")
        set_seed(seed)
        model = model_init() if not _takes_a_trial(model_init) else model_init(None)
    if isinstance(model, str | os.PathLike):
        name = os.fspath(model)
        return load_model(name, trainable=True, device=device), name
    compiled = False
    while isinstance(model, nn.DataParallel | DistributedDataParallel) or hasattr(model, "_orig_mod"):
        compiled |= hasattr(model, "_orig_mod")
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    if isinstance(model, nn.Module) and _undo_compile(model) | compiled:
        warn("model: it is compiled, which packed rows of ever new lengths would undo; it is used as it was before")
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise UsageError(f"model: a model or the name of one was expected, not {what}; load it with from_pretrained")
    inner: Any = base_model(model)
    config = getattr(inner, "config", None)
    head = getattr(inner, "get_output_embeddings", lambda: None)()
    own = type(inner).__module__.startswith("transformers.")  # of others it is not known whether they say it
    generates = not own or inner.can_generate()
    if config is None or head is None or getattr(config, "is_encoder_decoder", False) or not generates:
        raise UsageError(
            f"model: {type(inner).__name__} is no causal language model; load one with AutoModelForCausalLM"
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise UsageError("model: its weights are on the meta device, that is, not there; load them")
    return placed(model, device), str(getattr(config, "_name_or_path", "") or "")


def _undo_compile(model: nn.Module) -> bool:
    """Let all modules run as they did before ``compile()``, or before their ``forward`` was; return whether any had."""
    found = False
    for module in model.modules():
        if module._compiled_call_impl is not None:
            module._compiled_call_impl, found = None, True
        original = getattr(vars(module).get("forward"), "_torchdynamo_orig_callable", None)
        if original is not None:
            module.forward, found = original, True
    return found


def _takes_a_trial(model_init: Callable[..., Any]) -> bool:
    needed = inspect.Parameter.empty
    try:
        parameters = inspect.signature(model_init).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.default is needed and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def tokenizer_of(given: Any, name: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of what is given as ``processing_class``.

    Args:
        given: a tokenizer; a processor, whose tokenizer it is (with its chat template, where the tokenizer has none);
            the name of one; or None for the model's own.
        name: the name that the model was loaded by, or ``""``.

    Raises:
        UsageError: there is none.
        UniSDError: nothing of that name can be loaded.
    """
    if given is None and not name:
        raise UsageError("processing_class: this model names no folder to load a tokenizer from; pass its tokenizer")
    if given is None:
        try:
            found: PreTrainedTokenizerBase = load_tokenizer(name)
        except UniSDError as error:
            raise UniSDError(f"{error}; or pass the tokenizer as processing_class") from error
        return found
    if isinstance(given, str):
        return load_tokenizer(given)  # type: ignore[no-any-return]
    inner = getattr(given, "tokenizer", None)
    if isinstance(given, PreTrainedTokenizerBase) or not isinstance(inner, PreTrainedTokenizerBase):
        if not isinstance(given, PreTrainedTokenizerBase):
            raise UsageError(f"processing_class: {type(given).__name__} has no tokenizer of transformers; pass one")
        return given
    template = getattr(given, "chat_template", None)
    if template and not inner.chat_template:
        inner = copy.copy(inner)
        inner.chat_template = template
    return inner


def check_parts(
    callbacks: Any, optimizers: Any, optimizer_class: Any, peft_config: Any, sampler: Any = None, grader: Any = None
) -> None:
    """Check what is handed on to transformers and PEFT, which say less, and what is first used while training.

    Raises:
        UsageError: one of them is of another kind than it must be.
    """
    if callbacks is not None and not isinstance(callbacks, list | tuple):
        raise UsageError("callbacks: a list of callbacks was expected; put it in brackets")
    for callback in callbacks or []:
        if not (isinstance(callback, TrainerCallback) or _is_class(callback, TrainerCallback)):
            raise UsageError(f"callbacks: {callback!r:.80} is no TrainerCallback of transformers; make it a subclass")
    if grader is not None and not callable(grader):
        raise UsageError("grader: a function of ids and texts was expected, which returns grades from 0 to 1")
    if sampler is not None and not all(callable(getattr(sampler, name, None)) for name in ("sample", "decode")):
        raise UsageError(
            "sampler: an object with the methods sample and decode was expected; see unisd.rollout.Sampler"
        )
    if not isinstance(optimizers, list | tuple) or len(optimizers) != 2:
        raise UsageError("optimizers: (an optimizer, its schedule) were expected, of which either may be None")
    if optimizers[0] is not None and not isinstance(getattr(optimizers[0], "param_groups", None), list):
        raise UsageError("optimizers: the first is no optimizer; make one, or name it in args.optim")
    if optimizer_class is not None and tuple(optimizers) != (None, None):
        raise UsageError("optimizers and optimizer_cls_and_kwargs are both given; leave one out")
    if peft_config is not None and not hasattr(peft_config, "peft_type"):
        raise UsageError(f"peft_config: a PEFT configuration was expected, not {type(peft_config).__name__}")
    if isinstance(peft_config, type):
        raise UsageError(f"peft_config: a PEFT configuration was expected, not the class {peft_config.__name__}")


def _is_class(given: Any, base: type) -> bool:
    return isinstance(given, type) and issubclass(given, base)


def check_optimizer(optimizer: Any, model: nn.Module) -> None:
    """Check that an optimizer of the user's moves something of the model.

    Raises:
        UsageError: it holds none of the parameters that are trained.
    """
    if optimizer is None:
        return
    held = {id(parameter) for part in optimizer.param_groups for parameter in part["params"]}
    if not any(id(parameter) in held for parameter in model.parameters() if parameter.requires_grad):
        raise UsageError(
            "optimizers: it holds no parameter that is trained; make it from the model that is passed, with its adapter"
        )


def padded(sequences: list[list[int]]) -> np.ndarray[Any, Any]:
    """Return token ids as ``[rows, longest]`` int64, filled up with -100, as transformers pads predictions."""
    width = max(map(len, sequences), default=0)
    made = np.full((len(sequences), width), -100, dtype=np.int64)
    for row, ids in zip(made, sequences, strict=True):
        row[: len(ids)] = ids
    return made


class OneLineErrors(Trainer):
    """Methods of transformers' trainer that have no meaning here, or that talk to the hub: errors are one line."""

    def hyperparameter_search(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: it would exchange the model under the teacher and the sampler.

        Raises:
            UsageError: always.
        """
        raise UsageError("hyperparameter_search: make a trainer for each setting, with its own folder, and compare")

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """Create the repository on the hub.

        Raises:
            UniSDError: the hub cannot be reached, or does not let this user in.
        """
        with _hub_errors():
            super().init_hf_repo(*args, **kwargs)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Upload what was trained.

        Raises:
            UniSDError: the hub cannot be reached, or does not let this user in.
        """
        with _hub_errors():
            return super().push_to_hub(*args, **kwargs)


@contextlib.contextmanager
def _hub_errors() -> Iterator[None]:
    try:
        yield
    except UniSDError:
        raise
    except Exception as error:  # the client raises many kinds of errors for one fact: nothing was uploaded
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise UniSDError(
            f"push_to_hub: {cause}; check the network and `hf auth login`, or upload the folder yourself"
        ) from error
