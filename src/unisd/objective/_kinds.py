"""Value and gradient of every divergence, row by row, in the fewest passes over the vocabulary.

Notation, per token: z the student's logits (divided by the temperature), p its softmax, q the teacher's softmax, and
d = log p - log q. Everything is written in d, which is small where student and teacher are close: differences of large
log-probabilities, which would lose the last digits exactly there, do not occur.

    kind           value D                                                      dD/dz
    forward_kl     -sum q d                                                     p - q
    reverse_kl      sum p d                                                     p (d - D)
    jsd             (1 - alpha) sum p r + alpha sum q (r - d)                   (1 - alpha) p (r - sum p r)
                    with r = log(p / m) and m = (1 - alpha) p + alpha q, so that log(q / m) = r - d
    cross_entropy  -log p[target]                                               p - onehot(target)

    sampled_reverse_kl  d[target]                                               d[target] (onehot(target) - p)

The last is an estimate of reverse_kl from the token that was drawn from p, and its gradient the score function's: d
times that of log p[target], d taken as constant. Over tokens drawn from p, both have the mean of reverse_kl's.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unisd.objective.divergence import DivergenceKind

# Above this, log(1 + exp(x)) is x to the last bit of a double, and exp(x) is still finite in single precision.
_LINEAR_FROM = 40.0


@dataclass(frozen=True)
class Rows:
    """What the formulas read, and the storage that they may use. All [R, V]."""

    p: Tensor
    q: Tensor
    d: Tensor
    """log p - log q; overwritten by the gradient where one is wanted."""
    spare: Tensor
    """Free storage."""
    work: Tensor
    """Free storage."""


def log_normalizer(logits: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of [R, V] `logits` into `probabilities`, and its log-normaliser in two parts [R]: (peak, height).

    log softmax(z) = z - peak + height, where peak is the largest logit and height its log-probability. Kept apart,
    because a logit less the peak is nearly exact while their sum would be rounded to the size of the logits. The
    height is corrected by the sum that the probabilities really have.
    """
    torch.softmax(logits, dim=-1, out=probabilities)
    return logits.amax(-1), (probabilities.amax(-1) / probabilities.sum(-1)).log_()


def divergence(rows: Rows, kind: DivergenceKind, alpha: float, want_gradient: bool) -> Tensor:
    """Value [R] of a divergence between distributions; its gradient in z replaces `rows.d`, if wanted."""
    if kind == "forward_kl":
        return forward_kl(rows, want_gradient)
    if kind == "reverse_kl":
        return reverse_kl(rows, want_gradient)
    return jsd(rows, alpha, want_gradient)


def forward_kl(rows: Rows, want_gradient: bool) -> Tensor:
    """Value [R] of KL(q || p); its gradient replaces `rows.d`."""
    value = torch.mul(rows.q, rows.d, out=rows.work).sum(-1).neg_()
    if want_gradient:
        torch.sub(rows.p, rows.q, out=rows.d)
    return value


def reverse_kl(rows: Rows, want_gradient: bool) -> Tensor:
    """Value [R] of KL(p || q); its gradient replaces `rows.d`."""
    weighted = torch.mul(rows.p, rows.d, out=rows.work)
    value = weighted.sum(-1)
    if want_gradient:
        torch.addcmul(weighted, rows.p, value.unsqueeze(1), value=-1.0, out=rows.d)
    return value


def jsd(rows: Rows, alpha: float, want_gradient: bool) -> Tensor:
    """Value [R] of the generalised Jensen-Shannon divergence; its gradient replaces `rows.d`."""
    r = _log_ratio_to_mixture(rows.d, alpha, out=rows.spare)
    weighted = torch.mul(rows.p, r, out=rows.work)
    student_part = weighted.sum(-1)
    teacher_part = r.sub_(rows.d).mul_(rows.q).sum(-1)
    if want_gradient:
        torch.addcmul(weighted, rows.p, student_part.unsqueeze(1), value=-1.0, out=rows.d).mul_(1.0 - alpha)
    return student_part.mul(1.0 - alpha).add_(teacher_part, alpha=alpha)


def _log_ratio_to_mixture(d: Tensor, alpha: float, out: Tensor) -> Tensor:
    """r = log(p / m) = -log((1 - alpha) + alpha exp(-d)) = log sigmoid(d - logit alpha) - log(1 - alpha).

    Softplus with beta = -1 is log sigmoid, in one pass and without overflow; it needs no division by a p that may have
    vanished.
    """
    logit = math.log(alpha) - math.log1p(-alpha)
    shifted = d if logit == 0.0 else torch.sub(d, logit, out=out)
    torch.ops.aten.softplus.out(shifted, -1.0, _LINEAR_FROM, out=out)
    return out.sub_(math.log1p(-alpha))


def sampled_reverse_kl(p: Tensor, d: Tensor, targets: Tensor, want_gradient: bool) -> Tensor:
    """Value [R] of log p - log q at the targets [R]; the score function's gradient replaces `d` [R, V], if wanted."""
    value = d.gather(1, targets.unsqueeze(1)).squeeze(1)
    if want_gradient:
        torch.mul(p, -value.unsqueeze(1), out=d)
        add_at(d, targets, value)
    return value


def cross_entropy_gradient(p: Tensor, targets: Tensor, out: Tensor) -> None:
    """Write the gradient of -log p[target] to `out` [R, V]; targets [R]."""
    out.copy_(p)
    add_at(out, targets, torch.full_like(out[:, 0], -1.0))


def add_at(rows: Tensor, targets: Tensor, amount: Tensor) -> None:
    """Add amount [R] to the target column of each row [R, V]: one entry a row, so the order of adding is fixed."""
    column = targets.unsqueeze(1)
    rows.scatter_(1, column, rows.gather(1, column).add_(amount.unsqueeze(1)))
