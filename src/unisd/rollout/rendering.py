"""A conversation as a model's chat template writes it: the template in use, its text, and the token ids of that."""

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from unisd.errors import UsageError, warn_once
from unisd.rollout.messages import Variables, checked_variables, in_parts
from unisd.rollout.template import PLAIN, named, offered, read_by, with_fixed_date
from unisd.tasks.turns import THOUGHT

MARK = "UNISDMARK"
"""What stands for a text where it is to be seen what a template makes of it."""
ASKED = [{"role": "user", "content": "a"}]
_TOOL = {"type": "function", "function": {"name": "a", "description": "a", "parameters": {"type": "object"}}}


class Rendering:
    """Turns conversations into token ids with the model's own chat template.

    A tokenizer without a chat template (a base model) gets a plain one, ``User:`` and ``Assistant:`` on lines of their
    own with the end-of-text token after each reply, and one warning says so. Templates that print the current date
    get a fixed one, so that prompts do not change from day to day. Special tokens are added once.

    Args:
        tokenizer: the model's.
        variables: what the template reads beside the messages, for all prompts (``enable_thinking``, say).

    Raises:
        UsageError: several chat templates of which none is the default, or variables that are none.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, variables: Variables | None = None) -> None:
        self.tokenizer = tokenizer
        self.variables = checked_variables(variables or {}, "contexts.template_kwargs")
        self._templates: dict[tuple[str | None, bool], str] = {}
        self._headers: dict[str, str] = {}
        self._parted: dict[str, bool] = {}
        self._known: set[tuple[str, ...]] = set()
        self.chat_template: str = self._template(self.variables)
        """The Jinja template in use: the tokenizer's (its date fixed), or the plain one."""
        self._check_read(self.variables, "contexts.template_kwargs", self.chat_template)

    # -- the template ------------------------------------------------------------------------------------------------

    def _template(self, variables: Variables) -> str:
        key = (variables.get("chat_template"), bool(variables.get("tools")))
        if key not in self._templates:
            self._templates[key] = self._choose_template(*key)
        return self._templates[key]

    def _choose_template(self, name: str | None, tools: bool) -> str:
        given: Any = self.tokenizer.chat_template
        if not given:
            warn_once(
                "the tokenizer has no chat template, so a plain 'User: … Assistant: …' format is used; "
                "choose an instruction-tuned model or set tokenizer.chat_template for another"
            )
            adds_bos = self.tokenizer("a")["input_ids"][:1] == [self.tokenizer.bos_token_id]
            return ("{{ bos_token }}" if adds_bos else "") + PLAIN
        templates = named(given)
        if name is not None and name not in templates:
            has = ", ".join(sorted(templates)) if len(templates) > 1 else "one template, without a name"
            raise UsageError(f"contexts.template_kwargs: there is no chat_template '{name}'; the tokenizer has {has}")
        usual = "tool_use" if tools and "tool_use" in templates else "default"
        template = templates.get(name or usual)
        if template is None:
            raise UsageError(
                f"the tokenizer has several chat templates and no default ({sorted(templates)}); choose one as "
                "contexts.template_kwargs={chat_template: NAME}, or set tokenizer.chat_template to it"
            )
        return with_fixed_date(template)

    def _check_read(self, variables: Variables, place: str, template: str) -> None:
        """Say which variables the template does not read: they change nothing."""
        key = (template, *sorted(variables))
        if key in self._known or not variables:
            return
        self._known.add(key)
        read = read_by(template)
        for name in sorted(variables.keys() - {"chat_template"}):
            if read is None or name in read:
                continue
            known = ", ".join(offered(template)) or "none"
            does = "does not show tools" if name == "tools" else f"does not read '{name}'"
            warn_once(f"{place}: the chat template {does}, so this changes nothing; leave it out (it reads: {known})")

    def text(
        self, messages: Sequence[dict[str, Any]], variables: Variables | None = None, *, reply: bool = True
    ) -> str:
        """Return ``messages`` as the template writes them, special tokens as text.

        Args:
            messages: as :func:`messages_of` gives them.
            variables: what the template reads besides; None: what it needs to say anything at all.
            reply: up to where the assistant's next reply begins, or where its last message breaks off; else to the end.

        Raises:
            UsageError: the chat template refuses the messages.
        """
        given = dict(self._asking if variables is None else variables)
        template = self._template(given)
        given.pop("chat_template", None)
        goes_on = reply and messages[-1]["role"] == "assistant"
        written = self._render(messages, template, given, reply and not goes_on, goes_on)
        return written + self._header(template, given) if reply and not goes_on else written

    @cached_property
    def _asking(self) -> Variables:
        """This object's variables; and a tool, where the template refuses a question without any."""
        more = {**self.variables, "tools": [_TOOL]}
        needs_tool = not tried(lambda: self.text(ASKED, self.variables)) and tried(lambda: self.text(ASKED, more))
        return more if needs_tool else self.variables

    def _render(
        self, messages: Sequence[dict[str, Any]], template: str, given: Variables, reply: bool, goes_on: bool = False
    ) -> str:
        if template not in self._parted:
            self._parted[template] = self._reads_parts(template, given)
        messages = [in_parts(message) for message in messages] if self._parted[template] else messages
        return self._written(messages, template, given, reply, goes_on)

    def _written(
        self, messages: Sequence[dict[str, Any]], template: str, given: Variables, reply: bool, goes_on: bool = False
    ) -> str:
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    list(messages),
                    chat_template=template,
                    add_generation_prompt=reply,
                    continue_final_message=goes_on,
                    tokenize=False,
                    **given,
                )
            )
        except Exception as error:  # templates raise whatever they like
            raise UsageError(self._refusal(error, messages, template, given)) from error

    def _refusal(self, error: Exception, messages: Sequence[dict[str, Any]], template: str, given: Variables) -> str:
        """Return in one line what a template, or transformers, stumbles over."""
        why = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, jinja2.TemplateSyntaxError):
            return f"the chat template is not valid Jinja ({why}); repair tokenizer.chat_template"
        if isinstance(error, jinja2.UndefinedError) and (name := re.match(r"'(\w+)' is undefined$", why)):
            return f"the chat template reads '{name[1]}', which is not set; set it in contexts.template_kwargs"
        bare = {name: value for name, value in given.items() if name != "tools"}
        if bare != given and tried(lambda: self._written(messages, template, bare, reply=True)):
            return f"the chat template cannot show the tools ({why}); give each as a JSON schema"
        roles = ", ".join(message["role"] for message in messages)
        return f"the chat template refuses messages of the roles {roles} ({why}); use roles that the model knows"

    def _reads_parts(self, template: str, given: Variables) -> bool:
        """Return whether a template writes contents that are lists of parts, and not those that are text.

        Raises:
            UsageError: it writes neither.
        """

        def shows(message: dict[str, Any]) -> tuple[bool, bool]:
            written = tried(lambda: self._written([message], template, given, True))  # a refusal is said elsewhere
            return MARK.lower() in written.lower(), bool(written)

        asked = {"role": "user", "content": MARK}
        (shown, something), (shown_in_parts, _) = shows(asked), shows(in_parts(asked))
        if something and not shown and not shown_in_parts:
            raise UsageError("the chat template does not show what the user says; set tokenizer.chat_template")
        return shown_in_parts and not shown

    def _header(self, template: str, given: Variables) -> str:
        """Return how a reply begins where the template knows no ``add_generation_prompt``; else nothing."""
        if template not in self._headers:
            told = [*ASKED, {"role": "assistant", "content": MARK}]
            plain, found = self._render(ASKED, template, given, False), ""
            if plain == self._render(ASKED, template, given, True):
                whole = tried(lambda: self._render(told, template, given, False))
                found = whole[len(plain) :].partition(MARK)[0] if MARK in whole and whole.startswith(plain) else ""
            mark = THOUGHT.search(found)
            found = found[: mark.start()] if mark else found.rstrip(" ")
            self._headers[template] = found if found.strip() else ""
        return self._headers[template]

    def _ids(self, text: str) -> list[int]:
        return [int(token) for token in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def ids(
        self, messages: Sequence[dict[str, Any]], variables: Variables | None = None, *, reply: bool = True
    ) -> list[int]:
        """Return the token ids of :meth:`text`."""
        return self._ids(self.text(messages, variables, reply=reply))


def tried(write: Callable[[], str]) -> str:
    """Return what is written, or nothing where the template refuses."""
    try:
        return write()
    except UsageError:
        return ""
