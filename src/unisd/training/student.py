"""Who is trained: the model that was given, or asked for by name, with the adapter that it gets."""

import os
from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import set_seed

from unisd.errors import UsageError, warn
from unisd.models import LoraSettings, attach, has_adapter
from unisd.models.adapters import kinds, trained
from unisd.models.load import is_adapter, load_model_and_tokenizer, weights_folder
from unisd.models.targets import unadapted_experts
from unisd.settings import plain
from unisd.training.arguments import UniSDConfig
from unisd.training.interop import bare_model
from unisd.training.runfile import model_settings


def student(
    model: Any, model_init: Callable[..., Any] | None, args: UniSDConfig, peft_config: Any
) -> tuple[nn.Module, str, Any]:
    """Return the model to train, the name that it was loaded by (or ``""``), and the PEFT configuration of its adapter.

    A model that is asked for by its name gets a new LoRA adapter by ``args.lora``, or by the defaults; with
    ``lora={"enabled": False}`` all weights are trained. One that is an adapter is trained on. Of a model that is given
    as an object that is trained which can be, unless ``args.lora`` or ``peft_config`` ask for an adapter.

    Raises:
        UsageError: settings that contradict each other or do not fit the model; see `bare_model`.
        UniSDError: nothing of that name can be loaded.
    """
    lora = args.lora
    if peft_config is not None and lora is not None:
        raise UsageError("lora: peft_config is given, too; leave one of them out")
    if args.model is not None and (model is not None or model_init is not None):
        raise UsageError("model: it is given as an argument and in args; leave one of them out")
    if args.model is None and not isinstance(model, str | os.PathLike):
        made, name = bare_model(model, model_init, args.seed, args.device)
        if lora is not None and has_adapter(made) and lora.start == "continue":
            raise UsageError(
                "lora: the model has an adapter, which is trained on as it is; leave lora out, or set lora.start=merge"
            )
        return (made, name, peft_config) if lora is None else _begun(made, name, lora)
    asked = {"name": os.fspath(model)} if args.model is None else args.model
    settings = model_settings(asked, lora is None or lora.enabled)
    name = settings.name
    if lora is not None and lora.start == "continue" and is_adapter(name):
        usual = plain(LoraSettings())
        lora.of_adapter(weights_folder(name), {k: v for k, v in plain(lora).items() if v != usual[k]})
    made, _ = bare_model(load_model_and_tokenizer(settings, args.device)[0], None, args.seed, args.device)
    return (made, name, peft_config) if peft_config is not None else _begun(made, name, lora or LoraSettings())


def _begun(model: nn.Module, name: str, lora: LoraSettings) -> tuple[nn.Module, str, Any]:
    model, peft_config = lora.begin(model)
    return model, name, peft_config


def adapted(model: nn.Module, peft_config: Any, seed: int) -> nn.Module:
    """Return the model with a new adapter, whose first values ``seed`` draws; name experts that get none.

    Raises:
        UsageError: the configuration does not fit the model.
    """
    set_seed(seed)
    model = attach(model, peft_config)
    if missed := unadapted_experts(model):
        warn(f"lora: {', '.join(missed)} are no layers and get no adapter; name them in lora.target_parameters")
    return model


def in_words(model: nn.Module, new: bool) -> str:
    """Say in one line what of a model is trained.

    Args:
        model: as it is trained.
        new: whether it got its adapter here.
    """
    share, whole = (sum(p.numel() for p in group) for group in (trained(model).values(), model.parameters()))
    of = f"{_short(share)} of {_short(whole)} weights"
    if not has_adapter(model):
        return f"training all {_short(whole)} weights" if share == whole else f"training {of}"
    kind = " and ".join(dict.fromkeys(kinds(model))).replace("LORA", "LoRA")
    how = f"a new {kind} adapter" if new else f"the model's {kind} adapter"
    return f"training {how}: {of}" + ("; lora.enabled=false trains all" if new else "")


def _short(number: int) -> str:
    return f"{number / 1e6:,.1f} M" if number >= 1e5 else f"{number:,}"
