"""A divergence over some tokens of the vocabulary: the k likeliest of one model, and one bucket for all the others.

With K the k tokens, z logits and p their softmax over the whole vocabulary, the distributions compared are

    tail       p over K, and one more entry: the mass of all tokens outside of K
    no tail    p over K, divided by its sum: what is outside of K has no part in the value, and no gradient

Both are softmaxes of few logits: those of K, and log Σ exp z over the others for the bucket. So the formulas of
`_kinds` hold as they are, and the gradient of the bucket's logit goes to its tokens in proportion to their
probabilities.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unisd.objective import _kinds
from unisd.objective.divergence import DivergenceKind

Chooser = Literal["teacher", "student"]
"""Whose k likeliest tokens are compared."""


@dataclass(frozen=True)
class Support:
    """The tokens that a divergence is formed over.

    Raises:
        ValueError: no token at all.
    """

    k: int
    """How many of the likeliest tokens; as many as the vocabulary has, or more, is the whole vocabulary."""
    tail: bool = True
    """Whether one bucket holds the mass of all others; else the k tokens' probabilities are divided by their sum."""
    of: Chooser = "teacher"
    """Whose likeliest tokens."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"a divergence needs at least one token, got k = {self.k}")


def divergence(
    student: Tensor, teacher: Tensor, support: Support, kind: DivergenceKind, alpha: float, want_gradient: bool
) -> Tensor:
    """Value ``[R]`` of a divergence over a support smaller than the vocabulary.

    Args:
        student: logits ``[R, V]``; overwritten by the gradient in them where one is wanted.
        teacher: logits ``[R, V]`` of the distribution to match; overwritten.
        support: the tokens.
        kind: a kind that compares distributions.
        alpha: the teacher's share of the mixture, for ``jsd``.
        want_gradient: whether the gradient is wanted.
    """
    chosen = (teacher if support.of == "teacher" else student).topk(support.k, dim=-1).indices
    z, rest = _reduced(student, chosen, support.tail)
    z_teacher, _ = _reduced(teacher, chosen, support.tail)
    d = z.log_softmax(-1).sub_(z_teacher.log_softmax(-1))
    rows = _kinds.Rows(z.softmax(-1), z_teacher.softmax(-1), d, spare=torch.empty_like(d), work=torch.empty_like(d))
    value = _kinds.divergence(rows, kind, alpha, want_gradient)
    if want_gradient:
        if rest is None:
            student.zero_()
        else:
            # What each other token is of the bucket; those of the support stand at 0 here.
            student.sub_(rest).exp_().mul_(d[:, -1:])
        student.scatter_(1, chosen, d[:, : support.k])
    return value


def _reduced(logits: Tensor, chosen: Tensor, tail: bool) -> tuple[Tensor, Tensor | None]:
    """Return logits over the support ``[R, k]`` or, with the bucket's, ``[R, k + 1]``; and the bucket's ``[R, 1]``.

    With a bucket, the chosen tokens' logits are -inf afterwards.
    """
    kept = logits.gather(1, chosen)
    if not tail:
        return kept, None
    rest = logits.scatter_(1, chosen, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([kept, rest], dim=1), rest
