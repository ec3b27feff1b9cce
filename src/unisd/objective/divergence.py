"""How far a student's next-token distribution lies from its teacher's: the plain formulas.

This module is the reference that reads like the mathematics. Training uses `unisd.objective.fused`, which computes the
same numbers without ever holding the logits of all tokens.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

DivergenceKind = Literal["forward_kl", "reverse_kl", "jsd", "sampled_reverse_kl", "cross_entropy"]
"""What a token's loss compares: two distributions; their log-probabilities of the sampled token alone
(`sampled_reverse_kl`); or the student with the sampled token (`cross_entropy`)."""
OF_TOKENS = ("sampled_reverse_kl", "cross_entropy")
"""The kinds that look at the sampled token alone."""


def check_kind(kind: str, alpha: float) -> None:
    """Check a kind and its mixing weight.

    Args:
        kind: one of `DivergenceKind`.
        alpha: the teacher's share of the mixture; read by `jsd` only.

    Raises:
        ValueError: unknown kind, or `jsd` with an alpha outside the open interval (0, 1).
    """
    if kind not in get_args(DivergenceKind):
        raise ValueError(f"unknown divergence {kind!r}: choose one of {', '.join(get_args(DivergenceKind))}")
    if kind == "jsd" and not 0.0 < alpha < 1.0:
        raise ValueError(
            f"jsd needs 0 < alpha < 1, got {alpha}: the family does not reach the KL divergences at its ends, "
            "so ask for forward_kl or reverse_kl by name"
        )


def check_temperature(temperature: float) -> None:
    """Check a softmax temperature.

    Raises:
        ValueError: not a positive finite number.
    """
    if not (temperature > 0.0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")


def divergence(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    kind: DivergenceKind,
    alpha: float = 0.5,
    temperature: float = 1.0,
) -> Tensor:
    """Divergence between teacher and student, summed over the vocabulary, differentiable in both.

    With p the student's and q the teacher's softmax of logits / temperature, and m = (1 - alpha) p + alpha q::

        forward_kl   KL(q || p)
        reverse_kl   KL(p || q)
        jsd          alpha KL(q || m) + (1 - alpha) KL(p || m)

    There is no temperature² factor. Source: UniSD (arXiv 2605.06597), section 3, the D^alpha of its objective; the
    two ends of the family are named kinds here because jsd tends to 0, not to a KL, as alpha goes to 0 or 1.

    Args:
        student_logits: [..., V], any float dtype; computed in float32, or float64 if given float64.
        teacher_logits: [..., V], same shape.
        kind: `forward_kl`, `reverse_kl` or `jsd`.
        alpha: the teacher's share of the mixture, for `jsd`.
        temperature: divides both logits.

    Returns:
        [...] in nats, float32 or float64, never below zero by more than rounding.

    Raises:
        ValueError: no teacher, shapes that differ, a kind that looks at the sampled token alone (see
            `token_logprobs`), alpha or temperature out of range.

    Example:
        >>> logits = torch.zeros(3, 5)
        >>> divergence(logits, logits, "forward_kl")
        tensor([0., 0., 0.])
    """
    check_kind(kind, alpha)
    check_temperature(temperature)
    if kind in OF_TOKENS:
        raise ValueError(f"{kind} looks at a token, not at a distribution: use token_logprobs")
    if teacher_logits is None:
        raise ValueError(f"{kind} needs teacher_logits")
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits {tuple(student_logits.shape)} and teacher logits {tuple(teacher_logits.shape)} differ "
            "in shape"
        )
    student = _log_softmax(student_logits, temperature)
    teacher = _log_softmax(teacher_logits, temperature)
    if kind == "forward_kl":
        return _kl(teacher, student)
    if kind == "reverse_kl":
        return _kl(student, teacher)
    mixture = torch.logaddexp(student + math.log1p(-alpha), teacher + math.log(alpha))
    return alpha * _kl(teacher, mixture) + (1.0 - alpha) * _kl(student, mixture)


def token_logprobs(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of one given token per position: the s_t, g_t, b_t and a_t of the paper's section 3.

    The negative of this is the per-token value of the kind `cross_entropy`.

    Args:
        logits: [..., V], any float dtype; computed in float32, or float64 if given float64.
        targets: [...] int64, token ids in [0, V).
        temperature: divides the logits.

    Returns:
        [...] in nats (0 or less), float32 or float64, differentiable in the logits.

    Raises:
        ValueError: shapes that do not belong together, or a temperature that is not positive.
    """
    check_temperature(temperature)
    if logits.shape[:-1] != targets.shape:
        raise ValueError(f"targets {tuple(targets.shape)} do not fit logits {tuple(logits.shape)}")
    return _log_softmax(logits, temperature).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def divergence_bound(kind: DivergenceKind, alpha: float = 0.5) -> float | None:
    """Least upper bound of a divergence in nats, or None if it has none.

    The generalised JSD is the mutual information between a token and the answer to "who drew it?", where the teacher
    is the answer with probability alpha; it cannot exceed that answer's entropy, H(alpha), and reaches it for
    distributions without common tokens. A cap at or above the bound therefore never binds.

    Args:
        kind: any `DivergenceKind`.
        alpha: the teacher's share of the mixture, for `jsd`.

    Returns:
        -alpha log alpha - (1 - alpha) log(1 - alpha) for `jsd` (log 2 at one half), None for the others.

    Raises:
        ValueError: unknown kind, or alpha out of range.
    """
    check_kind(kind, alpha)
    if kind != "jsd":
        return None
    return -alpha * math.log(alpha) - (1.0 - alpha) * math.log1p(-alpha)


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    wide = torch.promote_types(logits.dtype, torch.float32)
    return torch.log_softmax(logits.to(wide) / temperature, dim=-1)


def _kl(p_log: Tensor, q_log: Tensor) -> Tensor:
    return (p_log.exp() * (p_log - q_log)).sum(-1)
