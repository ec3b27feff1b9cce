"""``unisd list``: see `unisd.cli.known` for how it answers at once."""

import argparse
import json
import textwrap
from typing import Any

from unisd.cli.answer import Answer
from unisd.cli.known import SORTS, Entry
from unisd.cli.terminal import terminal_width

EXAMPLE = """example:
  unisd list recipes
  unisd list settings temperature
  unisd list settings teacher.
  unisd list models --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("what", choices=tuple(SORTS), help=", ".join(SORTS))
    parser.add_argument("word", nargs="?", help="only what has this in its name, or else in what is said of it")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--quiet", action="store_true", help="names alone")


def run(arguments: argparse.Namespace) -> Answer:
    """List."""
    everything = SORTS[arguments.what]()
    found = everything if arguments.word is None else matching(everything, arguments.word)
    if not found:
        from unisd.errors import UsageError
        from unisd.settings import unknown

        names = [entry["name"] for entry in everything]
        raise UsageError(
            f"list {arguments.what}: nothing speaks of '{arguments.word}'; {unknown(arguments.word, names)}"
        )
    if not arguments.json:
        _print(found, arguments.quiet)
    return Answer({"sort": arguments.what, "word": arguments.word, "entries": found})


def matching(entries: list[Entry], word: str) -> list[Entry]:
    """Return what has ``word`` in its name, whatever its case; then what has it in the text that is said of it."""
    word = word.lower()
    named = [entry for entry in entries if word in entry["name"].lower()]
    return named + [entry for entry in entries if entry not in named and word in entry["summary"].lower()]


_ALIGNED = 40
"""Names up to this length stand in a column."""


def _print(found: list[Entry], names_alone: bool) -> None:
    heads = [entry["name"] if names_alone else _head(entry) for entry in found]
    widest, room = max(map(len, heads)), terminal_width()
    column = widest + 2 if widest <= _ALIGNED else 0
    for entry, head in zip(found, heads, strict=True):
        if names_alone:
            print(head)
        elif room is None or max(column, len(head) + 2) + len(entry["summary"]) <= room:
            print(f"{head:{column}}" + _about(entry) if column else f"{head}  {_about(entry)}")
        else:
            print(head)
            print(textwrap.fill(_about(entry), room - 1, initial_indent="    ", subsequent_indent="    "))


def _head(entry: Entry) -> str:
    if "type" not in entry:
        return str(entry["name"])
    return f"{entry['name']} = {_value(entry['default'])} ({entry['type']})"


def _about(entry: Entry) -> str:
    package = entry.get("package", "unisd")
    return str(entry["summary"]) if package == "unisd" else f"{entry['summary']}  (of {package})"


def _value(default: Any) -> str:
    return default if isinstance(default, str) else json.dumps(default)
