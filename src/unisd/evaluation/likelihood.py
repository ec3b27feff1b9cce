"""What a model's probabilities say: perplexity of gold completions, and calibration of multiple choice."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unisd.contexts import PromptBuilder
from unisd.devices import wide
from unisd.errors import UniSDError, UsageError
from unisd.models.head import output_head
from unisd.models.load import max_positions
from unisd.models.packed import PackedSequence
from unisd.objective import logits
from unisd.tasks import Example, Task
from unisd.tasks.choice import demonstration
from unisd.teacher import ReadRequest, score

BUDGET = 2048
"""Tokens of a packed row."""


def gold_perplexity(
    model: nn.Module, builder: PromptBuilder, task: Task, examples: Sequence[Example]
) -> dict[str, Any] | None:
    """Return PPL_fit: the perplexity of the gold completions after the student's prompts.

    Args:
        model: in evaluation mode.
        builder: how prompts are laid out.
        task: who knows the gold completions.
        examples: those without a gold completion are left out.

    Returns:
        ``value`` (exp of the mean negative log-likelihood per token, temperature 1), ``tokens``, ``of`` examples; None
        where no example has a gold completion.
    """
    sequences = [
        PackedSequence(builder.student_ids(example.asked), builder.completion_ids(text, example.asked))
        for example in examples
        if (text := task.gold(example))
    ]
    sequences = [sequence for sequence in sequences if fits(model, sequence)]
    return perplexity(model, sequences) if sequences else None


def fits(model: nn.Module, sequence: PackedSequence) -> bool:
    """Return whether a sequence is no longer than what the model can read."""
    longest = max_positions(model)
    return longest is None or len(sequence) <= longest


def finite_perplexity(mean_logprob: float) -> float | None:
    """Return exp(-mean log-probability), or None where that is beyond any number (JSON knows no infinity).

    Raises:
        UniSDError: the mean is not a number: the model's weights are broken.
    """
    if math.isnan(mean_logprob):
        raise UniSDError("the model's probabilities are no numbers (NaN); its weights are broken, train again")
    return math.exp(-mean_logprob) if mean_logprob > -700 else None


def perplexity(model: nn.Module, sequences: Sequence[PackedSequence]) -> dict[str, Any]:
    """Return the perplexity of the completions of ``sequences`` under ``model``, all tokens together."""
    scored = score(model, [ReadRequest(sequence, temperature=1.0) for sequence in sequences], BUDGET)
    total = math.fsum(float(wide(part).sum()) for part in scored)
    tokens = sum(len(part) for part in scored)
    return {"value": finite_perplexity(total / tokens), "tokens": tokens, "of": len(sequences)}


def option_probabilities(
    model: nn.Module, builder: PromptBuilder, task: Task, examples: Sequence[Example]
) -> list[list[float]]:
    """Return each option's probability as an immediate answer, ``Answer: <option>``, normalised over the options.

    No reasoning comes before it, so this is what the model believes at once, and it is comparable between models
    whatever their answers look like. The token that tells the letters apart decides.

    Raises:
        UsageError: the tokenizer writes two letters with the same token.
    """
    views, choices = [], []
    for example in examples:
        replies = [demonstration("", letter) for letter in task.options(example)]
        written = [builder.completion_ids(reply, example.asked) for reply in replies]
        at = next(i for i, tokens in enumerate(zip(*written, strict=False)) if len(set(tokens)) > 1)
        tokens = [ids[at] for ids in written]
        if len(set(tokens)) < len(tokens):
            raise UsageError(f"item {example.id}: the tokenizer does not tell its letters apart; leave out calibration")
        sequence = PackedSequence(builder.student_ids(example.asked), written[0][: at + 1])
        if not fits(model, sequence):
            raise UsageError(
                f"item {example.id}: its prompt is longer than what the model reads; leave out --likelihood"
            )
        views.append(ReadRequest(sequence))
        choices.append(tokens)
    read, head = score(model, views, BUDGET), output_head(model)
    with torch.no_grad():
        return [
            wide(logits(states[-1:], head)[0, tokens]).softmax(0).tolist()
            for states, tokens in zip(read, choices, strict=True)
        ]


@dataclass(frozen=True)
class Calibration:
    """How well a model's confidence in its options agrees with how often they are right."""

    accuracy: float
    """Share of items whose most probable option is the key."""
    confidence: float
    """Mean probability of the most probable option."""
    ece: float
    """Expected calibration error: mean gap of confidence and accuracy over ten equal bins (Guo et al., 2017)."""
    brier: float
    """Mean squared distance of the probabilities from the key's one-hot vector (Brier, 1950); 0 is best, 2 worst."""
    n: int


def calibration(probabilities: Sequence[Sequence[float]], keys: Sequence[int], bins: int = 10) -> Calibration:
    """Measure calibration.

    Args:
        probabilities: per item, one per option, summing to 1.
        keys: per item, the index of the right option.
        bins: equal bins of confidence.
    """
    confidences = [max(row) for row in probabilities]
    right = [row.index(max(row)) == key for row, key in zip(probabilities, keys, strict=True)]
    gaps = [0.0] * bins
    for confidence, hit in zip(confidences, right, strict=True):
        gaps[min(int(confidence * bins), bins - 1)] += confidence - hit
    n = len(keys)
    brier = sum(
        sum((p - (index == key)) ** 2 for index, p in enumerate(row))
        for row, key in zip(probabilities, keys, strict=True)
    )
    return Calibration(sum(right) / n, sum(confidences) / n, sum(abs(gap) for gap in gaps) / n, brier / n, n)


def choice_calibration(
    model: nn.Module, builder: PromptBuilder, task: Task, examples: Sequence[Example]
) -> Calibration | None:
    """Measure the calibration of multiple-choice examples; None where they are of another kind."""
    options = [task.options(example) for example in examples]
    if not options or not all(options):
        return None
    keys = [letters.index(example.answer) for letters, example in zip(options, examples, strict=True)]
    return calibration(option_probabilities(model, builder, task, examples), keys)
