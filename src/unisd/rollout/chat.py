"""How a conversation is written down for a model: its chat template, what opens a document and what ends a turn."""

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any, Literal

from unisd.errors import UsageError, warn_once
from unisd.rollout.messages import Prompt, Variables, messages_of
from unisd.rollout.rendering import ASKED, MARK, Rendering, tried
from unisd.rollout.template import named
from unisd.rollout.thoughts import END, closing, last_mark
from unisd.tasks.turns import THOUGHT, closes, reply_of

__all__ = ["MARK", "Chat", "Prompt", "SystemTurn", "Variables", "messages_of", "template_ends", "tried"]

SystemTurn = Literal["own", "merged", "dropped", "refused"]
"""What becomes of a system message: a turn of its own, a part of the user's, nothing, or an error of the template."""

_SECOND = "UNISDSECOND"


class Chat(Rendering):
    """Prompts and replies as the model's chat template writes them, and what is read of the template to write them.

    Arguments and errors are those of :class:`Rendering`.
    """

    @cached_property
    def _turns(self) -> dict[str, SystemTurn]:
        return {}

    @cached_property
    def _lost(self) -> dict[tuple[Any, ...], tuple[int, ...]]:
        """By pattern, the places of messages that the template leaves out."""
        return {}

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
        """What stands behind an earlier reply, and another user turn; empty where the template refuses or omits it."""
        roles = (("user", "a"), ("assistant", MARK), ("user", _SECOND))
        text = tried(lambda: self.text([{"role": role, "content": said} for role, said in roles], reply=False))
        return text.rpartition(MARK)[2] if MARK in text else ""

    @cached_property
    def _tail(self) -> str:
        """What stands behind the last reply."""
        text = self.text([*ASKED, {"role": "assistant", "content": MARK}], reply=False)
        found = re.split(MARK, text, flags=re.IGNORECASE)
        return found[-1] if len(found) > 1 else ""

    def _token(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))

    @cached_property
    def _end(self) -> int | None:
        last = [token for token in self._ids(self._tail) if token in self._controls]
        earlier = [t for t in self._ids(self._after_reply.partition(_SECOND)[0]) if t in self._controls]
        both = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(last, earlier, strict=False))]
        begun = self.ids(ASKED)
        opens = [token for token in begun if token in self._controls][-len(last) :]
        if last == opens and begun == self.ids(ASKED, reply=False):  # the next reply is begun unasked, too
            both = both[:1]
        for token in [*reversed(both), *(token for token in last if token not in begun)]:
            return token
        # Without an earlier reply to compare with, it is what comes first, unless that begins the next turn.
        if last and not self._after_reply and last[0] not in opens[-1:]:
            return last[0]
        end = self.tokenizer.eos_token_id
        if end is not None and not last and re.search(r"[<\[|]\S+[>\]|]", self._tail):
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

    def _pattern(self, messages: Sequence[dict[str, Any]], variables: Variables) -> tuple[Any, ...]:
        """Return what decides what a template does with messages, texts aside; roles come first."""
        roles = tuple((m["role"], bool(str(m["content"]).strip()), "tool_calls" in m) for m in messages)
        return roles, self._template(variables), repr(sorted((k, v) for k, v in variables.items() if k != "tools"))

    def left_out(self, messages: Sequence[dict[str, Any]], variables: Variables) -> tuple[int, ...]:
        """Return which of some messages the template does not write in a prompt (read once a pattern of roles).

        Contents are replaced by marks, so that what a template changes in a text (it trims, or cuts thoughts) is no
        loss. Nothing is left out where the template refuses the marks: it says so itself, or not.
        """
        key = self._pattern(messages, variables)
        if key not in self._lost:
            marks = [f"{MARK}{number}Q" if there else "" for number, (_, there, _) in enumerate(key[0])]
            marked = [m | ({"content": mark} if mark else {}) for m, mark in zip(messages, marks, strict=True)]
            text = tried(lambda: self.text(marked, variables)).lower()
            self._lost[key] = tuple(n for n, mark in enumerate(marks) if text and mark.lower() not in text)
        return self._lost[key]

    def _check_whole(self, messages: Sequence[dict[str, Any]], variables: Variables) -> None:
        """Check that a prompt holds all of its messages.

        Raises:
            UsageError: the template leaves one out.
        """
        if lost := self.left_out(messages, variables):
            which = ", ".join(f"{n + 1} ({messages[n]['role']})" for n in lost)
            raise UsageError(
                f"the chat template leaves out message {which} of the {len(messages)}, so the prompt is not whole; "
                "write the conversation as one user message, or set tokenizer.chat_template"
            )

    def student_ids(self, prompt: Prompt, variables: Variables | None = None) -> list[int]:
        """Return the token ids of the student's prompt x, up to where the assistant's reply begins or goes on.

        Args:
            prompt: the user turn, or messages.
            variables: the row's own, laid over those of all prompts.

        Raises:
            UsageError: the prompt is malformed, or the chat template refuses it, or leaves out a message.
        """
        messages, variables = self._messages(prompt), self._joined(variables)
        self._check_whole(messages, variables)
        return self.ids(messages, variables)

    def completion_ids(self, text: str, prompt: Prompt, variables: Variables | None = None) -> list[int]:
        """Return the ids of ``text`` as the whole reply to a prompt, as the template writes it.

        They go on from :meth:`student_ids`: with the block of an empty thought where the template writes one, or with
        the end of the thought that the prompt opens; and they end with the end-of-turn token, once. A thought in
        ``text`` is kept, except where the prompt says that there is none. Where the template does not write what the
        assistant says (it is for prompts alone, or reads other messages), the text follows the prompt as it is.

        Raises:
            UsageError: the prompt is malformed or refused by the template, or the text goes on behind an end of turn.
        """
        messages, variables, end = self._messages(prompt), self._joined(variables), self.end_of_turn_id
        text = self._without_end(text, self._token(end))
        begun = self.text(messages, variables)
        written = self._continued(messages, begun, text, variables)
        if not (self._writes_replies(messages, begun, variables) and _holds(written, text)):
            return [*self._following(begun, text, end), end]
        ids = self._following(begun, written, end)
        if end in ids:
            return ids[: len(ids) - ids[::-1].index(end)]
        return [*self._following(begun, written.removesuffix(self._tail), end), end]

    def _writes_replies(self, messages: list[dict[str, Any]], begun: str, variables: Variables) -> bool:
        """Return whether the template writes what the assistant says behind such messages (read once a pattern)."""
        key = ("reply", *self._pattern(messages, variables))
        if key not in self._lost:
            written = self._continued(messages, begun, MARK, variables)
            self._lost[key] = () if MARK.lower() in written.lower() else (0,)
        return not self._lost[key]

    def _without_end(self, text: str, end: str) -> str:
        """Return a reply without the tokens that end it: data sets of other trainers have them written out."""
        ends = {end, str(self.tokenizer.eos_token or end)}
        while (bare := text.rstrip()).endswith(tuple(ends)):
            text = bare.removesuffix(next(one for one in ends if bare.endswith(one)))
        if end in text:
            raise UsageError(
                f"the completion goes on behind {end!r}, which ends a reply; cut it there, or put turns into the prompt"
            )
        return text

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


def _holds(written: str, text: str) -> bool:
    """Return whether a template wrote what was said, whatever it does to case and white space."""
    said, there = (THOUGHT.sub("", part) for part in (reply_of(text) or text, written))
    return "".join(said.split()).casefold() in "".join(there.split()).casefold()


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
