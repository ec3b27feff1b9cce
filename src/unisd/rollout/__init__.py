"""Who writes: one protocol, one sampler per engine, and the one place that builds them."""

from typing import Any

from torch import nn

from unisd.rollout.base import Completion, Request, Sampler, SamplingParams
from unisd.rollout.store import CompletionStore
from unisd.rollout.torch_sampler import TorchSampler

__all__ = ["Completion", "CompletionStore", "Request", "Sampler", "SamplingParams", "make_sampler"]


def make_sampler(model: nn.Module, tokenizer: Any, batch_size: int = 32) -> Sampler:
    """Return who writes completions.

    Args:
        model: an unwrapped causal language model (PEFT or plain).
        tokenizer: the model's own.
        batch_size: completions written at a time; changes speed and memory, not results.
    """
    return TorchSampler(model, tokenizer, batch_size)
