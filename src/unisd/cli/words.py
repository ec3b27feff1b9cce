"""Words that tables and lines print and that a newcomer may not know, each explained where it first appears."""

import functools
import re

MEANINGS = {
    "headroom": "how much more often the teacher, who is shown a worked answer, is right than the student, who is not: "
    "what training can teach at the most",
    "layout": "where the worked answer stands in the teacher's prompt: after the question (paper), in a turn of the "
    "conversation before it (turn), or in the system message (system); the student's prompt has none",
    "not surely wrong": "a wrong demonstration is written by the model and counts only where its answer was read and "
    "differs from the key; from this one no such answer could be read, so it is left out",
    "parsable": "answers that could be read, right or wrong: the form that the task asks for was kept",
    "probe": "a demonstration of another item, shown to the teacher to see whether its judgement stays the same",
    "Teacher minus student": "the headroom: how much more often the teacher, who is shown a worked answer, is right "
    "than the student, who is not; what training can teach at the most",
    "divergence": "how far the teacher's probabilities are from the student's, in nats a token: 0 where there is "
    "nothing to learn",
}


@functools.cache
def _pattern(word: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(word)}(s|es)?\b", re.IGNORECASE)


def explained(text: str) -> list[str]:
    """Return a line for each word of `MEANINGS` that occurs in a text."""
    return [f"{word}: {meaning}" for word, meaning in MEANINGS.items() if _pattern(word).search(text)]
