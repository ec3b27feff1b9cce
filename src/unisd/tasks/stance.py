"""Whether writers stand by what they write: it may be supposed, asked, somebody else's, denied, or taken back."""

import re

# All patterns are bounded or anchored, so that no text makes them slow.
_ANSWER = r"(?:answers?|ans|result|solution|option|choice)\b"
_GAP = r"(?:(?!\b(?:so|but|because|since|therefore|thus|hence|and|which)\b)[^,;.!?\n]){0,30}"
_MINE = r"(?P<mine>\b(?:I|we|let's|let us|to)(?:'d| would| can)?(?: \w{1,12})? )?"
_SAYS = r"(?:says?|thinks?|believes?|claims?|argues?|writes?)"
_SAID = r"(?:said|(?<!second )thought|believed|claimed|argued|wrote)"
_NOT_MINE = re.compile(
    rf"(?i)\b(?:suppose|supposing|assume|assuming|imagine|unless|whether|if|doubt(?<!no doubt)|den(?:y|ies)"
    rf"|let(?= the))\b"
    rf",?{_GAP}\b{_ANSWER}"
    # somebody else's, or what I said before
    rf"|{_MINE}\b(?:{_SAYS}|(?P<said>{_SAID}))\b[,:]?{_GAP}\b{_ANSWER}"
    rf"|\b(?:people|students?|others|some|many|one|you|someone|everyone) (?:\w+ )?(?:would|could|might|may|will)\b"
    rf"(?: \w+)?{_GAP}\b{_ANSWER}"
    # denied
    rf"|(?:\bnot|n't|\bnever) (?:\w+ )?(?:say|think|believe|true|right|correct|the case)\b{_GAP}\b{_ANSWER}"
    rf"|\b(?:wrong|false|incorrect) {_ANSWER} (?:is|was|would be)\b|{_ANSWER}[^.\n]{{0,60}}[\"”'] (?:is"
    rf"|was) (?:wrong|false|incorrect|not)\b"
    rf"|\b(?:wrong|false|incorrect|untrue|unlikely|a mistake) (?:that|to (?:say|think|believe))\b{_GAP}\b{_ANSWER}"
    # of another question
    rf"|\b(?:example|demonstration|previous \w{{1,20}}|last \w{{1,20}}),? (?:the )?{_ANSWER} (?:was|were)\b"
)
_IF = re.compile(r"(?i)\b(?:if|unless|had)\b")
_WOULD = re.compile(rf"(?i)\b{_ANSWER} (?:would|could|might)\b")
_ASKS = re.compile(
    r"(?i)\W{0,9}(?:(?:so|but|and|now|then|hmm|well|or|wait),? ){0,3}(?:is|are|was|were|could|would|can|should"
    r"|do|does|did|"
    r"how|why|what|which|who|when|where|will|might)\b"
)
_CLAUSE = re.compile(r"(?<=[.!?;\n])(?!\S)|(?=,? but\b)")
_LABELLED = re.compile(rf"(?i)\b{_ANSWER}")
MASK = "…"
"""What stands for words that their writer does not stand by."""


def asserted(text: str) -> str:
    """Return a text with `MASK` for each clause that speaks of an answer and does not give it as the writer's own.

    That is what is supposed ("if the answer were 12"), asked, said by others ("some say the answer is 12"), said before
    ("I first thought the answer is 12") or denied ("I doubt that the answer is 12"). Takes time in proportion to
    length.
    """
    return "".join(_masked(clause) for clause in _CLAUSE.split(text))


def _masked(clause: str) -> str:
    if not _LABELLED.search(clause):
        return clause
    supposed = _WOULD.search(clause) and _IF.search(clause)
    asked = clause.rstrip().endswith("?") and _ASKS.match(clause)
    told = any(not match["mine"] or match["said"] for match in _NOT_MINE.finditer(clause))
    if not (supposed or asked or told):
        return clause
    return re.sub(r"\S(?:.*\S)?", MASK, clause, flags=re.DOTALL)


_SAME = r"(?:that|this|it|the above|my answer)"
_BAD = r"(?:not (?:right|correct|true|it)|wrong|incorrect|false|a mistake|an error|nonsense)"
_TAKEN_BACK = re.compile(
    r"(?i)[^.!?\n]{0,120}[.!?,;\s–—-]{1,20}(?:(?:no|wait|hmm|oh|oops|actually|sorry|hold on)\b[,.!: ]{0,4}){0,4}"
    rf"(?:(?:scratch|forget|ignore|disregard|strike) (?:that|this|it)|never ?mind|I (?:was wrong|made an? \w+"
    rf"|take (?:that|it) back)"
    rf"|{_SAME}(?:'s| is| was| can't be| cannot be| must be| looks| seems) {_BAD}\b|{_SAME} (?:isn't|is not"
    rf"|wasn't)(?= ?[.!\n]|$)"
    rf"|{_SAME} (?:isn't|can't be|cannot be|wasn't) (?:right|correct|true)\b)"
)


def taken_back(after: str) -> bool:
    """Say whether a text that begins with what was declared goes on to take it back: "12. No wait, that is wrong."."""
    return _TAKEN_BACK.match(after) is not None


# What introduces an example of how not to do it.

_WRONG = r"(?:wrong|incorrect|bad|buggy|broken|faulty|flawed|invalid|erroneous|naive|mistaken)"
_THING = r"(?:version|code|example|solution|implementation|way|approach|attempt|program|function|answer|one|call)"
_STRESSES = re.compile(
    r"(?i)(?<!not )(?<!n't )(?<!not the )\b(?:fix(?:es|ed)|correct(?:s|ed|ion|ly)?|right|proper(?:ly)?"
    r"|repair\w*|improve[sd]?|avoids|avoided|"
    r"prevents?|instead(?! of)|without|avoid(?= \w+,)|rather than \w+)\b"
)
_REJECTS = re.compile(
    # "Don't do this", "what not to do", "you should not use"
    r"(?i)(?:^\W{0,9}|\byou |\bone |\b(?:should|must) |\bto )(?:please )?(?:do not|don't|never|not|not to|avoid)\b"
    r"(?: to)? (?:do|write|use|be|try|code|implement|define|call|run|it|this|the following|like this)\b"
    r"|\bnot to do\b|(?:^|\W)(?:don'ts?|do not|nor|avoid|to avoid)[\W_]{0,9}$|^\W{0,9}avoid (?:this"
    r"|the following|writing|doing)\b"
    r"|^\W{0,9}(?:instead of|unlike|rather than|before|if you (?:write|use|do|try))\b[^,]{0,80}$|[❌✗✘🚫👎]"
    rf"|\b{_WRONG}\b\W{{0,3}}(?:\w+ ){{0,2}}(?:{_THING}\b[^,;]{{0,40}}|\W{{0,9}}$|because\b.{{0,60}})"
    rf"|\bwould be {_WRONG}\b"
    r"|(?:\bnot|n't) (?:\w+ ){0,2}(?:correct|right|work|pass|the same as|valid|run)\b"
    r"|\bfails?\b|\bhas an? (?:bug|error|mistake)\b|\bgoes wrong\b|\b(?:mistakes?|pitfalls?|anti-?patterns?)\b"
    r"|\b(?:earlier|previous|original|old) (?:\W?\w+\W? )?(?:draft|attempt|version|code|try)\b"
    r"|\b(?:beginners?|people|some|many|students?|others?)\b (?:\w+ ){0,2}(?:write|use|try|do)\b"
)
_BACK = r"\W{0,9}(?:(?:no|wait|oops|hmm|sorry|actually|but)\b\W{1,3}){1,3}"
_IS_BAD = rf"(?:'s| is| was| would be) (?:not (?:correct|right)\b|an? (?:common )?mistake\b|{_WRONG}\b)"
_REFERS_BACK = re.compile(rf"(?i)(?:{_BACK}(?:this|that|it)|\W{{0,9}}that){_IS_BAD}")
_REJECTED = re.compile(
    rf"(?i)\W{{0,9}}(?:(?:this|it|which|the (?!first|following)(?:\w+ )?{_THING})(?: above)?{_IS_BAD}"
    r"|(?:do not|don't|never) (?:use|do|write) (?:this|that|it|the \w+ above)\b"
    r"|(?:which|this|that|it|the tests?|and the tests) (?:would )?fails?\b)"
    r"(?![^.!?\n]{0,120}:\s{0,9}$)",  # which speaks of what comes next
    re.MULTILINE,
)
_SENTENCE = re.compile(r"(?<=[.!?;]) |\n")


def rejects(before: str) -> bool:
    """Say whether the last sentence before an example calls it wrong or warns of it ("Don't do this:")."""
    parts = [part for part in _SENTENCE.split(_plain(before[-300:])) if part.strip()]
    last = parts[-1] if parts else ""
    return bool(_REJECTS.search(last)) and not (_STRESSES.search(last) or _REFERS_BACK.match(last))


def rejected(after: str) -> bool:
    """Say whether the text after an example calls it wrong ("This is incorrect, since ...")."""
    said = _plain(after[:300])
    return bool(_REFERS_BACK.match(said) or _REJECTED.match(said))


def _plain(text: str) -> str:
    return text.replace("*", "").replace("’", "'")


_COMMENT_REJECTS = re.compile(
    rf"(?i)#\s{{0,4}}(?:[❌✗✘🚫👎]|(?:(?:this|that) (?:is|would be) )?{_WRONG}\b(?!\w)|(?:do not|don't"
    rf"|never) (?:do|use|write)\b)"
)


def comment_rejects(comment: str) -> bool:
    """Say whether a comment at a piece of code calls it wrong ("# wrong: it adds one")."""
    return _COMMENT_REJECTS.match(comment.strip()) is not None


def complete(text: str) -> str:
    """Return what of a reply that was cut is surely whole: up to its last sentence or line, then `MASK`."""
    ends = [match.end() for match in re.finditer(r"\n|[.!?](?=\s)", text)]
    return f"{text[: ends[-1]] if ends else ''}\n{MASK}"
