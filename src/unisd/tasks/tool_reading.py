"""Reading the calls of tools out of an output, as a person would."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from unisd.tasks.lenient_json import CUT, OPENS, UnreadableError, members_at, value_at
from unisd.tasks.stance import rejected, rejects, taken_back
from unisd.tasks.tool_notations import masked, plainly
from unisd.tasks.turns import QUESTIONS, turns


@dataclass(frozen=True)
class Call:
    """One action."""

    name: str
    arguments: Mapping[str, Any]
    """JSON values by name. What was given but is no JSON object stands under the empty name, which no tool has."""
    optional: bool = False
    """Of a gold call: an answer is right with and without it."""


def extract_calls(text: str, cut: bool = False, warned: bool = False) -> list[Call] | None:
    """Read the calls out of an output, in order, as a person would; None where there is none.

    Lines ``Action:`` with ``Action Input:`` come first; only an output without such a call is read as JSON (calls in
    ``<tool_call>`` tags, else in code fences, else anywhere), after the notations that chat models are trained on
    (:mod:`unisd.tasks.tool_notations`): ``<function=name>`` tags, and lines of calls as in Python,
    ``[name(key="value")]``. Labels may be numbered, in lower case, in bold, or on one line; JSON may be written as
    :mod:`unisd.tasks.lenient_json` says; an input may also be lines ``key: value``. A missing input, or one that says
    "none", is {}. An action in prose ("Action: I will search") is no call. Labels, fences, and markers inside a JSON
    object that can be read are part of its texts.

    *Every* action of the answer counts, also one that follows an invented ``Observation:``, and a repeated one: several
    calls, even equal ones, can be asked for, and none is ever answered here. What an observation or a tool's response
    quotes is none, nor is what the writer warns of or takes back. The answer ends at ``Final Answer:``, at a chat
    marker,
    and where a further ``Question:`` begins. What a reasoning model thinks does not count. ``cut`` says that the length
    limit ended the output: where it ended a call, there is no answer. ``warned`` says that
    calls that the writer calls wrong are wanted, too.

    Never raises, and takes time in proportion to the length of ``text``.
    """
    text = plainly(text.replace(CUT, "")) + CUT * cut
    for turn in turns(text, QUESTIONS, masked=masked):
        try:
            if (
                calls := _react_calls(turn, warned)
                or _tagged_calls(turn)
                or _python_calls(turn)
                or _json_calls(turn, warned)
            ):
                return calls
        except _CutError:
            return None
        if not turn.rstrip().endswith("Begin!"):  # what comes before the answer can only be the echo of a prompt
            return None
    return None


class _CutError(Exception):
    """The length limit ended a call."""


# The patterns below are bounded or anchored, so that no text makes them slow.
_MARKS = r"[ \t>#*_`•-]{0,12}"
_INPUT = r"action[ \t]?#?\d{0,3}[ \t_-]?inputs?|inputs?|arguments?|parameters?"
_LABEL = re.compile(
    rf"(?im)^{_MARKS}(?:(?:step[ \t]?)?\d{{1,3}}[.):]?[ \t]?)?{_MARKS}(?:(?P<input>{_INPUT})|(?P<action>action)|"
    r"(?P<final>final[ \t_]?answer)|(?P<other>thoughts?|observations?))"
    r"[ \t]?#?\d{0,3}[ \t]?[*_`]{0,3}[ \t]?[:：](?:(?!```)[*_`]){0,3}"
    # within a line only where both labels follow each other, for "Action:" is also a word
    r"|(?<=[\s.!?;,])(?:(?P<input2>action[ _]?input)|(?P<action2>(?-i:Action)))[*_`]{0,3}:[*_`]{0,3}"
    r"(?(action2)(?=[^\n:]{1,100}(?:\n[ \t*_`]{0,9})?\bAction[ _]?Input\b))"
)
_FENCE = re.compile(r"```[\w-]{0,20}[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_NAME = re.compile(
    r"(?i:\[optional\]|(?:use|call|calling|invoke|run|the)[ \t]){0,3}[\"'`*\[<]{0,4}"
    r"(?P<name>\d{0,9}[A-Za-z_$][\w.$/-]*(?:::[\w.$/-]+){0,9})(?P<rest>.*)"
)
_OBJECT = re.compile(r"[ \t\"'`*]*[\[(]?\s*\{")
_FENCED_OBJECT = re.compile(r"(?:```[\w-]{0,20}\s*)?\{")
_AFTER_NAME = re.compile(r"[ \t\"'`*\]>.,;|]*(?:(?i:tool|function|action|api)\b.*|[(–—-].*)?")
_IDENTIFIER = re.compile(r"[a-z\d][A-Z]|_")
_NO_ACTION = {"none", "n/a", "na", "no", "nothing", "null", "finish", "final", "done"}
_NO_INPUT = re.compile(
    r"(?i)[(\"'<\[]?(?:none|null|n/?a|nil|empty|not (?:applicable|required|needed)|"
    r"no (?:\w{1,20} ){0,2}(?:inputs?|parameters?|arguments?))\b.*|[-–—]?"
)


def _react_calls(text: str, warned: bool) -> list[Call]:
    """Return the calls that lines name."""
    calls: list[Call] = []
    pending: Call | None = None  # an action whose input has not come yet
    labels = list(_LABEL.finditer(masked(text)))
    for label, following in zip(labels, [*labels[1:], None], strict=False):
        content = text[label.end() : following.start() if following else None]
        if label["final"]:
            break
        if label["action"] or label["action2"]:
            calls += [pending] if pending else []
            whole, pending = _action(content)
            calls += whole
            if CUT in content and not whole:
                raise _CutError
        elif pending and not label["other"]:
            if CUT in content and "\0" not in masked(content):
                raise _CutError
            if warned or not taken_back(content):
                calls.append(Call(pending.name, _arguments(content) or pending.arguments))
            pending = None
    return calls + ([pending] if pending else [])


def _action(content: str) -> tuple[list[Call], Call | None]:
    """Read what follows ``Action:``: whole calls in JSON, or a name (with arguments behind or below it, if any)."""
    content = content.strip().replace("\\_", "_")
    if content.startswith(("{", "[", "```")):
        if calls := _json_calls(content):
            return calls, None
        content = _FENCE.sub(r"\1", content, count=1).strip()
    match = _NAME.match(content.partition("\n")[0])
    if not match or match["name"].lower() in _NO_ACTION:
        return [], None
    name, rest = match["name"].rstrip(".-/"), match["rest"]
    if not (_AFTER_NAME.fullmatch(rest) or _IDENTIFIER.search(name) or _OBJECT.match(rest)):
        return [], None  # prose
    return [], Call(name, _unlabelled(content[match.end("name") :], rest))


def _unlabelled(after: str, rest: str) -> Mapping[str, Any]:
    """Read arguments that follow a name without a label; ``rest`` is what follows it on the same line."""
    after = after.lstrip("`\"'* ")
    if after.startswith("(") and not rest.strip("`\"'* ").startswith("()"):
        try:
            return members_at(after, 1, ")")[0]
        except UnreadableError:
            if "{" in rest:
                return _arguments(after)
    elif _OBJECT.match(rest):
        return _arguments(after)
    below = after.partition("\n")[2].strip()
    if _FENCED_OBJECT.match(below):
        return _arguments(below)
    try:
        return members_at(below, 0, "}")[0]
    except UnreadableError:
        return {}


def _arguments(content: str) -> Mapping[str, Any]:
    """Read what follows ``Action Input:``."""
    if fence := _FENCE.search(masked(content)):
        inside = content[fence.start(1) : fence.end(1)]
        content = inside if inside.strip() else content[: fence.start()]
    said = content.strip(" \t\n*`")
    if _NO_INPUT.fullmatch(said.partition("\n")[0].strip(" \t*`")):
        return {}
    if said[:1] == '"' and '\\"' in said:
        with contextlib.suppress(UnreadableError):
            said = str(value_at(said, 0)[0])  # an object in a JSON text
    for start in dict.fromkeys((max(said.find("{"), 0), max(said.find("["), 0))):
        try:
            value = value_at(said, start)[0]
        except UnreadableError:
            continue
        if isinstance(value, dict):
            return value
        if isinstance(value, list) and len(value) < 2 and all(isinstance(item, dict) for item in value):
            return value[0] if value else {}
    try:
        return members_at(said, 0, "}")[0]  # "a": 1, "b": 2 without its brackets
    except UnreadableError:
        pass
    # An input begins on the label's line or on the next one; what comes later is prose.
    return _listed(said) or ({} if _PROSE.match(content) else {"": said})


_PROSE = re.compile(r"[ \t*`]*\n[ \t]*\n")
_PARAGRAPH = re.compile(r"\n[ \t]*\n")
_NEXT_ITEM = re.compile(r"\n|,[ \t]*(?=\w{1,60}[ \t]?[:=])")
_ITEM = re.compile(r"[ \t]*(?:[-*•][ \t]+)?[\"'`*]{0,3}(\w[\w.-]{0,60})[\"'`*]{0,3}[ \t]?[:=](?!//)[ \t*]*(\S.*)")


def _listed(said: str) -> dict[str, Any]:
    """Read lines ``key: value`` or ``- key: value``, with or without quotes; {} where a line is none."""
    found = {}
    for line in _NEXT_ITEM.split(_PARAGRAPH.split(said, maxsplit=1)[0]):
        match = _ITEM.fullmatch(line)
        value = _json_or_text(match[2].strip().removesuffix(",").strip("`")) if match else ""
        if not match or (isinstance(value, str) and value.startswith(('"', "'", "{", "[", "“"))):
            return {}
        found[match[1]] = value
    return found


def _json_or_text(text: str) -> Any:
    """Return the JSON value that a text is as a whole, else the text."""
    with contextlib.suppress(UnreadableError):
        value, end = value_at(text, 0)
        if end == len(text):
            return value
    return text


# What chat models are trained to write.

_TAGGED = re.compile(
    r"<(?:function|invoke)(?:=|[ \t]name=)[\"']?(?P<name>[^\s\"'<>]{1,100})[\"']?>"
    r"(?P<body>.*?)(?:</(?:function|invoke)>|\Z)",
    re.DOTALL,
)
_PARAMETER = re.compile(
    r"<parameter(?:=|[ \t]name=)[\"']?([^\s\"'<>]{1,100})[\"']?>(.*?)(?:</parameter>|(?=<parameter[= ])|\Z)", re.DOTALL
)


def _tagged_calls(text: str) -> list[Call]:
    """Return calls like ``<function=name>{"key": "value"}</function>``, or with ``<parameter=key>`` tags inside."""
    calls = []
    for match in _TAGGED.finditer(masked(text)):
        body = text[match.start("body") : match.end("body")]
        if CUT in body and "\0" not in match["body"]:
            raise _CutError
        given = {found[1]: _json_or_text(found[2].strip()) for found in _PARAMETER.finditer(body)}
        calls.append(Call(match["name"], given or _arguments(body)))
    return calls


_CALLED = re.compile(
    r"(?m)(?:(?P<more>[,;][ \t]?)|<\|python_tag\|>|^[ \t`]{0,4}(?:\[[ \t]?)?)(?:print\()?"
    r"(?P<name>(?!print\()[A-Za-z_][\w.]{0,100})\("
)
_AFTER_CALL = re.compile(r"[ \t\])`]{0,9}(?:[,;]?[ \t]{0,9}(?:[\n<]|\Z)|[,;][ \t]?(?:print\()?[A-Za-z_][\w.]{0,100}\()")


def _python_calls(text: str) -> list[Call]:
    """Return calls like ``[name(key="value"), other()]`` that stand alone on their lines; those in prose are none."""
    calls: list[Call] = []
    shown, at = masked(text), 0
    end = -1  # of the call before
    while match := _CALLED.search(shown, at):
        at = match.end()
        if match["more"] and match.start() != end:
            continue
        try:
            arguments, after = members_at(text, at, ")")
        except UnreadableError as error:
            at = max(error.at, at)
            continue
        if _AFTER_CALL.match(text, after):
            calls.append(Call(match["name"].removesuffix(".call"), arguments))
            at = end = after
    return calls


_NAME_KEYS = ("name", "action", "tool", "toolname", "function", "functionname", "api", "apiname", "actionname")
_ARGUMENT_KEY = re.compile(r"(?:tool|action|function|call)?(?:arguments?|args|parameters?|params|input|kwargs)")
_LIST_KEYS = ("toolcalls", "toolcall", "functioncall", "functioncalls", "calls", "actions", "steps", "answer", "output")
_ASIDE_KEYS = {"id", "type", "thought", "index"}


def _json_calls(text: str, warned: bool = False) -> list[Call]:
    """Return the calls that JSON values name."""
    text = text[max(masked(text).find("<tool_call>"), 0) :]
    fenced, end = [], 0
    for fence in _FENCE.finditer(masked(text)):
        fenced += [text[fence.start(1) : fence.end(1)]] * (warned or not rejects(text[end : fence.start()]))
        end = fence.end()
    for part in ("\n".join(fenced), text):
        calls, end = list[Call](), 0
        for value, start, after in _values(part):
            if named := _calls_in(value):
                before = part[max(end, start - 300) : start]
                calls += named if warned or not (rejects(before) or rejected(part[after : after + 300])) else []
            end = after
        if calls:
            return calls
    return []


def _values(text: str) -> Iterator[tuple[Any, int, int]]:
    """Yield the JSON objects and lists in a text with their places; what is no JSON is passed over."""
    at = 0
    while match := OPENS.search(text, at):
        try:
            value, at = value_at(text, match.start())
        except UnreadableError as error:
            at = max(error.at, match.end())
            if text.endswith(CUT) and not _CLOSES.search(text, at):
                raise _CutError from error
            continue
        yield value, match.start(), at


_CLOSES = re.compile(r"[\]}]")


def _calls_in(value: Any) -> list[Call]:
    """Return the calls that a JSON value holds."""
    if isinstance(value, list):
        return [call for item in value for call in _calls_in(item)]
    if not isinstance(value, dict):
        return []
    keys = {re.sub(r"[\s_-]", "", key).lower(): key for key in value}
    for key in (*_LIST_KEYS, *_NAME_KEYS):
        if key in keys and isinstance(value[keys[key]], dict | list) and (calls := _calls_in(value[keys[key]])):
            return calls
    named = next((key for key in _NAME_KEYS if key in keys and isinstance(value[keys[key]], str)), None)
    given = next((key for key in keys if _ARGUMENT_KEY.fullmatch(key)), None)
    # {"name": "Paris", "year": 2024} are arguments, {"name": "getRandomCat"} is a call.
    if named is None or (given is None and named == "name" and not {"name", *_ASIDE_KEYS} >= keys.keys()):
        return []
    match = _NAME.fullmatch(value[keys[named]].strip().removesuffix("()"))
    if match is None or match["rest"] or match["name"].lower() in _NO_ACTION:
        return []
    arguments = value[keys[given]] if given else {}
    if isinstance(arguments, dict) and arguments.get("type") == "object" and "properties" in arguments:
        return []  # a tool's documentation
    if isinstance(arguments, str):
        arguments = _arguments(arguments)
    return [Call(match["name"], arguments if isinstance(arguments, dict) else {"": arguments} if arguments else {})]
