"""How far an adapted model has moved from its base: on its own text and on the base's; see docs/evaluation.md."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unisd.contexts import PromptBuilder
from unisd.devices import wide
from unisd.evaluation.answers import Evaluation, Item, distinct_n
from unisd.evaluation.likelihood import BUDGET, finite_perplexity
from unisd.models.head import output_head
from unisd.models.packed import PackedSequence
from unisd.objective import Head, divergence, logits, token_logprobs
from unisd.teacher import ReadRequest, score

_CHUNK = 128

Weights = Callable[[], AbstractContextManager[nn.Module]]
"""Opens a context in which the model has certain weights (the base's, the adapted ones) and yields it."""


@dataclass(frozen=True)
class TextDistance:
    """Two models' next-token distributions on one model's text: means per token, in nats, at temperature 1."""

    jsd: float
    """Jensen-Shannon divergence, 0 to log 2."""
    kl_adapted_base: float
    """KL(adapted ‖ base)."""
    kl_base_adapted: float
    """KL(base ‖ adapted)."""
    entropy_base: float
    entropy_adapted: float
    perplexity_base: float | None
    """Of the text, under the base."""
    perplexity_adapted: float | None
    """Of the text, under the adapted model."""
    tokens: int


def retention(
    base: Weights, adapted: Weights, builder: PromptBuilder, before: Evaluation, after: Evaluation
) -> dict[str, Any] | None:
    """Measure how much of the base is left.

    Args:
        base: the base's weights.
        adapted: the adapted model's.
        builder: how prompts are laid out.
        before: the base's own answers.
        after: the adapted model's answers to the same questions.

    Returns:
        ``ppl_ret`` (perplexity under the base of the adapted model's answers; lower is less drift),
        ``on_adapted_text`` and ``on_base_text`` (each a :class:`TextDistance`), and ``drift``: mean length, share
        finished and distinct n-grams of both. None where one of them wrote nothing.
    """
    own, bases = _sequences(builder, after.items), _sequences(builder, before.items)
    if not own or not bases:
        return None
    on_adapted, on_base = text_distance(base, adapted, own), text_distance(base, adapted, bases)
    return {
        "ppl_ret": on_adapted.perplexity_base,
        "on_adapted_text": asdict(on_adapted),
        "on_base_text": asdict(on_base),
        "drift": {"base": _shape(before), "adapted": _shape(after)},
    }


def text_distance(base: Weights, adapted: Weights, sequences: Sequence[PackedSequence]) -> TextDistance:
    """Compare two models on ``sequences``, a few tokens at a time: no tokens x vocabulary tensor is kept."""
    views = [ReadRequest(sequence) for sequence in sequences]
    targets = torch.tensor([token for sequence in sequences for token in sequence.completion_ids])
    with base() as model:
        base_states, base_head = torch.cat(score(model, views, BUDGET)), _copied(output_head(model))
    with adapted() as model, torch.no_grad():
        states, head = torch.cat(score(model, views, BUDGET)), output_head(model)
        targets = targets.to(states.device)
        sums = torch.zeros(7, dtype=torch.float64)
        for start in range(0, len(targets), _CHUNK):
            part = slice(start, start + _CHUNK)
            sums += _statistics(logits(base_states[part], base_head), logits(states[part], head), targets[part])
    jsd, forward, reverse, entropy_base, entropy, logprob_base, logprob = (sums / len(targets)).tolist()
    perplexities = finite_perplexity(logprob_base), finite_perplexity(logprob)
    return TextDistance(jsd, forward, reverse, entropy_base, entropy, *perplexities, len(targets))


def _statistics(base: Tensor, adapted: Tensor, targets: Tensor) -> Tensor:
    values = (
        divergence(base, adapted, "jsd"),
        divergence(base, adapted, "forward_kl"),
        divergence(base, adapted, "reverse_kl"),
        _entropy(base),
        _entropy(adapted),
        token_logprobs(base, targets),
        token_logprobs(adapted, targets),
    )
    return torch.stack([wide(value).sum().cpu() for value in values])


def _entropy(values: Tensor) -> Tensor:
    log = values.log_softmax(-1)
    return -(log.exp() * log).sum(-1)


def _copied(head: Head) -> Head:
    """Return a head that stays as it is when the model's weights are swapped; a frozen one is not copied twice."""
    if not head.weight.requires_grad:
        return head
    bias = None if head.bias is None else head.bias.detach().clone()
    return Head(head.weight.detach().clone(), bias, head.softcap, head.scale)


def _sequences(builder: PromptBuilder, items: Sequence[Item]) -> list[PackedSequence]:
    return [PackedSequence(builder.student_ids(item.example().asked), item.ids) for item in items if item.ids]


def _shape(evaluation: Evaluation) -> dict[str, float]:
    ids = [item.ids for item in evaluation.items]
    return {
        "mean_tokens": sum(map(len, ids)) / len(ids),
        "finished": sum(item.finished for item in evaluation.items) / len(ids),
        **{f"distinct_{n}": distinct_n(ids, n) for n in (1, 2, 3)},
    }
