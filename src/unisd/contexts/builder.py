"""What a teacher's prompt looks like: one builder for every prompt of a run, of the student and of the teacher.

Two prompts differ only where their contexts differ: gold and negative share their words, and the question stands in
every teacher prompt.
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Literal, get_args

from transformers import PreTrainedTokenizerBase

from unisd.contexts import registry
from unisd.contexts.base import Context, Words
from unisd.errors import UsageError, warn_once
from unisd.rollout.chat import MARK, Chat, Prompt, SystemTurn, Variables, tried
from unisd.rollout.messages import checked_variables

Layout = Literal["paper", "turn", "system"]
"""Where a context stands in the teacher's prompt: see :meth:`PromptBuilder.teacher_ids`."""


class PromptBuilder(Chat):
    """Turns prompts and contexts into token ids with the model's own chat template (see :class:`Chat`).

    Args:
        tokenizer: the model's.
        layout: where contexts stand.
        words: templates that replace a kind's own, by kind and name: ``{"gold": {"after": "See: {text}"}}``.
        template_kwargs: what the chat template reads beside the messages (``enable_thinking``, say).
        teacher_template_kwargs: laid over them in the teacher's prompts.

    Example:
        >>> builder = PromptBuilder(tokenizer, "turn")  # doctest: +SKIP
        >>> builder.teacher_ids("2 + 2?", Context("gold", "2 and 2 make 4."))  # doctest: +SKIP

    Raises:
        UsageError: an unknown layout, words or template variables that cannot be used, or several chat templates and no
            default.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        layout: Layout,
        words: Mapping[str, Mapping[str, str]] | None = None,
        template_kwargs: Variables | None = None,
        teacher_template_kwargs: Variables | None = None,
    ) -> None:
        self._words = _read_words(words or {})
        super().__init__(tokenizer, template_kwargs)
        place = "contexts.teacher_template_kwargs"
        self.teacher_variables = {**self.variables, **checked_variables(teacher_template_kwargs or {}, place)}
        self._check_read(self.teacher_variables, place, self._template(self.teacher_variables))
        self._lay_out(layout)

    def in_layout(self, layout: Layout) -> "PromptBuilder":
        """Return a builder of the same prompts in another layout."""
        other = copy.copy(self)
        other._lay_out(layout)
        return other

    def _lay_out(self, layout: Layout) -> None:
        if layout not in get_args(Layout):
            raise UsageError(f"unknown layout {layout!r}; choose one of {', '.join(get_args(Layout))}")
        self.layout: Layout = layout
        if layout == "system" and self.system_turn != "own":
            warn_once(
                f"contexts.layout=system: the chat template {_TURNS[self.system_turn]}, so the context stands as a "
                "user turn before the prompt; contexts.layout=turn or paper keeps to what the model knows"
            )

    def teacher_ids(self, prompt: Prompt, context: Context, variables: Variables | None = None) -> list[int]:
        """Return the token ids of ``prompt`` seen together with ``context``, in this builder's layout.

        * ``paper``: the context follows the question inside the last user turn.
        * ``turn``: the context is an earlier exchange. About this very question it stands right before the last user
          turn, which is then asked again; else it opens the conversation.
        * ``system``: a leading block with the context, then exactly the student's ids (less second opening tokens).
          Where the chat template has no system turn, the block is a user turn.

        Args:
            prompt: the user turn, or messages.
            context: what the teacher sees besides.
            variables: the row's own, laid over those of all the teacher's prompts.

        Raises:
            UsageError: the prompt is malformed, or the chat template refuses the messages, or leaves one out.
        """
        messages, words = self._messages(prompt), self._words_of(context.kind)
        variables = self._joined(variables, self.teacher_variables)
        self._check_whole(messages, variables)
        last = max(index for index, message in enumerate(messages) if message["role"] == "user")
        question = messages[last]["content"]
        if self.layout == "system":
            block = self._block(_filled(words.before, context, question), variables)
            self._check_block(variables)
            return self._behind(block, self.ids(messages, variables))
        if self.layout == "paper":
            messages[last]["content"] = f"{question}\n\n{_filled(words.after, context, question)}"
            return self.ids(messages, variables)
        start = 1 if messages[0]["role"] in ("system", "developer") else 0
        at = last if registry.get(context.kind).about == "item" else start
        asked = _filled(words.asked, context, question)
        messages[at:at] = [{"role": "user", "content": asked}, {"role": "assistant", "content": context.text}]
        if lost := self.left_out(messages, variables):
            what = {at: "the words before the context", at + 1: "the context", last + 2: "the question"}
            raise UsageError(
                "contexts.layout=turn: with an earlier exchange before the question, the chat template leaves out "
                f"{what.get(lost[-1], 'a message')}; use contexts.layout=paper"
            )
        text = self.text(messages, variables)
        if context.text.strip() not in text:
            warn_once(
                "contexts.layout=turn: the chat template does not write earlier replies as they are (it cuts thoughts, "
                "for example), so the teacher sees a part of its contexts; contexts.layout=paper shows all"
            )
        return self._ids(text)

    def _words_of(self, kind: str) -> Words:
        own = registry.get(kind).words
        return self._words_of(own) if isinstance(own, str) else self._words.get(kind, own)

    def _block(self, shown: str, variables: Variables) -> list[int]:
        """Return a leading block of its own: a system turn, or a user's where the template has none."""
        bare = {name: value for name, value in variables.items() if name != "tools"}  # the prompt shows them
        variables = bare if tried(lambda: self.text([{"role": "user", "content": MARK}], bare)) else variables
        if self.system_turn != "own":
            return self.ids([{"role": "user", "content": shown}], variables, reply=False)
        # Taken from before a question: alone, some templates refuse it or end the document behind it.
        system = [{"role": "system", "content": shown}, {"role": "user", "content": MARK}]
        before = self.text(system, variables, reply=False).partition(MARK)[0]
        return self._ids(before.rpartition(self.user_header)[0] if self.user_header else before)

    def _check_block(self, variables: Variables) -> None:
        """Check that the template shows what is said in a leading block.

        Raises:
            UsageError: it does not.
        """
        key = (self._template(variables), "block", repr(sorted(variables)))
        if key not in self._lost:
            shown = str(self.tokenizer.decode(self._block(_SHOWN, variables)))
            self._lost[key] = () if _SHOWN.lower() in shown.lower() else (0,)
        if self._lost[key]:
            raise UsageError(
                "contexts.layout=system: the chat template leaves the context out of a leading block; use "
                "contexts.layout=paper"
            )

    def _behind(self, block: list[int], student: list[int]) -> list[int]:
        """Join two documents to one: what opens a document comes first, and once."""
        opening = self.opening_ids
        if opening and student[: len(opening)] == opening:
            student = student[len(opening) :]
            block = block if block[: len(opening)] == opening else [*opening, *block]
        return block + student


_SHOWN = "UNISDSHOWN"
_TURNS: dict[SystemTurn, str] = {
    "own": "has system turns",
    "merged": "writes a system message into the user's turn",
    "dropped": "leaves out system messages",
    "refused": "refuses system messages",
}


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
