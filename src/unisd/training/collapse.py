"""Whether the student's words narrow down: entropy, length, repetition, what is cut off, the teacher's distance."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

STEPS = 5
"""Steps whose means are compared: the first of the run with the latest."""
_GRAM = 4


class Sign(NamedTuple):
    """A metric whose change is a sign of collapse."""

    metric: str
    shows: Callable[[float, float], bool]
    """(mean of the first steps, mean of the latest) to whether it does."""
    told: str
    """With ``{first}`` and ``{latest}``."""


SIGNS = (
    Sign(
        "student/entropy",
        lambda first, latest: latest < 0.2 and latest < first / 10,
        "the student's entropy fell from {first:.2g} to {latest:.2g} nats a token: it hardly has a choice left; lower "
        "training.learning_rate or the number of steps",
    ),
    Sign(
        "completions/mean_length",
        lambda first, latest: first > 8 and latest < first / 4,
        "completions shrank from {first:.0f} to {latest:.0f} tokens; read some (rollout.log_completions_steps), and "
        "lower training.learning_rate",
    ),
    Sign(
        "completions/unfinished",
        lambda first, latest: first < 0.5 and latest > 0.9,
        "the share of completions that are cut off rose from {first:.0%} to {latest:.0%}; raise "
        "rollout.max_completion_length, or lower training.learning_rate",
    ),
    Sign(
        "completions/repetition",
        lambda first, latest: first < 0.25 and latest > 0.5,
        "completions repeat themselves: {latest:.0%} of what they say they said before, {first:.0%} at the start; "
        "lower training.learning_rate",
    ),
    Sign(
        "divergence/mean",
        lambda first, latest: latest > 1 and latest > 3 * first,
        "the student moves away from its teacher: {first:.2g} nats a token at the start, {latest:.2g} now; lower "
        "training.learning_rate",
    ),
)


class CollapseWatch:
    """Compares the latest steps with the first; each sign is told once.

    Args:
        rows: the metrics of the steps so far, as a resumed run has them.
    """

    def __init__(self, rows: Iterable[Mapping[str, float]] = ()) -> None:
        self._rows: list[Mapping[str, float]] = []
        self._told: set[str] = set()
        for row in rows:
            self.look(row)

    def look(self, row: Mapping[str, float]) -> list[str]:
        """Take the metrics of a step; return what is seen for the first time."""
        self._rows.append(row)
        found = []
        for sign in SIGNS:
            values = [row[sign.metric] for row in self._rows if sign.metric in row]
            if sign.metric in self._told or len(values) < 2 * STEPS or sign.metric not in row:
                continue
            first, latest = (sum(part) / STEPS for part in (values[:STEPS], values[-STEPS:]))
            if sign.shows(first, latest):
                self._told.add(sign.metric)
                found.append(sign.told.format(first=first, latest=latest))
        return found


def repeated(texts: Iterable[Sequence[int]]) -> tuple[int, int]:
    """Return how many runs of four tokens stood before in the same text, and how many there are."""
    again = count = 0
    for text in texts:
        grams = [tuple(text[i : i + _GRAM]) for i in range(len(text) - _GRAM + 1)]
        again, count = again + len(grams) - len(set(grams)), count + len(grams)
    return again, count
