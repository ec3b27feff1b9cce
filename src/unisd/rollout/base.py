"""Who writes: the protocol that every sampler follows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

_LATER = ("top_k", "min_p", "repetition_penalty")


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
    top_k: int = 0
    """Only so many of the likeliest tokens; 0 keeps all. The order of all filters: :mod:`unisd.rollout.filters`."""
    min_p: float = 0.0
    """Only tokens at least this share as likely as the likeliest; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Logits of tokens that stand in the prompt or were written before are divided by this where positive, and
    multiplied where negative; 1 leaves them."""

    def plain(self) -> dict[str, Any]:
        """Return what a cache is keyed by. Fields that came later are left out where they change nothing, so that what
        was written before them is still found."""
        unused = {
            field.name for field in fields(self) if field.name in _LATER and getattr(self, field.name) == field.default
        }
        return {name: value for name, value in asdict(self).items() if name not in unused}


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
