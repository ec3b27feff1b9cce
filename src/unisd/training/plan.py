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
from unisd.errors import UniSDError, UsageError
from unisd.mechanisms import GOLD, Mechanisms, Reading, StateTerm, Step, TeacherWeights, View, Weights
from unisd.models.head import output_head
from unisd.models.packed import PackedSequence
from unisd.models.trust import trusted
from unisd.objective import Gate, Head, Target, TokenTerm, local_total, token_coefficients
from unisd.rollout import Completion, Sampler
from unisd.tasks.parallel import wants_cut
from unisd.tasks.turns import reply_of
from unisd.teacher import ReadRequest, score
from unisd.training.arguments import UniSDConfig
from unisd.training.collapse import repeated
from unisd.training.ranks import Ranks
from unisd.training.window import Window
from unisd.training.write import Writer

Grader = Callable[..., Sequence[float]]
"""(ids of rows, texts of completions) to grades in [0, 1], where 1 is right. One that has a method ``readable`` of the
same arguments says with it in which texts an answer can be read."""


@dataclass
class Plan:
    """One optimizer step, ready to be learned: this rank's completions, and what the mechanisms gave."""

    step: Step
    sequences: list[PackedSequence]
    """The student's prompts with their completions."""
    offsets: list[int]
    """Where each completion's tokens start in the flat tensors, and the end of the last."""
    completions: Sequence[Completion]
    """Them as they were written, those that are left out included."""
    weights: Weights = field(default_factory=Weights)
    """What is known before learning."""
    coefficients: Tensor | None = None
    """What each token's divergence is multiplied by, ``[N]`` fp32: Σ over ranks of Σ coefficients · D is the loss."""
    terms: list[TokenTerm] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    state_terms: list[StateTerm] = field(default_factory=list)
    target: Target | None = None
    counted: bool = True
    """Whether any token of the step carries a loss, on any rank."""
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    openings: list[list[int]] = field(default_factory=list)
    """The first tokens of each completion, which carry no loss: they end its prompts."""
    work: dict[str, int] = field(default_factory=dict)
    """Tokens that the model reads, as :meth:`Work.operations` counts them."""

    def tokens_of(self, sequences: Sequence[int]) -> Tensor:
        """Return the flat positions of the tokens of some completions, in their order."""
        found = [torch.arange(self.offsets[i], self.offsets[i + 1]) for i in sequences]
        tokens = torch.cat(found) if found else torch.empty(0, dtype=torch.int64)
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
        UsageError: a model that does not read text from left to right.
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
        trusted(model)  # what it finds is said before anything is sampled
        self.config = config
        self.mechanisms = mechanisms
        self.model = model
        self.teacher = teacher
        self.sampler = sampler
        self.ranks = ranks
        self.grader = grader
        self.writer = Writer(config, sampler, teacher)
        self.window: Window | None = None
        """What was written for several steps, while it is in use."""

    def plan(self, rows: Sequence[PreparedRow], step: int | str) -> Plan:
        """Return the plan of one optimizer step over this rank's ``rows``; ``step`` keys the random streams."""
        start = time.perf_counter()
        rows = [row for row in rows for _ in range(self.config.rollout.num_generations)]
        again = isinstance(step, int) and step % self.mechanisms.uses > 0
        completions = self._kept(rows) if again else self.writer.completions(rows, step)
        sampled = time.perf_counter() - start
        plan, total = self._laid_out(rows, completions, again)
        plan.seconds["sample"] = sampled
        if self.config.rollout.source == "mix":
            plan.metrics |= self._mixed(rows, completions, step)
        if isinstance(step, int) and self.mechanisms.uses > 1 and not again:
            self.window = Window.of(plan.step, completions, [len(s.completion_ids) for s in plan.sequences])
        # Only where tokens are left out can it be that none counts: a number is not read for nothing.
        partly = self.config.rollout.mask_truncated_completions or plan.step.skipped
        plan.counted = not partly or bool(total[0] > 0)
        if not plan.counted:
            plan.coefficients = plan.step.uniform.new_empty(0)
            self._describe(plan, total)
            return plan
        with plan.timing("score"):
            self._read(plan, rows, again)
        with plan.timing("weigh"):
            plan.weights = self.mechanisms.weigh(plan.step)
            plan.coefficients = coefficients(plan.step, plan.weights, self.config.divergence.aggregation)
            plan.terms = self.mechanisms.terms(plan.step)
            plan.gates = self.mechanisms.gates(plan.step)
            plan.state_terms = [term for m in self.mechanisms for term in m.state_terms(plan.step)]
            plan.target = self.mechanisms.target(plan.step)
            self._describe(plan, total)
        return plan

    def _kept(self, rows: Sequence[PreparedRow]) -> Sequence[Completion]:
        """Return what an earlier step wrote for these rows."""
        if self.window is None or list(self.window.items) != [row.id for row in rows]:
            raise UniSDError(
                "what an earlier step wrote for these rows is not in the checkpoint; resume from one at a step that "
                f"{self.mechanisms.uses} divides, with batch sizes and data as they were"
            )
        return self.window.completions

    def _laid_out(
        self, rows: Sequence[PreparedRow], completions: Sequence[Completion], again: bool
    ) -> tuple[Plan, Tensor]:
        """Lay the completions out flat; return the plan, and on all ranks the tokens that count, the completions, and
        all tokens that were written.

        A completion that is left out has no tokens, and first tokens without loss end the prompts: nothing reads,
        weighs or counts them. ``again`` says that all were written by an earlier step.
        """
        finished_only, skipped = self.config.rollout.mask_truncated_completions, self.config.divergence.skip_tokens
        openings = [done.ids[:skipped] for done in completions]
        sequences = [
            PackedSequence(
                [*row.student_ids, *opening], done.ids[skipped:] if done.finished or not finished_only else []
            )
            for row, opening, done in zip(rows, openings, completions, strict=True)
        ]
        offsets = [0]
        for sequence in sequences:
            offsets.append(offsets[-1] + len(sequence.completion_ids))
        device = next(self.model.parameters()).device
        tokens = [token for sequence in sequences for token in sequence.completion_ids]
        targets = torch.tensor(tokens, dtype=torch.int64, device=device)
        lengths = torch.tensor([len(sequence.completion_ids) for sequence in sequences], device=device)
        written = sum(len(done.ids) for done in completions)
        total = self.ranks.sum(torch.tensor([len(tokens), len(rows), written], dtype=torch.float32, device=device))
        step = Step(
            items=[row.id for row in rows],
            targets=targets,
            sequence=torch.repeat_interleave(torch.arange(len(rows), device=device), lengths, output_size=len(tokens)),
            lengths=lengths,
            uniform=1.0 / total[0].clamp(min=1.0),
            ranks=self.ranks,
            skipped=skipped,
        )
        if again and self.window is not None:
            step.written_logprobs = self.window.values.get("student_logprobs")
            step.grades = self.window.grades
        if self.grader is not None and step.grades is None:
            step.grades = functools.cache(functools.partial(self._graded, step, rows, completions))
        plan = Plan(step, sequences, offsets, completions, openings=openings)
        # What sampling reads, and what learning will: student, teacher and the gradient are three products of a
        # token's row with the head.
        read = 0 if again else self.writer.tokens_read(rows, completions)
        learned = sum(len(sequence) for sequence in sequences if sequence.completion_ids)
        products = 0 if self.mechanisms.replaces_divergence else 2 + self.config.needs_teacher
        plan.work = {"read": read, "learned": learned, "logits": len(targets) * products + written * (read > 0)}
        return plan, total

    def _mixed(
        self, rows: Sequence[PreparedRow], completions: Sequence[Completion], step: int | str
    ) -> dict[str, float]:
        """Return what is to be told of a mixture, on all ranks, and let its share follow what the student wrote."""
        mix, sampled = self.writer.mix, self.writer.sampled(rows, step)
        found = {"mix/share": mix.share(step)}
        reader = (
            getattr(self.grader, "readable", None) if mix.schedule == "readable" and isinstance(step, int) else None
        )
        own = [(row, done) for row, done, own in zip(rows, completions, sampled, strict=True) if own]
        read = 0
        if reader is not None and own:
            asked, written = zip(*own, strict=True)
            told = _told(reader, written)
            read = sum(reader([row.id for row in asked], self._texts(asked, written), **told))
        device = next(self.model.parameters()).device
        counts = self.ranks.sum(torch.tensor([len(own), len(rows), read], dtype=torch.float32, device=device))
        drawn, every, readable = counts.tolist()
        if reader is not None:
            mix.follow(readable, drawn)
            found["mix/readable"] = mix.readable
        return found | {"mix/sampled": drawn / every}

    def _texts(self, rows: Sequence[PreparedRow], completions: Sequence[Completion]) -> list[str]:
        """Return what is graded of completions."""
        texts = [row.opened + self.sampler.decode(done) for row, done in zip(rows, completions, strict=True)]
        return [reply_of(text) for text in texts] if self.config.rollout.thoughts == "cut" else texts

    def _graded(self, step: Step, rows: Sequence[PreparedRow], completions: Sequence[Completion]) -> Tensor:
        assert self.grader is not None
        given = self.grader(step.items, self._texts(rows, completions), **_told(self.grader, completions))
        try:
            grades = [float(grade) for grade in given]
        except (TypeError, ValueError) as error:
            raise UsageError(f"grader: a list of numbers was expected, not {given!r:.80}") from error
        if len(grades) != len(completions) or not all(0.0 <= grade <= 1.0 for grade in grades):
            raise UsageError(f"grader: {len(completions)} grades from 0 to 1 were expected, not {grades[:8]}")
        return torch.tensor(grades, device=step.targets.device)

    def _read(self, plan: Plan, rows: Sequence[PreparedRow], again: bool) -> None:
        """Step 2: all views of all completions, in one packed pass for each set of weights that reads.

        What weights that never move have read of the same completions before, is not read ``again``.
        """
        if self.teacher is None or not self.config.needs_teacher:
            return
        wanted = [GOLD, *(view for mechanism in self.mechanisms for view in mechanism.views())]
        distinct = {view.same_as(): view for view in reversed(wanted)}
        readers: dict[int, tuple[TeacherWeights, list[View]]] = {}
        for view in wanted:
            if distinct[view.same_as()] is view:
                reader = view.weights or self.teacher
                readers.setdefault(id(reader), (reader, []))[1].append(view)
        known = self.window.readings if again and self.window is not None else {}
        for reader, views in readers.values():
            if known and reader.kind == "initial":
                plan.step.readings |= {view.name: known[view.name] for view in views}
            else:
                plan.step.readings |= self._readings(plan, rows, reader, views)
        for view in wanted:
            plan.step.readings[view.name] = plan.step.readings[distinct[view.same_as()].name]

    def _readings(
        self, plan: Plan, rows: Sequence[PreparedRow], reader: TeacherWeights, views: Sequence[View]
    ) -> dict[str, Reading]:
        requests: list[ReadRequest] = []
        readers: list[tuple[View, list[int]]] = []
        for view in views:
            prompts = {
                i: [*prompt, *plan.openings[i]]
                for i, row in enumerate(rows)
                if plan.sequences[i].completion_ids and (prompt := _prompt(row, view)) is not None
            }
            readers.append((view, list(prompts)))
            requests.extend(
                ReadRequest(PackedSequence(prompt, plan.sequences[i].completion_ids), view.temperature, item=i)
                for i, prompt in prompts.items()
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

    def _describe(self, plan: Plan, total: Tensor) -> None:
        unfinished = sum(not done.finished for done in plan.completions)
        again = repeated(done.ids for done in plan.completions)
        counts = torch.tensor([float(unfinished), *map(float, again)], device=total.device)
        _, items, tokens, cut, before, runs = torch.cat([total, self.ranks.sum(counts)]).tolist()
        plan.metrics |= {
            "completions/tokens": tokens,
            "completions/mean_length": tokens / items,
            "completions/unfinished": cut / items,
            "completions/repetition": before / max(runs, 1.0),
        }
        if self.config.rollout.mask_truncated_completions:
            plan.metrics["completions/left_out"] = cut


def check_reader(config: UniSDConfig, grader: Grader | None) -> None:
    """Make sure that somebody reads answers, where a mixture's share follows those that can be read.

    Raises:
        UsageError: nobody does.
    """
    if config.rollout.mix_schedule == "readable" and not hasattr(grader, "readable"):
        raise UsageError(
            "rollout.mix_schedule: nobody here can say whether an answer is readable; use linear, or give a grader "
            "that has a method readable"
        )


def _told(grader: Callable[..., Any], completions: Sequence[Completion]) -> dict[str, list[bool]]:
    """Return what a grader is told beside the texts, if it asks for it: which of them the length limit ended."""
    return {"cut": [not done.finished for done in completions]} if wants_cut(grader) else {}


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
    if parts and len(items) == len(plan.sequences):
        return Reading(torch.cat(list(parts)), present, head)
    width, dtype = ((), torch.float32) if head is None else (head.weight.shape[1:], head.weight.dtype)
    like = parts[0] if parts else torch.empty(0, *width, dtype=dtype, device=targets.device)
    values = like.new_zeros(len(targets), *like.shape[1:])
    present.zero_()
    for i, part in zip(items, parts, strict=True):
        tokens = slice(plan.offsets[i], plan.offsets[i + 1])
        values[tokens], present[tokens] = part, True
    return Reading(values, present, head)


def coefficients(step: Step, weights: Weights, aggregation: Any) -> Tensor:
    """Return what each token's divergence is multiplied by ``[N]``, exact over the whole step and all ranks."""
    token = torch.ones(len(step.targets), device=step.targets.device) if weights.token is None else weights.token
    # Ones in place of none: how many completions there are would have to be read from the device.
    sequence = token.new_ones(len(step.items)) if weights.sequence is None else weights.sequence
    total = step.ranks.sum(local_total(token, step.sequence, sequence, aggregation))
    return token_coefficients(token, step.sequence, sequence, aggregation, total)
