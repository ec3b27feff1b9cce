"""The output head of a language model, and its matrix products, accurate to single precision whatever is stored."""

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Half-precision weights are widened a tile at a time, so that no full copy of them is ever made.
_TILE_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Head:
    """What turns hidden states into logits: softcap(scale (h Wᵀ + b)), where softcap(z) = cap tanh(z / cap).

    The temperature divides afterwards.

    Raises:
        ValueError: a weight that is not [V, H], a bias that is not [V], a soft-cap or a scale that is not positive.
    """

    weight: Tensor
    """[V, H], any float dtype."""
    bias: Tensor | None = None
    """[V], or None."""
    softcap: float | None = None
    """Largest absolute logit (Gemma's final soft-capping), or None."""
    scale: float = 1.0
    """Multiplier before the soft-cap (Cohere's and Granite's logit scale)."""

    def __post_init__(self) -> None:
        if self.weight.dim() != 2:
            raise ValueError(f"head weight must be [vocabulary, hidden], got {tuple(self.weight.shape)}")
        if self.bias is not None and self.bias.shape != self.weight.shape[:1]:
            raise ValueError(f"head bias {tuple(self.bias.shape)} does not fit weight {tuple(self.weight.shape)}")
        if self.softcap is not None and not (self.softcap > 0.0 and math.isfinite(self.softcap)):
            raise ValueError(f"softcap must be positive and finite, or None, got {self.softcap}")
        if not (self.scale > 0.0 and math.isfinite(self.scale)):
            raise ValueError(f"logit scale must be positive and finite, got {self.scale}")


def working_dtype(*tensors: Tensor | None) -> torch.dtype:
    """Return the dtype to compute in: float64 if any tensor is, else float32."""
    return torch.float64 if any(t is not None and t.dtype == torch.float64 for t in tensors) else torch.float32


def project(hidden: Tensor, head: Head, temperature: float, dtype: torch.dtype, out: Tensor | None) -> Tensor:
    """Logits / temperature up to the soft-cap, which `finish_logits` applies.

    Args:
        hidden: [C, H].
        head: the head.
        temperature: the softmax temperature.
        dtype: float32 or float64: what to compute in and to return.
        out: [C, V] of `dtype` to write to; None if `allocates` says that it would not be used.

    Returns:
        [C, V] of `dtype`: `out`, or a new tensor.
    """
    factor = head.scale / (temperature if head.softcap is None else head.softcap)
    bias = None if head.bias is None else head.bias.to(dtype) * factor
    # Scaling the narrow hidden states saves a pass over the wide logits.
    scaled = hidden.to(dtype) * factor
    if allocates(head, dtype):
        return _thin_product(scaled, head.weight, bias)
    if out is None:
        out = scaled.new_empty(hidden.shape[0], head.weight.shape[0])
    if head.weight.dtype == dtype:
        torch.mm(scaled, head.weight.t(), out=out)
    elif _has_wide_output(hidden, head.weight):
        # The device multiplies 16-bit numbers exactly and adds in float32, so the inputs stay as they are.
        torch.mm(hidden, head.weight.t(), out_dtype=dtype, out=out)
        out.mul_(factor)
    else:
        for start, stop in _tiles(head.weight, dtype):
            torch.mm(scaled, head.weight[start:stop].to(dtype).t(), out=out[:, start:stop])
    return out if bias is None else out.add_(bias)


def finish_logits(logits: Tensor, head: Head, temperature: float) -> Tensor:
    """Apply the soft-cap in place to what `project` returned; nothing to do without one."""
    if head.softcap is None:
        return logits
    return logits.tanh_().mul_(head.softcap / temperature)


def softcap_slope(logits: Tensor, head: Head, temperature: float, out: Tensor) -> Tensor:
    """Derivative of the soft-cap, 1 - tanh², from finished logits [R, V], written to `out` [R, V]."""
    assert head.softcap is not None
    ratio = temperature / head.softcap
    return torch.mul(logits, logits, out=out).mul_(-ratio * ratio).add_(1.0)


def hidden_gradient(logit_gradient: Tensor, head: Head) -> Tensor:
    """[C, V] times [V, H]: the gradient in the hidden states, up to scale / temperature, in the dtype of the former."""
    weight, dtype = head.weight, logit_gradient.dtype
    if allocates(head, dtype):
        return _thin_product(logit_gradient, weight.t(), None)
    if weight.dtype == dtype:
        return torch.mm(logit_gradient, weight)
    if _has_wide_output(weight, weight):
        # Rounding the finished gradient to 16 bits costs what any half-precision backward pass costs.
        return torch.mm(logit_gradient.to(weight.dtype), weight, out_dtype=dtype)
    total = logit_gradient.new_zeros(logit_gradient.shape[0], weight.shape[1])
    for start, stop in _tiles(weight, dtype):
        total.addmm_(logit_gradient[:, start:stop], weight[start:stop].to(dtype))
    return total


def allocates(head: Head, dtype: torch.dtype) -> bool:
    """Whether `project` returns a tensor of its own rather than writing to `out`."""
    weight = head.weight
    return weight.device.type == "cpu" and weight.dtype == dtype == torch.float32 and _has_thin_product()


def _thin_product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return rows weightᵀ + bias by oneDNN: up to twice as fast as `F.linear` (MKL) for few rows on some CPUs."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight.detach(), bias, "none", [], "")
    return result


@functools.cache
def _has_thin_product() -> bool:
    """Whether the operator, which PyTorch keeps for its compiler, exists here and does what is expected of it."""
    rows, weight, bias = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3), torch.arange(4.0)
    try:
        plain, turned = _thin_product(rows, weight, bias), _thin_product(rows, weight.view(3, 4).t(), None)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(plain, rows @ weight.t() + bias) and torch.equal(turned, rows @ weight.view(3, 4))


def _has_wide_output(left: Tensor, right: Tensor) -> bool:
    """Whether the device can multiply these 16-bit matrices straight into float32."""
    half = left.dtype == right.dtype and left.dtype in (torch.bfloat16, torch.float16)
    return half and left.device.type == "cuda" and hasattr(torch.ops.aten.mm, "dtype_out")


def _tiles(weight: Tensor, dtype: torch.dtype) -> list[tuple[int, int]]:
    rows = max(1, _TILE_BYTES // (weight.shape[1] * dtype.itemsize))
    return [(start, min(start + rows, weight.shape[0])) for start in range(0, weight.shape[0], rows)]
