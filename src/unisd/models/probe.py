"""What a model says to a few tokens: enough to see whether two sets of weights are the same model."""

from typing import Any

import torch
from torch import Tensor, nn

from unisd.devices import kept_randomness
from unisd.models.load import base_model

_TOKENS = 8


@torch.no_grad()
def answers(model: nn.Module) -> Tensor:
    """Return the logits ``[T, V]`` (fp32) after each of a few tokens, in evaluation mode; it draws no random number."""
    inner: Any = base_model(model)
    rows: int = inner.get_input_embeddings().weight.shape[0]
    device = next(model.parameters()).device
    ids = torch.arange(_TOKENS, device=device)[None] * max(1, rows // _TOKENS) % rows
    training = model.training
    model.eval()
    try:
        with kept_randomness(device):
            logits: Tensor = model(input_ids=ids, use_cache=False).logits[0].float()
    finally:
        model.train(training)
    return logits


def alike(one: Tensor, other: Tensor, dtype: torch.dtype) -> bool:
    """Return whether two answers are equal to rounding in the dtype that they were computed in."""
    room = 1e-4 if dtype in (torch.float32, torch.float64) else 5e-2
    return bool((one - other).abs().max() <= room * one.abs().max().clamp(min=1.0))
