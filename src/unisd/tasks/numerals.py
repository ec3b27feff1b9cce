"""Numbers as people write them: with units, separators, fractions, powers, percents, LaTeX, or in words."""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction


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


# The patterns below run on text that `clean` has passed; each is bounded or anchored, so that no text makes it slow.
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
NOTHING = re.compile(
    r"(?i)[ \"'“(<\[]{0,5}(?:\.{2,}|_{2,}|(?:correct|right|wrong|incorrect|clear|below|above|given|found|shown|"
    r"therefore|as follows|unknown|unclear|not)\b)"
)
_WHOLE = r"\d{1,3}(?:[,' _]\d{3}){1,99}(?!\d)|\d{1,300}(?!\d)"
NUMBER = re.compile(
    r"(?<![\w^.])(?<!\w[,/])(?<![A-Za-z]-)(?P<sign>[-+]?) ?(?:[A-Z]{0,3}[$€£¥₹] ?)?(?P<sign2>-?)"
    r"(?:(?P<euro>\d{1,3}(?:\.\d{3}){1,99},\d{1,2}(?!\d)|\d{1,3}(?:\.\d{3}){2,99}(?!\d))"
    r"|(?P<comma>\d{1,99},(?:\d{1,2}|\d{4,99})(?![\d,]))"
    rf"|(?P<mixed>\d{{1,99}}[ -])?(?P<top>\d{{1,99}}) ?/ ?(?P<bottom>\d{{1,99}})(?![\d/])"
    rf"|(?P<whole>{_WHOLE})?(?P<decimals>(?<=\d)\.\d{{1,300}}(?!\d)|(?<!\d)\.\d{{1,300}}(?!\d))?)"
    r"(?:[eE](?P<e>[-+]?\d{1,4})(?!\w)| ?[x×*·] ?10 ?\^ ?\{?(?P<ten>[-+]?\d{1,4})\}?|"
    r"(?<=10)(?<![\d.,]10)\^\{?(?P<ten2>[-+]?\d{1,4})\}?)?"
    r"(?P<scale> ?(?:hundred|thousand|million|billion|trillion)(?!\w)|k(?!\w))?"
    r"(?P<percent> ?%| (?:percent|per cent)(?!\w))?",
)
# What makes a number a part of something else, right behind it: an operation, a unit's other half, a variable, a clock.
_OPERATED = re.compile(
    r" ?[π√^:]|!\S| ?[+×*·/÷] ?[\d(√π-]| - ?\d| ?(?:sqrt|pi)\b|[-,]\d|[eE][-+]?\d|x?\^|\.\d|\.?\s?\\[a-z]|\.\(|_\d"
    r"|[A-Za-z]{1,5}\d|[xyzMB](?!\w)| ?(?:[ap]\.?m\b|o'clock)| (?:dozens?|scores?|gross|squared|cubed|times"
    r"|plus|minus|halves|thirds|fourths|fifths|tenths)\b"
    r"| (?:less|more) than \d|(?: ?%| percent)? of (?:the )?\d"
)
_OPERATES = re.compile(
    r"(?i)(?:[π√^/×+*]\s?\(?|\b(?:twice|double|triple|log|ln|sin|cos|tan|sqrt|(?:half|third|quarter|root|square"
    r"|cube|sum|"
    r"product|difference|average) of|not|(?:is|was|are)n't|(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov"
    r"|dec)[a-z]{0,6})\.? ?\(?)$"
)
_IF = re.compile(r"(?i) (?:if|unless)\b")
_UNKNOWNS = re.compile(r"(?<!\w)([A-Za-z]) ?=")
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
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8}
_PARTS |= {"ninth": 9, "tenth": 10}
_PART = "|".join(_PARTS)
_WORDED_FRACTION = re.compile(
    rf"(?i)(?<![\w-])(?:(?P<whole>\d{{1,9}}|{_WORD}) and )?(?P<top>an?\b|{_WORD})[ -]"
    rf"(?P<bottom>halves|(?:{_PART})s?)\b"
    r"(?! (?:an?|the|of)\b)"
)
_SIGN_WORD = re.compile(r"(?i)(?:minus|negative)(?: |$)")
LEADS = re.compile(rf"{_LEAD.pattern}(?:(?:minus|negative) )?(?:[-+]? ?(?:[A-Z]{{0,3}} ?[$€£¥₹] ?)?[-+]?[\d.]|{_WORD})")
_MEASURES = {"dozen", "dozens", "score", "gross", "times", "plus", "minus", "squared", "cubed", "or", "to", *_PARTS}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "k": 10**3}


def clean(text: str, formula: bool = False) -> str:
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
    text = re.sub(r"(?<=[\w)])\*\*(?=-?\d)", "^", text)  # a power, not bold
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


def number_in(value: str) -> Number | None:
    """Read the number that a short text stands for; None where it stands for none or for several."""
    value = clean(value)
    if NOTHING.match(value) or _IF.search(value) or len({*_UNKNOWNS.findall(value)}) > 1:
        return None
    value = re.split(r" (?:because|since|as the)\b|(?<=[\w%]) ?[(\[]", value, maxsplit=1)[0]
    value = _WORDED_FRACTION.sub(_in_figures, value)
    results = [part for part in re.split(r"[=≈⇒→]|->", value) if re.search(r"\d", part)]
    plain = [number for part in results[-9:] if LEADS.match(part) and (number := _single(part, alone=True))]
    if any(not number.equals(plain[0], _ROUNDING) for number in plain):
        return None  # "1 hour = 60 minutes"
    for part in reversed(results[-9:]):  # "3 + 4 = 7", but also "7 = 3 + 4"
        if (number := _single(part)) is not None:
            return number
    return None if results else _in_words(value)


_ROUNDING = 0.01


def _in_figures(match: re.Match[str]) -> str:
    """Return a fraction in words as it is written in figures: "two and a half" is 2 1/2."""
    whole, top, bottom = (part and part.lower() for part in match.group("whole", "top", "bottom"))
    figures = [str(_WORDS.get(whole, whole))] if whole else []
    return " ".join([*figures, f"{_WORDS.get(top or 'one', 1)}/{_PARTS[bottom.rstrip('s').replace('halve', 'half')]}"])


def _single(value: str, alone: bool = False) -> Number | None:
    """Return the one number that a text without equals signs states; ``alone``: and no other, nor an operation."""
    found = [match for match in NUMBER.finditer(value) if match["whole"] or match["decimals"] or _special(match)]
    if not found:
        return None
    first, before = found[0], value[: found[0].start()]
    if _OPERATED.match(value, first.end()) or _OPERATES.search(before[-40:]):
        return None  # an expression, a date or a time, or denied
    if alone and (len(found) > 1 or re.search(r"[-+×*/÷]", value[first.end() :])):
        return None
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
    """Return the value of a match of `NUMBER`."""
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
    total, current, seen, percent = 0, 0, False, False
    for word in re.findall(r"[a-z]+|[^a-z\s-]", value[negative.end() if negative else 0 :])[:20]:
        if word in _WORDS:
            current, seen = current + _WORDS[word], True
        elif word == "hundred" and seen:
            current *= 100
        elif word in _SCALES and word != "k" and seen:
            total, current = total + current * _SCALES[word], 0
        elif not (word == "and" and seen and not current % 100):
            percent = word == "percent"
            if word in _MEASURES:
                return None
            break
    return Number(Fraction(-(total + current) if negative else total + current), percent) if seen else None
