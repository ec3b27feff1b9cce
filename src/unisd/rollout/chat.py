"""How a conversation is written down for a model: its chat template, what opens a document and what ends a turn."""

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from unisd.errors import UsageError, warn_once
from unisd.rollout.messages import Prompt, Variables, checked_variables, in_parts, messages_of
from unisd.rollout.template import PLAIN, named, offered, read_by, with_fixed_date
from unisd.rollout.thoughts import END, closing, last_mark
from unisd.tasks.turns import THOUGHT, closes, reply_of

__all__ = ["MARK", "Chat", "Prompt", "SystemTurn", "Variables", "messages_of", "template_ends", "tried"]

SystemTurn = Literal["own", "merged", "dropped", "refused"]
"""What becomes of a system message: a turn of its own, a part of the user's, nothing, or an error of the template."""

MARK, _SECOND = "UNISDMARK", "UNISDSECOND"
_ASKED = [{"role": "user", "content": "a"}]
_TOOL = {"type": "function", "function": {"name": "a", "description": "a", "parameters": {"type": "object"}}}


class Chat:
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
        self._turns: dict[str, SystemTurn] = {}
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
        needs_tool = not tried(lambda: self.text(_ASKED, self.variables)) and tried(lambda: self.text(_ASKED, more))
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
            roles = ", ".join(message["role"] for message in messages)
            why = " ".join(str(error).split())[:200]
            raise UsageError(
                f"the chat template refuses messages of the roles {roles} ({why}); use roles that the model knows"
            ) from error

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
            told = [*_ASKED, {"role": "assistant", "content": MARK}]
            plain, found = self._render(_ASKED, template, given, False), ""
            if plain == self._render(_ASKED, template, given, True):
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

    # -- what the template does --------------------------------------------------------------------------------------

    @cached_property
    def opening_ids(self) -> list[int]:
        """The tokens that open a document; often one, or none.

        A tokenizer's ``bos_token`` alone does not tell: SmolLM2 declares the token that opens every *message*. Only
        what stands first and nowhere else in a conversation opens the document; what opens its first turn does not.
        """
        roles = ("user", "assistant", "user")
        ids = self.ids([{"role": role, "content": "a"} for role in roles], reply=False)
        # The end of a reply may be the same token.
        led = list(takewhile(lambda t: t in self._controls and ids.count(t) == 1 + (t == self._end), ids))
        system = tried(lambda: self.text([{"role": "system", "content": MARK}, {"role": "user", "content": "a"}]))
        before = list(takewhile(self._controls.__contains__, self._ids(system.partition(MARK)[0])))
        bos = led[:1] == [self.tokenizer.bos_token_id]
        # The last control token before a system message opens its turn, if it is not the document's.
        return led[: max(len(before) - 1, int(bos))]

    @cached_property
    def _controls(self) -> frozenset[int]:
        """Special and added tokens; some vocabularies list runs of white space among the latter."""
        known = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}
        return frozenset(int(token) for token in known if self.tokenizer.decode([token]).strip())

    def turn_of(self, role: str) -> SystemTurn:
        """Return what the template makes of a leading message of ``role`` (system or developer)."""
        asked = [{"role": role, "content": MARK}, {"role": "user", "content": _SECOND}]
        try:
            text = self.text(asked)
        except UsageError:
            return "refused"
        if MARK not in text or _SECOND not in text:
            return "dropped"
        between = text[text.index(MARK) + len(MARK) : text.index(_SECOND)]
        return "own" if between.rstrip().endswith(self.user_header) else "merged"

    @cached_property
    def system_turn(self) -> SystemTurn:
        """What the template makes of a system message."""
        return self.turn_of("system")

    @cached_property
    def user_header(self) -> str:
        """What opens a user turn in the middle of a conversation; empty where nothing does."""
        between = self._after_reply.partition(_SECOND)[0]
        asked = [{"role": "user", "content": MARK}, {"role": "assistant", "content": _SECOND}]
        answered = tried(lambda: self.text(asked, reply=False)).partition(MARK)[2].partition(_SECOND)[0]
        # A turn's end comes before it: the reply's own, or what ends a question as it ends an earlier reply.
        first, same = ([t for t in self._ids(text) if t in self._controls][:1] for text in (between, answered))
        for end in [self._end, *(first if first == same else ())]:
            between = between if end is None else between.rpartition(self._token(end))[2]
        return between.strip()

    @cached_property
    def _after_reply(self) -> str:
        """What stands behind an earlier reply, and another user turn; empty where the template refuses it."""
        roles = (("user", "a"), ("assistant", MARK), ("user", _SECOND))
        text = tried(lambda: self.text([{"role": role, "content": said} for role, said in roles], reply=False))
        return text.rpartition(MARK)[2]

    @cached_property
    def _tail(self) -> str:
        """What stands behind the last reply."""
        text = self.text([*_ASKED, {"role": "assistant", "content": MARK}], reply=False)
        found = re.split(MARK, text, flags=re.IGNORECASE)
        return found[-1] if len(found) > 1 else ""

    def _token(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))

    @cached_property
    def _end(self) -> int | None:
        last = [token for token in self._ids(self._tail) if token in self._controls]
        earlier = [t for t in self._ids(self._after_reply.partition(_SECOND)[0]) if t in self._controls]
        both = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(last, earlier, strict=False))]
        begun = self.ids(_ASKED)
        opens = [token for token in begun if token in self._controls][-len(last) :]
        if last == opens and begun == self.ids(_ASKED, reply=False):  # the next reply is begun unasked, too
            both = both[:1]
        for token in [*reversed(both), *(token for token in last if token not in begun)]:
            return token
        end = self.tokenizer.eos_token_id
        if end is not None and re.search(r"[<\[|]\S+[>\]|]", self._tail):
            warn_once(
                f"the chat template ends a reply with {self._tail.strip()!r}, which is no token of this tokenizer: "
                f"replies end with {self._token(end)!r} instead; add it as a special token for another end"
            )
        return None if end is None else int(end)

    @property
    def end_of_turn_id(self) -> int:
        """The token with which the chat template ends an assistant's reply, else the end-of-text token.

        Where several control tokens follow a reply, it is the last of those that follow an earlier reply, too.

        Raises:
            UsageError: there is neither.
        """
        if self._end is None:
            raise UsageError("neither the chat template nor the tokenizer ends a reply; set tokenizer.eos_token")
        return self._end

    def opened(self, prompt_ids: Sequence[int]) -> str:
        """Return the mark with which a prompt opens a thought at its very end, as text; or nothing."""
        text = str(self.tokenizer.decode(list(prompt_ids[-END:]), skip_special_tokens=False))
        mark = last_mark(text)
        return text[text.rfind(mark) :] if mark and not closes(mark) else ""

    # -- prompts and replies -----------------------------------------------------------------------------------------

    def _joined(self, variables: Variables | None, own: Variables | None = None) -> Variables:
        """Lay a row's variables over those of all prompts."""
        own = self.variables if own is None else own
        if not variables:
            return own
        joined = {**own, **variables}
        self._check_read(variables, "columns chat_template_kwargs and tools", self._template(joined))
        return joined

    def _messages(self, prompt: Prompt) -> list[dict[str, Any]]:
        messages = messages_of(prompt)
        for role in {message["role"] for message in messages} - {"user", "assistant", "tool"}:
            if role not in self._turns:
                self._turns[role] = self.turn_of(role)
            if self._turns[role] == "dropped":
                raise UsageError(f"the chat template leaves out {role} messages; put the text into the user's message")
        return messages

    def student_ids(self, prompt: Prompt, variables: Variables | None = None) -> list[int]:
        """Return the token ids of the student's prompt x, up to where the assistant's reply begins or goes on.

        Args:
            prompt: the user turn, or messages.
            variables: the row's own, laid over those of all prompts.

        Raises:
            UsageError: the prompt is malformed, or the chat template refuses it, or leaves out a message.
        """
        return self.ids(self._messages(prompt), self._joined(variables))

    def completion_ids(self, text: str, prompt: Prompt, variables: Variables | None = None) -> list[int]:
        """Return the ids of ``text`` as the whole reply to a prompt, as the template writes it.

        They go on from :meth:`student_ids`: with the block of an empty thought where the template writes one, or with
        the end of the thought that the prompt opens; and they end with the end-of-turn token. A thought in ``text`` is
        kept, except where the prompt says that there is none.

        Raises:
            UsageError: the prompt is malformed, or the chat template refuses it or the reply.
        """
        messages, variables, end = self._messages(prompt), self._joined(variables), self.end_of_turn_id
        begun = self.text(messages, variables)
        written = self._continued(messages, begun, text, variables)
        ids = self._following(begun, written, end)
        if end in ids:
            return ids[: len(ids) - ids[::-1].index(end)]
        return [*self._following(begun, written.removesuffix(self._tail), end), end]

    def _following(self, begun: str, written: str, end: int) -> list[int]:
        """Return the ids of ``written`` behind those of ``begun``."""
        prompt_ids, whole = self._ids(begun), self._ids(begun + written)
        if whole[: len(prompt_ids)] == prompt_ids:
            return whole[len(prompt_ids) :]
        # A token would cross the border: the reply is read for itself, behind a token, as some tokenizers put a space
        # before what begins a text.
        first, *ids = self._ids(self._token(end) + written)
        return ids if first == end and self.tokenizer.decode(ids) == written else self._ids(written)

    def _continued(self, messages: list[dict[str, Any]], begun: str, text: str, variables: Variables) -> str:
        """Return what follows ``begun``, a prompt, where the assistant says ``text``."""

        def whole(said: str, reasoning: str = "") -> str:
            kept = messages[:-1] if messages[-1]["role"] == "assistant" else messages
            earlier = messages[-1]["content"] if kept is not messages else ""  # the last message, which goes on
            told = {"role": "assistant", "content": earlier + said}
            told |= {"reasoning_content": reasoning, "thinking": reasoning} if reasoning else {}
            return self.text([*kept, told], variables, reply=False)

        mark = THOUGHT.search(text)
        if mark and closes(mark[0]) and (opens := last_mark(begun)) and not closes(opens):
            text = opens + text  # the thought that the prompt opens, closed
        answer = reply_of(text).lstrip("\n")
        thought = text[: len(text) - len(answer)] if answer.strip() and reply_of(text) != text else ""
        inner = THOUGHT.sub("", thought).strip()
        for told in ([(answer, inner)] if thought else []) + [(text, "")]:
            written = whole(*told)
            if written.startswith(begun) and inner in written[len(begun) :]:
                return written[len(begun) :]
        if thought:  # which the template does not write here: it stands before what it writes of the answer
            written = whole(answer)
        last = last_mark(begun)
        if written.startswith(begun):
            rest, off = written[len(begun) :], bool(last) and closes(last)
            return rest if off or not thought else thought + reply_of(rest).lstrip("\n")
        base = begun[: begun.rfind(last)] if last and not closes(last) else None
        if base is None or not written.startswith(base):
            return text + self._tail
        rest, space = written[len(base) :].lstrip(), begun[len(base) + len(last) :]
        if (mark := THOUGHT.match(rest)) and not closes(mark[0]):
            rest = rest[mark.end() :].lstrip()
        inner += "\n" if inner else ""
        if (mark := THOUGHT.match(rest)) and closes(mark[0]):
            return inner + rest
        # An empty thought is two ends of a line, of which the prompt may have the first.
        empty = "\n\n".removeprefix(space)
        return f"{inner or empty}{closing(last)}\n\n{rest}"


def tried(write: Callable[[], str]) -> str:
    """Return what is written, or nothing where the template refuses."""
    try:
        return write()
    except UsageError:
        return ""


def template_ends(tokenizer: Any) -> frozenset[int]:
    """Return the tokens with which a tokenizer's chat templates end a reply; none for one without a template."""
    if not getattr(tokenizer, "chat_template", None):
        return frozenset()
    found = set()
    for name in named(tokenizer.chat_template):
        try:
            found.add(Chat(tokenizer, {"chat_template": name}).end_of_turn_id)
        except UsageError:  # said where that template is used
            continue
    return frozenset(found)
