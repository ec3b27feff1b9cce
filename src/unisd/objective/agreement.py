"""Multi-teacher agreement: trust a token, or a whole completion, less where the teacher's contexts disagree about it.

Probes are log-probabilities of the sampled tokens under K auxiliary contexts, at temperature 1. They set weights; they
are not targets, and the gold context is not one of them.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from unisd.objective.clipping import quantile

Statistic = Literal["variance", "range"]
"""Disagreement over contexts: population variance, or largest minus smallest."""


def disagreement(logprobs: Tensor, statistic: Statistic) -> Tensor:
    """Disagreement over the first dimension.

    Source: UniSD section 3, multi-teacher agreement. The variance divides by K everywhere in this library.

    Args:
        logprobs: [K, N] in nats, K >= 2 contexts.
        statistic: `variance` (nats²) or `range` (nats).

    Returns:
        [N], 0 or more, float32 or float64.

    Raises:
        ValueError: fewer than two contexts, not two dimensions, or an unknown statistic.
    """
    if logprobs.dim() != 2:
        raise ValueError(f"probe log-probabilities must be [contexts, tokens], got {tuple(logprobs.shape)}")
    if logprobs.shape[0] < 2:
        raise ValueError(f"agreement needs at least two auxiliary contexts, got {logprobs.shape[0]}")
    if statistic not in get_args(Statistic):
        raise ValueError(f"unknown statistic {statistic!r}: choose variance or range")
    wide = logprobs.to(torch.promote_types(logprobs.dtype, torch.float32))
    if statistic == "variance":
        return wide.var(dim=0, correction=0)
    return wide.amax(dim=0) - wide.amin(dim=0)


def disagreement_scale(delta: Tensor, quantile_level: float = 0.95, minimum: float = 1e-6) -> Tensor:
    """The disagreement that counts as "one unit" in a step.

    Source: UniSD section 3: the 0.95-quantile of the token disagreement over the batch. For several ranks, gather
    `delta` first.

    Args:
        delta: [N] from `disagreement`, every token of the step.
        quantile_level: in [0, 1].
        minimum: smallest scale that may be returned, positive; keeps the weights finite where contexts agree.

    Returns:
        Scalar tensor in the unit of `delta`, without gradient.

    Raises:
        ValueError: no tokens, a quantile outside [0, 1], or a minimum that is not positive.
    """
    if not minimum > 0.0:
        raise ValueError(f"minimum scale must be positive, got {minimum}")
    return quantile(delta, quantile_level).clamp_min(minimum)


def token_weights(
    probe_logprobs: Tensor,
    gamma: float,
    statistic: Statistic,
    scale: float | Tensor,
    cap: float = 10.0,
    floor: float = 0.01,
) -> Tensor:
    """Weight per token: w_t = max(1 / (1 + gamma min(delta_t / scale, cap)), floor).

    Source: UniSD section 3, token-level agreement.

    Args:
        probe_logprobs: [K, N] in nats, K >= 2.
        gamma: strength, 0 or more; 0 gives weight 1 everywhere.
        statistic: `variance` or `range`.
        scale: the step's `disagreement_scale`: the same number for all rows and ranks.
        cap: largest scaled disagreement that still counts.
        floor: smallest weight, in [0, 1].

    Returns:
        [N] in [floor, 1], without gradient.

    Raises:
        ValueError: as `disagreement`; or a negative gamma, a cap that is not positive, a floor outside [0, 1].
    """
    _check_strength(gamma, floor)
    if not cap > 0.0:
        raise ValueError(f"agreement cap must be positive, got {cap}")
    scaled = (disagreement(probe_logprobs.detach(), statistic) / scale).clamp_max(cap)
    return (1.0 / (1.0 + gamma * scaled)).clamp_min(floor)


def sequence_weights(
    probe_logprobs: Tensor,
    sequence: Tensor,
    n_sequences: int,
    gamma: float,
    statistic: Statistic,
    floor: float = 1e-6,
) -> Tensor:
    """Weight per completion: w = max(exp(-gamma delta), floor), delta taken over the contexts' mean log-probabilities.

    Source: UniSD section 3, sequence-level agreement. A weight that is constant within a sequence only matters if the
    normaliser spans the whole step: see `unisd.objective.coefficients`.

    Args:
        probe_logprobs: [K, N] in nats, K >= 2; every token of every sequence that is listed.
        sequence: [N] int64, the index of each token's sequence, in [0, n_sequences).
        n_sequences: S.
        gamma: strength, 0 or more.
        statistic: `variance` or `range`.
        floor: smallest weight, in [0, 1].

    Returns:
        [S] in [floor, 1], without gradient; 1 for a sequence without tokens.

    Raises:
        ValueError: as `disagreement`; or shapes that do not fit, a negative gamma, a floor outside [0, 1].
    """
    _check_strength(gamma, floor)
    if probe_logprobs.dim() != 2 or probe_logprobs.shape[1:] != sequence.shape:
        raise ValueError(f"probes {tuple(probe_logprobs.shape)} and sequence {tuple(sequence.shape)} do not fit")
    wide = probe_logprobs.detach().to(torch.promote_types(probe_logprobs.dtype, torch.float32))
    sums = wide.new_zeros(wide.shape[0], n_sequences).index_add_(1, sequence, wide)
    lengths = torch.bincount(sequence, minlength=n_sequences).clamp_min(1)
    delta = disagreement(sums / lengths, statistic)
    return torch.exp(-gamma * delta).clamp_min(floor)


def effective_sample_size(weights: Tensor) -> float:
    """How much of the data a set of weights still uses: (sum w)² / (n sum w²).

    Near 1 the weights do nothing; 1/n means that one item carries everything. Meant for reports: it waits for the
    device.

    Args:
        weights: any shape, 0 or more, not all zero.

    Returns:
        A number in (0, 1].

    Raises:
        ValueError: no weights, or all of them zero.
    """
    wide = weights.detach().reshape(-1).double()
    squares = float(wide.square().sum())
    if squares == 0.0:
        raise ValueError("effective sample size needs at least one weight that is not zero")
    return min(1.0, float(wide.sum()) ** 2 / (wide.numel() * squares))


def _check_strength(gamma: float, floor: float) -> None:
    if not gamma >= 0.0:
        raise ValueError(f"gamma must be 0 or more, got {gamma}")
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"weight floor must be in [0, 1], got {floor}")
