"""One pass over all tokens, a chunk at a time: every value that needs logits, and the gradient in the same pass.

Two nested loops. A *chunk* of tokens is what the matrix products work on: many rows, so that the weight is read
seldom. A *block* is the few rows of it that stay in a processor's cache while the elementwise passes go over them.
Only the logits of student and teacher are as large as a chunk; the gradient then takes the place of the student's.

Nothing here reads a tensor's value on the host: a device runs through the whole sweep without waiting.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unisd.objective import _kinds, support
from unisd.objective.clipping import as_cap
from unisd.objective.head import Head, finish_logits, hidden_gradient, project, softcap_slope, working_dtype
from unisd.objective.parts import Seen, at
from unisd.objective.problem import Problem

# Room for the logits of a chunk. On a CPU more is no faster; an accelerator wants long products and few launches.
_CPU_BYTES = 32 * 2**20
_DEVICE_BYTES = 512 * 2**20
# With fewer tokens, reading the weight costs more than multiplying by it, however large the vocabulary.
_MIN_TOKENS = 128
_BLOCK_BYTES = 4 * 2**20


@dataclass
class Outcome:
    """Per-token values ``[N]`` by name, and the gradient of the whole loss where it was wanted, without a graph."""

    values: dict[str, Tensor]
    factors: Tensor
    """What the divergences are multiplied by in the end: coefficients and gates, ``[N]``."""
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
    """A pass in progress: the problem, the outcome so far, and the storage that all chunks share.

    Args:
        problem: what to compute, already checked.
        hidden: whether a gradient in the student's hidden states is wanted.
        weight: whether one in the weight of its head is.
        bias: whether one in the bias of its head is.
    """

    def __init__(self, problem: Problem, hidden: bool, weight: bool, bias: bool) -> None:
        self.problem = problem
        self.want_gradient = hidden or weight or bias
        heads = [used for used in (problem.student_head, problem.teacher_head) if used is not None]
        heads += problem.target.heads if problem.target is not None else ()
        self.dtype = working_dtype(problem.student, problem.teacher, *(used.weight for used in heads))
        like = torch.empty(0, dtype=self.dtype, device=problem.student.device)
        (count, width), vocabulary = problem.student.shape, problem.student_head.weight.shape[0]
        self.chunk, block = plan(count, vocabulary, like, len(heads), problem.chunk_tokens)
        self.logits = [like.new_empty(self.chunk, vocabulary) for _ in heads]
        needs_slope = problem.student_head.softcap is not None and self.want_gradient
        self.scratch = [like.new_empty(block, vocabulary) for _ in range(4 if needs_slope else 3)]
        self.block = block
        # All tokens, or more than there are, is the whole vocabulary.
        self.partial = problem.support if problem.support and problem.support.k < vocabulary else None
        self.factors = problem.coefficients.detach().to(self.dtype).clone()
        self.cap = None if problem.cap is None else as_cap(problem.cap, like, count)
        self.nowhere = like.new_full((), torch.nan)
        names = ["divergence", "student_logprobs", "entropy", *(gate.name for gate in problem.gates)]
        names += [] if problem.teacher is None else ["teacher_logprobs"]
        names += [] if problem.target is None else [problem.target.name]
        names += [name for term in problem.terms for name in (term.name, f"{term.name}/slope")]
        self.outcome = Outcome(
            values={name: like.new_empty(count) for name in names},
            factors=self.factors.clone(),
            hidden_gradient=like.new_empty(count, width) if hidden else None,
            weight_gradient=like.new_zeros(vocabulary, width) if weight else None,
            bias_gradient=like.new_zeros(vocabulary) if bias else None,
        )
        self.outcome.values["clipped"] = torch.zeros(count, dtype=torch.bool, device=like.device)

    def run(self) -> Outcome:
        """Go over all tokens once."""
        count = self.problem.student.shape[0]
        for start in range(0, count, self.chunk):
            self._chunk(slice(start, min(start + self.chunk, count)))
        return self.outcome

    def _chunk(self, tokens: slice) -> None:
        problem, size = self.problem, tokens.stop - tokens.start
        read = [(problem.student, problem.student_head)]
        if problem.teacher is not None and problem.teacher_head is not None:
            read.append((problem.teacher, problem.teacher_head))
        if problem.target is not None:
            read.extend(zip(problem.target.states, problem.target.heads, strict=True))
        logits = [
            project(states[tokens], head, problem.temperature, room)
            for (states, head), room in zip(read, self.logits, strict=True)
        ]
        heads = [head for _, head in read]
        for first in range(0, size, self.block):
            last = min(first + self.block, size)
            rows = slice(tokens.start + first, tokens.start + last)
            self._block([each[first:last] for each in logits], heads, rows)
        if self.want_gradient:
            self._collect(logits[0], tokens)

    def _block(self, logits: list[Tensor], heads: list[Head], tokens: slice) -> None:
        """Values of a few rows; the student's logits then hold the gradient in them, if it is wanted."""
        problem, values = self.problem, self.outcome.values
        z, *teachers = logits
        p, q, work, *extra = (buffer[: z.shape[0]] for buffer in self.scratch)
        for each, head in zip(logits, heads, strict=True):
            finish_logits(each, head, problem.temperature)
        if extra:
            softcap_slope(z, problem.student_head, problem.temperature, out=extra[0])
        peak, height = _kinds.log_normalizer(z, p)
        values["student_logprobs"][tokens] = s = token_logprob(z, problem.targets[tokens], peak, height)
        values["entropy"][tokens] = entropy = (peak - height).sub_(torch.mul(p, z, out=work).sum(-1))
        seen = Seen(s, self.nowhere, entropy, self.nowhere)
        if teachers:
            seen, teacher_peak, teacher_height = self._teacher(seen, teachers, q, work, tokens)
            if not self.partial:
                shift = (peak - teacher_peak).sub_(height - teacher_height)
                z.sub_(teachers[0]).sub_(shift.unsqueeze(1))
        rows = _kinds.Rows(p, q, z, spare=teachers[0] if teachers else z, work=work)
        values["divergence"][tokens] = self._divergence(rows, s, tokens)
        self._gate(seen, tokens)
        self._clip(tokens)
        if problem.terms:
            self._terms(z, p, seen, tokens)
        if extra:
            z.mul_(extra[0])

    def _divergence(self, rows: _kinds.Rows, s: Tensor, tokens: slice) -> Tensor:
        """Value of a few rows' divergence; the gradient then stands in ``rows.d``, if it is wanted.

        Until then there are the log-ratios in it, or, for a part of the vocabulary, the student's logits, with the
        teacher's in ``rows.spare``.
        """
        problem, targets = self.problem, self.problem.targets[tokens]
        if problem.kind == "cross_entropy":
            if self.want_gradient:
                _kinds.cross_entropy_gradient(rows.p, targets, out=rows.d)
            return -s
        if problem.kind == "sampled_reverse_kl":
            return _kinds.sampled_reverse_kl(rows.p, rows.d, targets, self.want_gradient)
        if self.partial:
            how = (self.partial, problem.kind, problem.alpha, self.want_gradient)
            value = support.divergence(rows.d, rows.spare, *how)
        else:
            value = _kinds.divergence(rows, problem.kind, problem.alpha, self.want_gradient)
        # Zero is the truth; rounding may fall on either side of it.
        return value.clamp_min_(0.0)

    def _teacher(
        self, seen: Seen, teachers: list[Tensor], q: Tensor, work: Tensor, tokens: slice
    ) -> tuple[Seen, Tensor, Tensor]:
        """Write the distribution to match to ``q``, its logits over the teacher's; return its log-normaliser, too."""
        problem, values = self.problem, self.outcome.values
        z, *others = teachers
        peak, height = _kinds.log_normalizer(z, q)
        values["teacher_logprobs"][tokens] = g = token_logprob(z, problem.targets[tokens], peak, height)
        seen = replace(seen, g=g)
        if any(gate.teacher_entropy for gate in problem.gates):
            seen = replace(seen, teacher_entropy=(peak - height).sub_(torch.mul(q, z, out=work).sum(-1)))
        if problem.target is not None:
            present = problem.target.present[tokens].unsqueeze(1)
            plain = work.copy_(z)
            value = problem.target.function(z, *others)
            torch.where(present, z, plain, out=z)
            values[problem.target.name][tokens] = value = torch.where(present.squeeze(1), value, 1.0)
            if problem.target.gates:
                self._multiply(value, tokens)
            peak, height = _kinds.log_normalizer(z, q)
        return seen, peak, height

    def _gate(self, seen: Seen, tokens: slice) -> None:
        for gate in self.problem.gates:
            factor = gate.function(seen, *(tensor[tokens] for tensor in gate.inputs)).to(self.dtype)
            self.outcome.values[gate.name][tokens] = factor
            self._multiply(factor, tokens)

    def _multiply(self, factor: Tensor, tokens: slice) -> None:
        self.factors[tokens] *= factor
        self.outcome.factors[tokens] *= factor

    def _clip(self, tokens: slice) -> None:
        if self.cap is not None:
            clipped = self.outcome.values["divergence"][tokens] > (self.cap[tokens] if self.cap.dim() else self.cap)
            self.outcome.values["clipped"][tokens] = clipped
            self.factors[tokens].masked_fill_(clipped, 0.0)

    def _terms(self, z: Tensor, p: Tensor, seen: Seen, tokens: slice) -> None:
        """Values of the token terms; adds their gradient, push (onehot - p), to the divergence's, finished first."""
        values, push = self.outcome.values, torch.zeros_like(seen.s)
        for term in (at(each, tokens) for each in self.problem.terms):
            value, slope = term.function(seen, *term.inputs)
            values[term.name][tokens] = value.masked_fill(~term.present, 0.0)
            values[f"{term.name}/slope"][tokens] = slope.masked_fill(~term.present, 0.0)
            push += (term.coefficients.detach() * slope).masked_fill(~term.present, 0.0)
        if self.want_gradient:
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
