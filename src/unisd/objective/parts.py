"""What may join the divergence in the pass over the logits: token terms, gates, and a target of its own.

Each is a function of a few rows, given as data: the pass calls it while it has those rows at hand, with the values
``[R]`` that were seen there and its own inputs, cut to the same rows. All of it is without gradient; a token term
gives its slope itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from unisd.objective.head import Head

T = TypeVar("T", "TokenTerm", "Gate", "Target")


@dataclass(frozen=True)
class Seen:
    """What the pass knows of a few tokens, ``[R]`` each, in nats, at the training temperature."""

    s: Tensor
    """Log-probability of the token under the student."""
    g: Tensor
    """The same under the teacher in the gold context; NaN without a teacher."""
    entropy: Tensor
    """Entropy of the student's distribution."""
    teacher_entropy: Tensor
    """Entropy of the teacher's in the gold context; NaN unless a gate asks for it."""


@dataclass(frozen=True)
class TokenTerm:
    """A loss on the student's log-probability of the token: sum over tokens of coefficient times value.

    The result's ``values`` hold its value under ``name`` and its slope under ``name/slope``.
    """

    name: str
    function: Callable[..., tuple[Tensor, Tensor]]
    """(seen, *inputs) to value and slope in ``seen.s``, ``[R]`` each."""
    coefficients: Tensor
    """Scalar or ``[N]``: weight and the step's normaliser."""
    present: Tensor
    """``[N]`` bool: whether the term speaks of the token. Where not, inputs and coefficients may be anything at all."""
    inputs: tuple[Tensor, ...] = ()
    """``[N, …]`` each, handed to the function a few rows at a time."""


@dataclass(frozen=True)
class Gate:
    """A factor on a token's divergence, formed from what is seen there; not normalised again.

    The result's ``values`` hold it under ``name``.
    """

    name: str
    function: Callable[..., Tensor]
    """(seen, *inputs) to ``[R]``, 0 or more."""
    inputs: tuple[Tensor, ...] = ()
    """``[N, …]`` each."""
    teacher_entropy: bool = False
    """Whether it reads the teacher's entropy, which takes a pass over the teacher's distribution."""


@dataclass(frozen=True)
class Target:
    """How the teacher's logits, and those of further readings, become the distribution that the student is to match.

    The result's ``values`` hold what the function returns under ``name``.
    """

    name: str
    function: Callable[..., Tensor]
    """(teacher's logits, *those of the readings, ``[R, V]`` each) to a value ``[R]``. It writes the target's logits
    over the teacher's, and may use the others as storage. All are divided by the temperature."""
    states: tuple[Tensor, ...]
    """Hidden states of the further readings, ``[N, H]`` each."""
    heads: tuple[Head, ...]
    """The head that reads each, same vocabulary."""
    present: Tensor
    """``[N]`` bool: whether a token has the further readings. Where not, the teacher's logits are the target, and the
    value is 1."""
    gates: bool = False
    """Whether the value multiplies the token's divergence, like a gate."""


def at(part: T, tokens: Tensor | slice) -> T:
    """Return a term, gate or target for some of its tokens."""
    changes: dict[str, Any] = {}
    for name, value in vars(part).items():
        if isinstance(value, Tensor) and value.dim():
            changes[name] = value[tokens]
        elif name in ("inputs", "states"):
            changes[name] = tuple(tensor[tokens] for tensor in value)
    return replace(part, **changes)


def check_parts(parts: Sequence[TokenTerm | Gate | Target], count: int, vocabulary: int, has_teacher: bool) -> None:
    """Raise ValueError where a part does not fit ``count`` tokens, or needs a teacher that is not there."""
    for part in parts:
        tensors = [value for value in vars(part).values() if isinstance(value, Tensor) and value.dim()]
        tensors += [*getattr(part, "inputs", ()), *getattr(part, "states", ())]
        for tensor in tensors:
            if len(tensor) != count:
                raise ValueError(f"{part.name} of {len(tensor)} tokens does not fit {count} tokens")
        if not has_teacher and not isinstance(part, Gate):
            raise ValueError(f"{part.name} needs a teacher")
        present = getattr(part, "present", None)
        if present is not None and present.dtype != torch.bool:
            raise ValueError(f"the mask `present` of {part.name} must be bool, got {present.dtype}")
        for head in getattr(part, "heads", ()):
            if head.weight.shape[0] != vocabulary:
                raise ValueError(f"the readings of {part.name} have {head.weight.shape[0]} tokens, not {vocabulary}")
