"""A window: completions that are written at one optimizer step and learned from at several.

The rows of a step come again at the next ones (`RepeatedWindows`), and what the first of them wrote and read is kept
(`Window`), in the checkpoint too, for the weights that wrote it are gone by then.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Sampler

from unisd.devices import has_float64
from unisd.errors import UniSDError
from unisd.files import read_jsonl, write_jsonl
from unisd.mechanisms import Reading, Step
from unisd.rollout import Completion
from unisd.training.ranks import Ranks

WINDOW_FILE = "window.jsonl"


@dataclass(frozen=True)
class Window:
    """What the first step of a window leaves to the others. This rank's."""

    items: Sequence[str]
    """The rows' ids."""
    completions: Sequence[Completion]
    lengths: Sequence[int]
    """How many tokens of each carry a loss."""
    values: dict[str, Tensor]
    """What the first step knows of its tokens once it is learned: `student_logprobs` are those of the writer."""
    readings: dict[str, Reading]
    """What the views gave then, by name; empty after a resume."""
    grades: Callable[[], Tensor] | None = None
    """The grades, where somebody grades; None after a resume."""

    @classmethod
    def of(cls, step: Step, completions: Sequence[Completion], lengths: Sequence[int]) -> "Window":
        """Return the window that a step begins, before it is learned."""
        return cls(step.items, completions, lengths, step.values, step.readings, step.grades)

    def save(self, folder: Path, ranks: Ranks, owner: bool) -> None:
        """Write the completions and their log-probabilities, those of all ranks, into a checkpoint; all must call.

        Args:
            folder: the checkpoint, which exists.
            ranks: the processes.
            owner: whether this one writes.
        """
        kept = self.values.get("student_logprobs")
        logprobs = iter([] if kept is None else kept.tolist())
        own = [
            {
                "id": item,
                "ids": done.ids,
                "finished": done.finished,
                "length": length,
                "logprobs": None if kept is None else [next(logprobs) for _ in range(length)],
            }
            for item, done, length in zip(self.items, self.completions, self.lengths, strict=True)
        ]
        everyone = ranks.objects(own)
        if owner:
            lines = ({"rank": rank, **row} for rank, rows in enumerate(everyone) for row in rows)
            write_jsonl(folder / WINDOW_FILE, lines)

    @classmethod
    def load(cls, folder: Path, rank: int, ranks: Ranks, device: torch.device) -> "Window | None":
        """Read this rank's part of what `save` wrote, exactly; None where the checkpoint is the end of a window.

        Raises:
            UniSDError: it was written by another number of processes.
        """
        path = folder / WINDOW_FILE
        if not path.is_file():
            return None
        rows = read_jsonl(path)
        before = 1 + max(row["rank"] for row in rows)
        if before != ranks.count:
            raise UniSDError(
                f"{path} was written by {before} processes and {ranks.count} resume, in the middle of what one step "
                f"wrote for several; resume with {before}, or from a checkpoint where reuse.steps divides the step"
            )
        own = [row for row in rows if row["rank"] == rank]
        logprobs = [value for row in own for value in row["logprobs"] or []]
        # Numbers in JSON are double, which holds single ones exactly.
        exact = torch.float64 if has_float64(device) else torch.float32
        seen = torch.tensor(logprobs, dtype=exact, device=device)
        values = {} if any(row["logprobs"] is None for row in own) else {"student_logprobs": seen}
        completions = [Completion(row["ids"], row["finished"]) for row in own]
        return cls([row["id"] for row in own], completions, [row["length"] for row in own], values, {})


class RepeatedWindows(Sampler[int]):
    """The order of rows where each optimizer step's rows come several times in succession.

    An epoch is a permutation of all rows, cut into windows; the last one is filled up from the epoch's beginning.

    Args:
        count: number of rows.
        window: rows of an optimizer step, on all ranks.
        uses: how many times each window comes.
        seed: of the permutations; None leaves the rows in their order.
        epoch: returns the number of the epoch that begins.
        drop_last: leave an incomplete last window out, where there is another.
    """

    def __init__(
        self, count: int, window: int, uses: int, seed: int | None, epoch: Callable[[], int], drop_last: bool = False
    ) -> None:
        self.count = count
        self.window = window
        self.uses = uses
        self.seed = seed
        self.epoch = epoch
        self.windows = max(1, count // window if drop_last else -(-count // window))

    def __len__(self) -> int:
        return self.windows * self.window * self.uses

    def __iter__(self) -> Iterator[int]:
        order = list(range(self.count))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed + self.epoch())
            order = torch.randperm(self.count, generator=generator).tolist()
        for start in range(0, self.windows * self.window, self.window):
            rows = [order[place % self.count] for place in range(start, start + self.window)]
            for _ in range(self.uses):
                yield from rows
