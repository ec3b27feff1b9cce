"""Tables of replies, written from the grammar of mistakes: each is read as a person would, or not at all."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from unisd.tasks.code_reading import extract_code
from unisd.tasks.exact import exact_example, grade_exact
from unisd.tasks.exact_reading import Number, read_number
from unisd.tasks.reading import extract_choice
from unisd.tasks.stance import complete
from unisd.tasks.tool_reading import extract_calls

TABLES = Path(__file__).parent / "replies"

CODE = {
    "{R}": "def double(x):\n    return 2 * x",
    "{W}": "def double(x):\n    return x + 1",
    "{V}": "def double(x):\n    return x ** 2",
    "{L}": "def double(x): return 2 * x",
}
GIVEN = {"{P}": '{"city": "Paris"}', "{L}": '{"city": "Lyon"}', "{A}": '{"hour": 7}', "{N}": "{}"}
PARIS, LYON = ("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Lyon"})
ALARM, NONE = ("set_alarm", {"hour": 7}), ("list_alarms", {})
CALLS = {"p": [PARIS], "a": [ALARM], "n": [NONE], "pa": [PARIS, ALARM], "pl": [PARIS, LYON], "pp": [PARIS, PARIS]} | {
    "pnote": [("get_weather", {"city": "Paris", "note": "Action: set_alarm"})],
    "marker": [("get_weather", {"city": "[TOOL_CALLS]"})],
    "tag": [("get_weather", {"city": "<tool_call>"})],
}


def rows(name: str) -> Iterator[Any]:
    """Yield a table's rows as parameters: group, reply, readings that are right."""
    for group in yaml.safe_load((TABLES / f"{name}.yaml").read_text(encoding="utf-8")):
        for number, (reply, *right) in enumerate(group["rows"], start=1):
            yield pytest.param(group, reply, right, id=f"{group['group']}-{number}")


@pytest.mark.parametrize(("group", "reply", "right"), rows("choice"))
def test_letters(group, reply, right):
    options = group["options"]
    letters = "ABCDEFGHIJ"[: len(options)]
    assert extract_choice(reply, letters, options, cut=group.get("cut", False)) in right


@pytest.mark.parametrize(("group", "reply", "right"), rows("numbers"))
def test_numbers(group, reply, right):
    read = read_number(complete(reply) if group.get("cut") else reply)
    assert read in [value if value is None else number(str(value)) for value in right]


def number(text: str) -> Number:
    return Number(Fraction(text.removesuffix("%")), text.endswith("%"))


@pytest.mark.parametrize(("group", "reply", "right"), rows("texts"))
def test_texts(group, reply, right):
    example = exact_example("1", "Which?", group["accepted"])
    grade = grade_exact(example, reply, cut=group.get("cut", False))
    assert ("right" if grade.correct else None if grade.parsed is None else "wrong") in right


@pytest.mark.parametrize(("group", "reply", "right"), rows("code"))
def test_programs(group, reply, right):
    for sign, code in CODE.items():
        reply = reply.replace(sign, code)
    program = extract_code(reply, ["double"], cut=group.get("cut", False))
    assert program in right or returned(program) in right


def returned(program: str) -> object:
    space: dict[str, Any] = {"__name__": "reply"}
    with contextlib.suppress(ImportError):
        exec(program, space)  # from the table, which holds nothing dangerous
    return space["double"](7) if "double" in space else "no function"


@pytest.mark.parametrize(("group", "reply", "right"), rows("calls"))
def test_calls(group, reply, right):
    for sign, given in GIVEN.items():
        reply = reply.replace(sign, given)
    calls = extract_calls(reply, cut=group.get("cut", False))
    assert calls in [None] * (None in right) or [(call.name, call.arguments) for call in calls] in [
        CALLS[key] for key in right if key
    ]


@pytest.mark.parametrize("name", ["choice", "numbers", "code", "calls"])
def test_tables_hold_two_hundred_replies_each(name):
    assert len({(param.values[0]["group"], param.values[1]) for param in rows(name)}) >= 200
