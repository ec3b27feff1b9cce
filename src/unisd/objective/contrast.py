"""Token-level contrast: stay nearer to the teacher in the gold context than to the teacher in a wrong one."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Contrast:
    """The contrast of a batch of tokens, for `unisd.objective.fused_objective`."""

    negative_logprobs: Tensor
    """[N] b_t: log-probability of the sampled token under the teacher in the negative context, in nats, at the training
    temperature (`sampled_logprobs`). Anything at all where there is no negative."""
    present: Tensor
    """bool [N]: whether the token has a negative. A mask, not a NaN, so that a NaN still means that something broke."""
    coefficients: Tensor
    """[N] what multiplies each token's hinge: lambda and the step's normaliser are already in them."""
    margin: float
    """In nats, 0 or more."""

    def __post_init__(self) -> None:
        shape = self.negative_logprobs.shape
        if len(shape) != 1 or self.present.shape != shape or self.coefficients.shape != shape:
            raise ValueError("contrast needs negative_logprobs, present and coefficients of one shape, [tokens]")
        if self.present.dtype != torch.bool:
            raise ValueError(f"contrast mask `present` must be bool, got {self.present.dtype}")
        if not self.margin >= 0.0:
            raise ValueError(f"contrast margin must be 0 or more, got {self.margin}")


def contrast_loss(s: Tensor, g: Tensor, b: Tensor, margin: float) -> Tensor:
    """Hinge per token: max(0, margin + |s - g| - |s - b|), with gradient through s only.

    Source: UniSD section 3, contrast against a negative demonstration. Outside the live region (see `live`) the value
    may be positive and the gradient is exactly zero.

    Args:
        s: [N] student's log-probability of the sampled token, in nats.
        g: [N] teacher's, in the gold context.
        b: [N] teacher's, in the negative context.
        margin: in nats, 0 or more.

    Returns:
        [N] in nats, 0 or more, same dtype.

    Raises:
        ValueError: shapes that differ, or a negative margin.
    """
    _check(s, g, b, margin)
    # Where s is not strictly between g and b the two slopes cancel, except at a tie, where autograd's |0| would
    # leave one of them; cutting the gradient there makes the rule the same everywhere.
    inside = torch.where(_between(s, g, b), s, s.detach())
    return (margin + (inside - g.detach()).abs() - (inside - b.detach()).abs()).clamp_min(0.0)


def live(s: Tensor, g: Tensor, b: Tensor, margin: float) -> Tensor:
    """Where the contrast has a gradient: s strictly between g and b, and the hinge above zero.

    Args:
        s: [N] student's log-probability of the sampled token, in nats.
        g: [N] teacher's, in the gold context.
        b: [N] teacher's, in the negative context.
        margin: in nats, 0 or more.

    Returns:
        bool [N].

    Raises:
        ValueError: shapes that differ, or a negative margin.
    """
    _check(s, g, b, margin)
    return _between(s, g, b) & (margin + (s - g).abs() - (s - b).abs() > 0.0)


def contrast_slope(s: Tensor, g: Tensor, b: Tensor, margin: float) -> Tensor:
    """Derivative of `contrast_loss` in s: +2 or -2 where live, else 0.

    Args:
        s: [N] student's log-probability of the sampled token, in nats.
        g: [N] teacher's, in the gold context.
        b: [N] teacher's, in the negative context.
        margin: in nats, 0 or more.

    Returns:
        [N], same dtype, without gradient.

    Raises:
        ValueError: shapes that differ, or a negative margin.
    """
    return torch.where(live(s, g, b, margin), 2.0 * torch.sign(s - g), 0.0).detach()


def _between(s: Tensor, g: Tensor, b: Tensor) -> Tensor:
    return ((g < s) & (s < b)) | ((b < s) & (s < g))


def _check(s: Tensor, g: Tensor, b: Tensor, margin: float) -> None:
    if not s.shape == g.shape == b.shape:
        raise ValueError(f"contrast needs equal shapes, got s {tuple(s.shape)}, g {tuple(g.shape)}, b {tuple(b.shape)}")
    if not margin >= 0.0:
        raise ValueError(f"contrast margin must be 0 or more, got {margin}")
