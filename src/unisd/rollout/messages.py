"""Prompts, replies and template variables as people bring them, in the one form that chat templates take."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from unisd.errors import UsageError

Prompt = str | Sequence[Mapping[str, Any]]
"""A student prompt: the user turn, or a conversation of messages with ``role`` and ``content``."""
Variables = Mapping[str, Any]
"""What a chat template reads beside the messages: variables of its own, ``tools``, ``chat_template`` (a name)."""

_OURS = {
    *("add_generation_prompt", "continue_final_message", "conversation", "max_length", "messages", "padding"),
    *("return_assistant_tokens_mask", "return_dict", "return_tensors", "sanitize_control_tokens", "tokenize"),
    *("tokenizer_kwargs", "truncation"),
}


def messages_of(prompt: Prompt) -> list[dict[str, Any]]:
    """Return ``prompt`` as a fresh list of messages; keys whose value is None (Arrow fills them in) are left out.

    A last message of the assistant's is one to be continued. Contents of text parts are joined to a text; arguments of
    tool calls may be JSON text.

    Raises:
        UsageError: the prompt is empty, is not text or messages, or holds no user message.
    """
    if isinstance(prompt, str):
        messages: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
    elif isinstance(prompt, Sequence) and prompt and all(isinstance(message, Mapping) for message in prompt):
        messages = [_message(message) for message in cast(Sequence[Mapping[str, Any]], prompt)]
    else:
        raise UsageError(f"a prompt must be text or a non-empty list of messages, not {type(prompt).__name__}")
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not role:
            raise UsageError("a message has no 'role'; write {'role': 'user', 'content': …}")
        if not isinstance(content, str):
            raise UsageError(f"the {role} message has no text as 'content'; only text is supported")
        if role == "user" and not content.strip():
            raise UsageError("a user message is empty; give it text or remove it")
    roles = [message["role"] for message in messages]
    if "user" not in roles:
        raise UsageError(f"a prompt must hold a user message; its roles: {roles}")
    if roles[-1] == "assistant" and not (messages[-1]["content"].strip() and "tool_calls" not in messages[-1]):
        raise UsageError("the prompt ends with the assistant's message, which has no text to continue; remove it")
    return messages


def with_text(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message without empty keys, whose content, where it is text parts, is one text."""
    message = {key: value for key, value in given.items() if value is not None}
    content = message.get("content")
    if isinstance(content, list | tuple) and content and all(_is_text(part) for part in content):
        message["content"] = "".join(part["text"] for part in content)
    return message


def in_parts(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message whose content is a list of parts, as templates of models that see pictures read it."""
    content = message["content"]
    return message | {"content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _message(given: Mapping[str, Any]) -> dict[str, Any]:
    message = with_text(given)
    if calls := message.get("tool_calls"):
        message["tool_calls"] = [_call(call) for call in without_nulls(calls)]
        message.setdefault("content", "")
    else:
        message.pop("tool_calls", None)
    return message


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _call(call: Any) -> Any:
    """Return a tool call whose arguments are a mapping: templates write JSON themselves."""
    for key in ("function", None):
        holder = call.get(key) if key and isinstance(call, Mapping) else call
        if isinstance(holder, Mapping) and isinstance(holder.get("arguments"), str):
            try:
                read = json.loads(holder["arguments"])
            except ValueError:
                return call
            made = {**holder, "arguments": read} if isinstance(read, dict) else holder
            return {**call, key: made} if key else made
    return call


def without_nulls(value: Any) -> Any:
    """Return nested values without keys whose value is None: Arrow gives every mapping of a column the same keys."""
    if isinstance(value, Mapping):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list | tuple) else value


def checked_variables(given: Any, place: str) -> dict[str, Any]:
    """Return what a template is to read, checked; ``place`` is what messages call it.

    Raises:
        UsageError: no mapping of names, one of the names is not the template's, or ``tools`` is no list of tools.
    """
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise UsageError(f"{place}: a mapping of names to values was expected, not {given!r}")
    if ours := sorted(_OURS & given.keys()):
        raise UsageError(f"{place}: '{ours[0]}' is no variable of a chat template; it is set here, so leave it out")
    found = {name: value for name, value in given.items() if value is not None}
    if "tools" in found:
        tools = checked_tools(found.pop("tools"), place)
        found |= {"tools": tools} if tools else {}
    return found


def checked_tools(given: Any, place: str) -> list[Any]:
    """Return tools as a list of JSON schemas (or functions); JSON text is read.

    Raises:
        UsageError: it is something else.
    """
    try:
        tools = json.loads(given) if isinstance(given, str) else given
        if not isinstance(tools, list | tuple):
            raise UsageError(f"{place}: a list of tools (JSON schemas) was expected, not {type(tools).__name__}")
        read = [json.loads(tool) if isinstance(tool, str) else tool for tool in tools]
    except ValueError as error:
        raise UsageError(f"{place}: tools are no JSON ({error}); give a list of schemas") from error
    for tool in read:
        if not isinstance(tool, Mapping) and not callable(tool):
            raise UsageError(f"{place}: a tool is {tool!r}; give its JSON schema, a mapping")
    return [tool if callable(tool) else without_nulls(tool) for tool in read]
