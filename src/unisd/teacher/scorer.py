"""The teacher reads completions: packed, without gradient, in all contexts in one go.

The gold context's hidden states are kept (its whole distribution is the target); of probes and negatives only the
log-probability of each sampled token is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unisd.fast.merged import merged_weights
from unisd.models.head import output_head
from unisd.models.packed import PackedSequence
from unisd.models.reading import completion_states, rows_of
from unisd.objective import sampled_logprobs


@dataclass(frozen=True)
class ReadRequest:
    """One completion read in one context."""

    sequence: PackedSequence
    temperature: float | None = None
    """Give log-probabilities at this temperature; None: give hidden states."""
    item: str | int | None = None
    """Views of one item are read together, since their prompts have much in common; None: on its own."""


def score(model: nn.Module, views: Sequence[ReadRequest], budget: int) -> list[Tensor]:
    """Score every view with the weights that ``model`` has now.

    Args:
        model: the unwrapped model, in evaluation mode (see :meth:`Teacher.weights`).
        views: completions in their contexts; they are packed into rows together, whatever they are for.
        budget: tokens a row; the views of one item may take more, since they stay together.

    Returns:
        Per view, in order: hidden states ``[T, H]`` in the model's dtype, or log-probabilities ``[T]`` in fp32.
    """
    results: list[Tensor | None] = [None] * len(views)
    sequences, items = [view.sequence for view in views], [view.item for view in views]
    rows = rows_of(model, sequences, budget, items)
    head = output_head(model)
    device = head.weight.device
    with torch.no_grad(), merged_weights(model, head=False):
        for row in rows:
            states = completion_states(model, [sequences[i] for i in row], share=True)
            start = 0
            for i in row:
                view = views[i]
                part = states[start : start + len(view.sequence.completion_ids)]
                start += len(part)
                if view.temperature is None:
                    results[i] = part.clone()
                else:
                    targets = torch.tensor(list(view.sequence.completion_ids), device=device)
                    results[i] = sampled_logprobs(part, head, targets, view.temperature)
    return [result for result in results if result is not None]
