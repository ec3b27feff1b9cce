"""Reading the chosen letter of a multiple-choice question out of an output, as a person would."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from string import ascii_uppercase

from unisd.tasks.stance import asserted, complete, taken_back
from unisd.tasks.turns import turns


def extract_choice(
    text: str, letters: Sequence[str], options: Sequence[str] | None = None, cut: bool = False
) -> str | None:
    """Read the chosen letter out of an output as a person would; None where a person could not say.

    In this order: an answer that is declared (``Answer: B``, ``the correct answer is (b)``, ``\\boxed{B}``,
    ``{"answer": "B"}``, in other languages too), of several the last conclusive one; a line that is only a letter,
    or a letter and its own option; a conclusion in prose ("so B is the best"); a first line that starts with a letter;
    a line that is an option's text; a letter in brackets or after "option" that ends a sentence. Not
    read: articles and pronouns, denied letters, several at once ("B or C"), letters that are no option, echoes of the
    options. Where an output goes on to ask and answer a further question, its first answer counts. Where a letter and
    an option's text disagree the letter counts, since a letter is asked for. Options that differ in case or markup only
    are told apart by what is exactly one's text. What the writer does not stand by does not count
    (:mod:`unisd.tasks.stance`), nor does what is taken back.

    ``options`` are the options' texts, in the order of ``letters``; without them only letters are read. ``cut`` says
    that the length limit ended the output: then only whole lines and sentences are read, and of these a declared answer
    or a letter that the first line consists of. Never raises, and takes time in proportion to the length of ``text``.
    """
    return ChoiceReader(letters, options).read(text, cut)


# The patterns below run on text that `_clean` has passed; each is bounded or anchored, so that no text makes it slow.
_W = "A-Za-z0-9À-ɏ"  # a word's characters; narrower than \w, for a letter may stand between Chinese characters
_NAME = r"(?i:option|choice|answer|letter) "
_BOX = re.compile(r"\\f?boxed\s?\{|<(?:final[_ ]?)?answer>", re.IGNORECASE)
_MARKUP = re.compile(
    r"\\(?:text|math|mbox)[a-z]*\s?\{|\\[()\[\]]|\\(?=\s|$)|</?(?:[a-z|]|[A-Z]{2})[^<>\n]{0,60}>|[*`#$]"
    r"|~~[^~\n]{0,60}~~"
)
_LABEL = re.compile(
    rf"(?i)(?:(?<![{_W}])(?P<no>(?:wrong|incorrect|false|possible|another|worst) )?(?:answers?|ans|antwort|lösung|"
    r"réponse|reponse|respuesta|resposta|risposta|antwoord|svar|cevap|jawaban|odpowiedź|đáp án|ответ|الجواب|उत्तर|"
    r"(?:correct|right|best|final|true|(?:most|only) \w{1,15}|logical|likely|suitable|appropriate|remaining|my) "
    r"(?:guess|choice|option|selection|pick|solution|one)|(?:correct|right) letter|(?:choice|option)(?= (?:that"
    r"|which) )|"
    r"(?<=\n)(?:(?:choice|option|selection|solution|conclusion)(?=:)|a(?=:.{0,400}\n(?!\s?\(?b\b))))"
    r"|答案|答え|回答|正解|정답|답)"
    # "answer to the question", "answer that fits best", "answer (letter)"
    r"(?: (?:key|choice|option|letter|here|to|for|that|which|correct[ae]|corretta)(?: [a-z']{1,15}){0,7}?)?"
    r"(?: ?\([^()\n]{2,30}\))?"
    # what joins it to its value: a sign, the end of its line, nothing where the value ends the line, or (softly) a verb
    r"""(?:["']? ?[:=→⇒]|\.(?= ?\(?[A-Z]\b)| ?[-–—]+>?(?= )|(?= ?\n)|(?= [("']?[A-Z][)"']?[.!]?\n)"""
    r"|(?P<soft>'s| ?(?:是|为|は|는|은)| (?:is|was|ist|est|es|è|é|är|er|(?:(?:would|should|must|will|has to|have to) )+"
    rf"be)(?![{_W}])))"
    # or a correction, which counts once there is something to correct
    r"|(?<=[.!?;,(—–\n-])(?P<fix> ?(?:(?:hmm|oh|oops) )?(?:no|wait|actually|sorry|correction|edit|i meant?|make that|"
    r"on second thought|let me correct (?:that|this|it|myself))\b)"
)
_FILL = re.compile(
    r"(?i)(?:[^\w\n]|选项|(?:option|choice|answer|letter|number|the|correct|best|right|final|most|likely|probably|indeed|"
    r"clearly|therefore|thus|so|is|it's|it|this|that's|that|be|would|should|must|could|might|may|just|choose"
    r"|pick|select|think|believe|"
    rf"guess|say|with|go|going|i'd|i'll|i'm|i(?= [a-z])|actually|wait|no|die|der|das|la|le|el|lettre|letra)(?![{_W}]))*"
)
_HEDGED = re.compile(r"(?i)\b(?:could|might|may)\b")
_BUT = re.compile(
    r"(?i)[^.!?\n]{0,60}?\bbut\b[^.!?\n]{0,30}?\b(?:think|believe|guess|say|likely|probably|go with|choose|pick)\b"
)
_NOT = re.compile(r"(?:not|isn't|never|neither)\b", re.IGNORECASE)
_LETTER = re.compile(rf"([A-Za-z])(?!['’-]?[{_W}]|[+])")
_GOES_ON = r"(?:is|was|isn't|because|since|as|would|and|n?or|but|due|seems|makes|fits|works|over|rather|not)\b"
_WORDLIKE = re.compile(rf" (?!{_GOES_ON})[{_W}]")
_ENDED = re.compile(rf"""(?m)["'”)\]]*(?: ?$| ?[^{_W} ]| (?:because|since|as|due|over|rather|not)\b)""")
_OTHER = re.compile(
    rf"""(?i)["')\]]* ?(?:,|,? ?(?P<or>\b(?:or|and|oder|ou|und|et|o|y|и|или)\b|[/&])) ?"""
    rf"""(?:(?:maybe|possibly|perhaps|even|also) )?(?:{_NAME})?["'(\[]*"""
    r"""(?P<letter>[A-Za-z])(?!\w)(?P<end>["')\]]*(?: ?$| ?[^\w ]| (?:or|and)\b))?"""
)
_REFUSED = re.compile(
    r"""["')\]]*(?: ?[-–—:] ?(?:wrong|incorrect|false|no|not)\b"""
    r"""| (?:isn't|wasn't|(?:is|was) (?:\w+ )?(?:not|wrong|incorrect|false|unlikely))\b)"""
)
_MENTION = re.compile(
    rf"""(?<![{_W}'’-])(?P<mark>{_NAME}["'“(\[]?|["'“(\[](?=[A-Za-z]["'”)\]]))?["'“(\[]?(?P<letter>[A-Za-z])"""
    rf"""["'”)\]]?(?!['’-]?[{_W}])"""
)
_DENIAL = r"(?:not|cannot|never|neither|nor|than|except|without|\w+n't|eliminate|instead|least|less|whether|if|no)\b"
_DENIED = re.compile(rf"(?i:\b{_DENIAL})(?:(?! and | but | so )[^.!?;:,\n]){{0,25}}$")
_LEADS = re.compile(
    r"(?i)\b(?:so|therefore|thus|hence|choose|chose|pick|picked|select|selected|it's|that's|say|think|believe|guess|"
    r"leaves|leaving|(?:it|that|this) is|(?:must|should|has to) be|(?:go|going|went|stick) with|"
    r"(?:opt|settle|lean) (?:for|on|towards?)),? (the )?$"
)
_PRAISED = re.compile(
    rf"[.:]?(?: (?!{_DENIAL})[a-z'-]{{1,20}},?){{0,6}}? (?:is|seems|appears|makes|fits|works|looks|must|would)"
    rf"(?: (?!{_DENIAL})[a-z'-]{{1,20}}){{0,5}}? (?:correct|right|best|better|answer|suitable|likely|appropriate|"
    r"logical|reasonable|valid|true|plausible|accurate|sensible|sense|choice|option)\b"
)
_LETTERED = re.compile(
    rf"""[ "'(\[<•-]*(?:{_NAME})?["'(\[]?([A-Za-z])(["'\])]*[.):,]|["'\])>]+|$| [-–—] | (?=because\b|since\b))"""
)
_FINAL = re.compile(r"""[.!?:;] ["'(\[]?([A-Z])["')\]]?[.!]?$""")
_MARKER = re.compile(rf"(?<![{_W}])([A-Z])[.):](?= \S)")
_LONE = re.compile("[a-z]?")  # as an option's text it would be taken for a letter
_LEAD_WORDS = re.compile(r"^(?:(?:it is|it's|is|would be|in|at|on|to|a|an|the|der|die|das|la|le|el) )+")
_REASON = re.compile(r"$|[.,](?!\d)|[;:!?()–—]| (?:because|since|as|which|is|for|due|so|[-–—(])")
_HEADING = re.compile(r" ?(?:[-•] |\d{1,2}[.)] |(?i:reasoning|argument|a) ?: ?)?")  # or the mark of a list
_CLOSES = re.compile(r" ?(?:$|[.!?;\n]|because\b|since\b)")


class ChoiceReader:
    """Reads answers to one question."""

    def __init__(self, letters: Sequence[str], options: Sequence[str] | None = None) -> None:
        self.letters = [letter.upper() for letter in letters]
        given = dict(zip(self.letters, options or (), strict=False))
        self.texts = {letter: _bare(_clean(text)) for letter, text in given.items()}
        self.exact = _Exact(given, self.texts)

    def read(self, text: str, cut: bool = False) -> str | None:
        """Return the letter, or None where the reply names none; ``cut`` where the length limit ended it."""
        for turn in turns(complete(text) if cut else text):
            said = asserted(self.exact.marked(turn))
            verdict = self._declared(f"\n{said}\n")
            lines = [line.strip() for line in said.split("\n") if line.strip()]
            if verdict is None:
                verdict = self._first(lines, text) if cut else self._undeclared(lines)
            if verdict is not None:
                return verdict or None
        return None

    def _first(self, lines: list[str], text: str) -> str | None:
        """Return the letter that a first line consists of, unless a list of options begins with it."""
        listed = _without_lists([line for line in _clean(text).split("\n") if line.strip()])
        return self._lone(lines[0]) if lines and lines[0] in [line.strip() for line in listed] else None

    def spoken_of(self, text: str) -> set[str]:
        """Return the options that a text names, by a letter it does not deny or by text (of two nested the longer)."""
        found, rest = {letter for letter, _ in self._mentions(text)}, text.casefold()
        for letter, option in sorted(self.texts.items(), key=lambda item: -len(item[1])):
            if option and (cut := re.sub(rf"(?<!\w){re.escape(option)}(?!\w)", "|", rest)) != rest:
                found, rest = found | {letter}, cut
        return found

    def argument(self, text: str, target: str, asked: str) -> str:
        """Return up to three sentences that argue for ``target``; nothing where one names another option.

        Headings, lists of options, bare declarations and echoes of what was ``asked`` are left out.
        """
        for turn in turns(text):
            kept: list[str] = []
            lines = _without_lists([_HEADING.sub("", line, count=1).strip() for line in _clean(turn).split("\n")])
            for sentence in (part for line in lines if line[-1:] != ":" for part in re.split(r"(?<=[.!?]) ", line)):
                if self.read(sentence) not in (None, target):
                    return ""
                # "The answer is torn." is no argument; "The answer is torn, because sharp objects tear cloth." is one.
                declares = len(sentence.split()) < 9 and _LABEL.search(f"\n{sentence}\n")
                if not declares and words(sentence) - words(asked):
                    kept.append(sentence)
            if len(kept) > 1 and kept[-1][-1].isalnum():
                kept.pop()  # cut by the length limit
            if kept:
                return " ".join(kept[:3])
        return ""

    def _declared(self, text: str) -> str | None:
        """Return the last conclusive declaration; "" where that names several options or none and ends the reading."""
        current: str | None = None
        named, rest = list[str](), ""
        for match in _LABEL.finditer(text):
            if match["no"] or (match["fix"] and current is None):
                continue
            filled = [line for line in text[match.end() : match.end() + 400].split("\n") if re.search(r"\w", line)]
            letter, holds = self._value(*[*filled, "", ""][:2])
            if holds and not (letter == "" and match["soft"]):
                current, rest = letter, text[match.end() : match.end() + 400]
                named += [letter] if letter else []
            elif letter == current:
                current = None
        if current and (taken_back(rest.lstrip()) or (len(named) > 2 and named == self.letters)):
            return ""  # or each option, one behind the other
        return current

    def _value(self, line: str, following: str) -> tuple[str | None, bool]:
        """Read what is declared: a letter, "" (several, or no option) or None (nothing), and whether it is affirmed."""
        if named := self._by_text(line, whole=True):
            return named, True
        rest = _FILL.sub("", line, count=1)
        if denied := _NOT.match(rest):
            rest = _FILL.sub("", rest[denied.end() :], count=1)
        found = _LETTER.match(rest)
        if not found or _is_word(found[1], rest, 1):
            named = self._by_text(line) or self._marked(line)
            return named, named is not None
        letter = found[1].upper()
        if denied:
            instead = re.search(r"\b(?:but|rather)\b", rest)
            return self._value(rest[instead.end() :], "") if instead else (letter, False)
        if letter not in self.letters:
            return (None, False) if letter in "XYZ" else ("", True)
        if _HEDGED.search(line[: len(line) - len(rest)]) and (but := _BUT.match(rest, 1)):
            preferred = self._value(rest[but.end() :], "")  # "It could be A, but I think B"
            if preferred[0] and preferred[1]:
                return preferred
        other = _OTHER.match(rest, 1)
        if other and other["letter"].upper() in self.letters and (other["or"] or other["end"] is not None):
            return "", True  # "B or C"; but "B, C is vague" names B
        # "Answer: A. torn", then "B. wet clothes": the list of options, not a choice.
        if letter == self.letters[0] and _MARKER.findall(f"{line}\n{following}")[:2] == self.letters[:2]:
            return None, False
        return letter, not _REFUSED.match(rest, 1)

    def _undeclared(self, lines: list[str]) -> str | None:
        """Return what lines without a declaration settle on; "" where the first of them names several options."""
        own = _without_lists(lines)
        lone = [letter for line in own if (letter := self._lone(line))]
        if lone and (len(set(lone)) == 1 or self._lone(own[-1])):
            return lone[-1]
        if own and (match := _FINAL.search(own[-1])) and match[1] in self.letters:
            return match[1]
        text = "\n".join(lines)
        concluded = [
            letter
            for letter, match in self._mentions(text)
            if (_LEADS.search(text, max(0, match.start() - 30), match.start()) and _ENDED.match(text, match.end()))
            or _PRAISED.match(text, match.end())
        ]
        if concluded:
            return concluded[-1]
        starts = {match[1].upper() for line in own if (match := _LETTERED.match(line))}
        if len(starts) == 1 and _LETTERED.match(own[0]) and not _REFUSED.search(own[0]):
            return self._value(own[0], "")[0]
        texts = {self._by_text(line, whole=True) for line in lines} - {None}
        return texts.pop() if len(texts) == 1 else self._marked("\n".join(own))

    def _lone(self, line: str) -> str | None:
        """Return the letter of a line that holds nothing else, or besides it only the option's own text."""
        match = _LETTERED.match(line)
        letter, rest = (match[1].upper(), _bare(line[match.end() :])) if match else ("", "")
        return letter if letter in self.letters and rest in ("", self.texts.get(letter)) else None

    def _mentions(self, text: str) -> Iterator[tuple[str, re.Match[str]]]:
        """Yield the options' letters in running text that are neither words nor denied."""
        for match in _MENTION.finditer(text):
            letter = match["letter"]
            if letter.upper() not in self.letters or _DENIED.search(text, max(0, match.start() - 60), match.start()):
                continue
            # "So I" goes on.
            unfinished = letter == "I" and text[match.end() : match.end() + 1] in ("", "\n")
            if match["mark"] or (letter.isupper() and not unfinished and not _is_word(letter, text, match.end())):
                yield letter.upper(), match

    def _marked(self, text: str) -> str | None:
        """Return the one letter in brackets or after "option", if it ends a sentence or gives a reason."""
        marked = [(letter, match) for letter, match in self._mentions(text) if match["mark"]]
        ends = any(_CLOSES.match(text, match.end()) for _, match in marked)
        return marked[0][0] if ends and len({letter for letter, _ in marked}) == 1 else None

    def _by_text(self, line: str, whole: bool = False) -> str | None:
        """Return the letter of the one option whose text the line is (or begins with, before a reason or a stop)."""
        said, fits = _bare(line), {}
        stripped = _LEAD_WORDS.sub("", said)
        for letter, text in self.texts.items():
            stem = _LEAD_WORDS.sub("", text)
            begins = stripped.startswith(stem) and (stripped == stem if whole else _REASON.match(stripped, len(stem)))
            begins = begins and not _REFUSED.match(stripped, len(stem))
            if begins and not _LONE.fullmatch(stem):
                fits[letter] = (said == text, len(stem))
        found = [letter for letter, fit in fits.items() if fit == max(fits.values())]
        return found[0] if len(found) == 1 else None


class _Exact:
    """Tells apart the options that are equal but for case, quotes and markup."""

    def __init__(self, given: Mapping[str, str], bare: dict[str, str]) -> None:
        self.raw: dict[str, str] = {}
        self.cased: dict[str, str] = {}
        clashes = [letter for letter in given if list(bare.values()).count(bare[letter]) > 1]
        cased = {letter: _clean(given[letter]).strip() for letter in clashes}
        for number, letter in enumerate(clashes):
            sign = chr(_SIGN + number)  # a word that no option has and that every step keeps
            if list(cased.values()).count(cased[letter]) == 1:
                self.cased[cased[letter]] = sign
            elif [given[other].strip() for other in clashes].count(given[letter].strip()) == 1:
                self.raw[given[letter].strip()] = sign
            else:
                continue
            bare[letter] = sign

    def marked(self, turn: str) -> str:
        """Return a turn, cleaned, with a sign in place of each text that is exactly one option's."""
        return _signed(_clean(_signed(turn, self.raw, r"[\w*_`\"'“”]")), self.cased, r"\w")


_SIGN = 0xA500


def _signed(text: str, signs: Mapping[str, str], beside: str) -> str:
    if not signs:
        return text
    longest = "|".join(map(re.escape, sorted(signs, key=len, reverse=True)))
    return re.sub(rf"(?<!{beside})(?:{longest})(?!{beside})", lambda match: signs[match[0]], text)


def words(text: str) -> set[str]:
    """Return the words of two letters or more, case folded."""
    return set(re.findall(r"[^\W\d_]{2,}", text.casefold()))


def _is_word(letter: str, text: str, end: int) -> bool:
    """Say whether a letter is an article, a pronoun or a preposition: the word after it does not say anything of it."""
    return (letter.islower() or letter in "AI") and _WORDLIKE.match(text, end) is not None


def _clean(text: str) -> str:
    """Return the text without markup, with plain letters and digits, and single spaces."""
    text = _BOX.sub("\nAnswer: ", unicodedata.normalize("NFKC", text))
    text = _MARKUP.sub("", text).translate(str.maketrans("_{}\r。、】", "   \n.,:"))
    return re.sub(r"[^\S\n]+", " ", text)


def _bare(text: str) -> str:
    """Return cleaned text for comparison: lower case, without quotes and stops around it."""
    return text.casefold().strip(" \n\"'“”‘’«».,;:!?")


def _without_lists(lines: list[str]) -> list[str]:
    """Return the lines that are no list of options (letters in alphabetical order, on one line or on several)."""
    starts = [match[1].upper() if (match := _LETTERED.match(line)) else "-" for line in lines]
    listed = {j for i, pair in enumerate(pairwise(starts)) if "".join(pair) in ascii_uppercase for j in (i, i + 1)}
    marks = ["".join(_MARKER.findall(line)[:2]) for line in lines]
    inline = {i for i, pair in enumerate(marks) if len(pair) == 2 and pair in ascii_uppercase}
    return [line for i, line in enumerate(lines) if i not in listed | inline]
