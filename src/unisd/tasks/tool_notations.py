"""How chat models are trained to write calls of tools, each rewritten as ``<tool_call>`` and JSON.

Qwen and Hermes write just that. Llama writes ``<|python_tag|>`` before JSON or Python, Mistral
``[TOOL_CALLS]name[ARGS]``, Gemma ``<start_function_call>call:name{...}``; DeepSeek and Kimi a name between markers, GLM
a name and ``<arg_key>`` tags,
gpt-oss a message to a recipient; Command-R, Phi, Granite and others JSON between markers. What a tool answered is left
out: a reply invents it.
"""

import json
import re
from functools import lru_cache
from typing import Any

from unisd.tasks.lenient_json import UnreadableError, value_at
from unisd.tasks.turns import messages

# Bounded or anchored, so that no text makes them slow.
_BAR, _JOINT = "[|｜]", "[▁_]"
_NAME = r"(?P<name>[A-Za-z_$][\w.$/-]{0,100})"
_RESULTS = re.compile(
    r"<(?P<tag>tool_response|function_results?|tool_results?|tool_output)>.*?(?:</(?P=tag)>|\Z)"
    r"|\[TOOL_RESULTS\].*?(?:\[/TOOL_RESULTS\]|\Z)|```tool_outputs?\b.*?(?:```|\Z)"
    rf"|<{_BAR}tool{_JOINT}outputs?{_JOINT}begin{_BAR}>.*?(?:<{_BAR}tool{_JOINT}outputs{_JOINT}end{_BAR}>|\Z)"
    r"|<start_function_response>.*?(?:<end_function_response>|\Z)|<\|(?:observation|tool_response>|START_TOOL_RESULT\|>).*"
    r"|(?:^|(?<=\n))[ \t>#*_`•-]{0,12}(?i:observations?)[ \t]?\d{0,3}[*_ \t]{0,4}[:：][ \t*]*"
    r"(?:\n[ \t]*)?(?:```.*?(?:```|\Z)|[^\n]*)",
    re.DOTALL,
)
_MARKS = re.compile(
    r"<\|(?:python_tag|python_start|python_end|tool_call_start|tool_call_end)\|>|<end_function_call>|<tool_call\|>"
)
_NAMED = re.compile(
    rf"(?:\[TOOL_CALLS\]|<{_BAR}tool{_JOINT}call{_JOINT}begin{_BAR}>(?:function<{_BAR}tool{_JOINT}sep{_BAR}>)?"
    r"|<tool_call>|<start_function_call>call:|<\|tool_call>call:|\A(?=\s*\w+_))"
    rf"\s{{0,9}}(?:functions\.)?{_NAME}(?::\d{{1,4}})?"
    rf"(?:\[CALL_ID\]\w{{0,40}})?(?:\[ARGS\]|<{_BAR}tool{_JOINT}(?:sep|call{_JOINT}argument{_JOINT}begin){_BAR}>)?"
    r"\s{0,9}(?:```json\s{0,9})?(?=\0)"
)
_PAIRED = re.compile(
    rf"<tool_call>\s{{0,9}}{_NAME}\s{{0,9}}(?P<pairs>(?:<arg_key>(?:(?!</?arg_).)*</arg_key>\s{{0,9}}"
    r"<arg_value>(?:(?!</?arg_).)*</arg_value>\s{0,9})*)</tool_call>",
    re.DOTALL,
)
_PAIR = re.compile(r"<arg_key>(.*?)</arg_key>\s{0,9}<arg_value>(.*?)</arg_value>", re.DOTALL)


@lru_cache(maxsize=16)  # every step of reading a reply looks at the same few texts
def masked(text: str) -> str:
    """Return a text in which null characters stand for its JSON objects, so that no markup is found in their texts."""
    parts, at, end = [], 0, 0
    while (at := text.find("{", at)) >= 0:
        try:
            start, at = at, value_at(text, at)[1]
        except UnreadableError as error:
            at = max(error.at, at + 1)
            continue
        parts += [text[end:start], "\0" * (at - start)]
        end = at
    return "".join([*parts, text[end:]])


def plainly(text: str) -> str:
    """Return a reply without what tools answered, its calls written as ``<tool_call>`` and JSON.

    Never raises, and takes time in proportion to the length of ``text``.
    """
    text = messages(text.replace("\0", "")).replace("\r\n", "\n")
    if "<escape>" in text or '<|"|>' in text:
        text = text.replace("<escape>", '"').replace('<|"|>', '"')
    text = _without(_RESULTS, text)
    text = _without(_MARKS, text)
    text = _PAIRED.sub(_of_pairs, text)
    parts, end = [], 0
    shown = masked(text)
    for match in _NAMED.finditer(shown):
        stop = match.end()
        while shown[stop : stop + 1] == "\0":
            stop += 1
        parts += [
            text[end : match.start()],
            "\n<tool_call>",
            _call(match["name"], text[match.end() : stop]),
            "</tool_call>\n",
        ]
        end = stop
    return "".join([*parts, text[end:]])


def _without(pattern: re.Pattern[str], text: str) -> str:
    parts, end = [], 0
    for match in pattern.finditer(masked(text)):
        parts.append(text[end : match.start()])
        end = match.end()
    return "\n".join([*parts, text[end:]])


def _of_pairs(match: re.Match[str]) -> str:
    given = {key.strip(): _json_or_text(value.strip()) for key, value in _PAIR.findall(match["pairs"])}
    return f"<tool_call>{_call(match['name'], json.dumps(given))}</tool_call>"


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _call(name: str, arguments: str) -> str:
    return f'{{"name": "{name}", "arguments": {arguments}}}'
