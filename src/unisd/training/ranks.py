"""Sums and joins over all ranks; the identity where there is one."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate.utils import gather_object
from torch import Tensor

from unisd.errors import UniSDError

S = TypeVar("S")
T = TypeVar("T")


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

    def first(self, work: Callable[[], T]) -> T:
        """Let the first rank do something and return what it gave on all of them; every rank must call it.

        Raises:
            UniSDError: the first rank met it; all of them raise it.
        """
        if self.count == 1:
            return work()
        done: tuple[Any, UniSDError | None] | None = None
        if self._accelerator.is_main_process:
            try:
                done = work(), None
            except UniSDError as error:
                done = None, error
        value, failed = self.objects(done)[0]
        if failed is not None:
            raise failed
        return value  # type: ignore[no-any-return]

    def shared(self, work: Callable[[list[S]], list[T]], asked: list[S]) -> list[T]:
        """Let every rank work on a part of what is asked; return, on all of them, what came of all of it, in order.

        Raises:
            UniSDError: a rank met it; all of them raise it.
        """
        if self.count == 1:
            return work(asked)
        part: tuple[list[T], UniSDError | None]
        try:
            part = work(asked[self._accelerator.process_index :: self.count]), None
        except UniSDError as error:
            part = [], error
        results: dict[int, T] = {}
        for rank, (done, failed) in enumerate(self.objects(part)):
            if failed is not None:
                raise failed
            results.update(zip(range(rank, len(asked), self.count), done, strict=True))
        return [results[number] for number in range(len(asked))]

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.count > 1:
            self._accelerator.wait_for_everyone()

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
