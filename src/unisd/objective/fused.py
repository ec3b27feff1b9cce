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
from unisd.objective._sweep import Outcome, Problem, Sweep, plan, token_logprob
from unisd.objective.clipping import clip
from unisd.objective.contrast import Contrast
from unisd.objective.divergence import DivergenceKind, check_kind, check_temperature
from unisd.objective.head import Head, finish_logits, project, working_dtype


@dataclass(frozen=True)
class FusedResult:
    """The loss, and per token what the pass saw. Values are float32 (float64 if any input was), in nats, detached."""

    loss: Tensor
    """Scalar; differentiable in the student's hidden states and, where they require it, its head's weight and bias."""
    divergence: Tensor
    """[N] D_t before clipping; for `cross_entropy` the negative log-probability of the target."""
    clipped: Tensor
    """bool [N]: whether D_t exceeded the cap; all False without one."""
    student_logprobs: Tensor
    """[N] s_t: log-probability of the target under the student at the temperature."""
    teacher_logprobs: Tensor | None
    """[N] g_t: the same under the teacher; None without a teacher."""
    entropy: Tensor
    """[N] entropy of the student's distribution at the temperature."""
    contrast: Tensor | None
    """[N] hinge before coefficients, 0 where there is no negative; None without contrast."""
    contrast_live: Tensor | None
    """bool [N]: whether the contrast has a gradient at this token; None without contrast."""


def fused_objective(
    student: Tensor,
    student_head: Head,
    targets: Tensor,
    coefficients: Tensor,
    *,
    kind: DivergenceKind,
    alpha: float = 0.5,
    temperature: float = 1.0,
    teacher: Tensor | None = None,
    teacher_head: Head | None = None,
    cap: float | Tensor | None = None,
    contrast: Contrast | None = None,
    chunk_tokens: int | None = None,
) -> FusedResult:
    """Loss of a row of completion tokens: sum_t c_t min(D_t, cap) + sum_t cc_t hinge_t.

    Logits, softmax and sums are float32 whatever the hidden states and weights are stored in, float64 if any of them
    is float64. No tensor of N × V elements exists at any time. Where nothing requires a gradient, or under
    `torch.no_grad()`, only values are computed: that is the first pass of a quantile cap. Second derivatives do not
    exist. Logits must be finite. Source: UniSD section 3, the objective with clipping and contrast; see `divergence`
    and `contrast_loss` for the formulas.

    Args:
        student: [N, H] last hidden states (after the final norm) that predict the targets, any float dtype.
        student_head: the head that reads them.
        targets: [N] int64, the sampled tokens, in [0, V).
        coefficients: [N] c_t, taken as constant: weight and normaliser of each token (`token_coefficients`).
        kind: which divergence D.
        alpha: the teacher's share of the mixture, for `jsd`.
        temperature: divides the logits of both.
        teacher: [N, H'] the teacher's hidden states for the same tokens, taken as constant. Needed unless the kind is
            `cross_entropy`.
        teacher_head: the head that reads them, same vocabulary, taken as constant.
        cap: largest divergence in nats, a number or a scalar tensor; clipped tokens get no gradient from D. None for
            no cap.
        contrast: the token-level contrast; needs a teacher.
        chunk_tokens: tokens per chunk; None to choose by memory. Changes memory and speed, never the result.

    Returns:
        A `FusedResult`.

    Raises:
        ValueError: shapes that do not fit, a missing teacher, kind, alpha, temperature, cap or chunk out of range.

    Example:
        >>> hidden = torch.randn(6, 8, requires_grad=True)
        >>> head = Head(torch.randn(20, 8))
        >>> result = fused_objective(
        ...     hidden, head, torch.randint(20, (6,)), torch.full((6,), 1 / 6),
        ...     kind="forward_kl", temperature=0.7, teacher=torch.randn(6, 8), teacher_head=head,
        ... )
        >>> result.loss.backward()
    """
    _check_tokens(student, student_head, targets, temperature, chunk_tokens)
    _check_objective(student, student_head, coefficients, kind, alpha, teacher, teacher_head, contrast)
    weight, bias = student_head.weight, student_head.bias
    wanted = torch.is_grad_enabled()
    problem = Problem(
        student=student,
        student_head=student_head,
        targets=targets,
        coefficients=coefficients,
        kind=kind,
        alpha=alpha,
        temperature=temperature,
        teacher=teacher,
        teacher_head=teacher_head,
        cap=cap,
        contrast=contrast,
        chunk_tokens=chunk_tokens,
        want_hidden=wanted and student.requires_grad,
        want_weight=wanted and weight.requires_grad,
        want_bias=wanted and bias is not None and bias.requires_grad,
    )
    # Mixed precision would turn the products back into half precision.
    with torch.no_grad(), torch.autocast(student.device.type, enabled=False):
        outcome = Sweep(problem).run()
        loss = _total(problem, outcome)
    if problem.want_gradient:
        attach = cast(Callable[..., Tensor], _Attach.apply)
        loss = attach(
            student, weight, bias, loss, outcome.hidden_gradient, outcome.weight_gradient, outcome.bias_gradient
        )
    return FusedResult(
        loss=loss,
        divergence=outcome.divergence,
        clipped=outcome.clipped,
        student_logprobs=outcome.student_logprobs,
        teacher_logprobs=outcome.teacher_logprobs,
        entropy=outcome.entropy,
        contrast=outcome.hinge,
        contrast_live=outcome.live,
    )


@torch.no_grad()
def sampled_logprobs(
    hidden: Tensor, head: Head, targets: Tensor, temperature: float = 1.0, chunk_tokens: int | None = None
) -> Tensor:
    """Log-probability of one given token per position, chunk by chunk, without gradient: for probes and negatives.

    Source: UniSD section 3: a_{k,t} (temperature 1) and b_t (the training temperature).

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
    _check_tokens(hidden, head, targets, temperature, chunk_tokens)
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
    values = outcome.divergence if problem.cap is None else clip(outcome.divergence, problem.cap)[0]
    loss = (problem.coefficients.detach().to(values.dtype) * values).sum()
    if problem.contrast is not None and outcome.hinge is not None:
        pull = problem.contrast.coefficients.detach().to(values.dtype) * outcome.hinge
        # An absent token's coefficient may be anything, even 0/0.
        loss = loss + pull.masked_fill(~problem.contrast.present, 0.0).sum()
    return loss


def _check_tokens(hidden: Tensor, head: Head, targets: Tensor, temperature: float, chunk_tokens: int | None) -> None:
    check_temperature(temperature)
    if hidden.dim() != 2 or hidden.shape[1] != head.weight.shape[1]:
        raise ValueError(f"hidden states {tuple(hidden.shape)} do not fit head {tuple(head.weight.shape)}")
    if targets.shape != hidden.shape[:1] or targets.dtype != torch.int64:
        raise ValueError(f"targets must be int64 [{hidden.shape[0]}], got {targets.dtype} {tuple(targets.shape)}")
    if chunk_tokens is not None and chunk_tokens < 1:
        raise ValueError(f"chunk_tokens must be at least 1, got {chunk_tokens}")


def _check_objective(
    student: Tensor,
    student_head: Head,
    coefficients: Tensor,
    kind: DivergenceKind,
    alpha: float,
    teacher: Tensor | None,
    teacher_head: Head | None,
    contrast: Contrast | None,
) -> None:
    check_kind(kind, alpha)
    count = student.shape[0]
    if coefficients.shape != (count,):
        raise ValueError(f"coefficients {tuple(coefficients.shape)} do not fit {count} tokens")
    if (teacher is None) != (teacher_head is None):
        raise ValueError("teacher and teacher_head belong together: give both or neither")
    if teacher is None or teacher_head is None:
        if kind != "cross_entropy" or contrast is not None:
            raise ValueError(f"{'contrast' if kind == 'cross_entropy' else kind} needs a teacher")
        return
    if teacher.shape != (count, teacher_head.weight.shape[1]):
        raise ValueError(f"teacher states {tuple(teacher.shape)} do not fit {count} tokens and their head")
    if teacher_head.weight.shape[0] != student_head.weight.shape[0]:
        raise ValueError(
            f"student and teacher differ in vocabulary: {student_head.weight.shape[0]} and "
            f"{teacher_head.weight.shape[0]} tokens"
        )
    if contrast is not None and contrast.present.shape != (count,):
        raise ValueError(f"contrast of {contrast.present.numel()} tokens does not fit {count} tokens")
