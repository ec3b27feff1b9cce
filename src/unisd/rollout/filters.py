"""What is done to a model's logits before a token is drawn from them: a penalty, the temperature, three filters.

In this order, which is that of transformers: ``repetition_penalty``, ``temperature``, ``top_k``, ``top_p``, ``min_p``.
Each filter sees the distribution that the ones before it left.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unisd.rollout.base import SamplingParams


def filtered(logits: Tensor, params: SamplingParams, seen: Tensor | None = None) -> Tensor:
    """Return the scores whose softmax is the distribution that a token is drawn from.

    Args:
        logits: ``[B, V]`` as the model gives them.
        params: how to decode. At temperature 0 nothing but the penalty is applied: the largest score is the choice.
        seen: ``[B, V]`` bool, the tokens of each row so far (see :func:`seen_tokens`); None without a penalty.

    Returns:
        ``[B, V]`` in the dtype of ``logits``; −inf for tokens that are left out.
    """
    if seen is not None:
        penalty = params.repetition_penalty
        logits = torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
    if params.temperature == 0:
        return logits
    scores = logits / params.temperature
    if 0 < params.top_k < scores.shape[-1]:
        # Tokens that are as likely as the k-th stay, too.
        scores = scores.masked_fill(scores < scores.topk(params.top_k).values[:, -1:], float("-inf"))
    if params.top_p < 1:
        scores = _nucleus(scores, params.top_p)
    if params.min_p > 0:
        probability = scores.softmax(-1)
        scores = scores.masked_fill(probability < params.min_p * probability.amax(-1, keepdim=True), float("-inf"))
    return scores


def seen_tokens(prompts: Sequence[Sequence[int]], like: Tensor) -> Tensor:
    """Return which tokens of the vocabulary stand in each prompt, ``[B, V]`` bool, for logits ``like`` ``[B, V]``."""
    vocabulary = like.shape[1]
    places = [(row, token) for row, prompt in enumerate(prompts) for token in set(prompt) if token < vocabulary]
    seen = torch.zeros(like.shape, dtype=torch.bool, device=like.device)
    rows, tokens = torch.tensor(places, dtype=torch.int64, device=like.device).view(-1, 2).unbind(1)
    seen[rows, tokens] = True
    return seen


def _nucleus(scores: Tensor, top_p: float) -> Tensor:
    """Mask all but the smallest set of tokens whose probability reaches ``top_p``."""
    ordered, index = scores.sort(dim=-1, descending=True)
    probability = ordered.softmax(-1)
    beyond = probability.cumsum(-1) - probability >= top_p
    return scores.masked_fill(torch.zeros_like(beyond).scatter(-1, index, beyond), float("-inf"))
