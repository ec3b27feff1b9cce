"""How a conversation is written down for a model: its chat template, what opens a document and what ends a turn."""

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from unisd.errors import UsageError

Prompt = str | Sequence[Mapping[str, Any]]
"""A student prompt: the user turn, or a conversation of messages with ``role`` and ``content``."""

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


class Chat:
    """Turns conversations into token ids with the model's own chat template.

    A tokenizer without a chat template (a base model) gets a plain one, ``User:`` and ``Assistant:`` on lines of their
    own with the end-of-text token after each reply, and one warning says so. Templates that print the current date
    get a fixed one, so that prompts do not change from day to day. Special tokens are added once.

    Raises:
        UsageError: several chat templates of which none is the default.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.chat_template: str = self._choose_template()
        """The Jinja template in use: the tokenizer's (its date fixed), or the plain one."""

    def _choose_template(self) -> str:
        if not self.tokenizer.chat_template:
            warnings.warn(
                "the tokenizer has no chat template, so a plain 'User: … Assistant: …' format is used; "
                "choose an instruction-tuned model or set tokenizer.chat_template for another",
                stacklevel=4,
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

    def ids(self, messages: list[dict[str, Any]], *, reply: bool = True) -> list[int]:
        """Return the token ids of ``messages``, up to where the assistant's next reply begins where one is to come.

        Raises:
            UsageError: the chat template refuses the messages.
        """
        return [int(token) for token in self._render(messages, tokenize=True, reply=reply)]

    def _text(self, messages: list[dict[str, Any]]) -> str:
        return str(self._render(messages, tokenize=False, reply=False))

    @cached_property
    def opening_id(self) -> int | None:
        """The token that opens a document, or None.

        A tokenizer's ``bos_token`` alone does not tell: SmolLM2 declares the token that opens every *message*. Only
        one that stands first and nowhere else in a conversation opens the document.
        """
        roles = ("user", "assistant", "user")
        ids = self.ids([{"role": role, "content": "a"} for role in roles], reply=False)
        bos = self.tokenizer.bos_token_id
        return bos if bos is not None and ids[:1] == [bos] and ids.count(bos) == 1 else None

    @cached_property
    def block_role(self) -> str:
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
        return self.ids(messages_of(prompt))

    def completion_ids(self, text: str) -> list[int]:
        """Return the ids of ``text`` as the assistant's whole reply: its own tokens, then the end-of-turn token.

        They are joined to prompt ids as they are; text and prompt are never tokenised together.
        """
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [int(token) for token in ids] + [self.end_of_turn_id]
