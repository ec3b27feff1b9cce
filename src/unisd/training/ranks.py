"""Sums and joins over all ranks; the identity where there is one."""

from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor


class Ranks:
    """The processes that share an optimizer step."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self.count: int = accelerator.num_processes

    def sum(self, values: Tensor) -> Tensor:
        """Return the elementwise sum over ranks; every rank must call it, with one shape."""
        if self.count == 1:
            return values
        total: Tensor = self._accelerator.reduce(values, reduction="sum")
        return total

    def objects(self, value: Any) -> list[Any]:
        """Return the values of all ranks, plain Python ones, in the order of the ranks; every rank must call it."""
        return list(gather_object([value])) if self.count > 1 else [value]

    def join(self, values: Tensor) -> Tensor:
        """Return the concatenation over ranks of one-dimensional tensors that may differ in length."""
        if self.count == 1:
            return values
        length = torch.tensor([values.numel()], device=values.device)
        lengths: Tensor = self._accelerator.gather(length)
        longest = int(lengths.max())
        padded = torch.zeros(longest, dtype=values.dtype, device=values.device)
        padded[: values.numel()] = values
        gathered: Tensor = self._accelerator.gather(padded[None])
        return torch.cat([gathered[rank, : int(n)] for rank, n in enumerate(lengths)])
