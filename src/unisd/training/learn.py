"""The part of a step with gradient: packed student rows, one fused pass each (step 4 of the way of the data)."""

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor, nn

from unisd.devices import kept_randomness
from unisd.errors import UniSDError
from unisd.fast.lean import lean_adapters
from unisd.fast.segments import segments_of_checkpoints
from unisd.mechanisms import Mechanisms, Weights
from unisd.models.head import output_head
from unisd.models.packed import PackedSequence
from unisd.models.reading import completion_states, rows_of
from unisd.objective import Problem, Support, at, fused_objective
from unisd.training.arguments import UniSDConfig
from unisd.training.plan import Plan, coefficients
from unisd.training.ranks import Ranks


class Learner:
    """Runs the student over a plan, row by row, and accumulates the gradient of the exact step loss.

    Args:
        config: the run's settings.
        mechanisms: those that are on.
        ranks: the processes that share the step.
        backward: called with each row's loss.
        no_sync: a context in which gradients are not yet exchanged between ranks; the last row is outside.
    """

    def __init__(
        self,
        config: UniSDConfig,
        mechanisms: Mechanisms,
        ranks: Ranks,
        backward: Callable[[Tensor], None],
        no_sync: Callable[[nn.Module], AbstractContextManager[None]],
    ) -> None:
        self.config = config
        self.mechanisms = mechanisms
        self.ranks = ranks
        self._backward = backward
        self._no_sync = no_sync
        self._asked: list[Tensor] = []

    def asks(self) -> bool:
        """Return whether the loss of the step that was learned last has a gradient in the student's hidden states."""
        return any(bool(asked) for asked in self._asked)

    def learn(self, model: nn.Module, plan: Plan, with_gradient: bool = True) -> Tensor:
        """Accumulate the gradient of one step into ``model`` (wrapped or not).

        What is seen of each token is added to the plan's ``step.values``. Without ``with_gradient`` only the values are
        computed (evaluation).

        Returns:
            This rank's part of the step's loss, a scalar: the sum over ranks is the loss.

        Raises:
            UniSDError: nothing that is trained takes part in what the model computes.
        """
        self._asked = []
        counted = [i for i, sequence in enumerate(plan.sequences) if sequence.completion_ids]
        packed = rows_of(model, [plan.sequences[i] for i in counted], self.config.row_budget())
        # A rank without tokens takes part all the same, with a row of none: the others wait for it.
        rows = [(plan.tokens_of(row), row) for row in [[counted[i] for i in row] for row in packed] or [[]]]
        looks = plan.counted and not self.mechanisms.replaces_divergence
        cap = self._look_first(model, plan, rows) if looks else None
        if cap is not None:
            plan.step.values["cap"] = torch.as_tensor(cap)
        losses: list[Tensor] = []
        pieces: list[dict[str, Tensor]] = []
        for number, (tokens, row) in enumerate(rows):
            last = number == len(rows) - 1
            held = contextlib.nullcontext() if last or not with_gradient else self._no_sync(model)
            with lean_adapters(model), segments_of_checkpoints(), held:
                states = _states(model, plan, row)
                loss, values = self._row_loss(model, plan, tokens, states, cap)
                if with_gradient:
                    self._watch(states, loss)
                    # Data-parallel wrappers average gradients over ranks; the loss is a sum over them.
                    self._backward(loss * self.ranks.count)
            losses.append(loss.detach())
            pieces.append(values)
        if plan.counted:
            _place(plan, [tokens for tokens, _ in rows], pieces)
        return torch.stack(losses).sum()

    def _watch(self, states: Tensor, loss: Tensor) -> None:
        """Note, in the backward pass to come, whether the loss asks for any change."""
        if not loss.requires_grad:
            raise UniSDError(
                "model: nothing that is trained takes part in what it computes; "
                "train other modules, or switch its adapter on (enable_adapter_layers)"
            )

        if states.requires_grad:  # kept where it is: nothing is read from the device while a step is learned
            states.register_hook(lambda gradient: self._asked.append(gradient.any()))

    def _row_loss(
        self, model: nn.Module, plan: Plan, tokens: Tensor, states: Tensor, cap: Tensor | float | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        # The sum of nothing is 0, too, and belongs to the graph.
        loss = states.new_zeros((), dtype=torch.float32) if len(states) else states.float().sum()
        values: dict[str, Tensor] = {}
        if not (self.mechanisms.replaces_divergence and plan.counted):
            problem = self._problem(model, plan, tokens, states)
            if isinstance(cap, Tensor) and cap.dim():
                cap = cap[tokens]
            terms, gates = [at(term, tokens) for term in plan.terms], [at(gate, tokens) for gate in plan.gates]
            fused = fused_objective(replace(problem, cap=cap, terms=terms, gates=gates))
            loss, values = loss + fused.loss, dict(fused.values)
        for term in plan.state_terms:
            distance = term.distance(states, plan.step.readings[term.view].values[tokens])
            loss = loss + term.coefficient * distance.sum()
            values[term.name] = distance.detach()
        return loss, values

    def _problem(self, model: nn.Module, plan: Plan, tokens: Tensor, states: Tensor) -> Problem:
        """Return the divergence of some tokens, without caps, terms and gates."""
        divergence, gold = self.config.divergence, plan.step.readings.get("gold")
        top_k = divergence.top_k if plan.counted else None
        assert plan.coefficients is not None
        return Problem(
            states,
            output_head(getattr(model, "module", model)),
            plan.step.targets[tokens],
            plan.coefficients[tokens],
            kind=divergence.kind if plan.counted else "cross_entropy",
            alpha=divergence.alpha,
            temperature=1.0 if gold is None else divergence.temperature,
            teacher=None if gold is None else gold.values[tokens],
            teacher_head=None if gold is None else gold.head,
            target=None if plan.target is None else at(plan.target, tokens),
            support=None if top_k is None else Support(top_k, divergence.tail, divergence.top_k_of),
        )

    def _look_first(
        self, model: nn.Module, plan: Plan, rows: Sequence[tuple[Tensor, Sequence[int]]]
    ) -> Tensor | float | None:
        """Return the cap on divergences; what follows from them takes a pass of its own, under learning's dropout."""
        if not self.mechanisms.looks_first:
            return self.mechanisms.cap(plan.step, None)
        pieces = []
        with torch.no_grad(), kept_randomness(plan.step.targets.device), lean_adapters(model):
            for tokens, row in rows:
                states = _states(model, plan, row)
                pieces.append(fused_objective(self._problem(model, plan, tokens, states)).values["divergence"])
        order = torch.cat([tokens for tokens, _ in rows])
        seen = torch.cat(pieces)
        divergence = torch.empty_like(seen)
        divergence[order] = seen
        known, found = plan.weights, self.mechanisms.reweigh(plan.step, divergence)
        if found.token is not None or found.sequence is not None:
            weights = Weights(_times(known.token, found.token), _times(known.sequence, found.sequence))
            plan.coefficients = coefficients(plan.step, weights, self.config.divergence.aggregation)
        return self.mechanisms.cap(plan.step, divergence)


def _states(model: nn.Module, plan: Plan, row: Sequence[int]) -> Tensor:
    """Return the states ``[N, H]`` that predict the tokens of a row, which may have none."""
    if row:
        return completion_states(model, [plan.sequences[i] for i in row], share=True)
    prompt = plan.sequences[0].prompt_ids
    return completion_states(model, [PackedSequence(prompt, prompt[:1])])[:0]


def _times(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return a if b is None else b if a is None else a * b


def _place(plan: Plan, tokens: Sequence[Tensor], pieces: Sequence[dict[str, Tensor]]) -> None:
    """Put the rows' per-token values into the plan's order."""
    order = torch.cat(list(tokens))
    for name in pieces[0]:
        joined = torch.cat([piece[name] for piece in pieces])
        placed = torch.empty_like(joined)
        placed[order] = joined
        plan.step.values[name] = placed
