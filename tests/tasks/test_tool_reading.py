"""The calls a person would read in an output: a table of outputs, then properties that hold for every string."""

import json
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd.tasks.tool_reading import extract_calls
from unisd.tasks.tools import Call, demonstration

FIND = ("findShip", {"name": "Aurora", "year": 1998})
LIST = ("listPorts", {})
REACT = 'Thought: I look it up.\nAction: findShip\nAction Input: {"name": "Aurora", "year": 1998}'
INPUT = '{"name": "Aurora", "year": 1998}'
CALL = '{"name": "findShip", "arguments": ' + INPUT + "}"
TYPOGRAPHIC = "{“name”: “Aurora”, “year”: 1998}"
PYTHON = 'findShip(name="Aurora", year=1998)'

# Lines with labels, as asked for and with small departures.
LABELLED = [
    (REACT, [FIND]),
    (REACT.replace("\n", "\r\n"), [FIND]),
    (f"Action: findShip\nAction Input: {INPUT}", [FIND]),
    (f"{REACT}\nThought: Now the ports.\nAction: listPorts\nAction Input: {{}}", [FIND, LIST]),
    (f"{REACT}\n\n{REACT}", [FIND, FIND]),
    (f"**Action:** findShip\n**Action Input:** {INPUT}", [FIND]),
    (f"**Action**: `findShip`\n**Action Input**: `{INPUT}`", [FIND]),
    (f"**Action: findShip**\n**Action Input: {INPUT}**", [FIND]),
    (f"action: findShip\naction input: {INPUT}", [FIND]),
    (f"ACTION: findShip\nACTION INPUT: {INPUT}", [FIND]),
    (f"Action: findShip\nAction_Input: {INPUT}", [FIND]),
    (f"Action: findShip\nActionInput: {INPUT}", [FIND]),
    (f"Action : findShip\nAction Input : {INPUT}", [FIND]),
    (f"Action：findShip\nAction Input：{INPUT}", [FIND]),
    (f"Action: findShip\nInput: {INPUT}", [FIND]),
    (f"Action 1: findShip\nAction Input 1: {INPUT}\nAction 2: listPorts\nAction Input 2: {{}}", [FIND, LIST]),
    (f"Action 1: findShip\nAction 1 Input: {INPUT}", [FIND]),
    (f"1. Action: findShip\n   Action Input: {INPUT}\n2. Action: listPorts\n   Action Input: {{}}", [FIND, LIST]),
    (f"- Action: findShip\n- Action Input: {INPUT}", [FIND]),
    (f"### Action: findShip\n### Action Input: {INPUT}", [FIND]),
    (f"> Action: findShip\n> Action Input: {INPUT}", [FIND]),
    (f"Step 1: Action: findShip\nAction Input: {INPUT}", [FIND]),
    (f"Action:\nfindShip\nAction Input:\n{INPUT}", [FIND]),
    (f"Thought: I look it up. Action: findShip Action Input: {INPUT}", [FIND]),
    (f"action: findShip, action input: {INPUT}", [FIND]),
    (f"Action: findShip | Action Input: {INPUT}", [FIND]),
    (f"Thought: I look it up. Action: findShip\nAction Input: {INPUT}", [FIND]),
    (f"```\nAction: findShip\nAction Input: {INPUT}\n```", [FIND]),
    # the name
    (f"Action: `findShip`\nAction Input: {INPUT}", [FIND]),
    (f'Action: "findShip"\nAction Input: {INPUT}', [FIND]),
    (f"Action: [findShip]\nAction Input: {INPUT}", [FIND]),
    (f"Action: findShip()\nAction Input: {INPUT}", [FIND]),
    (f"Action: findShip.\nAction Input: {INPUT}", [FIND]),
    (f"Action: Use the `findShip` tool\nAction Input: {INPUT}", [FIND]),
    (f"Action: findShip (to look the ship up)\nAction Input: {INPUT}", [FIND]),
    (f"Action: findShip - look the ship up\nAction Input: {INPUT}", [FIND]),
    ("Action: 3d_render\nAction Input: {}", [("3d_render", {})]),
    ("Action: ns::go\nAction Input: {}", [("ns::go", {})]),
    ("Action: 3\nAction Input: {}", None),
    (f"Action: [Optional]findShip\nAction Input: {INPUT}", [FIND]),
    ("Action: ports\\_list\\_get\nAction Input: {}", [("ports_list_get", {})]),
    ("Action: preferred-routes_get\nAction Input: {}", [("preferred-routes_get", {})]),
    ("Action: tags\nAction Input: {}", [("tags", {})]),
    # no input
    ("Action: listPorts", [LIST]),
    ("Action: listPorts\nAction Input:", [LIST]),
    ("Action: listPorts\nAction Input: None", [LIST]),
    ("Action: listPorts\nAction Input: N/A", [LIST]),
    ("Action: listPorts\nAction Input: (none)", [LIST]),
    ("Action: listPorts\nAction Input: No input required.", [LIST]),
    ("Action: listPorts\nAction Input: Not required", [LIST]),
    ("Action: listPorts\nAction Input: null\nObservation: []", [LIST]),
    ("Action: listPorts\nAction Input: {}\n\nThis returns all ports.", [LIST]),
    ("Action: listPorts\nAction Input:\n\nThis returns all ports.", [LIST]),
    ("Action: listPorts()", [LIST]),
    ("Action: listPorts\nObservation: []\nThought: There are none.", [LIST]),
    ("Action: listPorts\nThought: It needs nothing.\nAction Input: {}", [LIST]),
    # the input
    (f"Action: findShip\nAction Input: {INPUT} which gives the ship.", [FIND]),
    (f"Action: findShip\nAction Input: {INPUT}\n\nI hope that helps! {{Let me know}}", [FIND]),
    (f"Action: findShip\nAction Input: Here it is: {INPUT}", [FIND]),
    ('Action: findShip\nAction Input: {\n  "name": "Aurora",\n  "year": 1998\n}', [FIND]),
    (f"Action: findShip\nAction Input:\n```json\n{INPUT}\n```", [FIND]),
    (f"Action: findShip\nAction Input: ```{INPUT}```", [FIND]),
    ('Action: findShip\nAction Input: {"name": "Aurora", "year": 1998,}', [FIND]),
    ("Action: findShip\nAction Input: {'name': 'Aurora', 'year': 1998}", [FIND]),
    ('Action: findShip\nAction Input: {name: "Aurora", year: 1998}', [FIND]),
    ('Action: findShip\nAction Input: {"name": "Aurora", "year": 1998 // the year\n}', [FIND]),
    ('Action: findShip\nAction Input: {"name": "Aurora", # its name\n"year": 1998 # the year\n}', [FIND]),
    ('Action: findShip\nAction Input: {"name": "Aurora", "year": 1998', [FIND]),
    ('Action: findShip\nAction Input: "name": "Aurora", "year": 1998', [FIND]),
    (f'Action: findShip\nAction Input: "{INPUT}"', [FIND]),
    ("Action: findShip\nAction Input: " + json.dumps(INPUT), [FIND]),
    (f"Action: findShip\nAction Input: [{INPUT}]", [FIND]),
    ('Action: findShip(name="Aurora", year=1998)', [FIND]),
    (f"Action: findShip({INPUT})", [FIND]),
    (
        "Action: a_b\nAction Input: {'x': True, 'y': None, 'z': [1, 2.5], 'w': 'it\\'s \"so\"'}",
        [("a_b", {"x": True, "y": None, "z": [1, 2.5], "w": 'it\'s "so"'})],
    ),
    ('Action: a_b\nAction Input: {"x": "two\nlines", "y": "C:\\dir"}', [("a_b", {"x": "two\nlines", "y": "C:\\dir"})]),
    ('Action: a_b\nAction Input: {"x": "\\u00e9 \\n"}', [("a_b", {"x": "é \n"})]),
    ('Action: a_b\nAction Input: {"x": {"y": [{"z": -1e3}]}}', [("a_b", {"x": {"y": [{"z": -1000.0}]}})]),
    (
        'Action: a_b\nAction Input: {"x": "Action: none, http://a.b//c"}',
        [("a_b", {"x": "Action: none, http://a.b//c"})],
    ),
    # what is no object is kept apart from every argument
    ("Action: findShip\nAction Input: the Aurora", [("findShip", {"": "the Aurora"})]),
    ('Action: findShip\nAction Input: {"name": "Auro', [("findShip", {"": '{"name": "Auro'})]),
    (
        'Action: findShip\nAction Input: {"year": ${year from listPorts}}',
        [("findShip", {"": '{"year": ${year from listPorts}}'})],
    ),
    ('Action: findShip\nAction Input:\nname: "Aurora",\nyear: 1998', [FIND]),
    ('Action: findShip\nAction Input:\nname: "Aurora"\nyear: 1998\n\nThis finds the ship.', [FIND]),
    ("Action: findShip\nAction Input:\n- name: Aurora\n- year: 1998", [FIND]),
    ("Action: findShip\nAction Input:\n* **name**: Aurora,\n* `year`: `1998`", [FIND]),
    ("Action: findShip\nAction Input: name=Aurora, year=1998", [FIND]),
    ("Action: a_b\nAction Input: day: 2024-01-02", [("a_b", {"day": "2024-01-02"})]),
    ("Action: a_b\nAction Input:\nAurora", [("a_b", {"": "Aurora"})]),
    ("Action: a_b\nAction Input:\nNone", [("a_b", {})]),
    ("Action: a_b\nAction Input: http://a.b", [("a_b", {"": "http://a.b"})]),
    ('Action: a_b\nAction Input: x: "1', [("a_b", {"": 'x: "1'})]),
    # an input without its label
    (f"Action: findShip\n{INPUT}", [FIND]),
    (f"Action: findShip()\n{INPUT}\nObservation: none", [FIND]),
    (f"Action: findShip\n```json\n{INPUT}\n```\nThis finds the ship.", [FIND]),
    ('Action: findShip\nname: "Aurora",\nyear: 1998', [FIND]),
    (f"Action: findShip (to look it up)\n{INPUT}", [FIND]),
    (f"Action: find {INPUT}", [("find", FIND[1])]),
    (f"Action: find[{INPUT}]", [("find", FIND[1])]),
    (f"Action: findShip({INPUT[:-1]},\n}})", [FIND]),
    ('Action: findShip(name="Aurora",\n  year=1998)', [FIND]),
    (f"Action: findShip\n{INPUT}\nAction Input: None", [FIND]),
    (f'Action: findShip\n{{"x": 1}}\nAction Input: {INPUT}', [FIND]),
    ("Action: listPorts\nThis returns all [or most] ports.", [LIST]),
    # markup in texts is text
    (
        'Action: a_b\nAction Input: {"x": "Dear all,\nInput: x\nAction: go\nQuestion: why?\nbye"}',
        [("a_b", {"x": "Dear all,\nInput: x\nAction: go\nQuestion: why?\nbye"})],
    ),
    ('Action: a_b\nAction Input: {"x": "```py\n1\n```"}', [("a_b", {"x": "```py\n1\n```"})]),
    ('Action: a_b\nAction Input:\n```json\n{"x": "```a```"}\n```', [("a_b", {"x": "```a```"})]),
    ('Action: a_b\nAction Input: {"x": "</think>"}', [("a_b", {"x": "</think>"})]),
    ('<think>Hm.</think>Action: a_b\nAction Input: {"x": "</think>"}', [("a_b", {"x": "</think>"})]),
    ('Action: a_b\nAction Input: {"x": "<s>hello"}<|im_end|>\nAction: listPorts', [("a_b", {"x": "<s>hello"})]),
    (
        'Action: a_b\nAction Input: {"x": "Say. Action: go Action Input: {}"}',
        [("a_b", {"x": "Say. Action: go Action Input: {}"})],
    ),
    ('Action: a_b\nAction Input:\n{\nuser: "bob",\naction: "like"\n}', [("a_b", {"user": "bob", "action": "like"})]),
    # typographic quotes
    (f"Action: findShip\nAction Input: {TYPOGRAPHIC}", [FIND]),
    ('Action: a_b\nAction Input: {"x": “so \\n "it" is”}', [("a_b", {"x": 'so \n "it" is'})]),
    # JSON below the label
    (f"Action:\n```json\n{CALL}\n```", [FIND]),
    (f"Thought: I look it up.\nAction: {CALL}", [FIND]),
    (f'Action:\n```\n{{"action": "findShip", "action_input": {INPUT}}}\n```\nObservation: none', [FIND]),
]

# Where an answer ends, and what is no part of it.
BOUNDS = [
    # every action counts, also after an invented observation, and a repeated one
    (
        f'{REACT}\nObservation: {{"id": 7}}\nThought: Now the ports.\nAction: listPorts\nAction Input: {{}}',
        [FIND, LIST],
    ),
    (f'{REACT}\nObservation: {{"error": "none"}}\n{REACT}', [FIND, FIND]),
    (f"{REACT}\nObservation: {CALL}", [FIND]),
    (f"{REACT}\nThought: I know it now.\nFinal Answer: The Aurora.\nAction: listPorts\nAction Input: {{}}", [FIND]),
    (f"{REACT}\nAction: Finish\nAction Input: {{}}", [FIND]),
    (f"{REACT}\nAction: None\nAction Input: None", [FIND]),
    (f"{REACT}\n\nQuestion: Which ports are there?\nThought: Ports.\nAction: listPorts\nAction Input: {{}}", [FIND]),
    (f"{REACT}<|im_end|>\n<|im_start|>user\nAnd the ports?<|im_end|>\nAction: listPorts", [FIND]),
    (f"{REACT}<|eot_id|>Action: listPorts", [FIND]),
    (f"{REACT}</s> Action: listPorts", [FIND]),
    (f"{REACT}\nUser: And the ports?\nAction: listPorts", [FIND]),
    (f"<|im_start|>assistant\n{REACT}", [FIND]),
    (f"<|start_header_id|>assistant<|end_header_id|>\n\n{REACT}<|eot_id|>", [FIND]),
    (f"Question: Where is the Aurora?\n{REACT}", [FIND]),
    (f"Use the following format:\nAction: the action to take\n\nBegin!\nQuestion: Where is it?\n{REACT}", [FIND]),
    ("I cannot do that.\nQuestion: Which ports are there?\nAction: listPorts\nAction Input: {}", None),
    (f"<think>Perhaps Action: listPorts\nAction: listPorts\n</think>\n{REACT}", [FIND]),
    (f"Perhaps.\nAction: listPorts\n</think>\n\n{REACT}", [FIND]),
    (f"<think>I look it up.\n{REACT}", None),
    (f"<think>{REACT}</think>", None),
    (f"<think>{REACT}</think>I cannot do that.", None),
    (f"Thought: The next action: look it up.\n{REACT}", [FIND]),
    (f"Thought: I should use Action: listPorts, then find it.\n{REACT}", [FIND]),
    (f"Action: I will look for the ship first.\n{REACT}", [FIND]),
    (f"Action: Search for the ship\nAction Input: {INPUT}\n{REACT}", [FIND]),
    (f"Action Input: {INPUT}", None),
    ("", None),
    ("The Aurora was built in 1998.", None),
    ("Thought: I do not need a tool.\nFinal Answer: 1998", None),
    ("Action: None\nAction Input: None", None),
    ("Action: N/A", None),
    ("Action:", None),
    ("Action: the action to take, should be one of the tool names.\nAction Input: the input to the action", None),
    ("The best course of action: wait.", None),
]

# JSON.
JSON = [
    (CALL, [FIND]),
    (f"[{CALL}]", [FIND]),
    (f'[{CALL}, {{"name": "listPorts", "arguments": {{}}}}]', [FIND, LIST]),
    (f'{CALL}\n{{"name": "listPorts", "arguments": {{}}}}', [FIND, LIST]),
    (f"```json\n[{CALL}]\n```", [FIND]),
    (f"```\n{CALL}\n```\nThis finds the ship.", [FIND]),
    (f"Here are the calls:\n\n[{CALL}]\n\nI hope that helps [or not].", [FIND]),
    (f'I could use {{"name": "listPorts", "arguments": {{}}}}, but no:\n```json\n{CALL}\n```', [FIND]),
    (f"[sic] {{not JSON}} {CALL}", [FIND]),
    (f"<tool_call>\n{CALL}\n</tool_call>", [FIND]),
    (f'<tool_call>{CALL}</tool_call>\n<tool_call>{{"name": "listPorts"}}</tool_call>', [FIND, LIST]),
    (f'{{"name": "listPorts", "arguments": {{}}}} fits, so: <tool_call>{CALL}', [FIND]),
    (f"[TOOL_CALLS][{CALL}]", [FIND]),
    (f'{{"action": "findShip", "action_input": {INPUT}}}', [FIND]),
    (f'{{"tool": "findShip", "parameters": {INPUT}}}', [FIND]),
    (f'{{"tool": "findShip", "parameter": {INPUT}}}', [FIND]),
    (f'{{"tool_name": "findShip", "tool_input": {INPUT}}}', [FIND]),
    (f'{{"Thought": "I look.", "Action": "findShip", "Action_Input": {INPUT}}}', [FIND]),
    (f'{{"tool_calls": [{{"Action": "findShip", "Action_Input": {INPUT}}}]}}', [FIND]),
    (f'{{"function": "findShip", "args": {INPUT}}}', [FIND]),
    (f'{{"function_call": {{"name": "findShip", "arguments": {json.dumps(INPUT)}}}}}', [FIND]),
    (
        '{"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function", '
        f'"function": {{"name": "findShip", "arguments": {json.dumps(INPUT)}}}}}]}}',
        [FIND],
    ),
    ('{"name": "listPorts"}', [LIST]),
    ('[{"name": "listPorts", "arguments": null}]', [LIST]),
    ('[{"name": "listPorts", "arguments": ""}]', [LIST]),
    ('[{"name": "listPorts()", "arguments": "{}"}]', [LIST]),
    ('{"action": "listPorts"}', [LIST]),
    ("[{'name': 'findShip', 'arguments': {'name': 'Aurora', 'year': 1998,},},]", [FIND]),
    (CALL[:-1], [FIND]),
    (f"[{CALL}", [FIND]),
    (f"<|im_start|>assistant\n[{CALL}]<|im_end|>", [FIND]),
    (f'[{CALL}]\nQuestion: And the ports?\n[{{"name": "listPorts", "arguments": {{}}}}]', [FIND]),
    (f'<think>[{{"name": "listPorts", "arguments": {{}}}}]</think>[{CALL}]', [FIND]),
    (f"Final Answer: [{CALL}]", [FIND]),
    ('[{"name": "a_b", "arguments": [1]}]', [("a_b", {"": [1]})]),
    ('[{"name": "a_b", "arguments": "Aurora"}]', [("a_b", {"": "Aurora"})]),
    (INPUT, None),
    ('{"name": "Aurora", "ports": []}', None),
    ('{"name": "one of the tool names", "arguments": {"parameter": "value"}}', None),
    ('{"action": "Final Answer", "action_input": "1998"}', None),
    ('{"name": "", "arguments": {}}', None),
    ('{"name": 7, "arguments": {}}', None),
    ("[]", None),
    ("[[1, 2], {}]", None),
    ('{"name": "findShip", "arguments": {"name": "Auro', None),
]

# What chat models are trained to write.
TAGGED = """<tool_call>
<function=findShip>
<parameter=name>
Aurora
</parameter>
<parameter=year>
1998
</parameter>
</function>
</tool_call>"""
NAMED = (
    '<invoke name="findShip"><parameter name="name">Aurora</parameter><parameter name="year">1998</parameter></invoke>'
)
NATIVE = [
    (f"[{PYTHON}]", [FIND]),
    (f"[{PYTHON}, listPorts()]", [FIND, LIST]),
    (f"{PYTHON}\nlistPorts()", [FIND, LIST]),
    (f"Here it is:\n[{PYTHON}]<|eot_id|>", [FIND]),
    (f"<|python_tag|>{PYTHON}<|eom_id|>", [FIND]),
    (f"<|python_tag|>{CALL}", [FIND]),
    (f"```tool_code\n{PYTHON}\n```", [FIND]),
    (f"```tool_code\nprint({PYTHON})\n```", [FIND]),
    ('[a_b(x={"name": "c"}, y=[1, True])]', [("a_b", {"x": {"name": "c"}, "y": [1, True]})]),
    ("listPorts() gives all ports, findShip(year=1998) one.", None),
    ("Use both, listPorts(), listPorts()", None),
    ("def find(name):\n    return name", None),
    ("print(x=1)", None),
    (f"<function=findShip>{INPUT}</function>", [FIND]),
    (f"<function=findShip>{INPUT}</function>\n<function=listPorts></function>", [FIND, LIST]),
    (TAGGED, [FIND]),
    (NAMED, [FIND]),
    ('<function=a_b>{"name": "c", "x": "</function>"}</function>', [("a_b", {"name": "c", "x": "</function>"})]),
    ('{"name": "a_b", "arguments": {"x": "<function=c>"}}', [("a_b", {"x": "<function=c>"})]),
    (
        '[{"name": "a_b", "arguments": {"x": "```a```\nc(x=1)\n<tool_call>"}}]',
        [("a_b", {"x": "```a```\nc(x=1)\n<tool_call>"})],
    ),
]


def read(text: str) -> list | None:
    calls = extract_calls(text)
    return None if calls is None else [(call.name, call.arguments) for call in calls]


@pytest.mark.parametrize(("text", "expected"), LABELLED + BOUNDS + JSON + NATIVE)
def test_a_person_would_read(text, expected):
    assert read(text) == expected


def test_the_types_of_values_are_kept():
    (call,) = extract_calls(
        'Action: a_b\nAction Input: {"a": 1, "b": 1.0, "c": true, "d": "1", "e": NaN, "f": -Infinity}'
    )
    assert [type(value) for value in call.arguments.values()] == [int, float, bool, str, float, float]
    assert math.isnan(call.arguments["e"])
    assert call.arguments["f"] == -math.inf


HOSTILE = [
    "[" * 100_000,
    '{"a":' * 100_000,
    "Action: a_b\nAction Input: " + '{"a":' * 50_000,
    "Action: a_b\nAction Input: " + "[" * 50_000 + "]" * 50_000,
    'Action: a_b\nAction Input: {"a": ' + "9" * 5_000 + "}",
    '[{"name": "a_b", "arguments": {"a": ' + "9" * 100_000 + "}}]",
    'Action: a_b\nAction Input: {"a": 1e999}',
    '{"name": "\ud800", "arguments": "\udfff"}',
    'Action: a_b\nAction Input: {"a": "\\ud800 \ud800"}',
    "Action: a\x00_b\nAction Input: {\x00}",
    "\x00" * 1000,
    "```" * 1001,
    "Action: a_b(" * 500,
    "Action: " + "x" * 100_000,
    "Action Input: {" * 1000,
    '"' + "\\" * 10_001,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_do_not_raise(text):
    calls = extract_calls(text)
    assert calls is None or all(call.name for call in calls)


def test_nesting_that_is_too_deep_and_integers_that_are_too_long_are_unreadable():
    for text in HOSTILE[2:5]:
        (call,) = extract_calls(text)
        assert list(call.arguments) == [""]


PIECES = [
    "Action:", "\nAction: ", "\nAction Input: ", "Action Input:", "\nThought: ", "\nObservation: ", "\nFinal Answer: ",
    "\nQuestion: ", "findShip", "a_b()", '{"name": "', '"arguments": ', "{", "}", "[", "]", ",", ":", '"', "'", "\\",
    "```", "```json\n", "<tool_call>", "</think>", "<think>", "None", "true", "1", "-", ".", "9" * 20, " ", "\n", "(",
    ")", "=", "//", "**", "`", "\x00", "\ud800", "é", "<|im_end|>",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=40).map("".join)))
def test_no_text_raises(text):
    calls = extract_calls(text)
    assert calls is None or (calls and all(isinstance(call.arguments, dict) and call.name for call in calls))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.lists(st.sampled_from([piece for piece in PIECES if "\ud800" not in piece]), max_size=6).map("".join),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(st.from_regex(r"[a-z]{1,8}(_[a-z]{1,4})?", fullmatch=True), VALUES, max_size=4)
NAMES = st.from_regex(r"[a-z]{1,8}[A-Z_][a-z]{1,8}", fullmatch=True)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(NAMES, ARGUMENTS), min_size=1, max_size=4), st.sampled_from(["react", "json"]))
def test_what_is_written_is_read_again(calls, form):
    written = demonstration([Call(name, arguments) for name, arguments in calls], form)
    assert read(written) == calls
    assert read(f"{written}\nQuestion: And then?\n{written}") == calls


@pytest.mark.parametrize(
    "piece",
    [
        *PIECES,
        REACT + "\n",
        CALL,
        '{"a": "',
        "{'a': ",
        "[1, ",
        "  ",
        "* ",
        "<function=a>",
        "f(",
        "f(),",
        "{“",
        "- a: b\n",
        '{"\\"',
        "Action: a (",
        "x ",
    ],
)
def test_reading_takes_time_in_proportion_to_length(piece):
    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        best = math.inf
        for _ in range(2):
            start = time.process_time()
            extract_calls(text)
            best = min(best, time.process_time() - start)
        return best

    # Eight times the length: a quadratic reader takes 64 times as long.
    assert seconds(32_000) < 25 * seconds(4_000) + 0.05
