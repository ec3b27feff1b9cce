"""Divergence clipping: a token whose divergence exceeds the cap keeps the cap as its value and loses its gradient."""

import torch
from torch import Tensor


def clip(values: Tensor, cap: float | Tensor) -> tuple[Tensor, Tensor]:
    """Cap per-token divergences, after the vocabulary sum and before weighting.

    Source: UniSD section 3, divergence clipping: D_t <- min(D_t, cap).

    Args:
        values: [N] divergences in nats, any float dtype.
        cap: a number, a tensor with one element, or one a token [N], in nats; positive.

    Returns:
        The capped values [N] (same dtype; gradient 1 where kept, exactly 0 where clipped), and a bool [N] that is
        True where the cap was exceeded. A value equal to the cap is kept.

    Raises:
        ValueError: the cap is not positive, or is a tensor of another size.
    """
    limit = as_cap(cap, values, values.numel())
    is_clipped = values > limit
    return torch.where(is_clipped, limit, values), is_clipped


def quantile(values: Tensor, q: float) -> Tensor:
    """Exact quantile with linear interpolation between neighbours, for any number of values.

    `torch.quantile` refuses more than 2**24 values; sorting has no such limit and the positions are computed in
    double precision.

    Args:
        values: [N] float.
        q: in [0, 1].

    Returns:
        Scalar tensor, same dtype and device, without gradient. NaN if any value is NaN.

    Raises:
        ValueError: no values, or q outside [0, 1].
    """
    if values.numel() == 0:
        raise ValueError("cannot take a quantile of no values")
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"quantile must be in [0, 1], got {q}")
    # NaN sorts last: if there is one, it is the last element, and it must not stay hidden.
    ordered = values.detach().reshape(-1).sort().values
    position = q * (ordered.numel() - 1)
    below = int(position)
    above = min(below + 1, ordered.numel() - 1)
    inside = torch.lerp(ordered[below], ordered[above], position - below)
    return torch.where(ordered[-1].isnan(), ordered[-1], inside)


def as_cap(cap: float | Tensor, like: Tensor, count: int) -> Tensor:
    """Return a cap on ``count`` tokens as a tensor beside the values it limits, without waiting for the device.

    Raises:
        ValueError: a number that is not positive, or a tensor of neither one nor ``count`` elements.
    """
    if isinstance(cap, Tensor):
        if cap.numel() != 1 and cap.shape != (count,):
            raise ValueError(f"cap must be one number, or one a token, got a tensor of shape {tuple(cap.shape)}")
        return cap.detach().reshape(() if cap.numel() == 1 else (count,)).to(like.device, like.dtype)
    if not cap > 0.0:
        raise ValueError(f"cap must be positive, got {cap}")
    return torch.full((), cap, dtype=like.dtype, device=like.device)
