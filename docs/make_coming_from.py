"""Writes the tables of docs/coming_from.md from src/unisd/training/foreign.yaml: python docs/make_coming_from.py."""

import re
from pathlib import Path

from unisd.training.foreign import ForeignArgument, foreign_arguments

PAGE = Path(__file__).resolve().parent / "coming_from.md"


def table(rows: list[ForeignArgument]) -> str:
    """A table as Markdown."""
    lines = [
        f"| {', '.join(f'`{name}`' for name in row.names)} | {row.here} | {row.remarks}{' ' * bool(row.remarks)}|"
        for row in rows
    ]
    return "\n".join(["| argument | here | remarks |", "|---|---|---|", *lines]) + "\n"


def page(now: str) -> str:
    """The page with its tables made anew; what stands around them stays."""
    for heading, rows in foreign_arguments().items():
        section = re.compile(rf"(^## {re.escape(heading)}\n(?:(?!\|).*\n)*)(?:\|.*\n)+", re.MULTILINE)
        now, found = section.subn(lambda match, rows=rows: match[1] + table(rows), now)
        if found != 1:
            raise SystemExit(f"{PAGE}: write a heading '## {heading}', and any line of a table below it")
    return now


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
