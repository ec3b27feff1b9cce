"""From weights to the number that multiplies each token's divergence.

The loss of a step is a ratio of two sums over the *whole* step: every row, every micro-batch, every rank. So the
denominator is added up first, and each token then gets a finished coefficient; the loss is the plain sum of
coefficient times value, however the step is cut into rows. Dividing each sequence by its own weights instead would
cancel every sequence-level weight.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from unisd.devices import wide

Aggregation = Literal["token", "sequence"]
"""`token`: every token counts the same. `sequence`: a mean within each completion, then a mean over completions."""


def local_total(weights: Tensor, sequence: Tensor, sequence_weights: Tensor | None, aggregation: Aggregation) -> Tensor:
    """This rank's share of the step's normaliser; add up over ranks and pass the sum to `token_coefficients`.

    `token`: sum over tokens of w_t W_i. `sequence`: sum of W_i over the sequences that have weight on any token.

    Args:
        weights: [N] per-token weights w_t, 0 or more.
        sequence: [N] int64, the index of each token's sequence.
        sequence_weights: [S] per-sequence weights W_i, or None for 1 everywhere.
        aggregation: `token` or `sequence`.

    Returns:
        Scalar tensor, dtype of `weights`, without gradient; 0 if there are no tokens.

    Raises:
        ValueError: shapes that do not fit, or an unknown aggregation.
    """
    _check(weights, sequence, aggregation)
    per_sequence = _sequence_weights(weights, sequence, sequence_weights)
    if aggregation == "token":
        return (weights.detach() * per_sequence[sequence]).sum()
    within = _weight_within(weights, sequence, per_sequence.numel())
    return torch.where(within > 0, per_sequence, 0.0).sum()


def token_coefficients(
    weights: Tensor,
    sequence: Tensor,
    sequence_weights: Tensor | None,
    aggregation: Aggregation,
    total: float | Tensor,
) -> Tensor:
    """Coefficient per token, so that sum_t c_t D_t is the weighted mean of the divergence over the whole step.

    `token`: c_t = w_t W_i / total. `sequence`: c_t = (w_t / sum of w within sequence i) W_i / total. With the full
    `total`, the coefficients of a step add up to 1. Source: UniSD section 3, the objective and its two aggregations,
    with sequence weights that count.

    Args:
        weights: [N] per-token weights w_t, 0 or more. For `sequence` aggregation all tokens of a sequence must be
            present in the same call.
        sequence: [N] int64, the index of each token's sequence.
        sequence_weights: [S] per-sequence weights W_i, or None for 1 everywhere.
        aggregation: `token` or `sequence`.
        total: the sum of `local_total` over all ranks.

    Returns:
        [N], dtype of `weights`, without gradient; 0 where the whole step has no weight.

    Raises:
        ValueError: shapes that do not fit, or an unknown aggregation.
    """
    _check(weights, sequence, aggregation)
    per_sequence = _sequence_weights(weights, sequence, sequence_weights)
    if aggregation == "sequence":
        within = _weight_within(weights, sequence, per_sequence.numel())
        # A sequence without any weight has no mean; it is absent here as it is from the total.
        per_sequence = torch.where(within > 0, per_sequence / within, 0.0)
    coefficients = weights.detach() * per_sequence[sequence] / total
    return torch.where(torch.as_tensor(total).to(weights.device) == 0, 0.0, coefficients)


def _check(weights: Tensor, sequence: Tensor, aggregation: str) -> None:
    if aggregation not in get_args(Aggregation):
        raise ValueError(f"unknown aggregation {aggregation!r}: choose token or sequence")
    if weights.dim() != 1 or weights.shape != sequence.shape:
        raise ValueError(f"weights {tuple(weights.shape)} and sequence {tuple(sequence.shape)} must both be [tokens]")


def _sequence_weights(weights: Tensor, sequence: Tensor, sequence_weights: Tensor | None) -> Tensor:
    if sequence_weights is not None:
        return sequence_weights.detach().to(weights.dtype)
    count = int(sequence.max()) + 1 if sequence.numel() else 0
    return weights.new_ones(count)


def _weight_within(weights: Tensor, sequence: Tensor, count: int) -> Tensor:
    return weights.new_zeros(count).index_add_(0, sequence, weights.detach())


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
    values = wide(weights.detach().reshape(-1))
    squares = float(values.square().sum())
    if squares == 0.0:
        raise ValueError("effective sample size needs at least one weight that is not zero")
    return min(1.0, float(values.sum()) ** 2 / (values.numel() * squares))
