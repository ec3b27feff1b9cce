"""From a reply to its turns: what every reader of answers does first."""

import re
from collections.abc import Callable, Iterator
from typing import Literal

QUESTIONS = "question|user|human|instruction"
"""Labels behind which a line, once the answer is given, asks something further."""

Thoughts = Literal["cut", "keep"]
"""What becomes of a reasoning model's thoughts before its reply is graded."""

# Bounded or anchored, so that no text makes them slow.
THOUGHT = re.compile(
    r"</?(?:\w{1,9}:)?(?:think|thinking|thought|reasoning)>|\[/?THINK\]|◁/?think▷|<think_o(?:n|ff)>"
    r"|<\|(?:(?:start|begin|end)_(?:of_)?(?:thinking|thought|think)|(?:thinking|thought|think)_(?:start|begin|end))\|>",
    re.IGNORECASE,
)
"""What opens or closes a thought, in the notations of reasoning models."""
_MARK = re.compile(
    r"<[|｜]/?(?!python|tool)[\w▁]{1,30}[|｜]>|</?(?:start|end)_of_turn>|\[/?INST\]|^<s>|</s>(?=[ \t]*(?:$|[A-Z<\[]))",
    re.MULTILINE,
)
_ROLE = re.compile(r"\s{0,9}(assistant|model|user|system|human)[ \t]{0,9}(?:\n|\Z)")


# The harmony format (gpt-oss): who writes to whom, in which channel, the text, and what ends it.
_MESSAGE = re.compile(
    r"(?:<\|start\|>(?P<from>[^<]{0,100}))?<\|channel\|>(?P<channel>(?:(?!<\|message\|>).){0,200})<\|message\|>"
    r"(?P<text>.*?)(?P<end><\|(?:end|return|call)\|>|(?=<\|start\|>)|\Z)",
    re.DOTALL,
)
_RECIPIENT = re.compile(r"\bto=(?:functions\.)?([\w.-]{1,100})")


def messages(text: str) -> str:
    """Return a reply in the harmony format as other models write: thoughts and calls in tags, other texts plain.

    What tools answer is left out. A reply in another format comes back as it is.
    """
    if "<|channel|>" not in text or "<|message|>" not in text:
        return text
    return "".join(_plain_message(match) for match in _MESSAGE.finditer(text)) or text


def _plain_message(match: re.Match[str]) -> str:
    author, channel, said = match["from"] or "assistant", match["channel"], match["text"]
    if not author.lstrip().startswith("assistant"):
        return ""
    if recipient := _RECIPIENT.search(f"{author} {channel}"):
        return f'<tool_call>{{"name": "{recipient[1]}", "arguments": {said}' + ("}</tool_call>" if match["end"] else "")
    if channel.lstrip().startswith("analysis"):
        return f"<think>{said}" + ("</think>" if match["end"] else "")
    return said


def closes(mark: str) -> bool:
    """Return whether a mark of a thought (a match of `THOUGHT`) closes it."""
    return any(sign in mark.lower() for sign in ("/", "end", "off"))


def reply_of(text: str) -> str:
    """Return an output without the thoughts that it begins with; empty where one was never closed.

    A thought that only closes, at the beginning of a line, was opened before the text. Marks further on stay, for a
    reply may speak of them.
    """
    start = 0
    while (mark := THOUGHT.search(text, start)) is not None:
        before = text[start : mark.start()]
        if closes(mark[0]):
            if before.rpartition("\n")[2].strip():
                break
            start = mark.end()
            continue
        if before.strip():
            break
        closing = next((m for m in THOUGHT.finditer(text, mark.end()) if closes(m[0])), None)
        if closing is None:
            return ""
        start = closing.end()
    return text[start:]


def graded_part(text: str, thoughts: Thoughts = "cut") -> str:
    """Return what of an output is graded: what it says after its thoughts, or all of it without their marks."""
    return reply_of(text) if thoughts == "cut" else THOUGHT.sub("\n", text)


def turns(
    text: str,
    labels: str = f"{QUESTIONS}|problem|q",
    masked: Callable[[str], str] = str,
    quoted: Callable[[str], str] | None = None,
) -> Iterator[str]:
    """Yield what the assistant says in a reply, turn by turn; most replies are one turn without any mark.

    A turn ends at a chat marker and where a line begins with a label such as ``Question:``, for models go on to ask
    and answer further questions. Blank turns are left out, and so are those of users and of the system where the
    assistant has some. What a reasoning model thinks is no part of its reply; a thought that was never closed reaches
    to the end.

    Args:
        text: a whole output.
        labels: alternatives of a pattern, without regard to case; empty where no label ends a turn.
        masked: returns a text of the same length without what may look like markup and is none.
        quoted: the same for labels, where these need another one.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    parts = list(_cut(THOUGHT, text, masked))
    reply = next((n for n, (tag, _) in reversed(list(enumerate(parts))) if tag and closes(tag)), 0)
    yield from _said(parts[reply][1], labels, masked, quoted or masked)


def _said(text: str, labels: str, masked: Callable[[str], str], quoted: Callable[[str], str]) -> Iterator[str]:
    asked = (
        re.compile(rf"(?im)^[ \t#*]{{0,9}}(?:{labels})[ \t*\d]{{0,8}}[:：]|^#{{1,4}} (?:{labels})[ \t\d]{{0,8}}$")
        if labels
        else None
    )
    speaker = "assistant"
    found: list[tuple[bool, str]] = []
    for mark, piece in _cut(_MARK, text, masked):
        name = mark.strip("<|｜>[]").lower()
        if name in ("user", "system", "inst"):
            speaker = "user"
        elif name in ("assistant", "/inst", "/s", "eot_id") or ("end" in name and name != "end_header_id"):
            speaker = "assistant"
        if mark and (role := _ROLE.match(piece)):
            speaker, piece = role[1], piece[role.end() :]
        said = _cut(asked, piece, quoted) if asked else [("", piece)]
        found += [(speaker in ("assistant", "model"), part) for _, part in said if part.strip()]
    own = any(assistant for assistant, _ in found)
    yield from (part for assistant, part in found if assistant or not own)


def _cut(pattern: re.Pattern[str], text: str, masked: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Yield the parts of a text between the matches of a pattern, each with the match before it."""
    mark, end = "", 0
    for match in pattern.finditer(masked(text)):
        yield mark, text[end : match.start()]
        mark, end = match[0], match.end()
    yield mark, text[end:]
