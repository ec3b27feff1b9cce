"""Marks of thoughts in prompts and in what was written: what tells them from the reply."""

from collections.abc import Sequence
from typing import Any

from unisd.tasks.turns import THOUGHT, messages

END = 32
"""Tokens at the end of a prompt among which the mark of a thought is looked for."""


def readable(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the text of a completion without special tokens, but for those that mark thoughts.

    What stands in an analysis channel (harmony format) comes as ``<think>…</think>``, and a message to a tool as
    ``<tool_call>…</tool_call>``.
    """
    plain = str(tokenizer.decode(ids, skip_special_tokens=True))
    special = {int(token): str(tokenizer.decode([token])) for token in {*ids} & {*tokenizer.all_special_ids}}
    channels = "<|channel|>" in special.values() and "<|message|>" in special.values()
    if not channels and not any(THOUGHT.fullmatch(name) for name in special.values()):
        return plain
    text = str(tokenizer.decode(ids, skip_special_tokens=False))
    if channels:
        text = messages(text)
    for name in special.values():
        text = text if THOUGHT.fullmatch(name) else text.replace(name, "")
    return text


def last_mark(text: str) -> str:
    """Return the mark of a thought that stands at the very end of a text, white space aside; or nothing."""
    end = text[-END * 8 :].rstrip()
    return next((mark[0] for mark in THOUGHT.finditer(end) if mark.end() == len(end)), "")


def closing(mark: str) -> str:
    """Return the mark that closes the thought which another opens."""
    for begin, end in (("start", "end"), ("START", "END"), ("begin", "end"), ("BEGIN", "END"), ("_on", "_off")):
        if begin in mark:
            return mark.replace(begin, end)
    return f"{mark[0]}/{mark[1:]}"
