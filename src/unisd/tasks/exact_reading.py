"""Reading a short answer, a number or a text, out of an output, as a person would."""

import re
from itertools import zip_longest

from unisd.tasks.numerals import LEADS, NOTHING, NUMBER, Number, clean, number_in
from unisd.tasks.stance import asserted, taken_back
from unisd.tasks.turns import turns

__all__ = [
    "Number",
    "formula_in",
    "normal",
    "number_in",
    "read_formula",
    "read_number",
    "read_texts",
    "says_nothing",
]


def read_number(text: str) -> Number | None:
    """Read the number that an output settles on; None where a person could not say.

    The last number that is declared counts: ``Answer: 12 apples``, ``the answer is -3/4``, ``#### 12``,
    ``\\boxed{12}``, ``{"answer": 12}``. Without a declaration: the only number of the last line, or the one behind its
    equals sign. Units, currencies, thousands' separators, percent signs, powers of ten, mixed numbers, number words and
    LaTeX are understood. Not read: expressions ("2π", "3 + 4"), several numbers at once ("3 or 4", "2 hours 30
    minutes"), conversions ("1 hour = 60 minutes"), dates and times, what the writer does not stand by
    (:mod:`unisd.tasks.stance`) or takes back. Where an output goes on to ask and answer a further question, its first
    answer counts.

    Never raises, and takes time in proportion to the length of ``text``.
    """
    for turn in turns(text):
        turn = asserted(clean(turn))
        for value, rest in reversed(_declared(turn)):
            if not value:
                return None
            # "Answer: She has 5 apples." begins an argument where further numbers follow below.
            argued = re.search(r"\d", rest) and not LEADS.match(value)
            if not argued and (number := number_in(value)) is not None:
                return number
        if (number := _undeclared_number(turn)) is not None:
            return number
    return None


def read_texts(text: str) -> list[str]:
    """Read the text that an output settles on, normalised (`normal`); empty where there is none.

    The last declared text counts, else the only or last line where it is short. What stands first is the whole of it;
    shorter readings follow: without further sentences, a reason ("Paris, because ..."), or a lead ("It is Paris").

    Never raises, and takes time in proportion to the length of ``text``.
    """
    for turn in turns(text):
        if (value := _said(asserted(clean(turn)))) is not None:
            shorter = [value, re.split(r"[.!?;] ", value, maxsplit=1)[0], _REASON.split(value, maxsplit=1)[0]]
            shorter += [_IT_IS.sub("", part) for part in shorter]
            return list(dict.fromkeys(form for part in shorter if (form := normal(part))))
    return []


def read_formula(text: str) -> str | None:
    """Read the formula that an output settles on, as LaTeX (`formula_in`); None where it settles on none."""
    found = (_said(asserted(clean(turn, formula=True))) for turn in turns(text))
    value = _IT_IS.sub("", next(filter(None, found), ""))
    value = re.split(r"[≈⇒→]|[.!?;] |,? (?:because|since)\b", value, maxsplit=1)[0].strip(" $")
    return formula_in(re.sub(r"^[A-Za-z] ?= ?", "", value))


def formula_in(value: str) -> str | None:
    """Return the formula that a whole text is, as LaTeX; None where it is none.

    Only what cannot be meant otherwise counts: no words, percents, equations, codes (007, 4B), lists, dates or scores,
    and no letter in both cases, since cases do not count.
    """
    value = clean(value, formula=True).strip(" $.")
    # Exponents and roots reach as far as a reader of plain text takes them to.
    value = re.sub(r"\^(-?\d+|[A-Za-z])", r"^{\1}", value)
    value = re.sub(r"√(?: (?!\d+ ?/))?(\d+|[A-Za-z])", r"√{\1}", value)
    for sign, latex in _LATEX.items():
        value = value.replace(sign, latex)
    letters = {*re.findall(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])", value)}
    both = len(letters) > len({letter.lower() for letter in letters})
    return None if both or len(value) > 100 or not _FORMULA.fullmatch(value) or _CODE.fullmatch(value) else value


def says_nothing(text: str) -> bool:
    """Say whether a text may stand in an answer's place and give none: "unknown", "given above", "correct"."""
    return NOTHING.match(text) is not None


def normal(text: str) -> str:
    """Return a text as it is compared: no case, markup, surrounding quotes or stops, and single spaces."""
    return " ".join(clean(text).casefold().split()).strip(" \"'“”‘’«»`.,;:!?。")


# The patterns below run on text that `_clean` has passed; each is bounded or anchored, so that no text makes it slow.
_DECLARED_AT_MOST = 50
_KIND = r"(?:answer|ans|result|antwort|réponse|respuesta|risposta|ответ|答案|答え|정답)"
_LABEL = re.compile(
    r"(?im)^[ \t]{0,9}####(?= ?[-+$€£]{0,3}\.?\d(?:[\d,./]{0,99}\d)?(?:[ %€][^\n.:]{0,30})?$)"
    r"|(?<![\w{])(?P<no>(?:wrong|incorrect|possible|first|another) )?(?:the )?"
    rf"(?:(?:final |correct |right )?{_KIND}|final(?=:)|(?:correct|right) (?:number|value|total))"
    r"(?: (?:to|for|of|that|here)(?: [\w']{1,15}){0,7}?| \([^()\n]{2,30}\))?"
    r"""(?P<quote>["']?)(?: ?[:=→⇒：]| ?-+>| ?(?:\n|$)"""
    r"| (?P<soft>is|was|equals|will be|would be|must be|should be|ist|est|es|è)\b[: ]{0,2}|是|は|는|은)"
)
_FIX = re.compile(
    r"(?i)(?<=[.!?;,(\n-]) ?(?:(?:hmm|oh|oops) )?(?P<word>no(?!\. ?\d)|wait|actually|sorry|correction|edit|"
    r"i meant?|make that|on second thought)\b(?P<fill>(?:[,:;! ]|[.-](?!\d)|(?:no|wait|actually|sorry|i meant?|"
    r"make (?:that|it)|it's|(?:it|that|this) (?:should|must|would|has to) be|it is)(?!\w))*)(?=(?P<value>[^\n]{1,120}))"
)
_NO_CORRECTION = re.compile(
    r"(?i)\b(?:is|are|was|were|am|isn't|has|have|had|of|more|less|left|not|can't|cannot)\b"
    r"|^(?:a|an|it|its|that|this|these|those|i|we|he|she|they|you|there|let|if|because|since|so|but|and|one|no)\b"
)
_DOTS = re.compile(r"[ \"'“(<\[]{0,5}(?:\.{2,}|_{2,})")
_IT_IS = re.compile(r"(?i)^(?:it is|it's|that is|that's|this is|the answer is) ")
_REASON = re.compile(r",? (?:because|since|as it|as the|which|due to)\b| [(\[—]|, (?:as|for|so) ", re.IGNORECASE)
_LATEX = {"√": r"\sqrt", "π": r"\pi ", "×": r"\times "}
_FORMULA = re.compile(
    r"(?:[-+*/(){}\[\] ]|\^(?=\{)|\\sqrt(?=[{\[])|\\(?:[dtc]?frac|pi|times|div|log|ln|sin|cos|tan)(?![A-Za-z])"
    r"|(?:(?!0\d)\d+(?:\.\d+)?|\.\d+)(?! ?[\d.])|(?<![A-Za-z])[A-Za-z](?! ?[A-Za-z\d]))+"
)
_CODE = re.compile(r"(?i)[\w.]+(?: ?[-/] ?[\w.]+){2,}|[\d.]+ ?- ?[\d.]+|[\d.]+ ?[a-z]|([a-z]) ?[-/] ?\1")


def _said(turn: str) -> str | None:
    """Return what a turn settles on: the last text that is declared, else the only or last line where it is short.

    Where it was taken back, that is nothing, an empty text.
    """
    declared = [value for value, _ in _declared(turn) if not value or normal(value)]
    lines = [line for part in turn.split("\n") if (line := part.strip(" #"))]
    if not _LABEL.search(turn) and lines and len(lines[-1].split()) <= 8 and lines[-1][-1] not in ":,":
        declared = [lines[-1]]
    return declared[-1] if declared else None


def _declared(turn: str) -> list[tuple[str, str]]:
    """Return what is declared to be the answer, up to the end of its line, each with (the start of) what follows.

    Where its own line is empty the next one counts, if it is short or the last. An empty text stands behind what is
    taken back.
    """
    values = []
    # More declarations than a person would make are the loop of a model; the last ones of it say enough.
    labels = list(_LABEL.finditer(turn))[-_DECLARED_AT_MOST:]
    for match, following in zip_longest(labels, labels[1:]):
        start = match.end() - match[0].endswith("\n")
        value, _, rest = turn[start : start + 2000].partition("\n")
        if not re.search(r"\w|\.\.", value):
            value, _, rest = rest.lstrip("\n ").partition("\n")
            if len(value.split()) > 5 and rest.strip():
                continue
        tail = turn[start : min(start + 400, following.start() if following else len(turn))].lstrip()
        value = value[:400].strip()
        if denied := re.match(r"(?i)not\b.{0,60}?\b(?:but|rather)\b (?P<rest>.+)", value):
            value = denied["rest"]
        if match["quote"] and value[:1] in ("'", '"'):  # a text in JSON
            value = value[1:].partition(value[0])[0]
        if match["soft"] or LEADS.match(value):  # "Answer: 10. Check: 10 / 2 = 5."
            value = re.split(r"(?<![A-Z])[.;!?](?: |$)", value, maxsplit=1)[0]
        # "The answer is correct" declares nothing; "Answer: correct" does.
        nothing = _DOTS.match(value) or (match["soft"] and ":" not in match[0] and NOTHING.match(value))
        if value and not match["no"] and not nothing:
            values.append((value, rest))
            values += [("", "")] * taken_back(tail)
            values += [(fixed, "") for fixed in _corrections(turn[start : following.start() if following else None])]
    return values


_ENDS = re.compile(r"[.;!](?: |$)|[,)](?: |$)|,? (?:because|since|as)\b| \(| - (?!\d)")


def _corrections(declaration: str) -> list[str]:
    """Return what is said in place of a declared value: "Answer: 12. Wait, no. It's 13." """
    found = []
    for match in _FIX.finditer(declaration[:2000]):
        value = _ENDS.split(match["value"], maxsplit=1)[0].strip()
        if not re.search(r"\w", declaration[: match.start()]) or _NO_CORRECTION.search(value) or NOTHING.match(value):
            continue
        # "Yes, no doubt" corrects nothing; "Rome, no, Paris" does, and so do "no 13" and "I mean Paris".
        marked = re.search(r"[^\s]", match["fill"]) or " " in match["word"] or match["word"] == "correction"
        if value and value[-1] != "?" and len(value.split()) <= 4 and (marked or LEADS.match(value)):
            found.append(value)
    return found


_LEADING = re.compile(r"(?i)(?:therefore|thus|hence|so|finally),? ")
_CHECKS = re.compile(r"(?i)(?:to )?(?:double[- ]?)?(?:check|verif|proof|prove|test|confirm)")


def _undeclared_number(turn: str) -> Number | None:
    """Read a number that is not declared: what the last sentence of the last line states."""
    last = turn.rstrip().rpartition("\n")[2].strip()
    if len(last) > 400 or last.endswith((":", ",")) or last.startswith("#"):
        return None
    sentence = _LEADING.sub("", re.split(r"(?<=[.!?]) (?=[A-Z])", last)[-1], count=1)
    if _CHECKS.match(sentence):
        return None
    sentence = sentence[max((match.end() for match in _LABEL.finditer(sentence)), default=0) :]
    found = {match[0].strip() for match in NUMBER.finditer(sentence) if re.search(r"\d", match[0])}
    return number_in(sentence) if len(found) == 1 or (found and "=" in sentence) else None
