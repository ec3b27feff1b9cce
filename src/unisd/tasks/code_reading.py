"""Reading the Python program out of an output, as a person would."""

import html
import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unisd.tasks.python_source import Program, bound, defined, parse, stacked, without_examples, without_refused
from unisd.tasks.stance import rejected, rejects
from unisd.tasks.turns import QUESTIONS, turns


def extract_code(text: str, names: Sequence[str], cut: bool = False) -> str | None:
    """Read the program out of an output as a person would; None where there is none that Python can parse.

    Of the fenced blocks, then of the text between prose, the last one counts that defines one of ``names`` with a body;
    where none does, the last one that defines functions or classes of other names. Helpers and imports that it lacks
    come from the other blocks. One that its writer calls wrong or warns of ("Don't do this:", "# wrong") counts only
    where there is no other. Left out are thoughts (``<think>``), turns after the first with a program, prompts
    (``>>>``), tests and usage examples at module level, and what the length limit cut off; there is no program where it
    cut the wanted function itself. Programs in tags and in JSON strings are found too. ``cut`` says that the length
    limit ended the output: then the statement at its end, which may go on, is no part of the program.

    Never raises, and takes time in proportion to the length of ``text``.
    """
    said = list(_turns(text))
    for number, turn in enumerate(said, start=1):
        if (program := _read_turn(turn, names, cut=cut and number == len(said))) is not None:
            return program
    return None


def blocks(text: str, cut: bool = False) -> Iterator[str]:
    """Yield the contents of all fenced blocks of an output, the text between them, and its parts; as they stand.

    For tasks whose answers need not be whole programs. Thoughts and other turns are left out, and so is the block that
    the length limit ended where the output was ``cut``.
    """
    found = [block for turn in _turns(text) for block in _blocks(turn.split("\n"))]
    yield from (block.code for block in (found[:-1] if cut else found))


# From the output to blocks

_FENCE = re.compile(r"`{3,}|~{3,}")
_CLOSED = re.compile(r"^[ \t]{0,9}(`{3,}|~{3,}).*?(?:^[ \t]{0,9}\1|\Z)", re.DOTALL | re.MULTILINE)
_TAG = re.compile(r"[ \t]*\{?\.?[\w.+#-]{1,20}\}?[ \t]*")
_LANGUAGE = re.compile(r"(?i)[ \t]*(?:python|py)[\d.]{0,4}:?(?=[ \t]|\Z)")
_STATEMENT = re.compile(
    r"(?:async[ \t]+)?def[ \t]+\w|class[ \t]+\w|import[ \t]+\w|from[ \t]+[\w.]+[ \t]+import\b|@\w|try:|global[ \t]"
    r"|for[ \t]+\S.{0,80}[ \t]in[ \t]|(?:if|while|with)[ \t]+\S.*:[ \t]*$|[A-Za-z_]\w*\.\w+\("
    r"|[A-Za-z_][\w.]*(?:\[[^\]\n]{0,80}\])?[ \t]*(?::[^=\n]{1,80})?(?:[-+*/|&]|//|\*\*)?=(?!=)"
)
_DEFINES = re.compile(r"(?:@|(?:async[ \t]+)?def[ \t]+(\w+)[ \t]*\(|class[ \t]+(\w+)[ \t]*[(:])")
_GOES_ON = re.compile(r"(?:else|elif|except|finally)\b|[)\]}#]|\"\"\"|'''")
_PROMPT = re.compile(r"(?:>>>|\.\.\.|In \[\d{1,4}\]:) ?")
_ELEMENT = re.compile(r"</?(?:code|pre|python|answer|solution|program|p|br)(?:[ \t][^<>\n]{0,80})?/?>", re.IGNORECASE)
_INLINE = re.compile(r"`([^`\n]*(?:\bdef |\blambda\b)[^`\n]*)`")


@dataclass(frozen=True)
class _Block:
    code: str
    fenced: bool
    closed: bool
    span: tuple[int, int]
    """Its lines."""


def _turns(text: str) -> Iterator[str]:
    text = text.replace("<|python_tag|>", "\n").replace("\0", "").replace("\ufeff", "")
    return turns(text, QUESTIONS, quoted=_after_blocks)


def _after_blocks(text: str) -> str:
    """Return a text with null characters for its blocks and what stands before: a label in a program ends no turn."""
    parts, end = [], 0
    for match in _CLOSED.finditer(text):
        parts += [text[end : match.start()] if end else "\0" * match.start(), "\0" * (match.end() - match.start())]
        end = match.end()
    return "".join(parts) + (text[end:] if end else "\0" * len(text))


def _blocks(lines: Sequence[str]) -> list[_Block]:
    """Return the fenced blocks and the text between them, in order; the last fence may never be closed."""
    found: list[_Block] = []
    held: list[str] = []
    fence, start = "", 0

    def flush(end: int, closed: bool = True) -> None:
        found.append(_Block("\n".join(held), bool(fence), closed, (start, end)))
        held.clear()

    for number, line in enumerate(lines):
        mark = _FENCE.search(line)
        before, after = (line[: mark.start()], line[mark.end() :]) if mark else (line, "")
        if not mark or (fence and not (mark[0].startswith(fence) and (not after.strip() or _opens(before, after)))):
            held.append(line)
            continue
        if before.strip():
            held.append(before)
        flush(number)
        opening = not fence or bool(after.strip())
        fence, start = (mark[0] if opening else ""), number + 1
        if opening:
            inner, closing, rest = after.partition(fence)
            if code := _without_tag(inner):
                held.append(code)
            if closing:  # opened and closed in one line
                flush(number + 1)
                fence = ""
                held.append(rest)
    flush(len(lines), closed=False)
    return found


def _opens(before: str, after: str) -> bool:
    """Return whether a fence inside a block opens the next one, since the block was never closed."""
    return not before.strip() and _TAG.fullmatch(after) is not None


def _without_tag(info: str) -> str:
    """Return the code that stands behind a fence's language in the same line."""
    info = _LANGUAGE.sub("", info, count=1)
    return "" if _TAG.fullmatch(info) or not _STATEMENT.match(info.lstrip()) else info.lstrip()


def _read_turn(text: str, names: Sequence[str], nested: bool = False, cut: bool = False) -> str | None:
    if (program := _choose(text, names, cut)) is not None:
        return program
    if _ELEMENT.search(text) and (program := _choose(html.unescape(_ELEMENT.sub("\n", text)), names, cut)) is not None:
        return program
    if not nested:
        for inner in [*_strings_in_json(text), *_INLINE.findall(text)]:
            if (program := _read_turn(inner, names, nested=True)) is not None:
                return program
    return None


def _strings_in_json(text: str) -> list[str]:
    found: list[str] = []
    bodies = [block.code for block in _blocks(text.split("\n")) if block.fenced]
    for body in [*bodies, text[text.find("{") : text.rfind("}") + 1]]:
        if not body.lstrip().startswith(("{", "[")):
            continue
        try:
            values: list[Any] = [json.loads(body, strict=False)]
        except (ValueError, RecursionError):
            continue
        while values:
            value = values.pop()
            if isinstance(value, str):
                found.extend(_turns(value))
            elif isinstance(value, dict | list):
                values.extend(value.values() if isinstance(value, dict) else value)
    return found


# From blocks to a program


def _choose(text: str, names: Sequence[str], cut: bool) -> str | None:
    """Return the program that a text means, with what it needs of the other ones; None if no block is a program."""
    lines = text.split("\n")
    found = _blocks(lines)
    if cut and found:
        written = found[-1].code.split("\n")
        found[-1] = replace(found[-1], code="\n".join(written[: _groups(written)[-1][0]]))
    programs = [program for place in range(len(found)) if (program := _program(lines, found, place, names))]
    wanted = [n for n, program in enumerate(programs) if any(defined(program.tree, name) for name in names)]
    others = [n for n, p in enumerate(programs) if p.defines and p.defines.isdisjoint(names)]
    for group in (wanted,) if cut else (wanted, others):
        # Behind a cut there was more to come: a better version, or the wanted function itself.
        if meant := [n for n in group if not programs[n].refused] or ([] if cut else group):
            fenced = [n for n in meant if programs[n].fenced]
            return _joined((fenced or meant)[-1], programs, names)
    return None


def _program(lines: Sequence[str], found: Sequence[_Block], place: int, names: Sequence[str]) -> Program | None:
    block = found[place]
    program = _read_block(block.code, names, cut=not block.closed)
    if program is None and block.fenced and (block.code.count('"""') % 2 or block.code.count("'''") % 2):
        # A docstring shows a fenced example: the block ends at a later fence.
        start = block.span[0]
        for later in found[place + 1 : place + 5]:
            program = program or _read_block("\n".join(lines[start : later.span[1]]), names, cut=not later.closed)
    if program is None:
        return None
    program = without_refused(program, names)
    beside = ["" if not 0 <= n < len(found) or found[n].fenced else found[n].code for n in (place - 1, place + 1)]
    refused = program.refused or (block.fenced and (rejects(beside[0]) or rejected(beside[1])))
    return replace(program, fenced=block.fenced, refused=refused)


def _read_block(code: str, names: Sequence[str], cut: bool) -> Program | None:
    lines = code.split("\n")
    first = next((n for n, line in enumerate(lines) if line.strip() and not _LANGUAGE.fullmatch(line.rstrip())), 0)
    lines = lines[first:]
    if lines and all(line.startswith(">") and not line.startswith(">>>") for line in lines if line.strip()):
        lines = [line[1:].removeprefix(" ") for line in lines]
    code = textwrap.dedent("\n".join(lines))
    for variant in dict.fromkeys((code, code.expandtabs(4), code.expandtabs(8), code.replace("\xa0", " "))):
        if (tree := parse(variant)) is not None:
            return Program(variant, tree) if tree.body else None
    program = _salvage(code.split("\n"), names, cut)
    if program is None and (prompts := [_PROMPT.match(line) for line in code.split("\n")]) and any(prompts):
        typed = [m.string[m.end() :] for m in prompts if m]
        program = _salvage(typed, names, cut)
    return program


def _salvage(lines: Sequence[str], names: Sequence[str], cut: bool) -> Program | None:
    """Return the statements that stand between prose; None if one of them is broken.

    The last may be broken where the text was ``cut``, as may a definition that comes again whole (an echoed signature).
    """
    groups = _groups(lines)
    kept: list[str] = []
    warned: list[str] = []  # what the prose before it calls wrong
    broken: set[str] = set()
    place = 0
    while place < len(groups):
        start, _, is_code = groups[place]
        place += 1
        if not is_code:
            continue
        # Brackets and strings may go on in lines that look like prose.
        for further, (_, reach, _) in enumerate(groups[place - 1 : place + 5]):
            source = textwrap.dedent("\n".join(lines[start:reach]))
            if (tree := parse(source)) is not None:
                prose = groups[place - 2] if place > 1 and not groups[place - 2][2] else (0, 0, False)
                warned += [source] * rejects("\n".join(lines[prose[0] : prose[1]]))
                kept.append(source)
                place += further
                break
        else:
            last = not any(code for _, _, code in groups[place:])
            if (name := _DEFINES.match(lines[start].lstrip())) and not (cut and last):
                broken.add(name[1] or name[2] or "")
    right = parse("\n".join(source for source in kept if source not in warned)) if warned else None
    if right is not None and any(defined(right, name) for name in names):
        kept = [source for source in kept if source not in warned]
    source = "\n".join(kept)
    tree = parse(source)
    if tree is None or not tree.body or broken - bound(tree.body):
        return None
    return Program(source, tree)


def _groups(lines: Sequence[str]) -> list[tuple[int, int, bool]]:
    """Split lines into statements and what stands between them: (first line, line behind the last, whether code)."""
    groups: list[tuple[int, int, bool]] = []
    margin = -1  # of the statement that the last group holds; -1 where that is prose
    decorated = False
    for number, line in enumerate(lines):
        stripped = line.lstrip()
        indent = len(line) - len(stripped)
        inside = margin >= 0 and (not stripped or indent > margin or decorated or bool(_GOES_ON.match(stripped)))
        starts = not inside and _STATEMENT.match(stripped) is not None
        if starts:
            margin = indent
        elif not inside:
            margin = -1
        if groups and not starts and (inside or not groups[-1][2]):
            groups[-1] = (groups[-1][0], number + 1, groups[-1][2])
        else:
            groups.append((number, number + 1, starts))
        decorated = (starts or decorated) and stripped.startswith("@")
    return groups


def _joined(place: int, programs: Sequence[Program], names: Sequence[str]) -> str:
    """Return one program without examples, behind the others that bind what it needs (the latest before it)."""
    owners: dict[str, int] = {}
    for number in [*reversed(range(place + 1, len(programs))), *range(place)]:
        owners |= dict.fromkeys(programs[number].binds, number)
    source = without_examples(programs[place], names, owners)
    tree = parse(source)
    main = programs[place] if tree is None else Program(source, tree)
    needed, known, helpers = list(main.needs), set(main.binds), set[int]()
    while needed:
        name = needed.pop()
        if name not in known and name in owners and owners[name] not in helpers:
            helpers.add(owners[name])
            needed.extend(programs[owners[name]].needs)
        known.add(name)
    if not helpers:
        return source
    source = stacked([*(programs[number].source.strip("\n") for number in sorted(helpers)), source])
    joined = parse(source)
    return source if joined is None else without_examples(Program(source, joined), names)
