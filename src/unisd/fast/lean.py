"""LoRA layers in training, leaner: one autograd step each, with the same values and gradients as PEFT's.

PEFT's layer keeps a copy of its input for dropout, and the dropped input, at every adapted product. Here one input is
kept, which products that read the same one share, and a mask of one byte a value; everything else is made again in the
backward pass, the inside of a gated feed-forward block, too. The frozen weights' products run in the fastest kernel
that the machine has for them.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from unisd.fast.products import product
from unisd.fast.replaced import active_adapters, computes_in, is_lora, linear_layers, replaced_forwards
from unisd.fast.switch import enabled

# Feed-forward blocks that compute down(act(gate(x)) · up(x)), and nothing else.
_GATED = frozenset(
    {"LlamaMLP", "Qwen2MLP", "Qwen3MLP", "MistralMLP", "GemmaMLP", "Gemma2MLP", "Gemma3MLP", "SmolLM3MLP", "Olmo2MLP"}
)


@contextlib.contextmanager
def lean_adapters(model: nn.Module) -> Iterator[None]:
    """Run ``model``'s LoRA layers through the lean step while the context is open; others are left as they are.

    Gated feed-forward blocks keep what comes out of gate and up, and make the rest again.

    Args:
        model: wrapped or not. Layers whose base is trained, biases included, sharded, quantised or of another dtype
            than their adapter (which may be fp32 on a base of fewer bits, as PEFT makes it), and layers with several
            active adapters, keep PEFT's own forward pass.
    """
    adapted = [layer for layer in linear_layers(model) if is_lora(layer)] if enabled() else []
    plain = {id(layer) for layer in adapted}
    blocks = [m for m in model.modules() if type(m).__name__ in _GATED and id(m.down_proj) in plain]
    with replaced_forwards(adapted, _lean_forward), replaced_forwards(blocks, _gated_forward):
        yield


def _lean_forward(module: nn.Module) -> Callable[..., Tensor] | None:
    layer: Any = module
    if not _suits(layer):
        return None

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not computes_in(layer.base_layer.weight.dtype, x):
            result: Tensor = type(module).forward(module, x, *args, **kwargs)
            return result
        made: Tensor = _LoraStep.apply(x, *_parts(layer))  # type: ignore[no-untyped-call]
        return made

    return forward


def _gated_forward(module: nn.Module) -> Callable[..., Tensor] | None:
    block: Any = module
    slope = _slope(block.act_fn)
    if slope is None or not _suits(block.down_proj):
        return None

    def forward(x: Tensor) -> Tensor:
        gate, up = block.gate_proj(x), block.up_proj(x)
        if not computes_in(block.down_proj.base_layer.weight.dtype, up):
            plain: Tensor = block.down_proj(block.act_fn(gate) * up)
            return plain
        made: Tensor = _GatedStep.apply(gate, up, block.act_fn, slope, *_parts(block.down_proj))  # type: ignore[no-untyped-call]
        return made

    return forward


def _suits(layer: Any) -> bool:
    """Return whether a LoRA layer is what the lean step computes."""
    active = active_adapters(layer)
    if len(active) != 1:
        return False
    base, down, up = layer.base_layer, layer.lora_A[active[0]].weight, layer.lora_B[active[0]].weight
    # Trained biases (PEFT's bias=all) have a gradient that the step does not make.
    frozen = type(base.weight) is nn.Parameter and not any(p.requires_grad for p in base.parameters())
    # PEFT keeps adapters in fp32 on a base of half precision; anything else is no plain LoRA layer.
    return frozen and down.dtype == up.dtype and down.dtype in (base.weight.dtype, torch.float32)


def _parts(layer: Any) -> tuple[Tensor, Tensor | None, Tensor, Tensor, float, float]:
    """Return a layer's weight, bias, A, B, scale and dropout rate."""
    name, base = active_adapters(layer)[0], layer.base_layer
    dropout = layer.lora_dropout[name]
    rate = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
    return base.weight, base.bias, layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name], rate


def _slope(activation: nn.Module) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return what gives an activation's gradient, from the gradient of its result and its input; None if not known."""
    names = {"SiLU": torch.ops.aten.silu_backward, "SiLUActivation": torch.ops.aten.silu_backward}
    if type(activation).__name__ == "GELUTanh":
        return lambda gradient, x: torch.ops.aten.gelu_backward(gradient, x, approximate="tanh")
    return names.get(type(activation).__name__)


class _LoraStep(torch.autograd.Function):
    """y = x Wᵀ + b + scale · drop(x) Aᵀ Bᵀ, with gradients in x, A and B."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float, rate: float
    ) -> Tensor:
        result, kept = _adapted(x, weight, bias, down, up, scale, rate)
        ctx.save_for_backward(x, weight, down, up, *kept)
        ctx.scale = scale / (1.0 - rate)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, *rest = ctx.saved_tensors
        needs = (ctx.needs_input_grad[0], *ctx.needs_input_grad[3:5])
        g_x, g_down, g_up = _adapted_gradients(gradient, x, *rest, scale=ctx.scale, needs=needs)
        return g_x, None, None, g_down, g_up, None, None


class _GatedStep(torch.autograd.Function):
    """The LoRA step on x = act(gate) · up, which is not kept, with gradients in gate, up, A and B."""

    @staticmethod
    def forward(
        ctx: Any,
        gate: Tensor,
        up: Tensor,
        activation: Callable[[Tensor], Tensor],
        slope: Callable[[Tensor, Tensor], Tensor],
        *parts: Any,
    ) -> Tensor:
        weight, _, down, rise, scale, rate = parts
        result, kept = _adapted(activation(gate).mul_(up), *parts)
        ctx.save_for_backward(gate, up, weight, down, rise, *kept)
        ctx.activation, ctx.slope, ctx.scale = activation, slope, scale / (1.0 - rate)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gate, up, *rest = ctx.saved_tensors
        risen = ctx.activation(gate)
        inner = any(ctx.needs_input_grad[:2])
        needs = (inner, *ctx.needs_input_grad[6:8])
        g_x, g_down, g_rise = _adapted_gradients(gradient, risen * up, *rest, scale=ctx.scale, needs=needs)
        g_gate = g_up = None
        if g_x is not None:
            g_up = risen.mul_(g_x)
            g_gate = ctx.slope(g_x.mul_(up), gate)
        return g_gate, g_up, None, None, None, None, g_down, g_rise, None, None


def _adapted(
    x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float, rate: float
) -> tuple[Tensor, list[Tensor]]:
    """Return a LoRA layer's result, and what its gradients need besides its input and weights."""
    rows = x.reshape(-1, x.shape[-1])
    mask = _kept(rows, rate) if rate > 0 else None
    low = product(_dropped(rows, mask).to(down.dtype), down)
    result = product(rows, weight)
    if bias is not None:
        result += bias
    result = result.to(down.dtype).addmm_(low, up.t(), alpha=scale / (1.0 - rate)).to(rows.dtype)
    return result.view(*x.shape[:-1], weight.shape[0]), [low] if mask is None else [low, mask]


def _adapted_gradients(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    down: Tensor,
    up: Tensor,
    low: Tensor,
    mask: Tensor | None = None,
    *,
    scale: float,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients in x, A and B that are needed."""
    g = gradient.reshape(-1, gradient.shape[-1])
    wide = g.to(down.dtype)
    g_low = torch.mm(wide, up).mul_(scale)
    g_x = g_down = g_up = None
    if needs[2]:
        g_up = torch.mm(wide.t(), low).mul_(scale)
    if needs[1]:
        g_down = torch.mm(g_low.t(), _dropped(x.reshape(-1, x.shape[-1]), mask).to(down.dtype))
    if needs[0]:
        g_x = product(g, weight.t()).add_(_dropped(product(g_low, down.t()), mask)).view(x.shape)
    return g_x, g_down, g_up


def _dropped(rows: Tensor, mask: Tensor | None) -> Tensor:
    """Return the rows with what the mask leaves out set to zero; the scale that makes up for it is in ``scale``."""
    # Widening bytes and multiplying is five times faster on a CPU than choosing by a mask of bools.
    return rows if mask is None else mask.to(rows.dtype).mul_(rows)


def _kept(rows: Tensor, rate: float) -> Tensor:
    """Draw which values stay, 1, and which do not, 0, in uint8: each stays with probability 1 - rate, to 2⁻¹⁶.

    On a CPU four values share a 64-bit random number, since drawing is what costs there.
    """
    if rows.device.type != "cpu":
        return (torch.rand(rows.shape, device=rows.device) >= rate).view(torch.uint8)
    count = rows.numel()
    drawn = torch.empty((count + 3) // 4, dtype=torch.int64, device=rows.device)
    drawn.random_(-(2**63), None)
    threshold = round(rate * 2**16) - 2**15
    return (drawn.view(torch.int16)[:count] >= threshold).view(torch.uint8).view(rows.shape)
