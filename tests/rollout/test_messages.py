"""Prompts and template variables as people bring them."""

import pytest
from datasets import Dataset

from unisd.errors import UsageError
from unisd.rollout.messages import checked_tools, checked_variables, messages_of

ASKED = {"role": "user", "content": "q"}


def test_texts_in_parts_are_one_text():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert messages_of([{"role": "user", "content": parts}]) == [{"role": "user", "content": "ab"}]
    with pytest.raises(UsageError, match="only text is supported"):
        messages_of([{"role": "user", "content": [*parts, {"type": "image"}]}])


def test_calls_have_mappings_as_arguments():
    call = {"function": {"name": "f", "arguments": '{"a": 1}'}, "id": None}
    told = {"role": "assistant", "content": None, "tool_calls": [call, {"name": "g", "arguments": "{}"}]}
    (_, made, _) = messages_of([ASKED, told, {"role": "tool", "content": "1"}])
    assert made["content"] == ""
    assert made["tool_calls"] == [{"function": {"name": "f", "arguments": {"a": 1}}}, {"name": "g", "arguments": {}}]
    odd = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": "1 +"}]}
    assert messages_of([odd, ASKED])[0]["tool_calls"] == [{"name": "f", "arguments": "1 +"}]
    assert told["tool_calls"][0]["id"] is None  # what was given stays as it was


def test_calls_may_come_from_a_dataset():
    calls = [[{"name": "f", "arguments": {"a": 1}}], [{"name": "g", "arguments": {"b": 2}}]]
    prompts = [[ASKED, {"role": "assistant", "content": "", "tool_calls": call}, ASKED] for call in calls]
    stored = Dataset.from_list([{"prompt": prompt} for prompt in prompts])
    assert [messages_of(row["prompt"]) for row in stored] == prompts


def test_a_message_to_go_on_with_needs_text():
    assert messages_of([ASKED, {"role": "assistant", "content": "a"}])[-1]["content"] == "a"
    for last in ({"content": " "}, {"content": "a", "tool_calls": [{"name": "f"}]}):
        with pytest.raises(UsageError, match="no text to continue"):
            messages_of([ASKED, {"role": "assistant"} | last])


def test_variables_are_checked():
    assert checked_variables({"enable_thinking": False, "date": None}, "x") == {"enable_thinking": False}
    assert checked_variables({"tools": []}, "x") == {}
    assert checked_variables({"tools": '[{"name": "f"}]'}, "x") == {"tools": [{"name": "f"}]}
    for given in ("no", [1], {1: 2}):
        with pytest.raises(UsageError, match="x: a mapping of names"):
            checked_variables(given, "x")


def test_tools_are_checked():
    def add(a: int) -> int:
        """Add."""
        return a

    stored = {"name": "f", "parameters": {"a": {"type": "int"}, "b": None}}
    assert checked_tools([stored, add], "x") == [{"name": "f", "parameters": {"a": {"type": "int"}}}, add]
    assert checked_tools(['{"name": "f"}'], "x") == [{"name": "f"}]
    for given in ("no JSON", ["no JSON"], {"name": "f"}, [0], [None], 3):
        with pytest.raises(UsageError, match=r"^x: .*(no JSON|list of tools|a tool is)"):
            checked_tools(given, "x")
