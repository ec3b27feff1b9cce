"""Whether a context gives away an item's own answer: that is checked, not hoped for."""

import re
import unicodedata
from functools import lru_cache

from unisd.contexts.base import Context
from unisd.tasks.base import Example

# Chinese and Japanese are written without spaces: there every character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
# "Reasoning:", "Action Input:": the words of a format, the same in all items.
_LABEL = re.compile(r"^[^\S\n]*\w+(?: \w+){0,2}:", re.MULTILINE)
_ANSWER = re.compile(r"\W*(?:final )?answer\b", re.IGNORECASE)
_RUN = 3
_LEAST_WORDS = 8
_SHARE = 0.9

Runs = frozenset[tuple[str, ...]]


def words(text: str) -> list[str]:
    """Return the words of ``text`` in order: runs of letters and digits, compatibility forms and case folded."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def normalised(text: str) -> str:
    """Return what is compared when two questions are called identical: the words, or all signs if there are none."""
    return " ".join(words(text)) or "".join(text.split())


def _content(text: str) -> tuple[str, ...]:
    return tuple(words(_LABEL.sub("", text)))


@lru_cache(maxsize=64)  # the same item is compared with many candidates in a row
def _runs(sequence: tuple[str, ...]) -> Runs:
    return frozenset(sequence[i : i + _RUN] for i in range(len(sequence) - _RUN + 1))


def _told(secret: tuple[str, ...], place: tuple[str, ...], share: float = _SHARE) -> bool:
    """Return whether ``share`` of the word runs of ``secret`` stand in ``place``; too short a secret tells nothing."""
    if len(secret) < _LEAST_WORDS:
        return False
    runs = _runs(secret)
    return len(runs & _runs(place)) >= share * len(runs)


def repeats(context: Context, text: str) -> bool:
    """Return whether the context's text holds ``text`` (of eight words or more) as a whole."""
    return _told(tuple(words(text)), tuple(words(context.text)), share=1.0)


def says_the_same(text: str, right: str) -> bool:
    """Return whether a text says what is right, case and white space aside: all of it, or ``Answer: …`` as its end.

    Signs count, for in programs and formulas they are what is wrong.
    """

    def plain(said: str) -> str:
        return "".join(said.split()).casefold()

    ends = [lines[-1] if (lines := said.strip().splitlines()) else "" for said in (text, right)]
    same_end = _ANSWER.match(ends[0]) is not None and plain(ends[0]) == plain(ends[1])
    return plain(text) == plain(right) or same_end


def leaks(example: Example, context: Context) -> bool:
    """Return whether ``context`` holds what only ``example``'s own gold context may hold.

    It does when

    1. the context is about the item itself: its question equals the item's prompt or question (case, punctuation and
       spacing aside), or
    2. nine tenths of the three-word runs of the item's question stand in the context's question or text, or
    3. nine tenths of the three-word runs of the item's demonstration (without labels such as "Reasoning:" and
       without the answer that closes it), or of its answer, stand in the context's text; or the whole demonstration.

    The last two need eight words to go by. A bare letter, a number or a short phrase says nothing: with three options
    a third of all items share the letter, and a rule that kept those out would tell the answer by its absence.
    """
    if context.question is not None:
        asked = normalised(context.question)
        if asked in (normalised(example.prompt), normalised(example.question)):
            return True
    demonstration, answer = example.demonstration or "", tuple(words(example.answer))
    question, solution = tuple(words(example.question)), _content(demonstration)
    if answer and solution[-len(answer) :] == answer:
        solution = solution[: -len(answer)]
    text = tuple(words(context.text))
    return (
        _told(question, text)
        or _told(question, tuple(words(context.question or "")))
        or _told(solution, _content(context.text))
        or _told(answer, text)
        or repeats(context, demonstration)
    )


def same_solution(example: Example, other: Example) -> bool:
    """Return whether two items are solved by the same program but for its names (``shape``, where a task gives it)."""
    return example.shape is not None and example.shape == other.shape
