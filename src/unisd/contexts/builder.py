"""One prompt builder for the student and for everything the teacher sees besides the question (METHOD 4, 4.1).

Every prompt of a run comes from here, so that two prompts differ only where their contexts differ: gold and negative
share their words, the question stands in every teacher prompt, and special tokens are added once.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast, get_args

from transformers import PreTrainedTokenizerBase

from unisd.errors import UsageError

Kind = Literal["gold", "negative", "retrieval", "random", "induction"]
"""What a context is: METHOD 2 (gold, negative) and 3.3 (the three kinds of auxiliary contexts)."""
Layout = Literal["paper", "turn", "system"]
"""Where a context stands in the teacher's prompt (METHOD 4.1)."""
Prompt = str | Sequence[Mapping[str, Any]]
"""A student prompt: the user turn, or a conversation of messages with ``role`` and ``content``."""

_ABOUT_ANOTHER_ITEM = ("retrieval", "random")
_MARK = "UNISDMARK"
# A template that prints today's date would change every prompt (and every cache key) at midnight: the date that
# Llama-3 templates fall back to is used on all days, in whichever of the two usual notations is asked for.
_FIXED_DATE = "{% macro strftime_now(format) %}{{ '2024-07-26' if '-' in format else '26 Jul 2024' }}{% endmacro %}"
_PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% else %}{{ message['role'] | capitalize + ':\n' + message['content'] }}"
    "{{ (eos_token or '') if message['role'] == 'assistant' else '' }}{{ '\n\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Context:
    """One piece of privileged or auxiliary context, before it is put into a prompt.

    Raises:
        UsageError: an unknown kind, an empty text, or a ``question`` that is missing or out of place.
    """

    kind: Kind
    text: str
    """The demonstration; for ``induction`` the general instruction."""
    question: str | None = None
    """The student prompt of the *other* item for ``retrieval`` and ``random``; None for every other kind."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UsageError(f"unknown kind of context {self.kind!r}; choose one of {', '.join(get_args(Kind))}")
        if not isinstance(self.text, str) or not self.text.strip():
            raise UsageError(f"a context of kind {self.kind!r} needs a non-empty text, not {self.text!r}")
        if self.kind not in _ABOUT_ANOTHER_ITEM:
            if self.question is not None:
                raise UsageError(f"a context of kind {self.kind!r} has no question of its own; leave it null")
        elif not isinstance(self.question, str) or not self.question.strip():
            raise UsageError(f"a context of kind {self.kind!r} needs the other item's prompt as its 'question'")


def messages_of(prompt: Prompt) -> list[dict[str, Any]]:
    """Return ``prompt`` as a fresh list of messages; keys whose value is None (Arrow fills them in) are left out.

    Raises:
        UsageError: the prompt is empty, is not text or messages, holds no user message, or ends with the assistant's.
    """
    if isinstance(prompt, str):
        messages: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
    elif isinstance(prompt, Sequence) and prompt and all(isinstance(message, Mapping) for message in prompt):
        given = cast(Sequence[Mapping[str, Any]], prompt)
        messages = [{key: value for key, value in message.items() if value is not None} for message in given]
    else:
        raise UsageError(f"a prompt must be text or a non-empty list of messages, not {type(prompt).__name__}")
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not role:
            raise UsageError("a message has no 'role'; write {'role': 'user', 'content': …}")
        if not isinstance(content, str) and "tool_calls" not in message:
            raise UsageError(f"the {role} message has no text as 'content'; only text is supported")
        if role == "user" and not str(content).strip():
            raise UsageError("a user message is empty; give it text or remove it")
    roles = [message["role"] for message in messages]
    if "user" not in roles or roles[-1] == "assistant":
        raise UsageError(f"a prompt must hold a user message and not end with the assistant's; its roles: {roles}")
    return messages


def _introduced(context: Context, where: Literal["before", "after"]) -> str:
    """Return the words that introduce ``context`` from a place before or after the student's question.

    One short closing sentence that asks for the same format is not a matter of taste: with a small model it doubled the
    teacher's share of correct answers over two sentences, or over one that does not mention the format.
    """
    if context.kind == "induction":
        return (
            f"Here is general guidance for questions of this kind:\n{context.text}\n\n"
            "After studying the guidance, solve the problem in your own way."
        )
    if context.kind in ("gold", "negative"):
        shown = f"Here is an example response to {'this' if where == 'after' else 'the next'} question:\n{context.text}"
        problem = "problem"
    else:
        shown = (
            f"Here is another problem that has been solved already:\n{context.question}\n\n"
            f"Here is an example response to that other problem:\n{context.text}"
        )
        problem = "first problem, the one at the top," if where == "after" else "problem that comes next"
    return f"{shown}\n\nAfter studying the example, solve the {problem} in your own way, in the same format."


def _exchange(context: Context, question: str) -> list[dict[str, Any]]:
    """Return ``context`` as an earlier exchange: a user message and the assistant's reply."""
    if context.kind == "induction":
        asked = "How should I go about questions of the kind that I am going to ask you?"
    else:
        asked = context.question or question
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": context.text}]


class PromptBuilder:
    """Turns prompts and contexts into token ids with the model's own chat template.

    A tokenizer without a chat template (a base model) gets a plain one, ``User:`` and ``Assistant:`` on lines of their
    own with the end-of-text token after each reply, and one warning says so. Templates that print the current date
    get a fixed one, so that prompts do not change from day to day.

    Example:
        >>> builder = PromptBuilder(tokenizer, "turn")  # doctest: +SKIP
        >>> builder.teacher_ids("2 + 2?", Context("gold", "2 and 2 make 4."))  # doctest: +SKIP

    Raises:
        UsageError: an unknown layout, or several chat templates of which none is the default.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, layout: Layout) -> None:
        if layout not in get_args(Layout):
            raise UsageError(f"unknown layout {layout!r}; choose one of {', '.join(get_args(Layout))}")
        self.tokenizer = tokenizer
        self.layout: Layout = layout
        self.chat_template: str = self._choose_template()
        """The Jinja template in use: the tokenizer's (its date fixed), or the plain one."""

    def _choose_template(self) -> str:
        if not self.tokenizer.chat_template:
            warnings.warn(
                "the tokenizer has no chat template, so a plain 'User: … Assistant: …' format is used; "
                "choose an instruction-tuned model or set tokenizer.chat_template for another",
                stacklevel=3,
            )
            adds_bos = self.tokenizer("a")["input_ids"][:1] == [self.tokenizer.bos_token_id]
            return ("{{ bos_token }}" if adds_bos else "") + _PLAIN_TEMPLATE
        try:
            template = str(self.tokenizer.get_chat_template())
        except ValueError as error:
            raise UsageError(
                f"the tokenizer has several chat templates and no default ({sorted(self.tokenizer.chat_template)}); "
                "set tokenizer.chat_template to one of them"
            ) from error
        return _FIXED_DATE + template if "strftime_now" in template else template

    def _render(self, messages: list[dict[str, Any]], *, tokenize: bool, reply: bool) -> Any:
        try:
            return self.tokenizer.apply_chat_template(
                messages,
                chat_template=self.chat_template,
                add_generation_prompt=reply,
                tokenize=tokenize,
                return_dict=False,
            )
        except Exception as error:  # templates raise whatever they like
            roles = ", ".join(message["role"] for message in messages)
            raise UsageError(
                f"the chat template refuses messages of the roles {roles} ({error}); use roles that the model knows"
            ) from error

    def _ids(self, messages: list[dict[str, Any]], *, reply: bool = True) -> list[int]:
        return [int(token) for token in self._render(messages, tokenize=True, reply=reply)]

    def _text(self, messages: list[dict[str, Any]]) -> str:
        return str(self._render(messages, tokenize=False, reply=False))

    @cached_property
    def _bos(self) -> int | None:
        """The token that opens a document, or None.

        A tokenizer's ``bos_token`` alone does not tell: SmolLM2 declares the token that opens every *message*. Only
        one that stands first and nowhere else in a conversation opens the document.
        """
        roles = ("user", "assistant", "user")
        ids = self._ids([{"role": role, "content": "a"} for role in roles], reply=False)
        bos = self.tokenizer.bos_token_id
        return bos if bos is not None and ids[:1] == [bos] and ids.count(bos) == 1 else None

    @cached_property
    def _block_role(self) -> str:
        """The role of a leading block: ``system``, or ``user`` where a system message is refused or folded away."""
        try:
            return "system" if _MARK in self._text([{"role": "system", "content": _MARK}]) else "user"
        except UsageError:
            return "user"

    @cached_property
    def end_of_turn_id(self) -> int:
        """The token that the chat template writes right after an assistant's reply, else the end-of-text token.

        Raises:
            UsageError: there is neither.
        """
        text = self._text([{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARK}])
        tail = text.rpartition(_MARK)[2]
        control = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}
        for token in self.tokenizer(tail, add_special_tokens=False)["input_ids"]:
            # Some vocabularies list runs of white space among their added tokens.
            if token in control and self.tokenizer.decode([token]).strip():
                return int(token)
        if self.tokenizer.eos_token_id is None:
            raise UsageError("neither the chat template nor the tokenizer ends a reply; set tokenizer.eos_token")
        return int(self.tokenizer.eos_token_id)

    def student_ids(self, prompt: Prompt) -> list[int]:
        """Return the token ids of the student's prompt x, up to where the assistant's reply begins.

        Raises:
            UsageError: the prompt is malformed, or the chat template refuses it.
        """
        return self._ids(messages_of(prompt))

    def teacher_ids(self, prompt: Prompt, context: Context) -> list[int]:
        """Return the token ids of ``prompt`` seen together with ``context``, in this builder's layout (METHOD 4.1).

        * ``paper``: the context follows the question inside the last user turn.
        * ``turn``: the context is an earlier exchange. About this very question it stands right before the last user
          turn, which is then asked again; about another item it opens the conversation.
        * ``system``: a leading block with the context, then exactly the student's ids (less a second opening token).

        Raises:
            UsageError: the prompt is malformed, or the chat template refuses the messages.
        """
        messages = messages_of(prompt)
        if self.layout == "system":
            return self._behind_block(context, self._ids(messages))
        last = max(index for index, message in enumerate(messages) if message["role"] == "user")
        question = messages[last]["content"]
        if self.layout == "paper":
            messages[last]["content"] = f"{question}\n\n{_introduced(context, 'after')}"
        else:
            start = 1 if messages[0]["role"] in ("system", "developer") else 0
            at = last if context.kind in ("gold", "negative") else start
            messages[at:at] = _exchange(context, question)
        return self._ids(messages)

    def _behind_block(self, context: Context, student: list[int]) -> list[int]:
        block = self._ids([{"role": self._block_role, "content": _introduced(context, "before")}], reply=False)
        if self._bos is not None and student[:1] == [self._bos]:
            student = student[1:]
            block = block if block[:1] == [self._bos] else [self._bos, *block]
        return block + student

    def completion_ids(self, text: str) -> list[int]:
        """Return the ids of ``text`` as the assistant's whole reply: its own tokens, then the end-of-turn token.

        They are joined to prompt ids as they are; text and prompt are never tokenised together.
        """
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [int(token) for token in ids] + [self.end_of_turn_id]
