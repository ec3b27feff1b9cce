"""What may differ between two answers that are the same: pure functions by name, each for one such thing.

A task names those that it wants (``answer: {type: exact, normalise: [articles, numbers]}``). They are applied to the
right answers and to what was read alike, in the order in which they stand here, whatever the order they are named in.
None fails, and each takes time in proportion to the length of the text.
"""

import re
import unicodedata
from collections.abc import Callable, Collection

_TO_SIXTEEN = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_WORDS = {word: n for n, word in enumerate(f"{_TO_SIXTEEN} seventeen eighteen nineteen".split())}
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_WORD = "|".join([*_WORDS, *_TENS, *_SCALES])
_SPELT = re.compile(
    rf"(?<![\w-])(?:(?:{_WORD})\b(?:(?:[ -]|,? and )(?=(?:{_WORD})\b))?){{1,24}}(?![\w-])", re.IGNORECASE
)
_QUOTES = str.maketrans("‘’‚‛“”„‟«»‐‑‒–—−", '\'\'\'\'""""""------')
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_COMMANDS = {"times": "*", "cdot": "*", "ast": "*", "div": "/", "le": "<=", "leq": "<=", "ge": ">=", "geq": ">="}
_COMMANDS |= {"ne": "!=", "neq": "!=", "pm": "+-", "infty": "infinity", "degree": "°", "circ": "°", "to": "->"}
_SPACING = re.compile(r"\\(?:[,;:!\s]|(?:left|right|displaystyle|quad|qquad|limits)(?![A-Za-z]))|\\[()\[\]]")
_INLINE = re.compile(r"(?<![\\\w$])\$(?=[^\s$])([^$\n]{1,300})(?<=\S)\$(?![\d$])")
_UPRIGHT = re.compile(r"\\(?:text|math|mbox|operatorname)[a-z]{0,9}\s?\{([^{}]{0,300})\}")
_FRACTION = re.compile(r"\\[dtc]?frac\s?\{([^{}]{0,300})\}\s?\{([^{}]{0,300})\}|\\[dtc]?frac\s?(\d)\s?(\d)")
_ROOT = re.compile(r"\\sqrt\s?\{([^{}]{0,300})\}")
_RAISED = re.compile(r"([\^_])\s?\{([^{}]{0,300})\}")
_GROUPED = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\w,]|\.\d*,)")
_DECIMAL = re.compile(r"(?<![\w.,/:])(\d{0,300})\.(\d{1,300})(?![\w/:-]|[.,]\d)")
_UNITS = {
    "°C": r"degrees? celsius|celsius|deg(?:rees?)? ?c|° ?c",
    "°F": r"degrees? fahrenheit|fahrenheit|deg(?:rees?)? ?f|° ?f",
    "°": r"degrees?|deg|°",
    "%": r"percent|per cent|percentage|%",
    "km/h": r"kilomet(?:re|er)s? (?:per|an) hour|km ?/ ?h(?:our|r)?|kmh|kph|km per hour",
    "m/s^2": r"met(?:re|er)s? per second squared|m ?/ ?s(?:\^?2|²)",
    "m/s": r"met(?:re|er)s? (?:per|a) second|m ?/ ?s(?:ec)?|m per s(?:econd)?",
    "mph": r"miles? (?:per|an) hour|mph",
    "km^2": r"square kilomet(?:re|er)s?|sq\.? ?km|km(?:\^?2|²)",
    "m^2": r"square met(?:re|er)s?|sq\.? ?m|m(?:\^2|²)",
    "cm^2": r"square centimet(?:re|er)s?|sq\.? ?cm|cm(?:\^?2|²)",
    "m^3": r"cubic met(?:re|er)s?|m(?:\^3|³)",
    "cm^3": r"cubic centimet(?:re|er)s?|cm(?:\^?3|³)",
    "km": r"kilomet(?:re|er)s?|kms?",
    "cm": r"centimet(?:re|er)s?|cms?",
    "mm": r"millimet(?:re|er)s?|mms?",
    "m": r"met(?:re|er)s?|m",
    "kg": r"kilograms?|kilos?|kgs?",
    "mg": r"milligrams?|mgs?",
    "g": r"grams?|gm|g",
    "ml": r"millilit(?:re|er)s?|mls?",
    "l": r"lit(?:re|er)s?|l",
    "ms": r"milliseconds?|msecs?|ms",
    "s": r"seconds?|secs?|s",
    "min": r"minutes?|mins?",
    "h": r"hours?|hrs?|h",
    "d": r"days?",
    "yr": r"years?|yrs?",
    "$": r"(?:us ?)?dollars?|usd",
    "€": r"euros?|eur",
    "£": r"pounds? sterling|gbp",
    "in": r"inch(?:es)?",
    "ft": r"f(?:oo|ee)t|ft",
    "mi": r"miles?",
    "lb": r"pounds?|lbs?",
    "J": r"joules?|j",
    "N": r"newtons?|n",
    "W": r"watts?|w",
    "V": r"volts?|v",
    "mol": r"moles?|mols?",
}
# Longer names first: "metres per second" is not "metres"; a unit counts behind a number alone.
_UNIT = re.compile(
    r"(?<=\d)[ ]?(?:" + "|".join(f"(?P<u{n}>{names})" for n, names in enumerate(_UNITS.values())) + r")(?![\w/^°%²³])",
    re.IGNORECASE,
)
_MONEY = re.compile(r"(?<!\w)([$€£]) ?(\d[\d.,]{0,99}(?<=\d))(?![\w.,]\d)")
_DROPPED = re.compile(r"['`]|(?<=[^\W\d])\.(?=[^\W\d]|\s|$)|(?<=\d)\.(?=\s|$)")
_SPACED = re.compile(
    r"(?<!\d)[.,:](?!\d)|(?<!\d)[,:](?=\d)|(?<=\d)[,:](?!\d)|(?<=[^\W\d])\.|[;!?\"()\[\]{}…¿¡«»“”‘’]|-(?!\d)"
)
_THE = re.compile(r"(?<![\w'-])the\s+(?=\w)", re.IGNORECASE)
_A = re.compile(r"^\s*an?\s+(?=\w{2})", re.IGNORECASE)


def latex(text: str) -> str:
    r"""LaTeX written plainly: ``\frac{1}{2}`` is ``1/2``, ``x^{2}`` ``x^2``, ``\sqrt{3}`` ``sqrt(3)``."""
    text = _INLINE.sub(r"\1", text.replace("{,}", ","))
    text = _SPACING.sub(lambda match: " " if match[0][-1:] in ",;: \n" else "", text)
    for _ in range(8):  # from the innermost braces outwards
        before = text
        text = _UPRIGHT.sub(r"\1", text)
        text = _FRACTION.sub(lambda m: f"{_grouped(m[1] or m[3])}/{_grouped(m[2] or m[4])}", text)
        text = _RAISED.sub(
            lambda m: m[1] + (m[2] if re.fullmatch(r"-?\w+|\\circ", m[2].strip()) else f"({m[2]})"), text
        )
        text = _ROOT.sub(r"sqrt(\1)", text)
        if text == before:
            break
    text = re.sub(r"\^\s?\\circ(?![A-Za-z])", "°", text)
    text = re.sub(r"\\(?!f?boxed)([A-Za-z]{1,20})(?![A-Za-z]) ?", _command, text)
    return re.sub(r"\\([%$#&_{}])", r"\1", text)


def unicode(text: str) -> str:
    """Signs that look alike: compatibility forms, typographic quotes and dashes; what cannot be seen goes."""
    return unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).translate(_QUOTES)


def accents(text: str) -> str:
    """Letters without accents: ``é`` is ``e``."""
    apart = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(sign for sign in apart if not unicodedata.combining(sign)))


def case(text: str) -> str:
    """Capitals and small letters are the same."""
    return text.casefold()


def number_words(text: str) -> str:
    """Whole numbers in English words as digits: ``twenty-one`` is ``21``, ``two hundred and five`` ``205``."""
    return _SPELT.sub(lambda match: _spelt(match[0]) or match[0], text)


def numbers(text: str) -> str:
    """Numbers in one notation: ``1,000`` is ``1000``, ``5.0`` ``5``, ``.5`` ``0.5``, ``+5`` ``5``; codes (007) stay."""
    text = _GROUPED.sub(lambda match: match[0].replace(",", ""), text)
    text = _DECIMAL.sub(lambda m: (m[1] or "0") + (f".{kept}" if (kept := m[2].rstrip("0")) else ""), text)
    return re.sub(r"(?<![\w.)+*/^-])(?<![\w)] )\+ ?(?=\d)", "", text)


def units(text: str) -> str:
    """One name for each unit behind a number: ``5 kilometres`` is ``5 km``, ``$5`` ``5 $``; 5 m is not 5 km, nor 5."""
    text = _MONEY.sub(r"\2 \1", text)
    names = list(_UNITS)
    return _UNIT.sub(lambda match: f" {names[int((match.lastgroup or 'u0')[1:])]}", text)


def articles(text: str) -> str:
    """Without ``the``, and without ``a`` and ``an`` at the beginning, where a word follows."""
    return _A.sub("", _THE.sub("", text))


def punctuation(text: str) -> str:
    """Without punctuation, but for what belongs to a number (3.5, -2, 10:30, 1/2, 50%); ``U.S.`` is ``US``."""
    return _SPACED.sub(" ", _DROPPED.sub("", text))


def whitespace(text: str) -> str:
    """One space in place of any white space, none around."""
    return " ".join(text.split())


_IN_ORDER: tuple[Callable[[str], str], ...] = (
    *(latex, unicode, accents, case, number_words, numbers, units, articles, punctuation, whitespace),
)
NORMALISERS: dict[str, Callable[[str], str]] = {function.__name__: function for function in _IN_ORDER}
"""Every normaliser by name, in the order of application."""


def normalised(text: str, names: Collection[str]) -> str:
    """Return a text as the normalisers of these names leave it; ``whitespace`` is always among them."""
    for name, function in NORMALISERS.items():
        if name in names or name == "whitespace":
            text = function(text)
    return text


def _command(match: re.Match[str]) -> str:
    sign = _COMMANDS.get(match[1])
    return f"{match[1]} " if sign is None else sign if sign == "°" else f" {sign} "


def _grouped(part: str) -> str:
    part = part.strip()
    return part if re.fullmatch(r"-?[\w.]+", part) else f"({part})"


def _spelt(words: str) -> str | None:
    """Return the digits of a number in words, or None where the words are no one number (``two three``)."""
    total, current, least = 0, 0, 10**15
    for word in re.findall(r"[a-z]+", words.casefold()):
        if word == "and":
            continue
        if word == "hundred":
            if not 0 < current < 10:
                return None
            current *= 100
        elif word in _SCALES:
            if not current > 0 or _SCALES[word] >= least:
                return None
            total, current, least = total + current * _SCALES[word], 0, _SCALES[word]
        elif word in _TENS:
            if current % 100:
                return None
            current += _TENS[word]
        else:
            value = _WORDS[word]
            if current % 10 or (current % 100 and value > 9) or (value == 0 and (current or total)):
                return None
            current += value
    return str(total + current)
