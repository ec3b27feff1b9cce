"""Faster forward passes without gradient on a CPU: adapters merged, weights packed for thin products.

An unmerged adapter triples the number of matrix products, and the usual CPU products are slow for a few rows.
While the context is open, each linear layer runs on a merged and packed copy of its weight. The layer's own tensors are
not touched, so nothing drifts and the model is as it was, bit for bit, when the context closes.

Only in single precision: a sum with a weight of fewer bits would lose most of what an adapter adds. And only on a CPU:
a copy of all weights is more than an accelerator has to spare.
"""

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unisd.fast.replaced import active_adapters, computes_in, is_lora, linear_layers, replaced_forwards
from unisd.fast.switch import enabled

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
# The batch size that the packed layout is tuned for; any other gives the same result.
_ROWS_HINT = 16


@contextlib.contextmanager
def merged_weights(model: nn.Module, head: bool = True) -> Iterator[None]:
    """Run ``model``'s linear layers on merged, packed copies of the weights that they have now.

    Results equal the plain ones to rounding. The weights must not change while the context is open.

    Args:
        model: PEFT-wrapped or plain, in evaluation mode.
        head: pack the output head, too; it pays where logits are computed at many steps.
    """
    skipped = None if head else _output_layer(model)
    layers = [layer for layer in linear_layers(model) if layer is not skipped] if enabled() else []
    with replaced_forwards(layers, _fast_forward):
        yield


def return_free_memory() -> None:
    """Hand freed heap pages back to the system: packed copies leave holes that learning's tensors do not fit into.

    It costs a quarter of a second per gigabyte that is touched again, so it belongs between the phases of a step alone.
    """
    trim: Any = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)


def _output_layer(model: nn.Module) -> Any:
    get: Any = getattr(model, "get_output_embeddings", None)
    return get() if callable(get) else None


def _fast_forward(module: nn.Module) -> Callable[..., Tensor] | None:
    layer: Any = module
    adapted = is_lora(layer)
    base: nn.Linear = layer.base_layer if adapted else layer
    weight = base.weight.detach()
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.float64):
        return None
    for name in active_adapters(layer) if adapted else ():
        up, down = (part[name].weight.to(weight.dtype) for part in (layer.lora_B, layer.lora_A))
        weight = torch.addmm(weight, up, down, alpha=float(layer.scaling[name]))
    if weight.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return _packed(layer, weight, base.bias)
    if adapted:
        return lambda x, *args, **kwargs: functional.linear(x, weight, base.bias)
    return None


def _packed(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> Callable[..., Tensor]:
    kernels: Any = torch.ops.mkldnn
    packed = kernels._reorder_linear_weight(weight, _ROWS_HINT)

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not computes_in(torch.float32, x):  # the kernel takes nothing else; under autocast the layer's own knows
            plain: Tensor = type(layer).forward(layer, x, *args, **kwargs)
            return plain
        made: Tensor = kernels._linear_pointwise(x, packed, bias, "none", [], "")
        return made

    return forward
