"""Reading a short answer, a number or a text, out of an output, as a person would."""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest

from unisd.tasks.turns import turns


@dataclass(frozen=True)
class Number:
    """A number as it was read, exactly."""

    value: Fraction
    percent: bool = False
    """Whether a percent sign followed; ``value`` is then in percent."""

    def __str__(self) -> str:
        """Return it as a decimal where that is exact and short, else as a fraction."""
        plain = str(self.value)
        if self.value.denominator != 1 and abs(self.value) < 10**9:
            decimal = str(float(self.value))
            if "e" not in decimal and Fraction(decimal) == self.value:
                plain = decimal
        return f"{plain}%" if self.percent else plain

    def equals(self, other: "Number", tolerance: float) -> bool:
        """Say whether two numbers agree up to a relative ``tolerance``.

        Where only one has a percent sign, the sign may be a unit ("50%" for 50) or part of the value ("50%" for 0.5).
        """
        mine = [self.value] + ([self.value / 100] if self.percent and not other.percent else [])
        theirs = [other.value] + ([other.value / 100] if other.percent and not self.percent else [])
        return any(abs(a - b) <= Fraction(tolerance) * max(abs(a), abs(b)) for a in mine for b in theirs)


def read_number(text: str) -> Number | None:
    """Read the number that an output settles on; None where a person could not say.

    The last number that is declared counts: ``Answer: 12 apples``, ``the answer is -3/4``, ``#### 12``,
    ``\\boxed{12}``, ``{"answer": 12}``. Without a declaration: the only number of the last line, or the one behind its
    equals sign. Units, currencies, thousands' separators, percent signs, powers of ten, mixed numbers, number words and
    LaTeX are understood. Not read: expressions ("2π", "3 + 4"), several numbers at once ("3 or 4", "2 hours 30
    minutes"), dates and times. Where an output goes on to ask and answer a further question, its first answer counts.

    Never raises, and takes time in proportion to the length of ``text``.
    """
    for turn in map(_clean, turns(text)):
        for value, rest in reversed(_declared(turn)):
            # "Answer: She has 5 apples." begins an argument where further numbers follow below.
            argued = re.search(r"\d", rest) and not _LEADS.match(value)
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
    for turn in map(_clean, turns(text)):
        if value := _said(turn):
            shorter = [value, re.split(r"[.!?;] ", value, maxsplit=1)[0], _REASON.split(value, maxsplit=1)[0]]
            shorter += [_IT_IS.sub("", part) for part in shorter]
            return list(dict.fromkeys(form for part in shorter if (form := normal(part))))
    return []


def read_formula(text: str) -> str | None:
    """Read the formula that an output settles on, as LaTeX (`formula_in`); None where it settles on none."""
    found = (_said(_clean(turn, formula=True)) for turn in turns(text))
    value = _IT_IS.sub("", next(filter(None, found), ""))
    value = re.split(r"[≈⇒→]|[.!?;] |,? (?:because|since)\b", value, maxsplit=1)[0].strip(" $")
    return formula_in(re.sub(r"^[A-Za-z] ?= ?", "", value))


def formula_in(value: str) -> str | None:
    """Return the formula that a whole text is, as LaTeX; None where it is none.

    Only what cannot be meant otherwise counts: no words, percents, equations, codes (007, 4B), lists, dates or scores,
    and no letter in both cases, since cases do not count.
    """
    value = _clean(value, formula=True).strip(" $.")
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
    return _NOTHING.match(text) is not None


def normal(text: str) -> str:
    """Return a text as it is compared: no case, markup, surrounding quotes or stops, and single spaces."""
    return " ".join(_clean(text).casefold().split()).strip(" \"'“”‘’«»`.,;:!?。")


# The patterns below run on text that `_clean` has passed; each is bounded or anchored, so that no text makes it slow.
_BOX = re.compile(r"\\f?boxed\s?\{")
_FRACTION = re.compile(r"\\[dtc]?frac\s?(?:\{ ?(-?\d{1,99}) ?\}\s?\{ ?(-?\d{1,99}) ?\}|(\d)(\d))")
_VULGAR = re.compile(r"[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]")
_POWER = re.compile(r"[⁺⁻]?[⁰¹²³⁴-⁹]{1,9}")
_MARKUP = re.compile(
    r"\\(?:text|math|mbox|operatorname)[a-z]{0,9}\s?\{|\\[()\[\],;!:]|\\(?:left|right|displaystyle|quad)(?![a-z])"
    r"|</?(?:[a-z]|[A-Z]{2})[^<>\n]{0,60}>|\*\*+|__+|(?<![\d )])\*|\*(?![\d (])|`|~~[^~\n]{0,60}~~|(?<=\d)\{,\}(?=\d)"
)
_PLAIN = {
    r"\times": "×",
    r"\cdot": "×",
    "⋅": "×",
    r"\pi": "π",
    r"\sqrt": "√",
    r"\approx": "≈",
    r"\%": "%",
    r"\$": "$",
    r"^{\circ}": "°",
    r"^\circ": "°",
    "\\ ": " ",
    "\r": "\n",
    "\u2044": "/",
    "−": "-",
    "–": "-",
}
_DECLARED_AT_MOST = 50
_KIND = r"(?:answer|ans|result|antwort|réponse|respuesta|risposta|ответ|答案|答え|정답)"
_LABEL = re.compile(
    r"(?im)^[ \t]{0,9}####(?= ?[-+$€£]{0,3}\.?\d(?:[\d,./]{0,99}\d)?(?:[ %€][^\n.:]{0,30})?$)"
    r"|(?<![\w{])(?P<no>(?:wrong|incorrect|possible|first|another) )?(?:the )?"
    rf"(?:(?:final |correct |right )?{_KIND}|(?:correct|right) (?:number|value|total))"
    r"(?: (?:to|for|of|that|here)(?: [\w']{1,15}){0,7}?| \([^()\n]{2,30}\))?"
    r"""(?P<quote>["']?)(?: ?[:=→⇒：]| ?-+>| ?(?:\n|$)"""
    r"| (?P<soft>is|was|equals|will be|would be|must be|should be|ist|est|es|è)\b[: ]{0,2}|是|は|는|은)"
)
_FIX = re.compile(
    r"(?i)(?<=[.!?;,(\n-]) ?(?:(?:hmm|oh|oops) )?(?P<word>no(?!\. ?\d)|wait|actually|sorry|correction|"
    r"i meant?|make that|on second thought)\b(?P<fill>(?:[,:;! ]|[.-](?!\d)|(?:no|wait|actually|sorry|i meant?|"
    r"make (?:that|it)|it's|(?:it|that|this) (?:should|must|would|has to) be|it is)(?!\w))*)(?=(?P<value>[^\n]{1,120}))"
)
_NO_CORRECTION = re.compile(
    r"(?i)\b(?:is|are|was|were|am|isn't|has|have|had|of|more|less|left|not|can't|cannot)\b"
    r"|^(?:a|an|it|its|that|this|these|those|i|we|he|she|they|you|there|let|if|because|since|so|but|and|one|no)\b"
)
_NOTHING = re.compile(
    r"(?i)[ \"'“(<\[]{0,5}(?:\.{2,}|_{2,}|(?:correct|right|wrong|incorrect|clear|below|above|given|found|shown|"
    r"therefore|as follows|unknown|unclear|not)\b)"
)
_DOTS = re.compile(r"[ \"'“(<\[]{0,5}(?:\.{2,}|_{2,})")
_IT_IS = re.compile(r"(?i)^(?:it is|it's|that is|that's|this is|the answer is) ")
_REASON = re.compile(r",? (?:because|since|as it|as the|which|due to)\b| [(\[—]|, (?:as|for|so) ", re.IGNORECASE)
_WHOLE = r"\d{1,3}(?:[,' _]\d{3}){1,99}(?!\d)|\d{1,300}(?!\d)"
_NUMBER = re.compile(
    r"(?<![\w^.])(?<!\w[,/])(?P<sign>[-+]?) ?(?:[A-Z]{0,3}[$€£¥₹] ?)?(?P<sign2>-?)"
    r"(?:(?P<euro>\d{1,3}(?:\.\d{3}){1,99},\d{1,2}(?!\d)|\d{1,3}(?:\.\d{3}){2,99}(?!\d))"
    r"|(?P<comma>\d{1,99},(?:\d{1,2}|\d{4,99})(?![\d,]))"
    rf"|(?P<mixed>\d{{1,99}}[ -])?(?P<top>\d{{1,99}}) ?/ ?(?P<bottom>\d{{1,99}})(?![\d/])"
    rf"|(?P<whole>{_WHOLE})?(?P<decimals>(?<=\d)\.\d{{1,300}}(?!\d)|(?<!\d)\.\d{{1,300}}(?!\d))?)"
    r"(?:[eE](?P<e>[-+]?\d{1,4})(?!\w)| ?[x×*·] ?10 ?\^ ?\{?(?P<ten>[-+]?\d{1,4})\}?|"
    r"(?<=10)(?<![\d.,]10)\^\{?(?P<ten2>[-+]?\d{1,4})\}?)?"
    r"(?P<scale> ?(?:hundred|thousand|million|billion|trillion)(?!\w)|k(?!\w))?"
    r"(?P<percent> ?%| (?:percent|per cent)(?!\w))?",
)
_OPERATED = re.compile(r" ?[π√^:]|!\S| ?[+×*·/÷] ?[\d(√π-]| - ?\d| ?(?:sqrt|pi)\b|[-,]\d|[eE][-+]?\d|x?\^")
_JOINED = re.compile(
    r"(?: ?[A-Za-z%°$€£\"']{1,20}\.?)? ?(?:,|or|and|to|&|/|-|:|out of|,? (?:or|and))? ?[$€£]?", re.IGNORECASE
)
_LEAD = re.compile(
    r"(?i)(?:[\s\"'“(\[{:~≈$<]|(?:it|that|this|is|was|about|approximately|approx\.?|around|roughly|exactly|nearly|only|"
    r"equal|to|equals|a total of|[a-z] ?=)(?!\w))*"
)
_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_UNITS += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORDS = {word: value for value, word in enumerate(_UNITS)}
_WORDS |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
_WORD = rf"(?:{'|'.join(_WORDS)})\b"
_SIGN_WORD = re.compile(r"(?i)(?:minus|negative)(?: |$)")
_LEADS = re.compile(
    rf"{_LEAD.pattern}(?:(?:minus|negative) )?(?:[-+]? ?(?:[A-Z]{{0,3}} ?[$€£¥₹] ?)?[-+]?[\d.]|{_WORD})"
)
_LATEX = {"√": r"\sqrt", "π": r"\pi ", "×": r"\times "}
_FORMULA = re.compile(
    r"(?:[-+*/(){}\[\] ]|\^(?=\{)|\\sqrt(?=[{\[])|\\(?:[dtc]?frac|pi|times|div|log|ln|sin|cos|tan)(?![A-Za-z])"
    r"|(?:(?!0\d)\d+(?:\.\d+)?|\.\d+)(?! ?[\d.])|(?<![A-Za-z])[A-Za-z](?! ?[A-Za-z\d]))+"
)
_CODE = re.compile(r"(?i)[\w.]+(?: ?[-/] ?[\w.]+){2,}|[\d.]+ ?- ?[\d.]+|[\d.]+ ?[a-z]|([a-z]) ?[-/] ?\1")
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "k": 10**3}


def _clean(text: str, formula: bool = False) -> str:
    """Return the text without markup, with plain signs, and with what is boxed as a declared answer.

    Where a ``formula`` is looked for, its braces and fractions stay as they are.
    """
    text = _VULGAR.sub(lambda match: f" {match[0]}", text)
    text = _POWER.sub(lambda match: "^" + match[0], text)
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"<(?:final[_ ]?)?answer>", "\nAnswer: ", text, flags=re.IGNORECASE)
    text = re.sub(r"</(?:final[_ ]?)?answer>", "\n", text, flags=re.IGNORECASE)
    if not formula:
        text = _FRACTION.sub(lambda match: f" {match[1] or match[3]}/{match[2] or match[4]}", text)
    for sign, plain in _PLAIN.items():
        text = text.replace(sign, plain)
    text = _MARKUP.sub("", _unboxed(text))
    text = text if formula else text.translate({ord("{"): None, ord("}"): None})
    # A dollar sign before a digit is a currency or the start of a formula; any other one is the end of a formula.
    text = re.sub(r"\$(?! ?-?\.?\d)", "", text)
    return re.sub(r"[^\S\n]+", " ", text)


def _unboxed(text: str) -> str:
    """Put the contents of LaTeX boxes on lines of their own, as declared answers."""
    parts, at = [], 0
    for match in _BOX.finditer(text):
        if match.start() < at:
            continue  # a box in a box
        depth, end = 1, match.end()
        while end < min(len(text), match.end() + 400) and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        content = text[match.end() : end - 1 if not depth else end].replace("\n", " ")
        parts += [text[at : match.start()], f"\nAnswer: {content}\n"]
        at = end
    return "".join(parts) + text[at:]


def _said(turn: str) -> str | None:
    """Return what a turn settles on: the last text that is declared, else the only or last line where it is short."""
    declared = [value for value, _ in _declared(turn) if normal(value)]
    lines = [line for part in turn.split("\n") if (line := part.strip(" #"))]
    if not _LABEL.search(turn) and lines and len(lines[-1].split()) <= 8 and lines[-1][-1] not in ":,":
        declared = [lines[-1]]
    return declared[-1] if declared else None


def _declared(turn: str) -> list[tuple[str, str]]:
    """Return what is declared to be the answer, up to the end of its line, each with (the start of) what follows.

    Where its own line is empty the next one counts, if it is short or the last.
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
        value = value[:400].strip()
        if denied := re.match(r"(?i)not\b.{0,60}?\b(?:but|rather)\b (?P<rest>.+)", value):
            value = denied["rest"]
        if match["quote"] and value[:1] in ("'", '"'):  # a text in JSON
            value = value[1:].partition(value[0])[0]
        if match["soft"]:
            value = re.split(r"(?<![A-Z])[.;!?](?: |$)", value, maxsplit=1)[0]
        # "The answer is correct" declares nothing; "Answer: correct" does.
        nothing = _DOTS.match(value) or (match["soft"] and ":" not in match[0] and _NOTHING.match(value))
        if value and not match["no"] and not nothing:
            values.append((value, rest))
            values += [(fixed, "") for fixed in _corrections(turn[start : following.start() if following else None])]
    return values


_ENDS = re.compile(r"[.;!](?: |$)|[,)](?: |$)|,? (?:because|since|as)\b| \(| - (?!\d)")


def _corrections(declaration: str) -> list[str]:
    """Return what is said in place of a declared value: "Answer: 12. Wait, no. It's 13." """
    found = []
    for match in _FIX.finditer(declaration[:2000]):
        value = _ENDS.split(match["value"], maxsplit=1)[0].strip()
        if not re.search(r"\w", declaration[: match.start()]) or _NO_CORRECTION.search(value) or _NOTHING.match(value):
            continue
        # "Yes, no doubt" corrects nothing; "Rome, no, Paris" does, and so do "no 13" and "I mean Paris".
        marked = re.search(r"[^\s]", match["fill"]) or " " in match["word"] or match["word"] == "correction"
        if value and value[-1] != "?" and len(value.split()) <= 4 and (marked or _LEADS.match(value)):
            found.append(value)
    return found


def number_in(value: str) -> Number | None:
    """Read the number that a short text stands for; None where it stands for none or for several."""
    value = _clean(value)
    if _NOTHING.match(value):
        return None
    value = re.split(r" (?:because|since|as the)\b|(?<=[\w%]) ?[(\[]", value, maxsplit=1)[0]
    results = [part for part in re.split(r"[=≈⇒→]", value) if re.search(r"\d", part)]
    for part in reversed(results[-9:]):  # "3 + 4 = 7", but also "7 = 3 + 4"
        if (number := _single(part)) is not None:
            return number
    return None if results else _in_words(value)


def _single(value: str) -> Number | None:
    """Return the one number that a text without equals signs states."""
    found = [match for match in _NUMBER.finditer(value) if match["whole"] or match["decimals"] or _special(match)]
    if not found:
        return None
    first, before = found[0], value[: found[0].start()]
    if _OPERATED.match(value, first.end()) or re.search(r"[π√^/×+*]\s?\(?$", before):
        return None  # an expression
    numbers = [_number(match) for match in found]
    negated = _SIGN_WORD.search(before)
    if len({number.value for number in numbers if number}) > 1:
        leads = not _LEAD.sub("", _SIGN_WORD.sub("", before), count=1)
        if not leads or _JOINED.fullmatch(value, first.end(), found[1].start()):
            return None  # several at once
    number = numbers[0]
    return Number(-number.value, number.percent) if number and negated else number


def _special(match: re.Match[str]) -> bool:
    return any(match[group] for group in ("euro", "comma", "top"))


def _number(match: re.Match[str]) -> Number | None:
    """Return the value of a match of `_NUMBER`."""
    if match["top"]:
        if not int(match["bottom"]):
            return None
        value = Fraction(int(match["top"]), int(match["bottom"]))
        value += int(match["mixed"].rstrip(" -")) if match["mixed"] else 0
    elif match["euro"] or match["comma"]:
        value = Fraction((match["euro"] or match["comma"]).replace(".", "").replace(",", "."))
    else:
        value = Fraction(re.sub(r"[,' _]", "", match["whole"] or "0") + (match["decimals"] or ""))
    exponent = int(match["e"] or match["ten"] or (match["ten2"] or "1"))
    if abs(exponent) > 400:
        return None
    if match["ten2"]:
        value = Fraction(10) ** exponent
    elif match["e"] or match["ten"]:
        value *= Fraction(10) ** exponent
    value *= _SCALES.get((match["scale"] or "").strip().lower(), 1)
    return Number(-value if "-" in (match["sign"], match["sign2"]) else value, bool(match["percent"]))


def _in_words(value: str) -> Number | None:
    """Read a number in English words at the start of a text ("minus twenty-one apples")."""
    value = _LEAD.sub("", value, count=1).lower()
    negative = _SIGN_WORD.match(value)
    total, current, seen = 0, 0, False
    for word in re.findall(r"[a-z]+|[^a-z\s-]", value[negative.end() if negative else 0 :])[:20]:
        if word in _WORDS:
            current, seen = current + _WORDS[word], True
        elif word == "hundred" and seen:
            current *= 100
        elif word in _SCALES and word != "k" and seen:
            total, current = total + current * _SCALES[word], 0
        elif not (word == "and" and seen and not current % 100):
            break
    return Number(Fraction(-(total + current) if negative else total + current)) if seen else None


def _undeclared_number(turn: str) -> Number | None:
    """Read a number that is not declared: what the last sentence of the last line states."""
    last = turn.rstrip().rpartition("\n")[2].strip()
    if len(last) > 400 or last.endswith((":", ",")) or last.startswith("#"):
        return None
    sentence = re.split(r"(?<=[.!?]) (?=[A-Z])", last)[-1]
    found = {match[0].strip() for match in _NUMBER.finditer(sentence) if re.search(r"\d", match[0])}
    return number_in(sentence) if len(found) == 1 or (found and "=" in sentence) else None
