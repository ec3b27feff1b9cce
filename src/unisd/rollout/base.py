"""Who writes: the protocol that every sampler follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class SamplingParams:
    """How to decode."""

    max_new_tokens: int
    temperature: float = 0.7
    """0 means greedy."""
    top_p: float = 1.0
    """Nucleus: the smallest set of most likely tokens whose probability reaches this; 1 keeps all."""
    seed: int = 42
    """Joined with each request's key to seed that completion's own random stream."""


@dataclass(frozen=True)
class Request:
    """One completion to write."""

    prompt_ids: Sequence[int]
    key: tuple[str | int, ...] = ()
    """Names the random stream: for training (step, item id, sample number). Two equal keys give equal completions."""


@dataclass(frozen=True)
class Completion:
    """One completion as it was written."""

    ids: list[int]
    """Token ids; the end-of-turn token is included where one was written."""
    finished: bool
    """Whether an end-of-turn token closed it (False: it ran into the length limit)."""


class Sampler(Protocol):
    """Writes completions. A completion depends on its own prompt, key and parameters only, never on its neighbours."""

    def sample(
        self, requests: Sequence[Request], params: SamplingParams, progress: str | None = None
    ) -> list[Completion]:
        """Write one completion per request, in the order of the requests.

        ``progress`` names a progress bar; None shows none.
        """

    def decode(self, completion: Completion) -> str:
        """Return the completion's text without special tokens, but for those that mark thoughts."""
