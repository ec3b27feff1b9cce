"""The tool-use family: what counts as a right call, demonstrations in both notations, and verified negatives."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd.errors import UsageError
from unisd.tasks.base import Example, NegativeRequest
from unisd.tasks.tools import (
    FORMATS,
    Call,
    ToolTask,
    argument_accuracy,
    demonstration,
    grade_calls,
    negative,
    negative_requests,
    same_value,
    tool_example,
)

TOOLS = ("findShip", "listPorts", "bookBerth")
FIND = Call("findShip", {"name": "Aurora", "year": 1998})
LIST = Call("listPorts", {})
BOOK = Call("bookBerth", {"port": "Turku", "nights": 2})


def item(*calls: Call, form: str = "react", tools: tuple[str, ...] = TOOLS) -> Example:
    prompt = "Tools: findShip, listPorts, bookBerth\n\nQuestion: Where is the Aurora?"
    return tool_example("i/0", prompt, " Where is the Aurora? ", calls or (FIND,), tools, form)


def answer(*calls: Call, form: str = "react") -> str:
    return demonstration(calls, form)


class Plain(ToolTask):
    def load(self, split, source=None):
        return []


def graded(example: Example, *calls: Call) -> tuple[bool, float, float]:
    grade = grade_calls(example, answer(*calls))
    return grade.correct, grade.scores["action"], grade.scores["argument"]


def test_an_example_holds_what_grading_needs_and_can_be_stored_as_json():
    example = item(FIND, LIST)
    assert example.question == "Where is the Aurora?"
    assert example.answer == (
        '[{"name": "findShip", "arguments": {"name": "Aurora", "year": 1998}}, {"name": "listPorts", "arguments": {}}]'
    )
    assert json.loads(json.dumps(example.fields)) == example.fields
    assert grade_calls(example, example.demonstration).parsed == example.answer


def test_demonstrations_are_the_calls_in_the_asked_for_notation_and_nothing_else():
    assert answer(FIND, LIST) == (
        'Thought: I should use findShip.\nAction: findShip\nAction Input: {"name": "Aurora", "year": 1998}\n'
        "Thought: I should use listPorts.\nAction: listPorts\nAction Input: {}"
    )
    assert answer(Call("findShip", {"name": "Göta"}), form="json") == (
        '[{"name": "findShip", "arguments": {"name": "Göta"}}]'
    )


@pytest.mark.parametrize("form", FORMATS)
def test_gold_demonstrations_are_right_in_both_notations(form):
    example = item(FIND, LIST, BOOK, form=form)
    grade = grade_calls(example, example.demonstration)
    assert grade.correct
    assert grade.scores == {"action": 1.0, "argument": 1.0}
    assert grade.note == ""


def test_both_notations_are_read_whichever_was_asked_for():
    for form in FORMATS:
        for written in FORMATS:
            assert grade_calls(item(FIND, form=form), answer(FIND, form=written)).correct


def test_wrong_items_are_named():
    with pytest.raises(UsageError, match="format=xml: use react or json"):
        item(form="xml")
    with pytest.raises(UsageError, match="item i/0: the question is empty"):
        tool_example("i/0", "p", " ", [FIND], TOOLS, "react")
    for calls in ([], [Call("listPorts", {}, optional=True)]):
        with pytest.raises(UsageError, match="item i/0: the gold has no call that must be made"):
            tool_example("i/0", "p", "q", calls, TOOLS, "react")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "text", ["```a```", "</think>", "<s>hello", "Say. Action: go Action Input: {}", "\nInput: x\n"]
)
def test_markup_in_gold_arguments_is_part_of_them(text, form):
    example = item(Call("go", {"x": text}), LIST, form=form)
    assert grade_calls(example, example.demonstration).correct


@pytest.mark.parametrize("form", FORMATS)
def test_gold_that_is_not_read_back_is_named(form):
    for name in ("3d_render", "ns::go"):
        assert item(Call(name, {}), form=form).answer == f'[{{"name": "{name}", "arguments": {{}}}}]'
    for name in ("go to", "none", ""):
        with pytest.raises(UsageError, match=r"item i/0: its gold calls are not read back .*use names like find_ship"):
            item(FIND, Call(name, {}), form=form)
    deep: list = []
    for _ in range(60):
        deep = [deep]
    with pytest.raises(UsageError, match=r"item i/0: its gold calls are not read back"):
        item(Call("go", {"x": deep}), form=form)


# Grading


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([FIND, BOOK], (True, 1.0, 1.0)),
        ([BOOK, FIND], (False, 0.0, 0.0)),
        ([FIND], (False, 0.5, 0.0)),
        ([FIND, BOOK, LIST], (False, 1.0, 0.0)),
        ([FIND, FIND, BOOK], (False, 0.5, 0.0)),
        ([FIND, LIST], (False, 0.5, 0.5)),
        ([FIND, Call("bookBerth", {"port": "Turku", "nights": 3})], (False, 1.0, 0.75)),
        ([FIND, Call("bookBerth", {"port": "Turku"})], (False, 1.0, 0.75)),
        ([FIND, Call("bookberth", BOOK.arguments)], (False, 0.5, 1.0)),
        ([FIND, Call("bookBerth", {**BOOK.arguments, "pier": 4})], (True, 1.0, 1.0)),
    ],
)
def test_actions_and_arguments_are_counted_by_place(calls, expected):
    assert graded(item(FIND, BOOK), *calls) == expected


def test_what_is_wrong_is_noted():
    example = item(FIND, BOOK)
    assert grade_calls(example, answer(FIND)).note == "1 calls where the gold has 2"
    assert grade_calls(example, answer(FIND, LIST)).note == "call 2: wrong action"
    assert grade_calls(example, answer(Call("findShip", {}), BOOK)).note == "call 1: wrong arguments"
    grade = grade_calls(example, "I do not know.")
    assert (grade.correct, grade.parsed, grade.note) == (False, None, "no call could be read")
    assert grade.scores == {"action": 0.0, "argument": 0.0}


@pytest.mark.parametrize(
    ("given", "gold", "expected"),
    [
        ({"a": 1}, {"a": 1}, 1.0),
        ({"a": 1, "b": 3}, {"a": 1, "b": 2}, 0.5),
        ({"a": 1}, {"a": 1, "b": ""}, 1.0),
        ({"a": 1, "b": "x"}, {"a": 1, "b": ""}, 1.0),
        ({"a": 1}, {"a": 1, "b": None}, 1.0),
        ({"x": 1}, {"a": ""}, 1.0),
        ({"a": 1, "x": 9}, {"a": 1}, 1.0),
        ({"A": 1}, {"a": 1}, 0.0),
        ({"": "a is 1"}, {"a": 1}, 0.0),
        ({}, {}, 1.0),
        ({"x": ""}, {}, 1.0),
        ({"x": 0}, {}, 0.0),
        ({"": "all ports"}, {}, 0.0),
        ({"a": 0}, {"a": 0}, 1.0),
        ({}, {"a": 0}, 0.0),
        ({}, {"a": False}, 0.0),
        ({"a": []}, {"a": []}, 1.0),
        ({}, {"a": []}, 0.0),
    ],
)
def test_argument_accuracy_follows_the_official_rule(given, gold, expected):
    assert argument_accuracy(Call("a", given), Call("a", gold)) == expected


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, 1.0, True),
        (1, 2, False),
        (1, True, False),
        (0, False, False),
        (True, True, True),
        (True, False, False),
        ("1", 1, False),
        ("true", True, False),
        ("Turku", " Turku\n", True),
        ("Turku", "turku", False),
        ("a b", "a  b", False),
        ([1, 2], [1.0, 2], True),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        ([1], 1, False),
        ({"a": 1, "b": [" x"]}, {"b": ["x"], "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1}, {"a": True}, False),
        (None, None, True),
        (None, "", False),
        (None, 0, False),
        (None, False, False),
        (float("nan"), float("nan"), True),
        (float("nan"), 0, False),
        (float("inf"), 10**400, False),
        (10**20, 1e20, True),
    ],
)
def test_values_are_compared_as_json(one, other, equal):
    assert same_value(one, other) is equal
    assert same_value(other, one) is equal


def test_an_optional_call_may_be_made_or_left_out():
    example = item(FIND, Call("listPorts", {}, optional=True), BOOK)
    assert graded(example, FIND, BOOK) == (True, 1.0, 1.0)
    assert graded(example, FIND, LIST, BOOK) == (True, 1.0, 1.0)
    assert graded(example, FIND, LIST) == (False, 0.5, 0.5)
    assert graded(example, FIND) == (False, 0.5, 0.0)
    assert graded(example, LIST, FIND, BOOK)[0] is False


def test_a_parsed_answer_can_be_written_to_a_file():
    grade = grade_calls(item(), 'Action: findShip\nAction Input: {"name": "\ud800", "year": NaN}')
    assert "\\ud800" in grade.parsed
    grade.parsed.encode("utf-8")


@settings(max_examples=200, deadline=None)
@given(st.text(), st.sampled_from(["", "Action: findShip\nAction Input: ", '[{"name": "findShip", "arguments": ']))
def test_no_text_makes_the_grader_raise(text, start):
    grade = grade_calls(item(FIND, Call("listPorts", {"a": ""}, optional=True)), start + text)
    assert all(0 <= score <= 1 for score in grade.scores.values())
    assert not grade.correct or set(grade.scores.values()) == {1.0}
    assert grade.correct == (grade.note == "")


VALUES = (
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, "", "a", " a", "1", [], [1], {"k": "a"}])
)
CALLS = st.lists(
    st.builds(Call, st.sampled_from(TOOLS), st.dictionaries(st.sampled_from("pqr"), VALUES, max_size=3)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(CALLS, CALLS, st.sampled_from(FORMATS))
def test_full_accuracy_is_both_scores_and_the_number_of_calls(gold, calls, form):
    example = item(*gold)
    assert grade_calls(example, answer(*gold, form=form)).correct
    grade = grade_calls(example, answer(*calls, form=form))
    assert grade.correct == (len(calls) == len(gold) and set(grade.scores.values()) == {1.0})
    assert len(calls) == len(gold) or grade.scores["argument"] == 0.0


# Negatives


def test_four_kinds_of_mistakes_are_requested_with_the_right_answer_at_hand():
    example = item()
    requests = negative_requests(example)
    assert [request.target for request in requests] == [
        "wrong action",
        "wrong arguments",
        "misread request",
        "extra call",
    ]
    assert len({request.prompt for request in requests}) == 4
    for request in requests:
        assert request.prompt.startswith(example.prompt)
        assert example.demonstration in request.prompt


def test_no_wrong_action_is_requested_where_there_is_only_one_tool():
    requests = negative_requests(item(tools=("findShip",)))
    assert [request.target for request in requests] == ["wrong arguments", "misread request", "extra call"]


REQUEST = NegativeRequest("Write a wrong answer.", "wrong action")
WRONG = [
    [LIST],
    [FIND, FIND],
    [FIND, LIST],
    [Call("findShip", {"name": "Aurora", "year": 1999})],
    [Call("findShip", {"name": "Boreas", "year": 1998})],
    [Call("findShip", {"name": "Aurora"})],
    [Call("bookBerth", FIND.arguments)],
]
NOT_SURELY_WRONG = [
    [FIND],
    [Call("findShip", {"year": 1998, "name": "Aurora"})],
    [Call("findShip", {**FIND.arguments, "flag": "FI"})],
    [Call("findShip", {"name": "Aurora", "year": "1998"})],
    [Call("findShip", {"name": "Aurora", "year": 1998.0})],
    [Call("findShip", {"name": "aurora ", "year": 1998})],
    [Call("findShip", {"Name": "Aurora", "year": 1998})],
    [Call("sinkShip", {"name": "Aurora"})],
    [FIND, Call("sinkShip", {})],
]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("calls", WRONG)
def test_a_wrong_answer_becomes_a_demonstration_like_the_gold(calls, form):
    example = item(form=form)
    for written in FORMATS:
        built = negative(example, REQUEST, f"A wrong answer:\n{answer(*calls, form=written)}\nIt is wrong.")
        assert built == demonstration(calls, form)
        assert not grade_calls(example, built).correct


@pytest.mark.parametrize("calls", NOT_SURELY_WRONG)
def test_what_is_not_surely_wrong_becomes_none(calls):
    for form in FORMATS:
        assert negative(item(), REQUEST, answer(*calls, form=form)) is None


@pytest.mark.parametrize(
    "text",
    ["", "I refuse.", "Action: None", "Action: findShip\nAction Input: the ship Boreas", '[{"name": "findShip", "arg'],
)
def test_what_cannot_be_read_becomes_none(text):
    assert negative(item(), REQUEST, text) is None


def test_another_order_and_another_use_of_optional_calls_are_not_surely_wrong():
    example = item(FIND, Call("listPorts", {}, optional=True), BOOK)
    for calls in ([BOOK, FIND], [BOOK, LIST, FIND], [FIND, BOOK]):
        assert negative(example, REQUEST, answer(*calls)) is None
    assert negative(example, REQUEST, answer(BOOK, LIST)) == answer(BOOK, LIST)
    # The more demanding gold call is matched first, so that the order is no matter.
    example = item(Call("findShip", {}), FIND)
    assert negative(example, REQUEST, answer(FIND, Call("findShip", {}))) is None


@settings(max_examples=200, deadline=None)
@given(CALLS, CALLS, st.sampled_from(FORMATS))
def test_a_negative_is_never_right(gold, calls, form):
    example = item(*gold, form=form)
    built = negative(example, REQUEST, answer(*calls))
    assert built is None or not grade_calls(example, built).correct
    assert negative(example, REQUEST, answer(*gold)) is None


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_no_text_makes_a_negative_raise(text):
    for start in ("", "Action: findShip\nAction Input: {"):
        built = negative(item(), REQUEST, start + text)
        assert built is None or not grade_calls(item(), built).correct


def test_a_task_of_the_family_has_all_of_it():
    assert ToolTask.max_new_tokens == 512
    assert Plain().grade(item(), answer(FIND)).correct
    assert len(Plain().negative_requests(item())) == 4
    assert Plain().negative(item(), REQUEST, answer(LIST)) == answer(LIST)
