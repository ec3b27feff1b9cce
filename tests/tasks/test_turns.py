"""A reply falls into turns the same way for every reader; nothing makes that slow or raise."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd.tasks.turns import QUESTIONS, THOUGHT, closes, graded_part, reply_of, turns


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one turn", ["one turn"]),
        ("", []),
        ("one<|im_end|>\n<|im_start|>user\nmore?<|im_end|>\n<|im_start|>assistant\ntwo", ["one", "two"]),
        ("<|im_start|>user\nasked", ["asked"]),
        ("<|start_header_id|>assistant<|end_header_id|>\n\none<|eot_id|>", ["\n\none"]),
        ("one<｜end▁of▁sentence｜>", ["one"]),
        ("[INST] asked [/INST] one</s>", [" one"]),
        ("one<end_of_turn>\n<start_of_turn>user\nmore?", ["one"]),
        ("print('<s>' + x + '</s>')", ["print('<s>' + x + '</s>')"]),
        ("look: <|python_tag|>f()", ["look: <|python_tag|>f()"]),
        ("one\nQuestion 2: more?\ntwo", ["one\n", " more?\ntwo"]),
        ("one\n**User**: two", ["one\n", " two"]),
        ("<think>perhaps</think>one", ["one"]),
        ("<think>perhaps</think>", []),
        ("<reasoning>perhaps</reasoning>\none", ["\none"]),
        ("one<think>cut", ["one"]),
        ("<think>cut", []),
        ("a\r\nb\rc", ["a\nb\nc"]),
    ],
)
def test_a_reply_falls_into_turns(text, said):
    assert list(turns(text)) == said


def test_readers_choose_labels_and_what_is_no_markup():
    assert list(turns("q: x\nHuman: y", QUESTIONS)) == ["q: x\n", " y"]
    assert list(turns("Question: x", labels="")) == ["Question: x"]
    assert list(turns("<think>perhaps</think>one<think>cut")) == ["one"]
    quoted = '{"x": "</think>"} one'
    assert list(turns(quoted, masked=lambda text: text.replace('"</think>"', " " * 10))) == [quoted]


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("one", "one"),
        ("<think>perhaps</think>one", "one"),
        ("\n<think>\nperhaps\n</think>\n\none", "\n\none"),
        ("<think>a</think> <think>b</think>one", "one"),
        ("<think>\n\n</think>\n\none", "\n\none"),
        ("<think>cut, Answer: A", ""),
        ("<think>a</think><think>cut", ""),
        ("perhaps\n</think>\none", "\none"),  # the prompt opened it
        ("</think>one", "one"),
        ('call {"x": "</think>"}', 'call {"x": "</think>"}'),  # words of a reply
        ('<think>Hm.</think>{"x": "</think>"}', '{"x": "</think>"}'),
        ("one <think>cut", "one <think>cut"),
        ("[THINK]perhaps[/THINK]one", "one"),
        ("◁think▷perhaps◁/think▷one", "one"),
        ("<|START_THINKING|>perhaps<|END_THINKING|>one", "one"),
        ("<|begin_of_thought|>perhaps<|end_of_thought|>one", "one"),
        ("<|think_start|>perhaps<|think_end|>one", "one"),
        ("<think_on>perhaps<think_off>one", "one"),
        ("<seed:think>perhaps</seed:think>one", "one"),
        ("<THINKING>perhaps</THINKING>one", "one"),
    ],
)
def test_thoughts_at_the_beginning_are_no_part_of_the_reply(text, reply):
    assert reply_of(text) == graded_part(text) == reply
    assert THOUGHT.sub("", graded_part(text, "keep")) == graded_part(text, "keep")


def test_marks_open_or_close():
    assert [closes(mark) for mark in ("<think>", "</think>", "[THINK]", "[/THINK]", "<|END_THINKING|>")] == [
        0,
        1,
    ] * 2 + [1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", "\n", "<think>", "</think>", "<|user|>", "</s>", "Q:", "[INST]", "é", "\0"])))
def test_no_turn_is_blank_and_none_is_invented(pieces):
    text = "".join(pieces)
    for turn in turns(text):
        assert turn.strip()
        assert set(turn) <= {*text, "\n"}


@pytest.mark.parametrize("piece", ["<think>", "</think>", "<|im_end|>", "Q:\n", "[INST]", "</s>", "\n", " ", "#"])
def test_time_grows_with_the_length_of_the_text(piece):
    start = time.perf_counter()
    list(turns(piece * (100_000 // len(piece))))
    reply_of(piece * (100_000 // len(piece)))
    assert time.perf_counter() - start < 2
