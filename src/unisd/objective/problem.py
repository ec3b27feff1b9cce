"""The loss of a row of completion tokens, as data: what the fused pass is asked to compute."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unisd.objective.divergence import OF_TOKENS, DivergenceKind, check_kind, check_temperature
from unisd.objective.head import Head
from unisd.objective.parts import Gate, Target, TokenTerm, check_parts
from unisd.objective.support import Support


@dataclass(frozen=True)
class Problem:
    """Sum over tokens of c_t gate_t min(D_t, cap), plus the sums of all token terms.

    Source: UniSD (arXiv 2605.06597), section 3, the objective; see `divergence` for the formulas.

    Raises:
        ValueError: shapes that do not fit, a missing teacher, kind, alpha, temperature or chunk out of range.
    """

    student: Tensor
    """``[N, H]`` last hidden states (after the final norm) that predict the targets, any float dtype."""
    student_head: Head
    """The head that reads them."""
    targets: Tensor
    """``[N]`` int64, the sampled tokens, in [0, V)."""
    coefficients: Tensor
    """``[N]`` c_t, taken as constant: weight and normaliser of each token (`token_coefficients`)."""
    kind: DivergenceKind
    """Which divergence D."""
    alpha: float = 0.5
    """The teacher's share of the mixture, for ``jsd``."""
    temperature: float = 1.0
    """Divides the logits of both."""
    teacher: Tensor | None = None
    """``[N, H']`` the teacher's hidden states for the same tokens, taken as constant. Needed unless the kind is
    ``cross_entropy``."""
    teacher_head: Head | None = None
    """The head that reads them, same vocabulary, taken as constant."""
    cap: float | Tensor | None = None
    """Largest divergence in nats: a number, a scalar tensor, or one a token ``[N]``; None for no cap. Clipped tokens
    get no gradient from D."""
    terms: Sequence[TokenTerm] = ()
    """Losses on the student's log-probability of the target; they need a teacher."""
    gates: Sequence[Gate] = ()
    """Factors on the divergence."""
    target: Target | None = None
    """What becomes of the teacher's logits; None: they are matched as they are."""
    support: Support | None = None
    """The tokens that distributions are compared over; None: the whole vocabulary."""
    chunk_tokens: int | None = None
    """Tokens a chunk; None to choose by memory. Changes memory and speed, never the result."""

    def __post_init__(self) -> None:
        check_tokens(self.student, self.student_head, self.targets, self.temperature, self.chunk_tokens)
        check_kind(self.kind, self.alpha)
        count, vocabulary = len(self.student), len(self.student_head.weight)
        if self.coefficients.shape != (count,):
            raise ValueError(f"coefficients {tuple(self.coefficients.shape)} do not fit {count} tokens")
        if (self.teacher is None) != (self.teacher_head is None):
            raise ValueError("teacher and teacher_head belong together: give both or neither")
        if self.support is not None and self.kind in OF_TOKENS:
            raise ValueError(f"{self.kind} looks at the sampled token alone: it has no support to choose")
        parts: list[TokenTerm | Gate | Target] = [*self.terms, *self.gates]
        parts += [] if self.target is None else [self.target]
        check_parts(parts, count, vocabulary, self.teacher is not None)
        if self.teacher is None or self.teacher_head is None:
            if self.kind != "cross_entropy":
                raise ValueError(f"{self.kind} needs a teacher")
            return
        if self.teacher.shape != (count, self.teacher_head.weight.shape[1]):
            raise ValueError(f"teacher states {tuple(self.teacher.shape)} do not fit {count} tokens and their head")
        if len(self.teacher_head.weight) != vocabulary:
            raise ValueError(
                f"student and teacher differ in vocabulary: {vocabulary} and {len(self.teacher_head.weight)} tokens"
            )


def check_tokens(hidden: Tensor, head: Head, targets: Tensor, temperature: float, chunk_tokens: int | None) -> None:
    """Raise ValueError where hidden states ``[N, H]``, their head and the targets ``[N]`` do not fit."""
    check_temperature(temperature)
    if hidden.dim() != 2 or hidden.shape[1] != head.weight.shape[1]:
        raise ValueError(f"hidden states {tuple(hidden.shape)} do not fit head {tuple(head.weight.shape)}")
    if targets.shape != hidden.shape[:1] or targets.dtype != torch.int64:
        raise ValueError(f"targets must be int64 [{hidden.shape[0]}], got {targets.dtype} {tuple(targets.shape)}")
    if chunk_tokens is not None and chunk_tokens < 1:
        raise ValueError(f"chunk_tokens must be at least 1, got {chunk_tokens}")
