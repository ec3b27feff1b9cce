"""Everything that needs logits, in one pass over chunks of tokens: the loss, its gradient, and what reports need.

The logits of all completion tokens are the largest tensors of a training step (tokens × vocabulary, several times
over in plain autograd). Because all weights and normalisers are known beforehand, the gradient of a token's loss can
be formed while its logits are at hand: three products with the vocabulary (student logits, teacher logits, gradient in
the hidden states), a fourth if the head is trained. Backward then only scales what is there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unisd.objective import _kinds
from unisd.objective._sweep import Outcome, Sweep, plan, token_logprob
from unisd.objective.clipping import clip
from unisd.objective.head import Head, finish_logits, project, working_dtype
from unisd.objective.problem import Problem, check_tokens


@dataclass(frozen=True)
class FusedResult:
    """The loss, and per token what the pass saw. Values are float32 (float64 if any input was), in nats, detached."""

    loss: Tensor
    """Scalar; differentiable in the student's hidden states and, where they require it, its head's weight and bias."""
    values: dict[str, Tensor]
    """``[N]`` each: ``divergence`` before clipping (for ``cross_entropy`` the negative log-probability of the target,
    for ``sampled_reverse_kl`` its log-ratio, which may be below zero), ``clipped`` (bool: whether it exceeded the
    cap), ``student_logprobs`` and ``teacher_logprobs`` of the target at the temperature, ``entropy`` of the
    student's distribution, and the values of terms, gates and target by their names."""


def fused_objective(problem: Problem) -> FusedResult:
    """Return the loss of a row of completion tokens, and what was seen of each.

    Logits, softmax and sums are float32 whatever the hidden states and weights are stored in, float64 if any of them
    is float64. No tensor of N × V elements exists at any time. Where nothing requires a gradient, or under
    `torch.no_grad()`, only values are computed. Second derivatives do not exist. Logits must be finite.

    Example:
        >>> hidden = torch.randn(6, 8, requires_grad=True)
        >>> head = Head(torch.randn(20, 8))
        >>> problem = Problem(
        ...     hidden, head, torch.randint(20, (6,)), torch.full((6,), 1 / 6),
        ...     kind="forward_kl", temperature=0.7, teacher=torch.randn(6, 8), teacher_head=head,
        ... )
        >>> fused_objective(problem).loss.backward()
    """
    student, weight, bias = problem.student, problem.student_head.weight, problem.student_head.bias
    wanted = [
        torch.is_grad_enabled() and tensor is not None and tensor.requires_grad for tensor in (student, weight, bias)
    ]
    # Mixed precision would turn the products back into half precision.
    with torch.no_grad(), torch.autocast(student.device.type, enabled=False):
        outcome = Sweep(problem, *wanted).run()
        loss = _total(problem, outcome)
    if any(wanted):
        attach = cast(Callable[..., Tensor], _Attach.apply)
        gradients = (outcome.hidden_gradient, outcome.weight_gradient, outcome.bias_gradient)
        loss = attach(student, weight, bias, loss, *gradients)
    return FusedResult(loss, outcome.values)


@torch.no_grad()
def sampled_logprobs(
    hidden: Tensor, head: Head, targets: Tensor, temperature: float = 1.0, chunk_tokens: int | None = None
) -> Tensor:
    """Log-probability of one given token per position, chunk by chunk, without gradient: for probes and negatives.

    Args:
        hidden: [N, H] last hidden states that predict the targets, any float dtype.
        head: the head that reads them.
        targets: [N] int64, in [0, V).
        temperature: divides the logits.
        chunk_tokens: tokens per chunk; None to choose by memory.

    Returns:
        [N] in nats, float32 (float64 if an input was).

    Raises:
        ValueError: shapes that do not fit, temperature or chunk out of range.
    """
    check_tokens(hidden, head, targets, temperature, chunk_tokens)
    dtype = working_dtype(hidden, head.weight)
    result = torch.empty(hidden.shape[0], dtype=dtype, device=hidden.device)
    vocabulary = head.weight.shape[0]
    chunk, block = plan(hidden.shape[0], vocabulary, result, 1, chunk_tokens)
    room = result.new_empty(chunk, vocabulary)
    scratch = result.new_empty(block, vocabulary)
    with torch.autocast(hidden.device.type, enabled=False):
        for start in range(0, hidden.shape[0], chunk):
            rows = hidden[start : start + chunk]
            logits = project(rows, head, temperature, room)
            for first in range(0, rows.shape[0], block):
                z = finish_logits(logits[first : first + block], head, temperature)
                tokens = slice(start + first, start + first + z.shape[0])
                peak, height = _kinds.log_normalizer(z, scratch[: z.shape[0]])
                result[tokens] = token_logprob(z, targets[tokens], peak, height)
    return result


class _Attach(torch.autograd.Function):
    """Give a finished value the gradient that was computed along with it."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        value: Tensor,
        *gradients: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(*gradients)
        ctx.dtypes = [None if t is None else t.dtype for t in (student, weight, bias)]
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [
            None if gradient is None else (gradient * scale).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*scaled, None, None, None, None)


def _total(problem: Problem, outcome: Outcome) -> Tensor:
    divergence = outcome.values["divergence"]
    if problem.cap is not None:
        divergence = clip(divergence, problem.cap)[0]
    loss = (outcome.factors * divergence).sum()
    for term in problem.terms:
        # An absent token's coefficient may be anything, even 0/0.
        pull = term.coefficients.detach().to(divergence.dtype) * outcome.values[term.name]
        loss = loss + pull.masked_fill(~term.present, 0.0).sum()
    return loss
