"""The part of a step without gradient: sample, score, weigh. Its result is all that learning needs.

Everything per token is flat: the completion tokens of the step, one completion after the other, without padding.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from unisd.contexts import PreparedRow
from unisd.errors import UsageError
from unisd.files import stable_integer
from unisd.mechanisms import GOLD, Mechanisms, Reading, StateTerm, Step, TeacherWeights, View, Weights
from unisd.models.head import output_head
from unisd.models.packed import PackedSequence, check_packs
from unisd.objective import Gate, Head, Target, TokenTerm, local_total, token_coefficients
from unisd.rollout import Completion, Request, Sampler, SamplingParams
from unisd.teacher import ReadRequest, score
from unisd.training.arguments import UniSDConfig
from unisd.training.checkpoints import own_key
from unisd.training.ranks import Ranks

Grader = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""(ids of rows, texts of completions) to grades in [0, 1], where 1 is right."""


@dataclass
class Plan:
    """One optimizer step, ready to be learned: this rank's completions, and what the mechanisms gave."""

    step: Step
    sequences: list[PackedSequence]
    """The student's prompts with their completions."""
    offsets: list[int]
    """Where each completion's tokens start in the flat tensors, and the end of the last."""
    weights: Weights = field(default_factory=Weights)
    """What is known before learning."""
    coefficients: Tensor | None = None
    """What each token's divergence is multiplied by, ``[N]`` fp32: Σ over ranks of Σ coefficients · D is the loss."""
    terms: list[TokenTerm] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    state_terms: list[StateTerm] = field(default_factory=list)
    target: Target | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    work: dict[str, int] = field(default_factory=dict)
    """Tokens that the model reads, as :meth:`Work.operations` counts them."""

    def tokens_of(self, sequences: Sequence[int]) -> Tensor:
        """Return the flat positions of the tokens of some completions, in their order."""
        tokens = torch.cat([torch.arange(self.offsets[i], self.offsets[i + 1]) for i in sequences])
        return tokens.to(self.step.targets.device)

    @contextlib.contextmanager
    def timing(self, phase: str) -> Iterator[None]:
        """Add the wall-clock seconds of a block to a phase."""
        start = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


class Planner:
    """Samples, scores and weighs one optimizer step at a time (steps 1 to 3 in docs/architecture.md).

    Args:
        config: the run's settings.
        mechanisms: those that are on.
        model: the unwrapped student.
        teacher: whose weights score; None where the loss needs no teacher.
        sampler: who writes the student's completions.
        ranks: the processes that share the step.
        grader: who grades them; None where nobody can.

    Raises:
        UsageError: a model whose rows cannot be packed.
    """

    def __init__(
        self,
        config: UniSDConfig,
        mechanisms: Mechanisms,
        model: nn.Module,
        teacher: TeacherWeights | None,
        sampler: Sampler,
        ranks: Ranks,
        grader: Grader | None = None,
    ) -> None:
        check_packs(model)
        self.config = config
        self.mechanisms = mechanisms
        self.model = model
        self.teacher = teacher
        self.sampler = sampler
        self.ranks = ranks
        self.grader = grader
        self.own_samples: dict[str, Completion] = {}
        """Completions by `own_key`, for source ``own``; :func:`draw_own_samples` fills it."""

    def plan(self, rows: Sequence[PreparedRow], step: int | str) -> Plan:
        """Return the plan of one optimizer step over this rank's ``rows``; ``step`` keys the random streams."""
        start = time.perf_counter()
        completions = self._completions(rows, step)
        sampled = time.perf_counter() - start
        plan, total = self._laid_out(rows, completions)
        plan.seconds["sample"] = sampled
        with plan.timing("score"):
            self._read(plan, rows)
        with plan.timing("weigh"):
            plan.weights = self.mechanisms.weigh(plan.step)
            plan.coefficients = coefficients(plan.step, plan.weights, self.config.divergence.aggregation)
            plan.terms = self.mechanisms.terms(plan.step)
            plan.gates = self.mechanisms.gates(plan.step)
            plan.state_terms = [term for m in self.mechanisms for term in m.state_terms(plan.step)]
            plan.target = self.mechanisms.target(plan.step)
            self._describe(plan, completions, total)
        return plan

    def _completions(self, rows: Sequence[PreparedRow], step: int | str) -> list[Completion]:
        """Step 1: who writes is a setting; each completion draws from its own stream."""
        config, seed = self.config.rollout, self.config.seed
        if config.source == "own":
            return [self.own_samples[own_key(row)] for row in rows]
        fresh = [
            config.source == "student"
            or (config.source == "mix" and stable_integer(seed, "mix", step, row.id) / 2**63 < config.mix)
            for row in rows
        ]
        seen: dict[str, int] = {}
        requests = []
        for row, sampled in zip(rows, fresh, strict=True):
            if sampled:
                number = seen[row.id] = seen.get(row.id, -1) + 1
                requests.append(Request(row.student_ids, (step, row.id, number)))
        params = sampling_params(self.config)
        written = iter(self.sampler.sample(requests, params) if requests else [])
        return [
            next(written) if sampled else Completion(list(row.completion_ids or []), finished=True)
            for row, sampled in zip(rows, fresh, strict=True)
        ]

    def _laid_out(self, rows: Sequence[PreparedRow], completions: Sequence[Completion]) -> tuple[Plan, Tensor]:
        """Lay the completions out flat; return the plan, and the step's tokens and rows on all ranks."""
        sequences = [PackedSequence(row.student_ids, done.ids) for row, done in zip(rows, completions, strict=True)]
        offsets = [0]
        for done in completions:
            offsets.append(offsets[-1] + len(done.ids))
        device = next(self.model.parameters()).device
        targets = torch.tensor([token for done in completions for token in done.ids], device=device)
        lengths = torch.tensor([len(done.ids) for done in completions], device=device)
        total = self.ranks.sum(torch.tensor([float(len(targets)), float(len(rows))], device=device))
        step = Step(
            items=[row.id for row in rows],
            targets=targets,
            sequence=torch.repeat_interleave(torch.arange(len(rows), device=device), lengths),
            lengths=lengths,
            uniform=1.0 / total[0],
            ranks=self.ranks,
        )
        if self.grader is not None:
            step.grades = functools.cache(functools.partial(self._graded, step, completions))
        plan = Plan(step, sequences, offsets)
        # What sampling reads, and what learning will: student, teacher and the gradient are three products of a
        # token's row with the head.
        read, sampled = sum(map(len, sequences)), self.config.rollout.source in ("student", "mix")
        products = 0 if self.mechanisms.replaces_divergence else 2 + (self.teacher is not None)
        plan.work = {"read": read * sampled, "learned": read, "logits": len(targets) * (products + sampled)}
        return plan, total

    def _graded(self, step: Step, completions: Sequence[Completion]) -> Tensor:
        assert self.grader is not None
        grades = [float(g) for g in self.grader(step.items, [self.sampler.decode(done) for done in completions])]
        if len(grades) != len(completions) or not all(0.0 <= grade <= 1.0 for grade in grades):
            raise UsageError(f"grader: {len(completions)} grades from 0 to 1 were expected, not {grades[:8]}")
        return torch.tensor(grades, device=step.targets.device)

    def _read(self, plan: Plan, rows: Sequence[PreparedRow]) -> None:
        """Step 2: all views of all completions, in one packed pass for each set of weights that reads."""
        if self.teacher is None:
            return
        wanted = [GOLD, *(view for mechanism in self.mechanisms for view in mechanism.views())]
        distinct = {view.same_as(): view for view in reversed(wanted)}
        readers: dict[int, tuple[TeacherWeights, list[View]]] = {}
        for view in wanted:
            if distinct[view.same_as()] is view:
                reader = view.weights or self.teacher
                readers.setdefault(id(reader), (reader, []))[1].append(view)
        for reader, views in readers.values():
            plan.step.readings |= self._readings(plan, rows, reader, views)
        for view in wanted:
            plan.step.readings[view.name] = plan.step.readings[distinct[view.same_as()].name]

    def _readings(
        self, plan: Plan, rows: Sequence[PreparedRow], reader: TeacherWeights, views: Sequence[View]
    ) -> dict[str, Reading]:
        requests: list[ReadRequest] = []
        readers: list[tuple[View, list[int]]] = []
        for view in views:
            prompts = [_prompt(row, view) for row in rows]
            readers.append((view, [i for i, prompt in enumerate(prompts) if prompt is not None]))
            requests.extend(
                ReadRequest(PackedSequence(prompt, sequence.completion_ids), view.temperature, item=i)
                for i, (prompt, sequence) in enumerate(zip(prompts, plan.sequences, strict=True))
                if prompt is not None
            )
        plan.work["read"] += sum(len(request.sequence) for request in requests)
        plan.work["logits"] += sum(len(r.sequence.completion_ids) for r in requests if r.temperature is not None)
        with reader.weights() as model:
            read = iter(score(model, requests, self.config.scoring_budget()))
            head = output_head(model)
            # The tensor as it is now: while the reader's weights are in, the parameter holds their values.
            bias = None if head.bias is None else head.bias.data
            head = Head(head.weight.data, bias, head.softcap, head.scale)
        return {
            view.name: _placed(plan, items, [next(read) for _ in items], head if view.temperature is None else None)
            for view, items in readers
        }

    def _describe(self, plan: Plan, completions: Sequence[Completion], total: Tensor) -> None:
        unfinished = sum(not done.finished for done in completions)
        counts = torch.tensor([float(unfinished)], device=total.device)
        tokens, items, cut = torch.cat([total, self.ranks.sum(counts)]).tolist()
        plan.metrics |= {
            "completions/tokens": tokens,
            "completions/mean_length": tokens / items,
            "completions/unfinished": cut / items,
        }


def _prompt(row: PreparedRow, view: View) -> list[int] | None:
    """Return the prompt in which a view reads a row's completion; without gold it is the student's own."""
    prompts = row.contexts.get(view.slot, [])
    if view.number < len(prompts):
        return prompts[view.number]
    return row.student_ids if view.slot == GOLD.slot else None


def _placed(plan: Plan, items: Sequence[int], parts: Sequence[Tensor], head: Head | None) -> Reading:
    """Put what was read of some rows where their tokens are."""
    targets = plan.step.targets
    present = torch.ones_like(targets, dtype=torch.bool)
    if len(items) == len(plan.sequences):
        return Reading(torch.cat(list(parts)), present, head)
    like = parts[0] if parts else torch.empty(0, dtype=torch.float32, device=targets.device)
    values = like.new_zeros(len(targets), *like.shape[1:])
    present.zero_()
    for i, part in zip(items, parts, strict=True):
        tokens = slice(plan.offsets[i], plan.offsets[i + 1])
        values[tokens], present[tokens] = part, True
    return Reading(values, present, head)


def coefficients(step: Step, weights: Weights, aggregation: Any) -> Tensor:
    """Return what each token's divergence is multiplied by ``[N]``, exact over the whole step and all ranks."""
    token = torch.ones(len(step.targets), device=step.targets.device) if weights.token is None else weights.token
    total = step.ranks.sum(local_total(token, step.sequence, weights.sequence, aggregation))
    return token_coefficients(token, step.sequence, weights.sequence, aggregation, total)


def sampling_params(config: UniSDConfig) -> SamplingParams:
    """Return how the student samples during training."""
    rollout = config.rollout
    return SamplingParams(rollout.max_completion_length, rollout.temperature, rollout.top_p, config.seed)


def draw_own_samples(
    config: UniSDConfig,
    rows: Sequence[PreparedRow],
    initial: TeacherWeights,
    sampler: Sampler,
    progress: Any = "own samples",
) -> dict[str, Completion]:
    """Sample one completion per row from the initial model, once for the whole run (the baseline ssd); by `own_key`."""
    requests = [Request(row.student_ids, ("own", row.id)) for row in rows]
    with initial.weights():
        written = sampler.sample(requests, sampling_params(config), progress)
    return {own_key(row): done for row, done in zip(rows, written, strict=True)}
