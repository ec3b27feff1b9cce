"""Which answers a model gives, beside those that the keys hold: one answer to nearly everything is a collapse."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

COLLAPSE = 0.8
"""One answer to more than this share of what was readable is a collapse, unless the keys hold it as often."""
LEAST = 10
"""So many answers must be readable: fewer agree by chance."""
_LISTED = 12
"""So many kinds of answers are listed in a summary."""
_SHOWN = 60
"""Letters of an answer that are shown."""


@dataclass(frozen=True)
class Distribution:
    """How often each answer was given, and how often it is the key."""

    answers: dict[str, int]
    """Readable answers, most frequent first. A right one is written as its key is."""
    keys: dict[str, int]
    unreadable: int
    function: bool = False
    """Whether only the function that an answer calls is looked at."""

    @property
    def readable(self) -> int:
        """Number of readable answers."""
        return sum(self.answers.values())

    @property
    def most_frequent(self) -> str | None:
        """The answer that was given most often; None where nothing could be read."""
        return next(iter(self.answers), None)

    @property
    def share(self) -> float:
        """The share of the most frequent answer among readable ones."""
        return next(iter(self.answers.values()), 0) / max(self.readable, 1)

    def key_share(self, answer: str | None) -> float:
        """Return the share of the keys that are ``answer``."""
        return self.keys.get(answer or "", 0) / max(sum(self.keys.values()), 1)

    @property
    def collapsed(self) -> bool:
        """Whether one answer is given to nearly everything, and the keys do not ask for that."""
        enough = self.readable >= LEAST and self.share > COLLAPSE
        return enough and self.key_share(self.most_frequent) <= COLLAPSE

    def in_words(self) -> str:
        """Return what the most frequent answer is, in a sentence."""
        if self.most_frequent is None:
            return "No answer could be read."
        what = "call" if self.function else "are"
        said = f"{self.answers[self.most_frequent]} of {self.readable} readable answers {what} {self._shown()}"
        said += f"; it is the key of {self.key_share(self.most_frequent):.0%}."
        return f"Collapse: {said}" if self.collapsed else said

    def _shown(self) -> str:
        text = " ".join((self.most_frequent or "").split())
        return repr(text) if len(text) <= _SHOWN else repr(text[:_SHOWN] + "…")

    def summary(self) -> dict[str, Any]:
        """Return the distribution as plain values: the most frequent answers and keys alone."""
        return {
            "readable": self.readable,
            "unreadable": self.unreadable,
            "most_frequent": self.most_frequent,
            "share": self.share,
            "key_share": self.key_share(self.most_frequent),
            "collapse": self.collapsed,
            "in_words": self.in_words(),
            "answers": dict(list(self.answers.items())[:_LISTED]),
            "keys": dict(list(self.keys.items())[:_LISTED]),
            "function": self.function,
        }


def distribution(answers: Iterable[tuple[str, str | None, bool]]) -> Distribution:
    """Count answers and keys.

    Where every key is a call of functions, and hardly any call stands twice among the keys, the functions are counted.

    Args:
        answers: key, answer as it was read (None: it could not be), and whether it is right.
    """
    given = list(answers)
    keys = [key for key, _, _ in given]
    read = [(key if right else answer) for key, answer, right in given if answer is not None]
    called = [_functions(key) for key in keys]
    whole = Distribution(_counted(read), _counted(keys), len(given) - len(read))
    if not keys or None in called or whole.collapsed:
        return whole
    functions = [_functions(answer) or answer for answer in read]
    return Distribution(_counted(functions), _counted(str(name) for name in called), whole.unreadable, True)


def collapse_of(summary: Mapping[str, Any]) -> str | None:
    """Return the sentence that says that an evaluation's answers collapsed, or None.

    Args:
        summary: of `Evaluation.summary`, or what its file holds; one of an earlier version says nothing.
    """
    found = summary.get("answers")
    if isinstance(found, Mapping) and found.get("collapse"):
        return str(found.get("in_words", "Collapse: one answer is given to nearly everything."))
    return None


def _counted(values: Iterable[str]) -> dict[str, int]:
    counts = Counter(values)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _functions(text: str) -> str | None:
    """Return the names of the functions that an answer calls, in the notation of `unisd.tasks.tools`; None: no call."""
    if not text.startswith("["):
        return None
    try:
        calls = json.loads(text)
        names = [str(call["name"]) for call in calls if "arguments" in call]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return ", ".join(names) if names and len(names) == len(calls) else None
