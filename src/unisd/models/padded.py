"""Reading tokens onto what was read before, with transformers' own cache: for models that slots do not suit."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class PaddedReader:
    """Reads the sequences of a batch token by token; shorter prompts are padded on the left.

    Args:
        model: a causal language model (PEFT or plain) in evaluation mode; its weights must not change between reads.
    """

    def __init__(self, model: nn.Module) -> None:
        from transformers import DynamicCache

        self.model: Any = model
        self.device = next(model.parameters()).device
        self._cache = DynamicCache(config=getattr(model, "config", None))
        self._mask = torch.empty(0)

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the prompts; return the logits ``[B, V]`` that follow each, fp32."""
        width = max(len(prompt) for prompt in prompts)
        padded = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        starts = torch.tensor([width - len(prompt) for prompt in prompts], device=self.device)
        columns = torch.arange(width, device=self.device)
        self._mask = columns >= starts[:, None]
        ids = torch.tensor(padded, device=self.device)
        return self._run(ids, (columns - starts[:, None]).clamp(min=0))[:, -1]

    def read(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Read the next token of each row, ``[B, 1]``, at its position; return logits ``[B, 1, V]``, fp32."""
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        return self._run(ids, positions)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch alone, in this order."""
        chosen = torch.tensor(list(rows), device=self.device)
        self._cache.batch_select_indices(chosen)
        self._mask = self._mask[chosen]

    def _run(self, ids: Tensor, positions: Tensor) -> Tensor:
        output = self.model(
            input_ids=ids,
            attention_mask=self._mask.long(),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits.float()
        return logits
