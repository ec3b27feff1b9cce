"""The output head of a language model, and its matrix products, accurate to single precision whatever is stored."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unisd.fast.products import product

# The weight is read in parts of about this size: half-precision weights are widened a part at a time, never in full,
# and on a CPU a part that stays in the cache is multiplied faster than the whole.
_TILE_BYTES = 8 * 2**20
_MIN_TILE = 1024


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


def project(hidden: Tensor, head: Head, temperature: float, out: Tensor) -> Tensor:
    """Write logits / temperature to `out` [C, V] (float32 or float64), all but the soft-cap: see `finish_logits`.

    Args:
        hidden: [C, H], any float dtype; C may be smaller than the first dimension of `out`.
        head: the head.
        temperature: the softmax temperature.
        out: storage of [C or more, V] in the dtype to compute in.

    Returns:
        The first C rows of `out`.
    """
    logits = out[: hidden.shape[0]]
    weight, dtype = head.weight.detach(), out.dtype
    factor = head.scale / (temperature if head.softcap is None else head.softcap)
    if _has_wide_output(hidden, weight):
        # The device multiplies 16-bit numbers exactly and adds in float32, so the inputs stay as they are.
        torch.mm(hidden, weight.t(), out_dtype=dtype, out=logits)
        logits.mul_(factor)
    else:
        # Scaling the narrow hidden states saves a pass over the wide logits.
        scaled = hidden.to(dtype).mul(factor)
        for rows in _tiles(weight, dtype):
            product(scaled, weight[rows].to(dtype), logits[:, rows])
    return logits if head.bias is None else logits.add_(head.bias.detach().to(dtype).mul(factor))


def finish_logits(logits: Tensor, head: Head, temperature: float) -> Tensor:
    """Apply the soft-cap in place to what `project` returned; nothing to do without one."""
    if head.softcap is None:
        return logits
    return logits.tanh_().mul_(head.softcap / temperature)


def logits(hidden: Tensor, head: Head, temperature: float = 1.0) -> Tensor:
    """Return the logits / temperature [C, V] of hidden states [C, H]; keep C small: this is tokens x vocabulary.

    Returns:
        float32, or float64 if a tensor given is.
    """
    dtype = working_dtype(hidden, head.weight)
    out = torch.empty(hidden.shape[0], head.weight.shape[0], dtype=dtype, device=hidden.device)
    return finish_logits(project(hidden, head, temperature, out), head, temperature)


def softcap_slope(logits: Tensor, head: Head, temperature: float, out: Tensor) -> Tensor:
    """Derivative of the soft-cap, 1 - tanh², from finished logits [R, V], written to `out` [R, V]."""
    assert head.softcap is not None
    ratio = temperature / head.softcap
    return torch.mul(logits, logits, out=out).mul_(-ratio * ratio).add_(1.0)


def hidden_gradient(logit_gradient: Tensor, head: Head) -> Tensor:
    """[C, V] times [V, H]: the gradient in the hidden states, up to scale / temperature, in the dtype of the former."""
    weight, dtype = head.weight.detach(), logit_gradient.dtype
    if _has_wide_output(weight, weight):
        # Rounding the finished gradient to 16 bits costs what any half-precision backward pass costs.
        return torch.mm(logit_gradient.to(weight.dtype), weight, out_dtype=dtype)
    total = logit_gradient.new_empty(logit_gradient.shape[0], weight.shape[1])
    if weight.dtype == dtype:
        return product(logit_gradient, weight.t(), total)
    total.zero_()
    for rows in _tiles(weight, dtype):
        total.addmm_(logit_gradient[:, rows], weight[rows].to(dtype))
    return total


def _has_wide_output(left: Tensor, right: Tensor) -> bool:
    """Whether the device can multiply these 16-bit matrices straight into float32."""
    half = left.dtype == right.dtype and left.dtype in (torch.bfloat16, torch.float16)
    return half and left.device.type == "cuda" and hasattr(torch.ops.aten.mm, "dtype_out")


def _tiles(weight: Tensor, dtype: torch.dtype) -> list[slice]:
    """Cut the vocabulary into parts that stay in a cache; only a CPU gains from cutting what need not be widened."""
    count = weight.shape[0]
    if weight.device.type != "cpu" and weight.dtype == dtype:
        return [slice(0, count)]
    step = max(_MIN_TILE, _TILE_BYTES // (weight.shape[1] * dtype.itemsize))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
