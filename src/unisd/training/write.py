"""Step 1 of the way of the data: who writes a step's completions, afresh or once for the whole run."""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from unisd.contexts import PreparedRow
from unisd.errors import UsageError
from unisd.files import fingerprint, read_jsonl, write_jsonl
from unisd.mechanisms import GOLD, TeacherWeights
from unisd.rollout import Completion, Request, Sampler, SamplingParams
from unisd.training.arguments import UniSDConfig


def sampling_params(config: UniSDConfig) -> SamplingParams:
    """Return how completions are sampled during training."""
    chosen = config.rollout
    return SamplingParams(
        chosen.max_completion_length,
        chosen.temperature,
        chosen.top_p,
        config.seed,
        chosen.top_k,
        chosen.min_p,
        chosen.repetition_penalty,
    )


Shared = Callable[[Callable[[list[Request]], list[Completion]], list[Request]], list[Completion]]


class Writer:
    """Gives each row of a step its completion, by ``rollout.source``.

    Args:
        config: the run's settings.
        sampler: who samples.
        teacher: whose weights write for source ``teacher``; None where there is no teacher.
    """

    def __init__(self, config: UniSDConfig, sampler: Sampler, teacher: TeacherWeights | None) -> None:
        self.config = config
        self.sampler = sampler
        self.teacher = teacher
        self.mix = config.rollout.mixture()
        self._drawn: dict[str, list[Completion]] = {}

    @property
    def once(self) -> bool:
        """Whether completions are drawn once for the whole run; see :meth:`draw`."""
        rollout = self.config.rollout
        return rollout.source == "own" or (rollout.source == "teacher" and rollout.teacher_draws == "once")

    def completions(self, rows: Sequence[PreparedRow], step: int | str) -> list[Completion]:
        """Return one completion a row. A row that stands there several times gets as many samples.

        Each draws from a stream of its own, keyed by the seed, ``step``, the item and the sample's number.

        Raises:
            UsageError: completions are drawn once, and those of a row were not.
        """
        seen = Counter[str]()
        numbers = []
        for row in rows:
            numbers.append(seen[row.id])
            seen[row.id] += 1
        if self.once:
            return [self._kept(row, number) for row, number in zip(rows, numbers, strict=True)]
        fresh = self.sampled(rows, step)
        requests = [
            Request(self.prompt(row), (step, row.id, number))
            for row, number, sampled in zip(rows, numbers, fresh, strict=True)
            if sampled
        ]
        writes = self.teacher if self.config.rollout.source == "teacher" else None
        written = iter(self._sample(requests, writes) if requests else [])
        return [
            next(written) if sampled else Completion(list(row.completion_ids or []), finished=True)
            for row, sampled in zip(rows, fresh, strict=True)
        ]

    def by_student(self, rows: Sequence[PreparedRow], step: int | str) -> list[Completion]:
        """Return what the student as it is writes for each row, whoever writes what is learned from."""
        return self._sample([Request(row.student_ids, (step, row.id, 0)) for row in rows], None)

    def sampled(self, rows: Sequence[PreparedRow], step: int | str) -> list[bool]:
        """Return for each row whether somebody samples at this step, rather than that the demonstration is taken."""
        if self.config.rollout.source == "mix":
            return [self.mix.samples(self.config.seed, step, row.id) for row in rows]
        return [self.config.rollout.source != "gold"] * len(rows)

    def prompt(self, row: PreparedRow) -> list[int]:
        """Return what whoever writes reads: the student's prompt, or the teacher's in the gold context."""
        gold = row.contexts.get(GOLD.slot, []) if self.config.rollout.source == "teacher" else []
        return gold[0] if gold else row.student_ids

    def tokens_read(self, rows: Sequence[PreparedRow], completions: Sequence[Completion]) -> int:
        """Return how many tokens the model read to write the completions of one step."""
        if self.once or self.config.rollout.source == "gold":
            return 0
        return sum(len(self.prompt(row)) + len(done.ids) - 1 for row, done in zip(rows, completions, strict=True))

    # -- completions that are drawn once ---------------------------------------------------------------------------

    def draw(
        self,
        rows: Sequence[PreparedRow],
        initial: TeacherWeights | None,
        progress: str | None = None,
        shared: Shared = lambda work, asked: work(asked),
    ) -> bool:
        """Draw the completions of all rows whose are not there yet; return whether any were missing.

        Args:
            rows: ``rollout.num_generations`` completions are drawn of each.
            initial: the weights before training, which write for source ``own``; else None.
            progress: label of a progress bar; None shows none.
            shared: does the work here, or every process a part.
        """
        source, count = self.config.rollout.source, self.config.rollout.num_generations
        missing = {_place(row, self.prompt(row)): row for row in rows}
        missing = {place: row for place, row in missing.items() if len(self._drawn.get(place, [])) < count}
        requests = [
            Request(self.prompt(row), (source, row.id, *([number] if number else [])))
            for row in missing.values()
            for number in range(count)
        ]
        if not requests:
            return False
        weights = self.teacher if source == "teacher" else initial
        written = iter(shared(lambda part: self._sample(part, weights, progress), requests))
        self._drawn |= {place: [next(written) for _ in range(count)] for place in missing}
        return True

    def _kept(self, row: PreparedRow, number: int) -> Completion:
        drawn = self._drawn.get(_place(row, self.prompt(row)))
        if drawn is None:
            raise UsageError(
                f"item {row.id!r}: with rollout.source {self.config.rollout.source} all is drawn before training; "
                "give the trainer these rows as its eval_dataset"
            )
        return drawn[number % len(drawn)]

    def _sample(
        self, requests: Sequence[Request], weights: TeacherWeights | None, progress: str | None = None
    ) -> list[Completion]:
        with contextlib.nullcontext() if weights is None else weights.weights():
            return self.sampler.sample(requests, sampling_params(self.config), progress)

    def save(self, path: Path) -> None:
        """Write what was drawn to ``path``, so that a resumed run learns from the very same completions."""
        write_jsonl(
            path,
            (
                {"place": place, "ids": done.ids, "finished": done.finished}
                for place, drawn in self._drawn.items()
                for done in drawn
            ),
        )

    def load(self, path: Path) -> None:
        """Read what :meth:`save` wrote; lines of an earlier version are passed over, and drawn anew."""
        self._drawn = {}
        for line in read_jsonl(path):
            if "place" in line:
                self._drawn.setdefault(line["place"], []).append(Completion(line["ids"], line["finished"]))


def _place(row: PreparedRow, prompt: Sequence[int]) -> str:
    """Return what a row's completions are kept under: rows of two sets may have one id, and rows of one id differ."""
    return fingerprint(row.id, list(prompt))
