"""What adapters do to a model: which parameters are whose, what they add, and which kinds of them can be read packed.

PEFT calls the parts that it puts into a model tuner layers (around a layer) and training wrappers (around a module that
is trained as a copy, or some of its rows). Both keep what they wrap as it was, and own everything else that they hold.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from unisd.devices import wide
from unisd.errors import UsageError

_READS_WHOLE_ROWS = {
    "LILY": "its router looks at the mean of a whole row",
    "POLY": "it wants a task's number with every row",
    "XLORA": "it reads every row twice",
    "SHADOW": "it runs a second network over every row",
}


def is_wrapped(model: nn.Module) -> bool:
    """Return whether PEFT has put anything into the model, or around it."""
    return hasattr(model, "peft_config") or any(_is_tuner(module) or _is_copy(module) for module in model.modules())


def kinds(model: nn.Module) -> list[str]:
    """Return the kinds of the adapters that are on, as PEFT names them: LORA, IA3; none without an adapter."""
    return [_kind_of(config) for config in _active_configs(model)]


def _kind_of(config: Any) -> str:
    return str(getattr(config.peft_type, "value", config.peft_type))


def check_adapters(model: nn.Module) -> None:
    """Refuse adapters that packed rows cannot be read with, or that could not be saved as what they are.

    Raises:
        UsageError: in one line, with the method's name and a remedy.
    """
    if not is_wrapped(model):
        return
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        raise UsageError(
            "model: its adapter was added in place, not by PEFT's PeftModel; "
            "load the base model and wrap it with get_peft_model or PeftModel.from_pretrained"
        )
    if any(isinstance(module, PeftModel) for module in model.modules() if module is not model):
        raise UsageError(
            "model: an adapter lies on an adapter; train the inner one, or merge it first (merge_and_unload)"
        )
    for config in _active_configs(model):
        check_kind(config)
    if len(names := active_names(model)) > 1:
        raise UsageError(
            f"model: {len(names)} adapters are on at once ({', '.join(names)}), and what is saved loads as one; "
            "make one of them (add_weighted_adapter), or merge others into the base, and switch that on (set_adapter)"
        )
    if any(getattr(module, "merged", False) for module in model.modules() if _is_tuner(module)):
        raise UsageError("model: its adapter is merged, so it would not be trained; call unmerge_adapter() first")


def check_kind(config: Any) -> None:
    """Refuse a PEFT configuration whose method reads rows in a way that packed sequences would share.

    Raises:
        UsageError: in one line, with the method's name and a remedy.
    """
    kind = _kind_of(config)
    if getattr(config, "is_prompt_learning", False):
        why = "its virtual tokens stand before every row, which packed sequences would share"
    elif getattr(config, "is_adaption_prompt", False):
        why = "its prompt is put into the attention of every row"
    elif getattr(config, "alora_invocation_tokens", None):
        kind, why = "aLoRA", "it begins at a token that is looked for once a row"
    elif kind in _READS_WHOLE_ROWS:
        why = _READS_WHOLE_ROWS[kind]
    else:
        return
    raise UsageError(f"model: an adapter of kind {kind} cannot be used here, because {why}; use LoRA, IA3 or OFT")


def bare_names(model: nn.Module) -> dict[str, str]:
    """Return the names of the base's own parameters and buffers in a wrapped model, with their names in the bare one.

    What is missing belongs to adapters.
    """
    inside = {}
    for name, module in model.named_modules():
        if _is_tuner(module):
            inside[name] = "base_layer"
        elif _is_copy(module):
            inside[name] = "original_module"
    before = _prefix(model)
    names = [name for name, _ in model.named_parameters()] + [name for name, _ in model.named_buffers()]
    found = {name: _bare(name, inside) for name in names if name.startswith(before)}
    return {name: bare.removeprefix(before) for name, bare in found.items() if bare is not None}


def _bare(name: str, inside: dict[str, str]) -> str | None:
    parts, kept = name.split("."), []
    for number, part in enumerate(parts):
        wrapped = inside.get(".".join(parts[:number]))
        if wrapped is None:
            kept.append(part)
        elif part == "token_adapter":  # the wrapper of an embedding whose rows are trained: a layer in a wrapper
            continue
        elif part != wrapped:
            return None
    return ".".join(kept)


def _prefix(model: nn.Module) -> str:
    """Return what stands before the names of the bare model."""
    if not hasattr(model, "base_model") or not hasattr(model, "peft_config"):
        return ""
    prompts = any(getattr(config, "is_prompt_learning", False) for config in _configs(model).values())
    return "base_model." if prompts else "base_model.model."


def trained(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are trained, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


@contextlib.contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """Switch the adapters off, and then on with the same parts trained: PEFT would train all of them from then on."""
    wrapped: Any = model
    trains = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        with wrapped.disable_adapter():
            yield
    finally:
        for parameter, kept in trains:
            parameter.requires_grad_(kept)


def start_is_off(model: nn.Module) -> bool:
    """Return whether the model as it is now is had by switching its adapters off, now and after any training.

    So it is where everything that is trained belongs to plain LoRA layers, each of which adds exactly nothing now: one
    of its two factors is zero. Whatever else may be trained, or be on, is not left out by switching off, or was not
    nothing at the start.
    """
    if not hasattr(model, "disable_adapter"):
        return False
    own: set[int] = set()
    for module in model.modules():
        if _is_copy(module):
            return False
        if _is_tuner(module):
            if not _adds_nothing(module):
                return False
            own.update(id(p) for part in _lora_parts(module) for p in part.parameters())
    return all(id(parameter) in own for parameter in trained(model).values())


def _lora_parts(layer: Any) -> list[nn.Module]:
    return [layer.lora_A, layer.lora_B, layer.lora_embedding_A, layer.lora_embedding_B]


def _adds_nothing(layer: Any) -> bool:
    from peft.tuners.lora import LoraLayer

    of_lora = type(layer).__module__.startswith("peft.tuners.lora.") and isinstance(layer, LoraLayer)
    if not of_lora or layer.merged or layer.lora_variant or layer.lora_magnitude_vector:
        return False
    parts: list[Any] = _lora_parts(layer)
    for name in layer.active_adapters:
        for left, right in (parts[:2], parts[2:]):
            if name in left and not (_is_zero(right[name]) or (_is_zero(left[name]) and _no_bias(right[name]))):
                return False
    return True


def _is_zero(part: Any) -> bool:
    return not any(bool(p.detach().any()) for p in (part.parameters() if isinstance(part, nn.Module) else [part]))


def _no_bias(part: Any) -> bool:
    return getattr(part, "bias", None) is None


def by_kind(model: nn.Module, names: Iterable[str]) -> Counter[str]:
    """Return how many of the named parameters there are of each kind: lora_A, bias, norm, embed_tokens."""
    adapters = set(_configs(model))
    return Counter(_kind(name, adapters) for name in names)


def _kind(name: str, adapters: set[str]) -> str:
    parts = [part for part in name.split(".") if not part.isdigit() and part not in adapters]
    if parts[-1] == "weight" and len(parts) > 1:
        parts.pop()
    return parts[-1]


def without_numbers(names: Iterable[str]) -> list[str]:
    """Return names with a star for every layer's number, each once, with how many there are of it."""
    starred = Counter(".".join("*" if part.isdigit() else part for part in name.split(".")) for name in names)
    return [name if count == 1 else f"{name} ({count})" for name, count in starred.items()]


def sums(values: Iterable[tuple[str, Tensor]]) -> dict[str, tuple[float, float]]:
    """Return each tensor's sum and Euclidean norm in fp64: equal ones are, to all practical purposes, equal."""
    return {
        name: (float(exact.sum()), float(torch.linalg.vector_norm(exact)))
        for name, value in values
        for exact in [wide(value.detach())]
    }


def adapter_state(model: nn.Module, bare: dict[str, str]) -> bytes:
    """Return what adapters are beside their parameters and scales, as text: nothing for a single one of plain LoRA."""
    configs = _configs(model)
    if len(configs) == 1 and kinds(model) == ["LORA"]:
        return b""
    own = sums((name, value) for name, value in model.named_buffers() if name not in bare)
    said = {
        name: {k: sorted(map(str, v)) if isinstance(v, set) else str(v) for k, v in vars(c).items() if k not in _PLACE}
        for name, c in configs.items()
    }
    return json.dumps([active_names(model), said, own], sort_keys=True).encode()


_PLACE = ("base_model_name_or_path", "revision", "inference_mode", "task_type", "auto_mapping", "peft_version")
"""What a configuration says of where and when, and not of how."""


def _configs(model: nn.Module) -> dict[str, Any]:
    found = getattr(model, "peft_config", {})
    return dict(found) if isinstance(found, dict) else {}


def active_names(model: nn.Module) -> list[str]:
    """Return the names of the adapters that are on."""
    configs = _configs(model)
    if not configs:
        return []
    active: Any = getattr(model, "active_adapters", None)
    active = active() if callable(active) else active
    return [name for name in (configs if active is None else active) if name in configs]


def _active_configs(model: nn.Module) -> list[Any]:
    configs = _configs(model)
    return [configs[name] for name in active_names(model)]


def _is_tuner(module: Any) -> bool:
    return hasattr(type(module), "adapter_layer_names") and "base_layer" in {*module._modules, *vars(module)}


def _is_copy(module: Any) -> bool:
    return hasattr(type(module), "adapter_layer_names") and hasattr(type(module), "adapter_state_dict_load_map")
