"""From a row and a task's description to an example, by the type of its answer (docs/custom_tasks.md)."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from string import ascii_uppercase
from typing import Any

from unisd.errors import UsageError
from unisd.tasks import choice, exact
from unisd.tasks.base import Example
from unisd.tasks.choice import choice_example, letters_for
from unisd.tasks.exact import TOLERANCE, exact_example
from unisd.tasks.sources import Row
from unisd.tasks.templates import cell, columns_of, filled, key, listed, said, text, texts

GIVEN_AS = ("auto", "letter", "text", "index", "number")
"""How a choice's right option is named."""
_OPTION = re.compile(
    r"(?:^[ \t]{0,9}\(?(?P<line>[A-Z])[.):]|(?<=\s)\(?(?P<inline>[A-Z])\))[ \t]{1,9}(?=\S)", re.MULTILINE
)
_LETTER = re.compile(r"\(?([A-Za-z])(?:\)|[.:])?")
_BOTH = re.compile(r"\(?([A-Za-z])[.):]\s*(\S.*)", re.DOTALL)


def example_of(row: Row, item_id: str, described: Mapping[str, Any]) -> Example:
    """Return the example that a row holds.

    Args:
        row: the columns.
        item_id: its id.
        described: the task's YAML file, checked.

    Raises:
        UsageError: a column is missing, or holds what cannot be asked or graded.
    """
    rationale = said(row, described["rationale"], empty=True) if "rationale" in described else ""
    answer, kind_of = described["answer"], described["answer"]["type"]
    if kind_of == "choice":
        example = _choice(item_id, row, described, rationale)
    else:
        build = {"code": _code, "tools": _tools}.get(kind_of, _exact)
        example = build(item_id, filled(described["prompt"], row), row, answer, rationale)
        example = dataclasses.replace(example, prompt=_formed(example.prompt, _form(example, kind_of), described))
    if "question" in described and not (asked := said(row, described["question"]).strip()):
        raise UsageError(f"the question is empty ('{described['question']}'); leave the key or the row out")
    if "question" in described:
        example = dataclasses.replace(example, question=asked)
    system = said(row, described["system"], empty=True) if "system" in described else ""
    return dataclasses.replace(example, system=system if system.strip() else None)


def _form(example: Example, kind_of: str) -> str:
    """Return the instruction on the form of the answer that a family adds to its prompts."""
    if kind_of == "code":
        from unisd.tasks.code import ASK

        return ASK
    return exact.form(example.fields["kind"]) if kind_of in ("exact", "number") else ""


def _formed(prompt: str, form: str, described: Mapping[str, Any]) -> str:
    """Return a prompt that asks for the form of the answer as the file says."""
    ask = described.get("ask_for_form", True)
    if ask is True:
        return prompt
    body = prompt.removesuffix(form).rstrip() if form else prompt
    return body if ask is False else f"{body}\n\n{ask.strip()}"


# Choices


def _choice(item_id: str, row: Row, described: Mapping[str, Any], rationale: str) -> Example:
    template, answer = described["prompt"], described["answer"]
    named = [name for _, name in columns_of(template, "prompt") if name is not None]
    where = answer.get("options")
    if where is None:
        where = next((name for name in named if isinstance(cell(row, name), list | dict)), None)
    options, labels = ([], []) if where is None else _options(row, where)
    lettered = "\n".join(f"{letter}. {one}" for letter, one in zip(ascii_uppercase, options, strict=False))
    asked = filled(template, row, {where: lettered} if isinstance(where, str) else None)
    start, found = _options_in(asked)
    if where is None:
        if not found:
            raise UsageError("the prompt holds no lettered options (A. …, B. …); name their column: answer: options")
        options, labels = found, letters_for(len(found))
    inside = found == [" ".join(one.split()) for one in options] or where in named
    inside |= isinstance(where, list) and set(map(str, where)) <= set(named)
    right = _right(row, answer, options, labels)
    bare = (asked[:start] if found and inside else asked).strip() or asked
    example = choice_example(item_id, bare, options, right, rationale=rationale)
    form = choice.form(len(options))
    prompt = f"{asked.strip()}\n\n{form}" if inside else example.prompt
    return dataclasses.replace(example, prompt=_formed(prompt, form, described))


def _options_in(asked: str) -> tuple[int, list[str]]:
    """Return where the last list of lettered options of a prompt begins, and the options; none where it has no list."""
    marks = list(_OPTION.finditer(asked))
    letters = [match["line"] or match["inline"] for match in marks]
    begins = [place for place, letter in enumerate(letters) if letter == "A"]
    if not begins:
        return 0, []
    run = [marks[begins[-1]]]
    for match, letter in zip(marks[begins[-1] + 1 :], letters[begins[-1] + 1 :], strict=True):
        if letter != ascii_uppercase[len(run)]:
            break
        run.append(match)
    if len(run) < 2:
        return 0, []
    between = [asked[one.end() : other.start()].strip() for one, other in pairwise(run)]
    rest = asked[run[-1].end() :]
    # The last one ends with its line, or with its paragraph where others have lines, too.
    last = rest.split("\n\n")[0] if any("\n" in one for one in between) else rest.split("\n")[0]
    return run[0].start(), [" ".join(one.split()) for one in (*between, last)]


def _options(row: Row, where: Any) -> tuple[list[str], list[str]]:
    """Return the options' texts, and the letters or labels that an answer may name them by."""
    if isinstance(where, list):
        options = [text(row, str(column)) for column in where]
    else:
        value = cell(row, str(where))
        if isinstance(value, dict) and {"text", "label"} <= value.keys():  # as some sets on the hub have it
            options, labels = listed(value, "text"), listed(value, "label")
            if len(options) != len(labels):
                raise UsageError(f"the column '{where}' holds {len(options)} options and {len(labels)} labels")
            return texts(options, str(where)), texts(labels, str(where))
        if isinstance(value, dict) and value:  # options by their letter
            return texts(list(value.values()), str(where)), list(value)
        options = texts(listed(row, str(where)), str(where))
    return options, letters_for(len(options))


def _right(row: Row, answer: Mapping[str, Any], options: Sequence[str], labels: Sequence[str]) -> int:
    """Return which option the answer's column names."""
    column, how = answer["column"], answer.get("given_as", "auto")
    value = cell(row, column) if column in row else None
    given = (texts(value, column)[0] if isinstance(value, list) and len(value) == 1 else key(row, column)).strip()
    if how == "auto":
        return _named(given, options, labels)
    if how in ("index", "number"):
        labels = [str(place) for place in range(how == "number", len(options) + (how == "number"))]
    elif how == "text":
        labels = options
    found = [place for place, label in enumerate(labels) if label.strip().casefold() == given.casefold()]
    if how == "text" and len(found) != 1:  # options can differ by case alone
        found = [place for place, label in enumerate(labels) if label.strip() == given]
    if len(found) != 1:
        names = "none" if not found else "several"
        raise UsageError(f"the answer {given!r:.80} names {names} of the options, as {how}: {', '.join(labels)[:200]}")
    return found[0]


def _named(given: str, options: Sequence[str], labels: Sequence[str]) -> int:
    """Return the option named by its text, its letter or label or both: ``cat``, ``B``, ``(b)``, ``B. cat``."""
    by_text = _places(given, options)
    by_label = _places(given, labels) or (_places(m[1], labels) if (m := _LETTER.fullmatch(given)) else [])
    if not by_text and not by_label and (both := _BOTH.fullmatch(given)):
        by_label, by_text = _places(both[1], labels), _places(both[2], options)
        if not (by_label and by_text):
            raise UsageError(f"the answer {given!r:.80} names no option by letter and text: {'; '.join(options):.200}")
    found = sorted({*by_text, *by_label})
    if len(found) != 1:
        which = "none" if not found else "several"
        todo = "correct it" if not found else "say answer: given_as (letter or text)"
        raise UsageError(f"the answer {given!r:.80} names {which} of the options {'; '.join(options):.200}; {todo}")
    return found[0]


def _places(given: str, names: Sequence[str]) -> list[int]:
    """Return where a name stands: as it is, else but for case and spaces."""
    exactly = [place for place, name in enumerate(names) if name.strip() == given.strip()]
    plain = "".join(given.split()).casefold()
    return exactly or [place for place, name in enumerate(names) if "".join(name.split()).casefold() == plain]


# Other types


def _exact(item_id: str, question: str, row: Row, answer: Mapping[str, Any], rationale: str) -> Example:
    column = answer["column"]
    value = cell(row, column) if column in row or "{" not in column else None
    accepted = texts(value, column) if isinstance(value, list) else [said(row, column)]
    if answer["type"] == "exact":
        return exact_example(item_id, question, accepted, rationale=rationale, normalise=answer.get("normalise"))
    # A worked answer may stand before the number, behind "####", with its sums in "<<...>>" (as in GSM8K).
    accepted = [one.rpartition("####")[2] for one in accepted]
    reason = re.sub(r"<<[^<>]{0,400}>>", "", rationale.rpartition("####")[0] if "####" in rationale else rationale)
    tolerance = answer.get("tolerance", TOLERANCE)
    return exact_example(item_id, question, accepted, kind="number", rationale=reason, tolerance=tolerance)


def _code(item_id: str, question: str, row: Row, answer: Mapping[str, Any], rationale: str) -> Example:
    from unisd.tasks.code import code_example

    return code_example(
        item_id,
        question,
        said(row, answer["column"]),
        [str(test) for test in listed(row, answer["tests"])],
        setup=said(row, answer["setup"], empty=True) if "setup" in answer else "",
        show_tests=answer.get("show_tests", True),
    )


def _tools(item_id: str, question: str, row: Row, answer: Mapping[str, Any], rationale: str) -> Example:
    from unisd.tasks.tools import Call, tool_example

    calls = []
    for call in listed(row, answer["column"]):
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) or "arguments" not in call:
            raise UsageError(f"the column '{answer['column']}' must hold calls with 'name' and 'arguments'")
        arguments = call["arguments"]
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                arguments = None
        if not isinstance(arguments, dict):
            raise UsageError(f"the call of {call['name']}: its arguments must be an object, or the JSON text of one")
        calls.append(Call(call["name"], arguments))
    tools = answer["tools"] if isinstance(answer["tools"], list) else listed(row, answer["tools"])
    names = [tool["name"] if isinstance(tool, dict) and "name" in tool else str(tool) for tool in tools]
    asked = said(row, answer["question"]) if "question" in answer else question
    return tool_example(item_id, question, asked, calls, names, answer.get("format", "react"))
