"""A reply falls into turns the same way for every reader; nothing makes that slow or raise."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd.tasks.turns import QUESTIONS, turns


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
        ("<think>perhaps</think>one", ["one", "\nperhaps\none"]),
        ("<think>perhaps</think>", ["\nperhaps\n"]),
        ("<reasoning>perhaps</reasoning>\none", ["\none", "\nperhaps\n\none"]),
        ("one<think>cut", ["one", "one\ncut"]),
        ("<think>cut", ["\ncut"]),
        ("a\r\nb\rc", ["a\nb\nc"]),
    ],
)
def test_a_reply_falls_into_turns(text, said):
    assert list(turns(text)) == said


def test_readers_choose_labels_thoughts_and_what_is_no_markup():
    assert list(turns("q: x\nHuman: y", QUESTIONS)) == ["q: x\n", " y"]
    assert list(turns("Question: x", labels="")) == ["Question: x"]
    assert list(turns("<think>perhaps</think>one<think>cut", thoughts=False)) == ["one"]
    quoted = '{"x": "</think>"} one'
    assert list(turns(quoted, masked=lambda text: text.replace('"</think>"', " " * 10))) == [quoted]


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
    assert time.perf_counter() - start < 2
