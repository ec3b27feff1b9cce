"""Constraints on the form of a reply that code can check, as IFEval has them (Zhou et al., 2023, arXiv 2311.07911).

A checker is a pure function of a reply and one parameter; it is strict: what a prompt says is taken literally, and no
part of a reply is forgiven. Replies come with blanks around them removed, in Unicode's composed form (NFC).
"""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unisd.errors import UsageError


def prepared(text: str) -> str:
    """Return a reply as checkers read it: composed characters, one line break and apostrophe, no blanks around."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    return text.replace("’", "'").strip()


# Sentences and words


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Patterns start where a run starts and are possessive, so that no text makes them slow.
_MARK = re.compile(r"(?<![.!?…])[.!?…]++[\"'”)\]*_»]*+(?=\s|\Z)|(?<![。！？])[。！？]++[」』”]*+")
_BLOCK = re.compile(r"\n[ \t]*+\n|\n(?=[ \t]*+(?:[-*+•‣◦▪●·–—]|\d{1,3}[.)])[ \t])")
_NEAR = 40
"""So many characters before and behind a full stop say what it is."""
_NEVER = _set("mr mrs ms mx dr prof gen capt lt sgt e.g i.e eg ie vs cf approx")
"""Abbreviations behind which a sentence goes on."""
_NUMBERED = _set("no nos fig figs vol pp p ch sec ca est")
"""Abbreviations behind which it goes on where a digit follows."""
_PERHAPS = _set("etc al a.m p.m inc ltd co corp ph.d b.c a.d min max hr hrs oz ft dept")
"""Abbreviations that may end a sentence, too: it does where no small letter follows."""
_NAMES = _set("st sr jr u.s u.k u.n d.c")
"""Those behind which a name may follow, as behind an initial: it ends where a word follows that begins sentences."""
_STARTERS = _set(
    "a an the this that these those it he she they we you i in on at if when then but and so for there here as"
)


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text.

    One ends at a full stop, question or exclamation mark, or ellipsis, with the quotes and brackets that close behind
    it, where a blank or the text's end follows; and at a blank line or a new list item, whatever stands before. It goes
    on behind abbreviations ("Dr.", "e.g."), initials, decimal points, the number of a list item, and behind a
    quotation, brackets or an ellipsis that a small letter follows (unless the text has no capital letters at all).
    What holds neither a letter nor a digit is none.
    """
    cased = any(c.isupper() for c in text)
    found = []
    for block in _BLOCK.split(text):
        start = 0
        for mark in _MARK.finditer(block):
            if _ends(block, start, mark, cased):
                found.append(block[start : mark.end()])
                start = mark.end()
        found.append(block[start:])
    return [piece.strip() for piece in found if any(c.isalnum() for c in piece)]


def _ends(block: str, start: int, mark: re.Match[str], cased: bool) -> bool:
    """Return whether a sentence that begins at ``start`` ends at ``mark``."""
    following = re.search(r"\w+", block[mark.end() : mark.end() + _NEAR])
    if following is None:
        return True
    small, signs = following[0][0].islower(), mark[0]
    if small and cased and signs != "." and signs.strip("!?。！？"):
        return False
    if signs[0] != "." or signs.startswith(".."):
        return True
    before = block[max(start, mark.start() - _NEAR) : mark.start()]
    word = re.split(r"[^\w.]", before)[-1]
    if word.isdigit() and mark.start() - start <= _NEAR and not before[: -len(word)].strip(" \t\n*_(>"):
        return False  # the number of a list item
    if word.lower() in _NAMES or re.fullmatch(r"(?:[A-Z]\.)*[A-HJ-Z]", word):
        return following[0].lower() in _STARTERS and not (small and cased)
    if word.lower() in _NEVER or (word.lower() in _NUMBERED and following[0][0].isdigit()):
        return False
    return not (small and word.lower() in _PERHAPS)


def words_of(text: str) -> list[str]:
    """Return the words of a text: what stands between blanks or dashes and holds a letter or a digit."""
    return [piece for piece in re.split(r"\s+|[—–]|--+", text) if any(c.isalnum() for c in piece)]


def occurrences(text: str, word: str) -> int:
    """Return how often a word (or several in a row) stands in a text as a whole word, whatever its case."""
    pattern = r"\s+".join(map(re.escape, word.casefold().split()))
    return len(re.findall(rf"(?<!\w){pattern}(?!\w)", text.casefold()))


def sentences(text: str, count: int) -> bool:
    """Exactly ``count`` sentences (:func:`sentences_of`)."""
    return len(sentences_of(text)) == count


def sentences_begin(text: str, letter: str) -> bool:
    """The first letter of every sentence is ``letter``, small or capital."""
    firsts = [next((c for c in piece if c.isalpha()), "") for piece in sentences_of(text)]
    return bool(firsts) and all(first.casefold() == letter.casefold() for first in firsts)


def words_at_most(text: str, count: int) -> bool:
    """No more than ``count`` words (:func:`words_of`)."""
    return len(words_of(text)) <= count


def words_at_least(text: str, count: int) -> bool:
    """No fewer than ``count`` words (:func:`words_of`)."""
    return len(words_of(text)) >= count


def contains(text: str, words: Sequence[str]) -> bool:
    """Each of ``words`` stands in it as a whole word, whatever its case."""
    return all(occurrences(text, word) for word in words)


def without_words(text: str, words: Sequence[str]) -> bool:
    """None of ``words`` stands in it as a whole word, whatever its case."""
    return not any(occurrences(text, word) for word in words)


def word_times(text: str, rule: Mapping[str, Any]) -> bool:
    """The word ``rule["word"]`` stands in it exactly ``rule["times"]`` times, whatever its case."""
    return occurrences(text, rule["word"]) == int(rule["times"])


# Characters


def without_letter(text: str, letter: str) -> bool:
    """The letter does not stand in it, small, capital or with an accent."""
    return letter.casefold() not in unicodedata.normalize("NFD", text.casefold())


def without_commas(text: str, _: Any = True) -> bool:
    """No comma of any script."""
    return not any(c in ",，、،﹐" for c in text)


def without_digits(text: str, _: Any = True) -> bool:
    """No digit of any script, raised and circled ones included; numbers in words are none."""
    return not any(c.isdigit() for c in text)


def lowercase(text: str, _: Any = True) -> bool:
    """Some letters, and no capital one."""
    return any(c.isalpha() for c in text) and not any(c.isupper() or c.istitle() for c in text)


def uppercase(text: str, _: Any = True) -> bool:
    """Some letters, and no small one."""
    return any(c.isalpha() for c in text) and not any(c.islower() for c in text)


# Layout

_BULLET = re.compile(r"^[ \t]*+[-*+•‣◦▪●·–—][ \t]++(?=.*\w)", re.MULTILINE)
_NUMBER = re.compile(r"^[ \t]*+(?:\*\*|__)?(\d{1,4})[.)](?:\*\*|__)?[ \t]++(?=.*\w)", re.MULTILINE)
_FENCE = re.compile(r"\A(`{3,}+|~{3,}+)[ \t]*+\w*+[ \t]*+\n(.*?)\n[ \t]*+\1\Z", re.DOTALL)


def bullets(text: str, count: int) -> bool:
    """Exactly ``count`` lines that begin with a bullet (``-``, ``*``, ``+``, ``•`` or the like) and a blank.

    Nested ones count; numbered lines and rules (``---``, ``* * *``) do not.
    """
    return len(_BULLET.findall(text)) == count


def numbered(text: str, count: int) -> bool:
    """The lines that begin with a number and ``.`` or ``)`` are numbered from 1 to ``count``, in order."""
    return [int(number) for number in _NUMBER.findall(text)] == list(range(1, count + 1))


def lines(text: str, count: int) -> bool:
    """Exactly ``count`` lines that hold a letter or a digit."""
    return sum(any(c.isalnum() for c in line) for line in text.split("\n")) == count


def paragraphs(text: str, count: int) -> bool:
    """Exactly ``count`` paragraphs that hold a letter or a digit, with blank lines between them."""
    return sum(any(c.isalnum() for c in part) for part in re.split(r"\n[ \t]*\n", text)) == count


def title(text: str, _: Any = True) -> bool:
    """The first line is a title in double angle brackets, ``<<...>>``, and nothing else; a text follows."""
    first, _, rest = text.partition("\n")
    return bool(re.fullmatch(r"<<[^<>]*\w[^<>]*>>", first.strip())) and any(c.isalnum() for c in rest)


def quoted(text: str, _: Any = True) -> bool:
    """The whole reply stands in double quotation marks, straight or curly."""
    return len(text) > 2 and text[0] in '"“' and text[-1] in '"”' and any(c.isalnum() for c in text)


def begins_with(text: str, phrase: str) -> bool:
    """It begins with ``phrase``, to the letter; a word does not go on behind it."""
    goes_on = phrase[-1].isalnum() and text[len(phrase) : len(phrase) + 1].isalnum()
    return text.startswith(phrase) and not goes_on


def ends_with(text: str, phrase: str) -> bool:
    """It ends with ``phrase``, to the letter; nothing follows, and no word began before it."""
    before = text[: -len(phrase)][-1:]
    return text.endswith(phrase) and not (phrase[0].isalnum() and before.isalnum())


def one_of(text: str, options: Sequence[str]) -> bool:
    """It is one of ``options`` and nothing else, whatever its case; a full stop may follow."""
    return text.removesuffix(".").casefold() in {option.casefold() for option in options}


def json_keys(text: str, keys: Sequence[str]) -> bool:
    """It is one JSON object with exactly these keys, each once; a code fence may stand around it, and nothing else."""
    fenced = _FENCE.match(text)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key stands there twice")
        return dict(pairs)

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    try:
        found = json.loads(fenced[2] if fenced else text, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.keys() == set(keys)


# What there is


@dataclass(frozen=True)
class Kind:
    """A kind of constraint."""

    holds: Callable[[str, Any], bool]
    """Whether a reply follows it, given the parameter."""
    takes: Callable[[Any], bool]
    """Whether a value can be its parameter."""
    whole: bool = True
    """Whether only a reply that came to its end can follow it: the rest might change a count, or the last words."""


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _letter(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 1 and value.isalpha()


def _phrase(value: Any) -> bool:
    return isinstance(value, str) and value != "" and value == prepared(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_phrase, value))


def _times(value: Any) -> bool:
    known = isinstance(value, dict) and value.keys() == {"word", "times"}
    return known and _phrase(value["word"]) and _number(value["times"])


def _true(value: Any) -> bool:
    return value is True


KINDS: dict[str, Kind] = {
    "sentences": Kind(sentences, _number),
    "words_at_most": Kind(words_at_most, _number),
    "words_at_least": Kind(words_at_least, _number, whole=False),
    "sentences_begin": Kind(sentences_begin, _letter, whole=False),
    "contains": Kind(contains, _texts, whole=False),
    "without_words": Kind(without_words, _texts, whole=False),
    "word_times": Kind(word_times, _times),
    "without_letter": Kind(without_letter, _letter, whole=False),
    "without_commas": Kind(without_commas, _true, whole=False),
    "without_digits": Kind(without_digits, _true, whole=False),
    "lowercase": Kind(lowercase, _true, whole=False),
    "uppercase": Kind(uppercase, _true, whole=False),
    "bullets": Kind(bullets, _number),
    "numbered": Kind(numbered, _number),
    "lines": Kind(lines, _number),
    "paragraphs": Kind(paragraphs, _number),
    "title": Kind(title, _true, whole=False),
    "quoted": Kind(quoted, _true),
    "begins_with": Kind(begins_with, _phrase, whole=False),
    "ends_with": Kind(ends_with, _phrase),
    "one_of": Kind(one_of, _texts),
    "json_keys": Kind(json_keys, _texts),
}
"""All kinds of constraint, by the names that data and results use."""


def verdicts(text: str, constraints: Mapping[str, Any], prompt: str = "", cut: bool = False) -> dict[str, bool]:
    """Return for each constraint whether a reply follows it.

    An empty reply follows none, nor does one that only repeats the prompt.

    Args:
        text: the reply.
        constraints: kinds with their parameters.
        prompt: what was asked.
        cut: whether the length limit ended the reply: it then follows nothing that is said of a whole reply.
    """
    text = prepared(text)
    answered = any(c.isalnum() for c in text) and text.split() != prepared(prompt).split()
    return {
        kind: answered and not (cut and KINDS[kind].whole) and KINDS[kind].holds(text, parameter)
        for kind, parameter in constraints.items()
    }


def check_constraints(constraints: Any) -> dict[str, Any]:
    """Return constraints that were read from a file, if they are some.

    Raises:
        UsageError: it is no mapping, is empty, or a kind is unknown or has a parameter that it cannot take.
    """
    if not isinstance(constraints, dict) or not constraints:
        raise UsageError("constraints: a mapping from kinds to parameters was expected")
    for kind, parameter in constraints.items():
        if kind not in KINDS:
            raise UsageError(f"there is no kind of constraint '{kind}'; use {', '.join(KINDS)}")
        if not KINDS[kind].takes(parameter):
            raise UsageError(f"{kind}: {parameter!r} cannot be its parameter")
    return constraints
