"""Forward passes of one sequence a row, for models in which packed sequences would reach into each other.

Rows are padded on the right, without a mask: whatever reads from left to right never sees what comes later.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unisd.models.packed import PackedSequence, final_states


def batches(lengths: Sequence[int], budget: int, together: bool = True) -> list[list[int]]:
    """Group indices into batches of at most ``budget`` tokens, padding included, longest first.

    Args:
        lengths: of the sequences, in tokens.
        budget: tokens a batch; a longer sequence stands alone.
        together: whether sequences may stand together at all.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if together and groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def padded_states(model: nn.Module, sequences: Sequence[PackedSequence]) -> Tensor:
    """Return the final hidden states ``[N, H]`` that predict the completion tokens, in the order of ``sequences``.

    ``model`` may be wrapped (PEFT, DDP).
    """
    inputs = [[*s.prompt_ids, *s.completion_ids[:-1]] for s in sequences]
    states = final_states(model, right_padded(inputs, next(model.parameters()).device))
    rows = [row for row, sequence in enumerate(sequences) for _ in sequence.completion_ids]
    places = [len(s.prompt_ids) - 1 + i for s in sequences for i in range(len(s.completion_ids))]
    return states[torch.tensor(rows, device=states.device), torch.tensor(places, device=states.device)]


def right_padded(sequences: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return ids ``[B, L]``; what a shorter one lacks is its last token again, which every model can read."""
    width = max(map(len, sequences))
    return torch.tensor([[*ids, *[ids[-1]] * (width - len(ids))] for ids in sequences], device=device)
