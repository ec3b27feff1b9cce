"""One pass over all tokens, a chunk at a time: every value that needs logits, and the gradient in the same pass.

Two nested loops. A *chunk* of tokens is what the matrix products work on: many rows, so that the weight is read
seldom. A *block* is the few rows of it that stay in a processor's cache while the elementwise passes go over them.
Only the logits of student and teacher are as large as a chunk; the gradient then takes the place of the student's.

Nothing here reads a tensor's value on the host: a device runs through the whole sweep without waiting.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unisd.objective import _kinds
from unisd.objective.clipping import as_cap
from unisd.objective.contrast import Contrast, contrast_loss, contrast_slope, live
from unisd.objective.divergence import DivergenceKind
from unisd.objective.head import (
    Head,
    finish_logits,
    hidden_gradient,
    project,
    softcap_slope,
    working_dtype,
)

# Room for the logits of a chunk. On a CPU more is no faster; an accelerator wants long products and few launches.
_CPU_BYTES = 32 * 2**20
_DEVICE_BYTES = 512 * 2**20
# With fewer tokens, reading the weight costs more than multiplying by it, however large the vocabulary.
_MIN_TOKENS = 128
_BLOCK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Problem:
    """What to compute, already checked."""

    student: Tensor
    student_head: Head
    targets: Tensor
    coefficients: Tensor
    kind: DivergenceKind
    alpha: float
    temperature: float
    teacher: Tensor | None
    teacher_head: Head | None
    cap: float | Tensor | None
    contrast: Contrast | None
    chunk_tokens: int | None
    want_hidden: bool
    want_weight: bool
    want_bias: bool

    @property
    def want_gradient(self) -> bool:
        """Whether anything at all needs a gradient."""
        return self.want_hidden or self.want_weight or self.want_bias


@dataclass
class Outcome:
    """Per-token values [N], and the gradient of the whole loss where it was wanted; no graph hangs on any of it."""

    divergence: Tensor
    clipped: Tensor
    student_logprobs: Tensor
    entropy: Tensor
    teacher_logprobs: Tensor | None
    hinge: Tensor | None
    live: Tensor | None
    hidden_gradient: Tensor | None
    weight_gradient: Tensor | None
    bias_gradient: Tensor | None


def plan(n_tokens: int, vocabulary: int, like: Tensor, copies: int, chunk_tokens: int | None = None) -> tuple[int, int]:
    """Choose (tokens per chunk, rows per block) for `copies` logit tensors with the dtype and device of `like`."""
    row = vocabulary * like.dtype.itemsize
    on_cpu = like.device.type == "cpu"
    if chunk_tokens is None:
        # On an accelerator a block is the whole chunk, so that its scratch tensors count like logits.
        budget = _CPU_BYTES // copies if on_cpu else _DEVICE_BYTES // (copies + 3)
        chunk_tokens = max(_MIN_TOKENS, budget // row)
    # Chunks of equal size: a short last one would read the whole weight for a few tokens.
    n_chunks = max(1, -(-n_tokens // chunk_tokens))
    chunk = max(1, -(-n_tokens // n_chunks))
    block = max(torch.get_num_threads(), _BLOCK_BYTES // row) if on_cpu else chunk
    return chunk, min(block, chunk)


def token_logprob(logits: Tensor, targets: Tensor, peak: Tensor, height: Tensor) -> Tensor:
    """Log-probability [R] of the targets [R] from logits [R, V] and their `_kinds.log_normalizer`."""
    return logits.gather(1, targets.unsqueeze(1)).squeeze(1).sub_(peak).add_(height)


class Sweep:
    """A pass in progress: the problem, the outcome so far, and the storage that all chunks share."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        heads = [used for used in (problem.student_head, problem.teacher_head) if used is not None]
        self.dtype = working_dtype(problem.student, problem.teacher, *(used.weight for used in heads))
        like = torch.empty(0, dtype=self.dtype, device=problem.student.device)
        count, vocabulary = problem.student.shape[0], problem.student_head.weight.shape[0]
        self.chunk, block = plan(count, vocabulary, like, len(heads), problem.chunk_tokens)
        self.logits = [like.new_empty(self.chunk, vocabulary) for _ in heads]
        needs_slope = problem.student_head.softcap is not None and problem.want_gradient
        self.scratch = [like.new_empty(block, vocabulary) for _ in range(4 if needs_slope else 3)]
        self.block = block
        self.coefficients = problem.coefficients.detach().to(self.dtype)
        self.factors = self.coefficients.clone()
        self.cap = None if problem.cap is None else as_cap(problem.cap, like)
        self.outcome = self._blank(like, count, vocabulary)

    def _blank(self, like: Tensor, count: int, vocabulary: int) -> Outcome:
        problem, width = self.problem, self.problem.student.shape[1]
        nowhere = torch.zeros(count, dtype=torch.bool, device=like.device)
        return Outcome(
            divergence=like.new_empty(count),
            clipped=nowhere,
            student_logprobs=like.new_empty(count),
            entropy=like.new_empty(count),
            teacher_logprobs=None if problem.teacher is None else like.new_empty(count),
            hinge=None if problem.contrast is None else like.new_empty(count),
            live=None if problem.contrast is None else nowhere.clone(),
            hidden_gradient=like.new_empty(count, width) if problem.want_hidden else None,
            weight_gradient=like.new_zeros(vocabulary, width) if problem.want_weight else None,
            bias_gradient=like.new_zeros(vocabulary) if problem.want_bias else None,
        )

    def run(self) -> Outcome:
        """Go over all tokens once."""
        count = self.problem.student.shape[0]
        for start in range(0, count, self.chunk):
            self._chunk(slice(start, min(start + self.chunk, count)))
        return self.outcome

    def _chunk(self, tokens: slice) -> None:
        problem = self.problem
        size = tokens.stop - tokens.start
        z = project(problem.student[tokens], problem.student_head, problem.temperature, self.logits[0])
        teacher_z = None
        if problem.teacher is not None and problem.teacher_head is not None:
            teacher_z = project(problem.teacher[tokens], problem.teacher_head, problem.temperature, self.logits[1])
        for first in range(0, size, self.block):
            last = min(first + self.block, size)
            rows = slice(tokens.start + first, tokens.start + last)
            self._block(z[first:last], None if teacher_z is None else teacher_z[first:last], rows)
        if problem.want_gradient:
            self._collect(z, tokens)

    def _block(self, z: Tensor, teacher_z: Tensor | None, tokens: slice) -> None:
        """Values of a few rows; `z` holds the student's logits and then, if wanted, the gradient in them."""
        problem, outcome = self.problem, self.outcome
        p, q, work, *extra = (buffer[: z.shape[0]] for buffer in self.scratch)
        targets = problem.targets[tokens]
        finish_logits(z, problem.student_head, problem.temperature)
        if extra:
            softcap_slope(z, problem.student_head, problem.temperature, out=extra[0])
        peak, height = _kinds.log_normalizer(z, p)
        s = token_logprob(z, targets, peak, height)
        outcome.student_logprobs[tokens] = s
        outcome.entropy[tokens] = (peak - height).sub_(torch.mul(p, z, out=work).sum(-1))
        d = z
        if teacher_z is not None and problem.teacher_head is not None:
            finish_logits(teacher_z, problem.teacher_head, problem.temperature)
            teacher_peak, teacher_height = _kinds.log_normalizer(teacher_z, q)
            assert outcome.teacher_logprobs is not None
            outcome.teacher_logprobs[tokens] = token_logprob(teacher_z, targets, teacher_peak, teacher_height)
            shift = (peak - teacher_peak).sub_(height - teacher_height)
            d.sub_(teacher_z).sub_(shift.unsqueeze(1))
        if problem.kind == "cross_entropy":
            outcome.divergence[tokens] = -s
            if problem.want_gradient:
                _kinds.cross_entropy_gradient(p, targets, out=z)
        else:
            assert teacher_z is not None
            rows = _kinds.Rows(p, q, d, spare=teacher_z, work=work)
            value = _kinds.divergence(rows, problem.kind, problem.alpha, problem.want_gradient)
            # Zero is the truth; rounding may fall on either side of it.
            outcome.divergence[tokens] = value.clamp_min_(0.0)
        self._clip(tokens)
        if problem.contrast is not None:
            self._contrast(z, p, problem.contrast, tokens)
        if extra:
            z.mul_(extra[0])

    def _clip(self, tokens: slice) -> None:
        if self.cap is not None:
            clipped = self.outcome.divergence[tokens] > self.cap
            self.outcome.clipped[tokens] = clipped
            self.factors[tokens].masked_fill_(clipped, 0.0)

    def _contrast(self, z: Tensor, p: Tensor, contrast: Contrast, tokens: slice) -> None:
        """Hinge of a few rows; adds its gradient, push (onehot - p), to the divergence's, which is finished first."""
        outcome = self.outcome
        assert outcome.teacher_logprobs is not None
        assert outcome.hinge is not None
        assert outcome.live is not None
        s, g = outcome.student_logprobs[tokens], outcome.teacher_logprobs[tokens]
        b, present = contrast.negative_logprobs[tokens].detach().to(s.dtype), contrast.present[tokens]
        outcome.hinge[tokens] = contrast_loss(s, g, b, contrast.margin).masked_fill_(~present, 0.0)
        outcome.live[tokens] = live(s, g, b, contrast.margin) & present
        if self.problem.want_gradient:
            slope = contrast_slope(s, g, b, contrast.margin)
            push = (contrast.coefficients[tokens].detach() * slope).masked_fill_(~present, 0.0).to(s.dtype)
            z.mul_(self.factors[tokens].unsqueeze(1)).addcmul_(p, push.unsqueeze(1), value=-1.0)
            _kinds.add_at(z, self.problem.targets[tokens], push)
            self.factors[tokens] = 1.0

    def _collect(self, z: Tensor, tokens: slice) -> None:
        """Carry the logits' gradient on to the hidden states and the head; row factors act on the narrow side."""
        problem, outcome = self.problem, self.outcome
        factor = self.factors[tokens].mul(problem.student_head.scale / problem.temperature).unsqueeze(1)
        if outcome.hidden_gradient is not None:
            outcome.hidden_gradient[tokens] = hidden_gradient(z, problem.student_head).mul_(factor)
        if outcome.weight_gradient is not None:
            outcome.weight_gradient.addmm_(z.t(), problem.student[tokens].to(self.dtype).mul(factor))
        if outcome.bias_gradient is not None:
            outcome.bias_gradient.addmv_(z.t(), factor.squeeze(1))
