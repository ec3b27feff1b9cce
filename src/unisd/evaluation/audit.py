"""Before any training: what the teacher has to teach, in every layout and context; see docs/evaluation.md."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from unisd.contexts import Context, Layout, Making, Need, PromptBuilder, get
from unisd.contexts.kinds.induction import Induction
from unisd.devices import wide
from unisd.errors import UniSDError, UsageError
from unisd.evaluation.answers import Evaluation, in_words
from unisd.evaluation.compare import Comparison, compare
from unisd.evaluation.evaluate import evaluate
from unisd.evaluation.headroom import gold_contexts, measure
from unisd.evaluation.likelihood import BUDGET, fits
from unisd.files import stable_integer
from unisd.models.head import output_head
from unisd.models.load import max_positions
from unisd.models.packed import PackedSequence
from unisd.objective import divergence, logits
from unisd.rollout import CompletionStore, Sampler
from unisd.tasks import Example, Task
from unisd.teacher import ReadRequest, score

LAYOUTS: tuple[Layout, ...] = ("paper", "turn", "system")
KINDS = ("random", "retrieval", "induction")
_CHUNK = 128
_WORTH = 0.1
"""The gain that is worth training for: ten points."""
_FEW = 20
"""Items below which a gain of 30 points would hardly be seen: six answers must turn right, and none wrong, before
McNemar's exact test calls that sure."""


@dataclass(frozen=True)
class Agreement:
    """Whether probes that agree are right: K retrieved contexts, one answer each; agreement is not truth."""

    probes: int
    items: int
    agreed: int
    """Items on which all probes gave the same readable answer."""
    right_where_agreed: int
    right_elsewhere: int
    """Items on which the most frequent answer of probes that differ is right."""
    auc: float | None
    """How well low disagreement of the probes about the student's answer (variance of mean log-probability) tells its
    right answers from its wrong ones: 1 perfectly, 0.5 not at all; None where all are right or all are wrong."""


@dataclass(frozen=True)
class Distance:
    """Forward KL from student to teacher on the student's own answers, in nats per token, at τ."""

    mean: float
    median: float
    high: float
    """95 % of the tokens lie below."""
    above_cap: float
    """Share of tokens above 10 nats, the official cap."""
    tokens: int


@dataclass
class Audit:
    """What was measured on a sample of training items."""

    task: str
    student: Evaluation
    layouts: dict[str, Evaluation]
    """The teacher in the gold context, per layout."""
    distances: dict[str, Distance]
    """Per layout."""
    layout: str
    """The layout in which the teacher is right most often; what follows was measured in it."""
    kinds: dict[str, Evaluation] = field(default_factory=dict)
    """The teacher with one auxiliary context, per kind."""
    agreement: Agreement | None = None
    negative: Evaluation | None = None
    """The teacher in the negative context, on the items that have a verified one."""
    misled: int = 0
    """Items that the gold context gets right and the negative one wrong."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Texts that the model wrote as contexts and that were not used, by reason."""
    unavailable: dict[str, str] = field(default_factory=dict)
    """Kinds of context that cannot be had for these items, with the reason."""

    def headroom(self) -> Comparison:
        """Return teacher minus student, in the best layout."""
        return compare(self.student, self.layouts[self.layout])

    @property
    def teaches(self) -> bool:
        """Whether the teacher is surely better: the difference's interval is above zero and McNemar's p below 0.05."""
        room = self.headroom()
        return room.difference.low > 0 and room.mcnemar_p is not None and room.mcnemar_p < 0.05

    @property
    def decided(self) -> bool:
        """Whether the items are enough to tell a teacher worth training with from one that is not."""
        return self.teaches or self.headroom().difference.high < _WORTH

    @property
    def too_few(self) -> bool:
        """Whether nothing at all can be said: tables of so few items would be read for more than they are."""
        return not self.decided and self.student.n < _FEW

    def items_needed(self) -> int:
        """Return how many items would tell a gain of ten points from none, as far as these show how answers differ."""
        room = self.headroom()
        differing = (room.gained + room.lost + 2) / (self.student.n + 4)
        return max(_FEW, 10 * math.ceil(1.96**2 * differing / _WORTH**2 / 10))

    def verdict(self) -> list[str]:
        """Say in plain words what to do."""
        room = self.headroom()
        if not self.decided:
            low, high = (100 * bound for bound in (room.difference.low, room.difference.high))
            return [
                f"{self.student.n} items are too few to say whether the teacher has anything to teach: its gain over "
                f"the student may lie anywhere from {low:+.0f} to {high:+.0f} points. Ask about "
                f"{self.items_needed()} (unisd audit --items N, unisd train --audit N), or all there are, if fewer."
            ]
        lines = [f"Layout to use: {self.layout}. Teacher minus student: {room.in_words()}."]
        if not self.teaches:
            lines.append(
                "The teacher has nothing to teach here: in its best layout it is not surely better than the student, "
                "and surely not by ten points. Try other demonstrations, or do not train."
            )
        if self.agreement is not None and self.agreement.auc is not None and self.agreement.auc < 0.6:
            lines.append(
                f"The probes' agreement hardly tells right answers from wrong ones (AUC {self.agreement.auc:.2f}): "
                "expect little from agreement weights."
            )
        if self.negative is not None and self.misled < 0.1 * self.negative.n:
            lines.append("Negatives rarely mislead the teacher: expect little from mechanisms that read them.")
        return lines

    def rows(self) -> list[tuple[str, Evaluation]]:
        """Return every evaluation with its name, for tables."""
        named = [("student", self.student)]
        named += [(f"teacher, gold, {layout}", found) for layout, found in self.layouts.items()]
        named += [(f"teacher, {kind}, {self.layout}", found) for kind, found in self.kinds.items()]
        if self.negative is not None:
            named.append((f"teacher, negative, {self.layout}", self.negative))
        return named

    def facts(self) -> list[tuple[str, str]]:
        """Return what else was measured, as pairs of name and text."""
        found = [
            (
                f"divergence, {layout}",
                f"mean {d.mean:.2f} nats a token, median {d.median:.2f}, 95 % below {d.high:.2f}, "
                f"{d.above_cap:.1%} above 10",
            )
            for layout, d in self.distances.items()
        ]
        if (a := self.agreement) is not None:
            rest = a.items - a.agreed
            found.append((f"{a.probes} retrieved probes agree", f"on {a.agreed} of {a.items} items"))
            found.append(("right where they agree", f"{a.right_where_agreed} of {a.agreed}"))
            found.append(("right where they differ (most frequent answer)", f"{a.right_elsewhere} of {rest}"))
            if a.auc is not None:
                found.append(
                    ("low disagreement tells the student's right answers", f"AUC {a.auc:.2f} (0.5: not at all)")
                )
        if self.negative is not None:
            found.append(("negatives mislead", f"{self.misled} of {self.negative.n} items with a verified one"))
        found += [(f"not to be had: {kind}", why) for kind, why in self.unavailable.items()]
        found += [(f"dropped: {why}", str(count)) for why, count in sorted(self.dropped.items())]
        return found

    def markdown(self) -> str:
        """Return the tables in Markdown, for a model card."""
        lines = ["| | correct | parsable |", "|---|---|---|"]
        for name, evaluation in self.rows():
            s = evaluation.summary()
            lines.append(f"| {name} | {in_words(s['accuracy'])} | {in_words(s['parsable'])} |")
        facts = [f"* {name}: {text}" for name, text in self.facts()]
        return "\n".join([*lines, "", *facts, "", *self.verdict()])

    def summary(self) -> dict[str, Any]:
        """Return everything as plain values."""
        room = self.headroom()
        return {
            "task": self.task,
            "layout": self.layout,
            "teaches": self.teaches,
            "headroom": room.summary(),
            "evaluations": {name: evaluation.summary() for name, evaluation in self.rows()},
            "divergence": {layout: vars(distance) for layout, distance in self.distances.items()},
            "agreement": None if self.agreement is None else vars(self.agreement),
            "misled": self.misled,
            "dropped": self.dropped,
            "unavailable": self.unavailable,
            "verdict": self.verdict(),
        }


@dataclass(frozen=True)
class Auditor:
    """What an audit needs.

    Raises:
        UsageError: (from :meth:`audit`) fewer than two items, or an unknown kind of context.
    """

    task: Task
    pool: Sequence[Example]
    """All training items: where auxiliary contexts come from."""
    model: nn.Module
    sampler: Sampler
    builder: PromptBuilder
    """Of any layout."""
    store: CompletionStore
    """Keeps what the model writes as context."""
    max_new_tokens: int | None = None
    probes: int = 3
    temperature: float = 0.7
    """τ of the divergence."""
    seed: int = 42
    progress: bool = True

    def audit(
        self,
        examples: Sequence[Example],
        layouts: Sequence[Layout] = LAYOUTS,
        kinds: Sequence[str] = KINDS,
        negatives: bool = True,
    ) -> Audit:
        """Measure student and teacher on ``examples``, training items of which the sample is made."""
        if len(examples) < 2:
            raise UsageError(f"audit: {len(examples)} items say nothing; use 2 or more")
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise UsageError(f"audit: unknown kind of context '{unknown[0]}'; choose from {', '.join(KINDS)}")
        asked = measure(
            self.task,
            examples,
            self.sampler,
            self.builder,
            layouts,
            self.max_new_tokens,
            self.progress,
            max_positions(self.model),
        )
        student = asked.pop("student")
        best = max(layouts, key=lambda layout: (asked[layout].correct, asked[layout].parsable))
        distances: dict[str, Distance] = {layout: self._distance(examples, student, layout) for layout in layouts}
        found = Audit(self.task.name, student, asked, distances, best)
        builder = self.builder.in_layout(best)
        for kind in kinds:
            try:
                probes = self._probes(kind, examples, builder, found.dropped)
            except UniSDError as error:  # a kind that cannot be had is a finding, too
                found.unavailable[kind] = str(error)
                continue
            having = [(example, row[0]) for example, row in zip(examples, probes, strict=True) if row]
            if not having:
                found.unavailable[kind] = "no item has one that is fit"
                continue
            found.kinds[kind] = self._asked([e for e, _ in having], builder, [c for _, c in having], kind)
            if kind == "retrieval":
                found.agreement = self._agreement(examples, builder, probes, found.kinds[kind], student)
        if negatives:
            self._mislead(examples, builder, found)
        return found

    def _asked(
        self, examples: Sequence[Example], builder: PromptBuilder, contexts: Sequence[Context], name: str
    ) -> Evaluation:
        shown = f"audit: {name}" if self.progress else None
        return evaluate(
            self.task,
            examples,
            self.sampler,
            builder,
            self.max_new_tokens,
            contexts,
            shown,
            max_length=max_positions(self.model),
        )

    def _probes(
        self, kind: str, examples: Sequence[Example], builder: PromptBuilder, dropped: dict[str, int]
    ) -> list[list[Context]]:
        need = Need("auxiliary", kind, self.probes if kind == "retrieval" else 1)
        if kind == "induction":
            made = Induction(pool_size=24).make(need, self._making(examples, builder))
            dropped.update({f"induction: {why}": number for why, number in made.dropped.items()})
        else:
            made = get(kind).make(need, replace(self._making(examples, builder), pool=self.pool))
        return made.contexts

    def _making(self, examples: Sequence[Example], builder: PromptBuilder) -> Making:
        room = min(self.max_new_tokens or self.task.max_new_tokens, 256)
        return Making(
            self.task,
            examples,
            sampler=self.sampler,
            builder=builder,
            store=self.store,
            seed=self.seed,
            room=room,
            progress=self.progress,
        )

    def _agreement(
        self,
        examples: Sequence[Example],
        builder: PromptBuilder,
        probes: Sequence[Sequence[Context]],
        first: Evaluation,
        student: Evaluation,
    ) -> Agreement:
        rest = [
            self._asked(examples, builder, [row[k] for row in probes], f"probe {k + 1}") for k in range(1, self.probes)
        ]
        agreed = right = elsewhere = 0
        for items in zip(*(evaluation.items for evaluation in [first, *rest]), strict=True):
            answers = [item.parsed for item in items]
            if answers[0] is not None and len(set(answers)) == 1:
                agreed += 1
                right += items[0].correct
            else:
                # Of equally frequent answers the first; an unreadable one is no vote.
                votes = [item for item in items if item.parsed is not None]
                chosen = max(votes, key=lambda item: answers.count(item.parsed), default=None)
                elsewhere += chosen is not None and chosen.correct
        views = [
            ReadRequest(PackedSequence(builder.teacher_ids(example.prompt, context), item.ids), 1.0)
            for example, item, row in zip(examples, student.items, probes, strict=True)
            if item.ids
            for context in row
        ]
        means = torch.tensor([float(part.mean()) for part in score(self.model, views, BUDGET)]).view(-1, self.probes)
        flags = [item.correct for item in student.items if item.ids]
        auc = area_under_curve((-means.var(1, correction=0)).tolist(), flags)
        return Agreement(self.probes, len(examples), agreed, right, elsewhere, auc)

    def _mislead(self, examples: Sequence[Example], builder: PromptBuilder, found: Audit) -> None:
        made = get("negative").make(Need("negative", "negative"), self._making(examples, builder))
        found.dropped.update({f"negative: {why}": number for why, number in made.dropped.items()})
        kept = [(example, row[0]) for example, row in zip(examples, made.contexts, strict=True) if row]
        if not kept:
            return
        found.negative = self._asked([e for e, _ in kept], builder, [c for _, c in kept], "negative")
        gold = {item.id: item.correct for item in found.layouts[found.layout].items}
        found.misled = sum(gold[item.id] and not item.correct for item in found.negative.items)

    def _distance(self, examples: Sequence[Example], student: Evaluation, layout: Layout) -> Distance:
        """Return the forward KL on the student's answers: the signal that training would start from."""
        builder = self.builder.in_layout(layout)
        alone, seen = [], []
        for example, item, context in zip(examples, student.items, gold_contexts(examples), strict=True):
            teacher = PackedSequence(builder.teacher_ids(example.prompt, context), item.ids)
            if item.ids and fits(self.model, teacher):
                alone.append(ReadRequest(PackedSequence(builder.student_ids(example.prompt), item.ids)))
                seen.append(ReadRequest(teacher))
        if not alone:
            return Distance(0.0, 0.0, 0.0, 0.0, 0)
        states, targets = (torch.cat(score(self.model, views, BUDGET)) for views in (alone, seen))
        head, parts = output_head(self.model), []
        with torch.no_grad():
            for start in range(0, len(states), _CHUNK):
                part = slice(start, start + _CHUNK)
                student_logits = logits(states[part], head, self.temperature)
                parts.append(divergence(student_logits, logits(targets[part], head, self.temperature), "forward_kl"))
        values = wide(torch.cat(parts))
        median, high = values.quantile(torch.tensor([0.5, 0.95], dtype=torch.float64, device=values.device)).tolist()
        return Distance(float(values.mean()), median, high, float((values > 10).float().mean()), len(values))


def area_under_curve(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """Return the chance that a positive's score is above a negative's (ties count half); None without one of them."""
    yes = [s for s, flag in zip(scores, positive, strict=True) if flag]
    no = [s for s, flag in zip(scores, positive, strict=True) if not flag]
    if not yes or not no:
        return None
    wins = math.fsum((a > b) + 0.5 * (a == b) for a in yes for b in no)
    return wins / (len(yes) * len(no))


def audit_sample(examples: Sequence[Example], count: int, seed: int = 42) -> list[Example]:
    """Return ``count`` training items, drawn by a stable hash."""
    return sorted(examples, key=lambda example: stable_integer(seed, "audit", example.id))[:count]
