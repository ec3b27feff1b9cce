"""How a part of a model runs another way while a context is open: its attention, or the forward passes of layers."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

# Families whose layers give all that decides who sees whom to the attention function, once a layer: keys and values of
# their own, and the sliding window. Elsewhere a mask carries the window, or layers share keys, or keep a state.
PLAIN_FAMILIES = frozenset(
    {"llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma3", "gemma3_text", "smollm3", "phi3", "olmo2", "granite"}
)


def attends_plainly(decoder: Any) -> bool:
    """Return whether another attention function can take the place of the decoder's own: SDPA, in a known family.

    Layers that were copied (PEFT repeats layers so) ask a copy of the configuration, which nobody can reach from here.
    """
    config = getattr(decoder, "config", None)
    if config is None or config._attn_implementation != "sdpa" or config.model_type not in PLAIN_FAMILIES:
        return False
    asked = (getattr(getattr(layer, "self_attn", None), "config", config) for layer in decoder.layers)
    return all(each is config for each in asked)


@contextlib.contextmanager
def replaced_attention(decoder: Any, name: str) -> Iterator[None]:
    """Let ``decoder`` attend by the function that transformers knows as ``name``."""
    config = decoder.config
    before, config._attn_implementation = config._attn_implementation, name
    try:
        yield
    finally:
        config._attn_implementation = before


@contextlib.contextmanager
def replaced_forwards(
    modules: Iterable[nn.Module], other: Callable[[nn.Module], Callable[..., Tensor] | None]
) -> Iterator[None]:
    """Give modules the forward pass that ``other`` makes; where it makes None they keep their own."""
    replaced: list[nn.Module] = []
    try:
        with torch.no_grad():
            for module in list(modules):
                # What somebody else has replaced stays his, and a module that stands in two places is replaced once.
                if "forward" in vars(module):
                    continue
                forward = other(module)
                if forward is not None:
                    module.forward = forward  # type: ignore[method-assign]
                    replaced.append(module)
        yield
    finally:
        for module in replaced:
            del module.forward


def linear_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Yield plain LoRA layers and linear ones, a LoRA layer in place of what it is made of."""
    if is_lora(module) or type(module) is nn.Linear:
        yield module
        return
    for child in module.children():
        yield from linear_layers(child)


def is_lora(module: nn.Module) -> bool:
    """Return whether a layer is LoRA's own on a linear one, and computes W x + b + scale B A drop(x) and nothing else.

    It is not where PEFT may do more (DoRA and its other variants, a bias of B), where the weights are merged or stored
    transposed, or where somebody hooks into a part that another forward pass would go around.
    """
    layer: Any = module
    if (type(module).__module__, type(module).__name__) != ("peft.tuners.lora.layer", "Linear"):
        return False
    names = active_adapters(layer)
    parts = [part[name] for name in names for part in (layer.lora_A, layer.lora_B)]
    return (
        all(type(part) is nn.Linear and _unhooked(part) for part in (layer.base_layer, *parts))
        and all(part.bias is None for part in parts)
        and all(type(layer.lora_dropout[name]) in (nn.Dropout, nn.Identity) for name in names)
        and not layer.fan_in_fan_out
        and not layer.lora_variant
        and not layer.merged
    )


def computes_in(dtype: torch.dtype, x: Tensor) -> bool:
    """Return whether a product with ``x`` is computed in ``dtype``: ``x`` has it, and no autocast changes it."""
    kind = x.device.type
    return x.dtype == dtype and not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind))


def _unhooked(module: Any) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return "forward" not in vars(module) and not any(hooks)


def active_adapters(layer: Any) -> list[str]:
    """Return the names of the adapters that a LoRA layer adds now; none where they are switched off."""
    return [] if layer.disable_adapters else [name for name in layer.active_adapters if name in layer.lora_A]
