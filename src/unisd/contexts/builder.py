"""What a teacher's prompt looks like: one builder for every prompt of a run, of the student and of the teacher.

Two prompts differ only where their contexts differ: gold and negative share their words, and the question stands in
every teacher prompt.
"""

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Literal, get_args

from transformers import PreTrainedTokenizerBase

from unisd.contexts import registry
from unisd.contexts.base import Context, Words
from unisd.errors import UsageError
from unisd.rollout.chat import Chat, Prompt, messages_of

Layout = Literal["paper", "turn", "system"]
"""Where a context stands in the teacher's prompt: see :meth:`PromptBuilder.teacher_ids`."""


class PromptBuilder(Chat):
    """Turns prompts and contexts into token ids with the model's own chat template (see :class:`Chat`).

    Args:
        tokenizer: the model's.
        layout: where contexts stand.
        words: templates that replace a kind's own, by kind and name: ``{"gold": {"after": "See: {text}"}}``.

    Example:
        >>> builder = PromptBuilder(tokenizer, "turn")  # doctest: +SKIP
        >>> builder.teacher_ids("2 + 2?", Context("gold", "2 and 2 make 4."))  # doctest: +SKIP

    Raises:
        UsageError: an unknown layout, words that cannot be used, or several chat templates and no default.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, layout: Layout, words: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        if layout not in get_args(Layout):
            raise UsageError(f"unknown layout {layout!r}; choose one of {', '.join(get_args(Layout))}")
        self.layout: Layout = layout
        self._words = _read_words(words or {})
        super().__init__(tokenizer)

    def teacher_ids(self, prompt: Prompt, context: Context) -> list[int]:
        """Return the token ids of ``prompt`` seen together with ``context``, in this builder's layout.

        * ``paper``: the context follows the question inside the last user turn.
        * ``turn``: the context is an earlier exchange. About this very question it stands right before the last user
          turn, which is then asked again; else it opens the conversation.
        * ``system``: a leading block with the context, then exactly the student's ids (less a second opening token).

        Raises:
            UsageError: the prompt is malformed, or the chat template refuses the messages.
        """
        messages, words = messages_of(prompt), self._words_of(context.kind)
        last = max(index for index, message in enumerate(messages) if message["role"] == "user")
        question = messages[last]["content"]
        if self.layout == "system":
            return self._behind_block(_filled(words.before, context, question), messages)
        if self.layout == "paper":
            messages[last]["content"] = f"{question}\n\n{_filled(words.after, context, question)}"
        else:
            start = 1 if messages[0]["role"] in ("system", "developer") else 0
            at = last if registry.get(context.kind).about == "item" else start
            asked = _filled(words.asked, context, question)
            messages[at:at] = [{"role": "user", "content": asked}, {"role": "assistant", "content": context.text}]
        return self.ids(messages)

    def _words_of(self, kind: str) -> Words:
        own = registry.get(kind).words
        return self._words_of(own) if isinstance(own, str) else self._words.get(kind, own)

    def _behind_block(self, shown: str, messages: list[dict[str, Any]]) -> list[int]:
        student = self.ids(messages)
        block = self.ids([{"role": self.block_role, "content": shown}], reply=False)
        if self.opening_id is not None and student[:1] == [self.opening_id]:
            student = student[1:]
            block = block if block[:1] == [self.opening_id] else [self.opening_id, *block]
        return block + student


def _read_words(given: Mapping[str, Mapping[str, str]]) -> dict[str, Words]:
    """Return the words of each kind for which some are given; templates left out stay the kind's own.

    Raises:
        UsageError: an unknown kind or template, one that shows nothing, or a kind that has the words of another.
    """
    names = [template.name for template in fields(Words)]
    chosen: dict[str, Words] = {}
    for kind, templates in given.items():
        own, place = registry.get(kind).words, f"contexts.words.{kind}"
        if isinstance(own, str):
            raise UsageError(f"{place}: contexts of this kind share the words of '{own}'; set contexts.words.{own}")
        if not isinstance(templates, Mapping):
            raise UsageError(f"{place}: templates by name were expected ({', '.join(names)}), not {templates!r}")
        for name, template in templates.items():
            if name not in names:
                raise UsageError(f"{place}: there is no template '{name}'; choose one of {', '.join(names)}")
            if not isinstance(template, str) or ("{text}" not in template if name != "asked" else not template.strip()):
                needed = "text" if name == "asked" else "text with {text} where the context is to stand"
                raise UsageError(f"{place}.{name}: write {needed}, not {template!r}")
        chosen[kind] = replace(own, **templates)
    return chosen


def _filled(template: str, context: Context, question: str) -> str:
    """Return ``template`` with its placeholders filled; other braces, and those of the values, stay as they are."""
    values = {"text": context.text, "question": context.question or question}
    return re.sub(r"\{(text|question)\}", lambda found: values[found[1]], template)
