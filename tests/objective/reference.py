"""The objective as written on a blackboard: full logits, autograd, no tricks. The tests compare with it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unisd.mechanisms.contrast import hinge
from unisd.objective import FusedResult, Head, Problem, Support, TokenTerm, fused_objective


@dataclass(frozen=True)
class Contrast:
    """A hinge on some tokens, as the reference reads it."""

    negative_logprobs: Tensor
    present: Tensor
    coefficients: Tensor
    margin: float

    def term(self) -> TokenTerm:
        """The same as a token term."""
        return TokenTerm(
            "contrast",
            lambda seen, b: hinge(seen.s, seen.g, b.to(seen.s.dtype), self.margin),
            self.coefficients,
            self.present,
            (self.negative_logprobs,),
        )


def fused(*, contrast: Contrast | None = None, **options) -> FusedResult:
    """The fused pass, asked in the same words as the reference below."""
    return fused_objective(Problem(**options, terms=[] if contrast is None else [contrast.term()]))


def logits(hidden: Tensor, head: Head, temperature: float) -> Tensor:
    raw = hidden @ head.weight.t()
    if head.bias is not None:
        raw = raw + head.bias
    raw = raw * head.scale
    if head.softcap is not None:
        raw = head.softcap * torch.tanh(raw / head.softcap)
    return raw / temperature


def divergence(p_log: Tensor, q_log: Tensor, kind: str, alpha: float) -> Tensor:
    """From log-probabilities of student and teacher."""
    p, q = p_log.exp(), q_log.exp()
    if kind == "forward_kl":
        return (q * (q_log - p_log)).sum(-1)
    if kind == "reverse_kl":
        return (p * (p_log - q_log)).sum(-1)
    m_log = ((1 - alpha) * p + alpha * q).clamp_min(torch.finfo(p.dtype).tiny).log()
    return (alpha * q * (q_log - m_log) + (1 - alpha) * p * (p_log - m_log)).sum(-1)


def over(p_log: Tensor, q_log: Tensor, support: Support) -> tuple[Tensor, Tensor]:
    """Log-probabilities over the likeliest tokens, with one bucket for the others or divided by their sum."""
    order = (q_log if support.of == "teacher" else p_log).argsort(-1, descending=True)

    def reduced(logs: Tensor) -> Tensor:
        ordered = logs.gather(-1, order)
        kept, others = ordered[:, : support.k], ordered[:, support.k :]
        if support.tail and others.shape[1]:
            return torch.cat([kept, others.logsumexp(-1, keepdim=True)], -1)
        return kept if support.tail else kept.log_softmax(-1)

    return reduced(p_log), reduced(q_log)


def objective(
    student: Tensor,
    student_head: Head,
    targets: Tensor,
    coefficients: Tensor,
    *,
    kind: str,
    temperature: float,
    alpha: float = 0.5,
    teacher: Tensor | None = None,
    teacher_head: Head | None = None,
    cap: float | None = None,
    contrast: Contrast | None = None,
    support: Support | None = None,
) -> dict[str, Tensor]:
    p_log = torch.log_softmax(logits(student, student_head, temperature), -1)
    s = p_log[torch.arange(len(targets)), targets]
    seen = {"student_logprobs": s, "entropy": -(p_log.exp() * p_log).sum(-1)}
    if teacher is not None:
        q_log = torch.log_softmax(logits(teacher, teacher_head, temperature), -1).detach()
        seen["teacher_logprobs"] = q_log[torch.arange(len(targets)), targets]
    if kind == "cross_entropy":
        value = -s
    elif kind == "sampled_reverse_kl":
        value = s - seen["teacher_logprobs"]
        surrogate = value.detach() * s  # the score function's gradient, beside the value of the log-ratio
        value = surrogate + (value - surrogate).detach()
    elif support is None:
        value = divergence(p_log, q_log, kind, alpha)
    else:
        value = divergence(*over(p_log, q_log, support), kind, alpha)
    seen["divergence"] = value
    seen["loss"] = (coefficients * (value if cap is None else value.clamp(max=cap))).sum()
    if contrast is not None:
        g, b = seen["teacher_logprobs"], contrast.negative_logprobs
        hinge = torch.relu(contrast.margin + (s - g).abs() - (s - b).abs())
        seen["contrast"] = torch.where(contrast.present, hinge, 0.0)
        seen["loss"] = seen["loss"] + (contrast.coefficients * seen["contrast"]).sum()
    return seen
