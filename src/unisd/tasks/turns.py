"""From a reply to its turns: what every reader of answers does first."""

import re
from collections.abc import Callable, Iterator

QUESTIONS = "question|user|human|instruction"
"""Labels behind which a line, once the answer is given, asks something further."""

# Bounded or anchored, so that no text makes them slow.
_THOUGHT = re.compile(r"<(/?)(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_MARK = re.compile(
    r"<[|｜]/?(?!python|tool)[\w▁]{1,30}[|｜]>|</?(?:start|end)_of_turn>|\[/?INST\]|^<s>|</s>(?=[ \t]*(?:$|[A-Z<\[]))",
    re.MULTILINE,
)
_ROLE = re.compile(r"\s{0,9}(assistant|model|user|system|human)[ \t]{0,9}(?:\n|\Z)")


def turns(
    text: str,
    labels: str = f"{QUESTIONS}|problem|q",
    thoughts: bool = True,
    masked: Callable[[str], str] = str,
) -> Iterator[str]:
    """Yield what the assistant says in a reply, turn by turn; most replies are one turn without any mark.

    A turn ends at a chat marker and where a line begins with a label such as ``Question:``, for models go on to ask
    and answer further questions. Blank turns are left out, and so are those of users and of the system where the
    assistant has some. What a reasoning model thinks comes last, in the turns of the whole text: it counts where the
    reply itself says nothing.

    Args:
        text: a whole output.
        labels: alternatives of a pattern, without regard to case; empty where no label ends a turn.
        thoughts: whether thoughts come at all; a thought that was never closed reaches to the end.
        masked: returns a text of the same length without what may look like markup and is none.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    parts = list(_cut(_THOUGHT, text, masked))
    reply = next((n for n, (tag, _) in reversed(list(enumerate(parts))) if tag.startswith("</")), 0)
    yield from _said(parts[reply][1], labels, masked)
    if thoughts and len(parts) > 1:
        yield from _said("\n".join(part for _, part in parts), labels, masked)


def _said(text: str, labels: str, masked: Callable[[str], str]) -> Iterator[str]:
    asked = re.compile(rf"(?im)^[ \t#*]{{0,9}}(?:{labels})[ \t*\d]{{0,8}}[:：]") if labels else None
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
        said = _cut(asked, piece, masked) if asked else [("", piece)]
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
