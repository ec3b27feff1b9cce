"""What a run will need, by running one step of it dry: memory by phase, tokens, forward passes, operations, traffic.

Nothing is loaded: `training.dry` runs the real step on tensors without values. Bytes are those of tensors. What a
device needs besides (its context, libraries, what an allocator leaves unused) comes on top: see ``BESIDE``.
"""

import contextlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from unisd.contexts import PreparedRow
from unisd.fast.merged import merged_weights
from unisd.mechanisms import InitialTeacher, Mechanisms
from unisd.models.packed import decoder_of
from unisd.rollout import Completion, Request, SamplingParams
from unisd.rollout.torch_sampler import _Batch
from unisd.training.arguments import UniSDConfig
from unisd.training.dry import Tally, dry, packed_weights
from unisd.training.learn import Learner
from unisd.training.plan import Planner
from unisd.training.speed import Work
from unisd.training.write import sampling_params

BESIDE = 0.05
"""Share of a device's memory that is left for its context and for what an allocator cannot use."""
ROW_TOKENS = 8192
"""Tokens of a row beyond which nothing becomes faster."""
_ROW_STEP = 256
_STOPS = 3


@dataclass(frozen=True)
class Lengths:
    """What is assumed of a run's texts, in tokens."""

    prompt: int = 512
    """The student's prompt."""
    context: int = 512
    """What each of the teacher's contexts adds to it."""


@dataclass
class Forecast:
    """What one optimizer step takes on each rank."""

    device: str
    parts: dict[str, int] = field(default_factory=dict)
    """Bytes that live all the time: weights, what the teacher keeps, the optimizer's state; and the gradients."""
    phases: dict[str, int] = field(default_factory=dict)
    """The most bytes that live at once while a step is sampled, scored and learned, and while it moves the weights."""
    tokens: dict[str, int] = field(default_factory=dict)
    """``prompts``, ``completions``; ``read`` without gradient and ``learned`` with; ``row``: the longest row."""
    forwards: dict[str, int] = field(default_factory=dict)
    """Forward passes by phase."""
    operations: float = 0.0
    """Floating-point operations of the model's products."""
    exchanged: int = 0
    """Bytes that a rank sends to the others."""

    @property
    def peak(self) -> int:
        """The most bytes of all phases."""
        return max(self.phases.values())

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self) | {"peak": self.peak}


def assumed_rows(config: UniSDConfig, lengths: Lengths, count: int) -> list[PreparedRow]:
    """Return rows of the assumed lengths, with every context that the run's mechanisms read.

    No two prompts begin alike, so that nothing is shared: a run needs as much, or less.
    """
    first = itertools.count(1)
    longest = config.contexts.max_prompt_length
    own, more = min(lengths.prompt, longest), min(lengths.prompt + lengths.context, longest)

    def ids(tokens: int) -> list[int]:
        return [next(first), *[0] * (max(tokens, 2) - 1)]

    needs = Mechanisms(config).needs()
    return [
        PreparedRow(
            f"row-{number}",
            ids(own),
            {need.slot: [ids(more) for _ in range(need.count)] for need in needs},
            [0] * config.rollout.max_completion_length,
        )
        for number in range(count)
    ]


def forecast(
    config: UniSDConfig,
    make: Callable[[], nn.Module],
    rows: Sequence[PreparedRow],
    device: str,
    ranks: int = 1,
    completions: Sequence[int] | None = None,
    count: int | None = None,
) -> Forecast:
    """Run one step dry and return what it takes.

    A dry operation takes as long for a large tensor as for a small one, so that rows that are alike are better counted
    than run.

    Args:
        config: the run's settings, ``tokens_per_row`` set.
        make: makes the model, on the meta device (see :func:`unisd.training.dry.dry_copy`).
        rows: what one rank learns from in an optimizer step.
        device: ``cpu`` or ``cuda``.
        ranks: processes that share a step.
        completions: tokens of each row's completion; None: all are as long as they may be.
        count: how many rows like these there are; None: these are all. They should fill a row of learning and of
            scoring.
    """
    found = Forecast(device)
    longest = config.rollout.max_completion_length
    sampler = _Same(list(completions or []) or [longest])
    with dry(device), Tally(("meta",)) as tally:
        step = _DryStep(config, make, sampler, ranks, tally, found)
        step.run(rows, (count or len(rows)) / len(rows))
    return found


def fewest_rows(config: UniSDConfig, lengths: Lengths, count: int) -> int:
    """Return how many assumed rows fill one row of learning and of scoring: those that a forecast must run."""
    shortest = lengths.prompt + config.rollout.max_completion_length - 1
    return max(1, min(count, -(-max(config.row_budget(), config.scoring_budget()) // shortest)))


class _DryStep:
    """One step in the order of a trainer, its phases counted."""

    def __init__(
        self,
        config: UniSDConfig,
        make: Callable[[], nn.Module],
        sampler: "_Same",
        ranks: int,
        tally: Tally,
        found: Forecast,
    ) -> None:
        self.config, self.sampler, self.tally, self.found = config, sampler, tally, found
        self.ranks = _Ranks(ranks)
        start = tally.restart()
        self.model = make()
        found.parts["weights"] = tally.restart() - start
        mechanisms = Mechanisms(config)
        mechanisms.start(self.model, graded=True)
        teacher = mechanisms.teacher(self.model) if config.has_teacher else None
        initial = InitialTeacher(self.model) if config.rollout.source == "own" and teacher is None else None
        found.parts["teacher"] = tally.restart() - start - found.parts["weights"]
        self.kept, self.mechanisms = initial, mechanisms
        others: Any = self.ranks
        self.planner = Planner(config, mechanisms, self.model, teacher, sampler, others, _right)
        self.learner = Learner(config, mechanisms, others, _backward, _no_sync)
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        found.parts["gradients"] = sum(parameter.nbytes for parameter in self.trained)
        self.optimizer = self._optimizer()
        found.parts["optimizer"] = tally.restart() - start - sum(found.parts[n] for n in ("weights", "teacher"))
        self._passes = 0
        decoder_of(self.model).register_forward_pre_hook(self._passed)

    def run(self, rows: Sequence[PreparedRow], times: float) -> None:
        """Sample, score, learn, update; each row stands for ``times`` as many."""
        found = self.found
        with self._phase("sample"):
            self._sample(rows, times)
        with self._phase("score"):
            plan = self.planner.plan(rows, 0)
        self.model.train()
        for parameter in self.trained:  # as they are from a step's second row on
            parameter.grad = torch.empty_like(parameter)
        with self._phase("learn"):
            self.learner.learn(self.model, plan)
        for name in ("score", "learn"):
            found.forwards[name] = round(found.forwards[name] * times)
        with self._phase("update"):
            if self.optimizer is not None:
                self.optimizer.step()
        # What is known of a token while the step lasts: what views gave, and what was seen of it.
        known = [reading.values for reading in plan.step.readings.values()]
        known += [plan.step.targets, plan.step.sequence, *plan.step.values.values()]
        more = int(sum({id(each): each.nbytes for each in known}.values()) * (times - 1))
        for name in ("score", "learn", "update"):
            found.phases[name] += more
        if self.ranks.count > 1:
            # The wrapper's buckets hold all gradients once more.
            for name in found.phases:
                found.phases[name] += found.parts["gradients"]
            found.exchanged = int(2 * (self.ranks.count - 1) / self.ranks.count * found.parts["gradients"])
        found.tokens = {
            "prompts": sum(len(sequence.prompt_ids) for sequence in plan.sequences),
            "completions": sum(len(done.ids) for done in plan.completions),
            "read": plan.work["read"],
            "learned": plan.work["learned"],
        }
        found.tokens = {name: round(number * times) for name, number in found.tokens.items()}
        with torch._C.DisableTorchFunction():
            work = Work(self.model)
            work.per_token += 2.0 * packed_weights(self.model)
            found.operations = work.operations(plan.work) * times

    @contextlib.contextmanager
    def _phase(self, name: str) -> Any:
        self.tally.restart()
        self._passes = 0
        yield
        self.found.phases[name] = self.tally.peak
        self.found.forwards.setdefault(name, self._passes)

    def _passed(self, module: nn.Module, inputs: Any) -> None:
        self._passes += 1

    def _optimizer(self) -> torch.optim.Optimizer | None:
        """Make the optimizer and its state; None where its step has no scratch tensors that could be counted."""
        kind, options = Trainer.get_optimizer_cls_and_kwargs(self.config, self.model)
        if kind.__module__.startswith("torch.") and "Adam" not in kind.__name__:
            made: torch.optim.Optimizer = kind(self.trained, **options)
            for parameter in self.trained:  # its state is made when it first steps
                parameter.grad = torch.empty_like(parameter)
            made.step()
            made.zero_grad()
            return made
        # Two moments; a fused kernel needs no more. Kinds that keep less are counted as if they did not.
        self.moments = [torch.zeros_like(parameter) for parameter in self.trained for _ in range(2)]
        return None

    def _sample(self, rows: Sequence[PreparedRow], times: float) -> None:
        """Write the first and longest batch: its prompts, and a few of its tokens on the way to the last."""
        planner, rollout = self.planner, self.config.rollout
        if rollout.source == "gold" or planner.writer.once:
            return
        total = round(len(rows) * times) * rollout.num_generations
        prompts = [planner.writer.prompt(row) for row in itertools.islice(itertools.cycle(rows), total)]
        if times > 1:  # rows that are counted for others begin otherwise
            prompts = [[-number, *prompt[1:]] for number, prompt in enumerate(prompts)]
        prompts.sort(key=len)
        params, batches = sampling_params(self.config), -(-len(prompts) // rollout.batch_size)
        requests = [Request(prompt, (0, number)) for number, prompt in enumerate(prompts[-rollout.batch_size :])]
        self.found.forwards["sample"] = batches * self._written(requests, params)

    def _written(self, requests: Sequence[Request], params: SamplingParams) -> int:
        self.model.eval()
        writes = self.planner.writer.teacher if self.config.rollout.source == "teacher" else None
        with (
            torch.no_grad(),
            contextlib.nullcontext() if writes is None else writes.weights(),
            merged_weights(self.model),
        ):
            batch = _Batch(self.model, frozenset(), requests, params)
            scores, last = batch.reader.begin(batch.prompts), params.max_new_tokens - 1
            begun = self._passes
            for step in sorted({last * stop // _STOPS for stop in range(1, _STOPS + 1)}):
                batch._choose(scores, step)
                at = [[len(prompt) + step] for prompt in batch.prompts]
                newest = torch.tensor([[0] for _ in at], device=batch.device)
                scores = batch.reader.read(newest, torch.tensor(at))[:, -1]
        return begun + last


class _Same:
    """A sampler that writes completions of given lengths."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = lengths

    def sample(
        self, requests: Sequence[Request], params: SamplingParams, progress: str | None = None
    ) -> list[Completion]:
        """Write one completion a request."""
        return [Completion([0] * self.lengths[i % len(self.lengths)], True) for i in range(len(requests))]

    def decode(self, completion: Completion) -> str:
        """Return no text."""
        return ""


class _Ranks:
    """Other processes, of which nothing is known but their number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def sum(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values

    def join(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values


def _right(ids: Sequence[str], texts: Sequence[str]) -> list[float]:
    return [1.0 for _ in texts]


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _no_sync(model: nn.Module) -> Any:
    yield


def choose_row(
    free_bytes: float, fixed: float, per_token: float, per_token_checkpointed: float, longest: int = _ROW_STEP
) -> tuple[int, bool]:
    """Choose a row's token budget, and whether layers must be computed again in the backward pass.

    Rows that cannot hold the ``longest`` sequence are no help: it stands alone, whatever the budget. So checkpointing
    is needed where such a row does not fit.

    Args:
        free_bytes: of the device, before anything of the run is there.
        fixed: bytes of a step apart from what a row's tokens keep.
        per_token: bytes that a token of a row keeps for its backward pass.
        per_token_checkpointed: the same with checkpointing.
        longest: tokens of the longest sequence.

    Returns:
        A multiple of 256 from 256 to 8,192, and whether checkpointing is needed. Where nothing fits: (256, True).
    """
    room = free_bytes - fixed
    for checkpointing, cost in ((False, per_token), (True, per_token_checkpointed)):
        tokens = int(room / cost) if room > 0 else 0
        if tokens >= max(longest, _ROW_STEP):
            return min(ROW_TOKENS, tokens // _ROW_STEP * _ROW_STEP), checkpointing
    return _ROW_STEP, True
