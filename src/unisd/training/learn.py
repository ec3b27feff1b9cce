"""The part of a step with gradient: packed student rows, one fused pass each (step 4 of the way of the data)."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unisd.models.adapted import lean_adapters
from unisd.models.head import output_head
from unisd.models.packed import completion_states, pack_sequences, shares
from unisd.objective import Contrast, FusedResult, feature_distance, fused_objective, quantile_cap
from unisd.training.config import UniSDConfig
from unisd.training.plan import Plan
from unisd.training.ranks import Ranks


@dataclass
class Learned:
    """What one optimizer step's learning gave on this rank."""

    loss: Tensor
    """This rank's part of the step's loss: the sum over ranks is the loss."""
    divergence: Tensor | None
    """Per token before clipping, ``[N]``; None for representation-only matching."""
    clipped: Tensor | None
    entropy: Tensor | None
    """The student's, in nats, ``[N]``."""
    live: Tensor | None
    """Tokens with a contrast gradient, ``[N]`` bool."""
    hinge: Tensor | None
    features: Tensor | None
    """Mean squared distance of hidden states per token, ``[N]``."""
    cap: Tensor | None


class Learner:
    """Runs the student over a plan, row by row, and accumulates the gradient of the exact step loss.

    Args:
        config: the run's settings.
        ranks: the processes that share the step.
        backward: called with each row's loss.
        no_sync: a context in which gradients are not yet exchanged between ranks; the last row is outside.
    """

    def __init__(
        self,
        config: UniSDConfig,
        ranks: Ranks,
        backward: Callable[[Tensor], None],
        no_sync: Callable[[nn.Module], AbstractContextManager[None]],
    ) -> None:
        self.config = config
        self.ranks = ranks
        self._backward = backward
        self._no_sync = no_sync

    def learn(self, model: nn.Module, plan: Plan, with_gradient: bool = True) -> Learned:
        """Accumulate the gradient of one step into ``model`` (wrapped or not) and return what was seen.

        Without ``with_gradient`` only the values are computed (evaluation).
        """
        rows = pack_sequences(plan.sequences, self.config.row_budget(), shares(model))
        cap = self._cap(model, plan, rows)
        losses: list[Tensor] = []
        pieces: list[tuple[Tensor, FusedResult | None, Tensor | None]] = []
        for number, row in enumerate(rows):
            last = number == len(rows) - 1
            with lean_adapters(model), contextlib.nullcontext() if last or not with_gradient else self._no_sync(model):
                tokens = plan.tokens_of(row)
                states = completion_states(model, [plan.sequences[i] for i in row], share=True)
                loss, fused, features = self._row_loss(model, plan, tokens, states, cap)
                if with_gradient:
                    # Data-parallel wrappers average gradients over ranks; the loss is a sum over them.
                    self._backward(loss * self.ranks.count)
            losses.append(loss.detach())
            pieces.append((tokens, fused, None if features is None else features.detach()))
        return _joined(losses, pieces, len(plan.targets), cap)

    def _row_loss(
        self, model: nn.Module, plan: Plan, tokens: Tensor, states: Tensor, cap: Tensor | float | None
    ) -> tuple[Tensor, FusedResult | None, Tensor | None]:
        config = self.config
        teacher = None if plan.teacher_states is None else plan.teacher_states[tokens]
        loss = states.new_zeros((), dtype=torch.float32)
        fused = distance = None
        if config.features.mode != "only":
            fused = self._fused(model, plan, tokens, states, cap)
            loss = loss + fused.loss
        if config.features.on and teacher is not None:
            distance = feature_distance(states, teacher)
            loss = loss + config.features.weight * plan.uniform * distance.sum()
        return loss, fused, distance

    def _fused(
        self, model: nn.Module, plan: Plan, tokens: Tensor, states: Tensor, cap: Tensor | float | None
    ) -> FusedResult:
        divergence, contrast = self.config.divergence, None
        if plan.negative_logprobs is not None and plan.has_negative is not None:
            assert plan.contrast_coefficient is not None
            coefficients = (self.config.contrast.weight * plan.contrast_coefficient).expand(len(tokens))
            negative, present = plan.negative_logprobs[tokens], plan.has_negative[tokens]
            contrast = Contrast(negative, present, coefficients, self.config.contrast.margin)
        return fused_objective(
            states,
            output_head(getattr(model, "module", model)),
            plan.targets[tokens],
            plan.coefficients[tokens],
            kind=divergence.kind,
            alpha=divergence.alpha,
            temperature=1.0 if divergence.kind == "cross_entropy" else divergence.temperature,
            teacher=None if plan.teacher_states is None else plan.teacher_states[tokens],
            teacher_head=plan.teacher_head,
            cap=cap,
            contrast=contrast,
        )

    def _cap(self, model: nn.Module, plan: Plan, rows: Sequence[Sequence[int]]) -> Tensor | float | None:
        """Return the divergence cap; a quantile takes a pass of its own, under the dropout that learning will draw."""
        settings = self.config.divergence
        if settings.clip_quantile is None:
            return settings.clip
        with torch.no_grad(), _replayed_randomness(plan.targets.device), lean_adapters(model):
            values = []
            for row in rows:
                tokens = plan.tokens_of(row)
                states = completion_states(model, [plan.sequences[i] for i in row], share=True)
                values.append(self._fused(model, plan, tokens, states, None).divergence)
        return quantile_cap(self.ranks.join(torch.cat(values)), settings.clip_quantile)


@contextlib.contextmanager
def _replayed_randomness(device: torch.device) -> Iterator[None]:
    """Leave the random streams as they were, so that what follows draws the same dropout again."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def _joined(
    losses: Sequence[Tensor],
    pieces: Sequence[tuple[Tensor, FusedResult | None, Tensor | None]],
    n: int,
    cap: Tensor | float | None,
) -> Learned:
    """Put the rows' per-token values back into the plan's order."""
    order = torch.cat([tokens for tokens, _, _ in pieces])

    def flat(values: Sequence[Tensor | None]) -> Tensor | None:
        present = [value for value in values if value is not None]
        if not present or len(present) != len(pieces):
            return None
        joined = torch.cat(present)
        placed = torch.empty(n, dtype=joined.dtype, device=joined.device)
        placed[order] = joined
        return placed

    fused = [result for _, result, _ in pieces if result is not None]
    return Learned(
        loss=torch.stack(list(losses)).sum(),
        divergence=flat([f.divergence for f in fused]),
        clipped=flat([f.clipped for f in fused]),
        entropy=flat([f.entropy for f in fused]),
        live=flat([f.contrast_live for f in fused]),
        hinge=flat([f.contrast for f in fused]),
        features=flat([distance for _, _, distance in pieces]),
        cap=None if cap is None else torch.as_tensor(cap),
    )
