"""Which layers an adapter is asked for: every name must be one that the model has.

PEFT takes the names that match and passes over the others, so that an adapter can be smaller than was asked for, and
nothing says so. Here each asked name, index and pattern is tried on its own.
"""

import copy
import difflib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from unisd.errors import UsageError

ALL_LINEAR = "all-linear"
USUAL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def default_targets(model: nn.Module | None = None) -> list[str] | str:
    """Return the usual names of linear layers where ``model`` has them all (or is not given), else ``all-linear``.

    PEFT counts the fused weights of experts to that; where a model has such, all others are named, and they are left.
    """
    if model is None:
        return list(USUAL)
    held = {name.rpartition(".")[2]: module for name, module in model.named_modules()}
    if held.keys() >= set(USUAL):
        return list(USUAL)
    if not _experts(model):
        return ALL_LINEAR
    get: Any = getattr(model, "get_output_embeddings", lambda: None)
    return [name for name, module in held.items() if isinstance(module, nn.Linear) and module is not get()]


def check_targets(model: nn.Module, config: Any) -> None:
    """Check that everything that a PEFT configuration names exists in ``model``, which is not changed.

    Args:
        model: before it is wrapped.
        config: of any PEFT method; fields that the method has not are not looked at.

    Raises:
        UsageError: a name, index or pattern that matches nothing, in one line with the names that exist.
    """
    config = _as_peft_reads_it(model, config)
    modules = [name for name, _ in model.named_modules() if name]
    for field in ("target_modules", "feedforward_modules", "exclude_modules"):
        _check_names(getattr(config, field, None), field, model, modules)
    saved = getattr(config, "modules_to_save", None) or []
    _none_missing([name for name in saved if not any(m.endswith(name) for m in modules)], "modules_to_save", modules)
    parameters = [name for name, _ in model.named_parameters()]
    wanted = getattr(config, "target_parameters", None) or []
    _none_missing([name for name in wanted if not _named(name, parameters)], "target_parameters", parameters)
    if getattr(config, "target_modules", None) is None or _is_all_linear(config.target_modules):
        return
    adapted = _adapted(config, modules)
    _check_each_name_is_left(config, modules)
    _check_layers(config, modules)
    adapted += [name for name in parameters if any(_named(w, [name]) for w in wanted)]
    for field in ("rank_pattern", "alpha_pattern"):
        _check_patterns(getattr(config, field, None) or {}, field, adapted)


def unadapted_experts(model: nn.Module) -> list[str]:
    """Return the ends of the names of expert weights that no adapter trains: 3-D parameters, which are no layers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, BaseTunerLayer) and (name := getattr(module, "parameter_name", None))
        and (parameter := getattr(module.get_base_layer(), name, None)) is not None
    }  # fmt: skip
    left = [name for name, parameter in _experts(model).items() if id(parameter) not in adapted]
    return list(dict.fromkeys(".".join(name.replace(".base_layer", "").split(".")[-2:]) for name in left))


def _experts(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the frozen or whole weights of experts that are held as one parameter."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.dim() == 3 and ".experts." in name and "lora_" not in name
    }


def _as_peft_reads_it(model: nn.Module, config: Any) -> Any:
    """Return a copy in which names of an earlier layout of the model are those of its present one, as PEFT does it."""
    config = copy.deepcopy(config)
    try:
        from peft.utils.transformers_weight_conversion import (
            convert_peft_config_for_transformers,
            get_model_conversion_mapping,
        )
    except ImportError:  # an earlier PEFT, which takes names as they are
        return config
    convert_peft_config_for_transformers(config, model=model, conversions=get_model_conversion_mapping(model))
    return config


def _is_all_linear(asked: Any) -> bool:
    return isinstance(asked, str) and asked.lower() == ALL_LINEAR


def _check_names(asked: Any, field: str, model: nn.Module, modules: Sequence[str]) -> None:
    if not asked or _is_all_linear(asked):
        return
    layers = _layers(model)
    if isinstance(asked, str):
        try:
            pattern = re.compile(asked)
        except re.error as error:
            raise UsageError(f"lora.{field}: {asked!r} is no regular expression ({error}); give a list") from error
        if not any(map(pattern.fullmatch, modules)):
            raise UsageError(
                f"lora.{field}: as a regular expression {asked!r} matches no whole name, such as "
                f"{modules[-1]}; give a list of names, {ALL_LINEAR}, or another expression; {_choices([asked], layers)}"
            )
        return
    _none_missing([name for name in asked if not _named(name, modules)], field, layers or modules)


def _check_each_name_is_left(config: Any, modules: Sequence[str]) -> None:
    """Check that no asked name is shut out altogether by what is excluded, saved whole, or in no chosen layer."""
    asked = config.target_modules
    if isinstance(asked, str):
        if not _adapted(config, modules):
            raise UsageError(f"lora.target_modules: all that {asked!r} matches is excluded or saved whole; narrow that")
        return
    for name in sorted(asked):
        if not _adapted(_but(config, target_modules={name}, layers_to_transform=None), modules):
            raise UsageError(
                f"lora.target_modules: {name!r} is in lora.exclude_modules or modules_to_save, too; leave it out of one"
            )


def _check_layers(config: Any, modules: Sequence[str]) -> None:
    indices = getattr(config, "layers_to_transform", None)
    if indices is None or isinstance(config.target_modules, str):
        return
    asked = [indices] if isinstance(indices, int) else list(indices)
    missing = [i for i in asked if not _adapted(_but(config, layers_to_transform=[i]), modules)]
    if not missing:
        return
    pattern = getattr(config, "layers_pattern", None)
    if pattern and len(missing) == len(asked):
        raise UsageError(f"lora.layers_pattern: {pattern!r} is no list of layers with adapted ones; leave it out")
    counts = [int(m[1]) for name in modules if (m := re.match(r".*?\.(\d+)\.", name))]
    raise UsageError(
        f"lora.layers_to_transform: no adapted layer in block {', '.join(map(str, missing))}; "
        f"blocks are numbered from 0 to {max(counts, default=0)}"
    )


def _check_patterns(patterns: Iterable[str], field: str, adapted: Collection[str]) -> None:
    missing = [key for key in patterns if not any(re.match(rf"(.*\.)?({key})$", name) for name in adapted)]
    _none_missing(missing, field, adapted, "adapted layer")


def _adapted(config: Any, modules: Iterable[str]) -> list[str]:
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists

    found: Callable[[str], Any] = lambda name: check_target_module_exists(config, name)  # noqa: E731
    return [name for name in modules if (hit := found(name)) and not isinstance(hit, _ExcludedModule)]


def _but(config: Any, **changes: Any) -> Any:
    other = copy.copy(config)
    for name, value in changes.items():
        if hasattr(other, name):
            setattr(other, name, value)
    return other


def _named(asked: str, names: Iterable[str]) -> bool:
    return any(name == asked or name.endswith(f".{asked}") for name in names)


def _layers(model: nn.Module) -> list[str]:
    """Return the names of what an adapter can take: modules with a weight of two dimensions or more."""
    return [
        name
        for name, module in model.named_modules()
        if torch.is_tensor(weight := getattr(module, "weight", None)) and (weight.dim() > 1)
    ]


def _none_missing(missing: Sequence[str], field: str, names: Iterable[str], what: str = "") -> None:
    if missing:
        what = what or ("parameter" if field == "target_parameters" else "module of the model")
        shown = ", ".join(repr(name) for name in sorted(map(str, missing)))
        raise UsageError(f"lora.{field}: no {what} is called {shown}; {_choices(missing, names)}")


def _choices(missing: Sequence[str], names: Iterable[str]) -> str:
    """Return the nearest names that exist, and what there is."""
    ends = list(dict.fromkeys(name.rpartition(".")[2] for name in names))
    close = {near: None for name in missing for near in difflib.get_close_matches(str(name), ends, 1, 0.5)}
    meant = f"did you mean {', '.join(map(repr, close))}? " if 0 < len(close) < len(ends) else ""
    return f"{meant}there are {', '.join(ends[:40])}" if ends else "there are none"
