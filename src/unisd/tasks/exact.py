"""The exact-answer family: questions whose answer is a number or a short text."""

import re
from collections.abc import Sequence
from typing import Any

from unisd.errors import UsageError
from unisd.tasks import normalisers
from unisd.tasks.base import Example, Grade, NegativeRequest, Task
from unisd.tasks.choice import demonstration
from unisd.tasks.exact_reading import (
    Number,
    formula_in,
    normal,
    number_in,
    read_formula,
    read_number,
    read_texts,
    says_nothing,
)
from unisd.tasks.formulas import same
from unisd.tasks.stance import complete

KINDS = ("text", "number")
"""What an answer can be."""

TOLERANCE = 1e-6
"""Relative difference up to which two numbers are the same: what a decimal fraction loses by rounding."""

_NOUN = {"text": "answer", "number": "number"}
_MISTAKES = {
    "number": ("a slip in the arithmetic", "a quantity that is misread", "a missing step", "a wrong operation"),
    "text": ("a mix-up with something similar", "a misread question", "a fact remembered wrongly", "a hasty guess"),
}
_BETRAYS = re.compile(
    r"\b(?:mistakes?|mistaken\w*|wrong\w*|incorrect\w*|errors?|slip|misread\w*|actually)\b", re.IGNORECASE
)


def form(kind: str = "text") -> str:
    """Return the instruction on how to answer with a text or a number (one of `KINDS`)."""
    alone = "in as few words as possible" if kind == "text" else "alone"
    return (
        f'Reason in a few short sentences, then end with a last line "Answer: ...", where ... is the '
        f"{_NOUN[kind]} {alone}."
    )


def prompt(question: str, kind: str = "text") -> str:
    """Return the student's user turn: the question, and the form of the answer (one of `KINDS`)."""
    return f"{question.strip()}\n\n{form(kind)}"


def exact_example(
    item_id: str,
    question: str,
    answer: str | Sequence[str],
    *,
    kind: str = "text",
    rationale: str | None = "",
    tolerance: float = TOLERANCE,
    normalise: Sequence[str] | None = None,
    **fields: Any,
) -> Example:
    """Build an Example with an exact answer.

    Args:
        item_id: unique within the task and split.
        question: what is asked.
        answer: the right answer, or several that all count; demonstrations give the first.
        kind: one of `KINDS`.
        rationale: why the answer is right; empty leaves a demonstration of the answer line alone, None leaves none (an
            item for evaluation only).
        tolerance: relative difference up to which numbers are the same, in [0, 1).
        normalise: what may differ between a right text and the answer, by name (:mod:`unisd.tasks.normalisers`); None:
            case, spaces, markup, surrounding quotes and a final stop. Of a list, capitals count without ``case``.
        fields: kept beside ``kind``, ``accepted`` and ``tolerance``.

    Raises:
        UsageError: the question is empty, or an answer is empty, no number, or cannot be read back.
    """
    if kind not in KINDS:
        raise UsageError(f"answers of kind '{kind}' are not known; choose one of {', '.join(KINDS)}")
    accepted = [" ".join(one.split()) for one in ([answer] if isinstance(answer, str) else answer)]
    if not question.strip() or not accepted:
        raise UsageError(f"item {item_id}: the question or the answer is empty")
    if not 0 <= tolerance < 1:
        raise UsageError(f"tolerance={tolerance}: a relative difference from 0 to less than 1 was expected")
    for one in accepted:
        if (number_in(one) is None) if kind == "number" else not normal(one):
            raise UsageError(f"item {item_id}: the answer {one!r} is {'no number' if kind == 'number' else 'empty'}")
    if normalise is not None:
        fields["normalise"] = _known(normalise, kind, item_id)
    example = Example(
        id=item_id,
        prompt=prompt(question, kind),
        question=question.strip(),
        answer=accepted[0],
        demonstration=None if rationale is None else demonstration(rationale, accepted[0]),
        fields={"kind": kind, "accepted": accepted, "tolerance": tolerance, **fields},
    )
    if empty := [one for one in accepted if kind == "text" and not _compared(example, one)]:
        raise UsageError(f"item {item_id}: of the answer {empty[0]!r} the normalisers leave nothing; name fewer")
    if not grade_exact(example, demonstration(rationale or "", accepted[0])).correct:
        raise UsageError(f"item {item_id}: the answer {accepted[0]!r} cannot be read back; write it more plainly")
    return example


def grade_exact(example: Example, text: str, cut: bool = False) -> Grade:
    """Grade one output by its number or text (`read_number`, `read_texts`). Never raises.

    A text is correct if it is equal to one of the accepted answers but for case, spaces, markup, surrounding quotes and
    a final stop; a number if it is equal to one of them up to the item's tolerance, however it is written (50% is 50 as
    well as 0.5). Where ``math-verify`` is installed (the extra ``math``), a formula in place of either is correct, too,
    if it has the same value: 1/2 for the text 0.5, \\sqrt{12} for 2\\sqrt{3}, 1+x for x+1. Percents are left out of it:
    as a text, 50% is not 0.5. ``cut`` says that the length limit ended the output: then only what whole lines and
    sentences declare is read.
    """
    text = complete(text) if cut else text
    if example.fields["kind"] == "number":
        number = read_number(text)
        if number is None:
            formula = _same_formula(example, text)
            return Grade(formula is not None, formula)
        return Grade(_is_one_of(number, example, example.fields["tolerance"]), str(number))
    accepted = {_compared(example, one) for one in example.fields["accepted"]} - {""}
    read = _settled(example, text)
    match = next((one for one in read if one in accepted), None) or _same_formula(example, text)
    return Grade(match is not None, match or (read[0] if read else None))


def _compared(example: Example, answer: str) -> str:
    """Return a right answer as it is compared."""
    names = example.fields.get("normalise")
    if names is None:
        return normal(answer)
    answer = _plainly(answer, names)
    return _reduced(normal(answer), answer, names)


def _settled(example: Example, text: str) -> list[str]:
    """Return the text that an output settles on (`read_texts`), as it is compared."""
    names = example.fields.get("normalise")
    if names is None:
        return read_texts(text)
    text = _plainly(text, names)
    forms = (_reduced(form, text, names) for form in read_texts(text))
    return list(dict.fromkeys(form for form in forms if form))


def _plainly(text: str, names: Sequence[str]) -> str:
    """Return a text with its LaTeX written plainly where that is asked for: a reader would take its braces away."""
    return normalisers.latex(text) if "latex" in names else text


def _reduced(form: str, text: str, names: Sequence[str]) -> str:
    """Return what the normalisers leave of ``form``, with the capitals that it has in ``text`` where they count."""
    if "case" not in names:
        written = re.compile(re.escape(form).replace(r"\ ", r"\s+"), re.IGNORECASE)
        declared = [match.end() for match in re.finditer(r"(?i)answer|boxed|####", text)]
        found = written.search(text, declared[-1] if declared else 0) or written.search(text)
        form = found[0] if found else form
    return normalisers.normalised(form, names)


def _known(names: Sequence[str], kind: str, item_id: str) -> list[str]:
    """Return the names of normalisers, checked."""
    if wrong := [name for name in names if name not in normalisers.NORMALISERS]:
        raise UsageError(
            f"item {item_id}: there is no normaliser {wrong[0]!r}; choose from {', '.join(normalisers.NORMALISERS)}"
        )
    if kind != "text":
        raise UsageError(f"item {item_id}: numbers are compared by value; leave out the normalisers")
    return list(names)


def _same_formula(example: Example, text: str) -> str | None:
    """Return the formula that an output settles on, where it has the value of an accepted answer."""
    if not (given := read_formula(text)):
        return None
    fields = example.fields
    if "case" not in fields.get("normalise", ["case"]) and re.search(r"(?<![\\A-Za-z])[A-Za-z]", given):
        return None  # x is not X there, but it is to who compares formulas
    gold = [formula_in(str(number_in(one)) if fields["kind"] == "number" else one) for one in fields["accepted"]]
    return given if any(one and same(one, given, fields["tolerance"]) for one in gold) else None


def _is_one_of(number: Number, example: Example, tolerance: float) -> bool:
    gold = [number_in(one) for one in example.fields["accepted"]]
    return any(one is not None and number.equals(one, tolerance) for one in gold)


def negative_requests(example: Example) -> list[NegativeRequest]:
    """Return four requests for a wrong answer, each with another kind of mistake as its target."""
    kind = example.fields["kind"]
    return [
        NegativeRequest(
            f"{example.question}\n\nWrite a short answer to this that contains {mistake}, so that it ends in a wrong "
            f"{_NOUN[kind]}. Write as if it were right, in at most three short sentences, then end with a last line "
            f'"Answer: ...", where ... is the wrong {_NOUN[kind]} alone.',
            mistake,
        )
        for mistake in _MISTAKES[kind]
    ]


def negative(example: Example, request: NegativeRequest, text: str) -> str | None:
    """Turn the model's text into a demonstration that ends with its wrong answer, or None if that is unsafe.

    Three sentences are kept; answer lines and sentences that speak of a mistake are dropped. None where no answer can
    be read or too little is left, and where the answer is, or could pass for, a right one: a number within 1 % of it, a
    text that shares its words.
    """
    answer = _wrong_answer(example, text)
    if answer is None:
        return None
    lines = [line for line in text.split("\n") if not re.search(r"(?i)answer|####|\\boxed|</?think>|^\s*#", line)]
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(" ".join(lines).split()))
    argument = " ".join([one for one in sentences if not _BETRAYS.search(one)][:3])
    if len(re.findall(r"\w+", argument)) < 3:
        return None
    built = demonstration(argument, answer)
    return built if _wrong_answer(example, built) == answer else None


def _wrong_answer(example: Example, text: str) -> str | None:
    """Return the answer of a text where it is surely wrong."""
    if example.fields["kind"] == "number":
        number = read_number(text)
        return None if number is None or _is_one_of(number, example, 0.01) else str(number)
    if grade_exact(example, text).correct:
        return None
    read = read_texts(text)
    said = set(re.findall(r"\w+", read[0])) if read else set()
    right = [set(re.findall(r"\w+", normal(one))) for one in example.fields["accepted"]]
    if not said or any(said & words for words in right):
        return None
    if says_nothing(read[0]) and not any(map(says_nothing, example.fields["accepted"])):
        return None  # "unknown" is a wrong answer only where the right one is of that kind
    as_written = re.findall(re.escape(read[-1]), text, re.IGNORECASE)  # gold answers keep their capitals too
    return as_written[-1] if as_written else read[-1]


class ExactTask(Task):
    """What every task with exact answers shares; a task adds ``name``, ``splits`` and ``load``."""

    grade = staticmethod(grade_exact)
    negative_requests = staticmethod(negative_requests)
    negative = staticmethod(negative)
