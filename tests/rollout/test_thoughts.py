"""Texts in which thoughts can be told from the reply, whatever marks them."""

import pytest

import tiny
from rollout.templates import FAMILIES, Family
from unisd.rollout.thoughts import readable
from unisd.tasks.turns import reply_of


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>2<|return|>", "Hm.|2"),
        ("<|channel|>final<|message|>2<|return|>", "|2"),
        ("<|channel|>analysis<|message|>Hm. It", "Hm. It|"),  # cut by the limit
        (
            "<|channel|>commentary to=functions.f<|message|>{}<|call|>",
            '|<tool_call>{"name": "f", "arguments": {}}</tool_call>',
        ),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>", "ab|"),
        ("plain 2", "|plain 2"),
    ],
)
def test_channels(written, text):
    tokenizer = FAMILIES["gpt-oss"].tokenizer()
    read = readable(tokenizer, ids(tokenizer, written))
    thought, _, reply = text.partition("|")
    assert reply_of(read) == reply
    assert read.replace("<think>", "").replace("</think>", "") == thought + reply


def test_special_tokens_that_mark_thoughts_stay():
    tokenizer = Family("{{ messages[0].content }}", "</s> [THINK] [/THINK] [INST]").tokenizer()
    assert readable(tokenizer, ids(tokenizer, "[THINK]Hm.[/THINK]2[INST]</s>")) == "[THINK]Hm.[/THINK]2"
    assert readable(tokenizer, ids(tokenizer, "2[INST]</s>")) == "2"


def test_other_texts_are_what_the_tokenizer_says():
    tokenizer = tiny.tokenizer()
    tokens = ids(tokenizer, "One.<|im_end|> <think>Two.<|im_start|>")
    assert readable(tokenizer, tokens) == tokenizer.decode(tokens, skip_special_tokens=True) == "One. <think>Two."
    assert readable(tokenizer, []) == ""
