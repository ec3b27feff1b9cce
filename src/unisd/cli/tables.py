"""Tables for people: names and figures are never broken; what is too wide for a terminal is told row by row."""

import functools
from collections.abc import Collection, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unisd.cli.terminal import terminal_width
from unisd.cli.words import explained

_NOTE = 24
"""Characters that a column of notes has at least, or the table is told row by row."""


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Collection[str] = ()) -> Table:
    """Return a plain table.

    Args:
        title: what is in it.
        columns: their names.
        rows: their cells, as texts.
        notes: columns of words, which may be folded in a narrow terminal; all others stay whole.
    """
    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in columns:
        folds = column in notes
        made.add_column(column, overflow="fold", no_wrap=not folds, min_width=_NOTE if folds else None)
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))  # as it is: names may hold what rich takes for markup
    return made


def show(made: Table) -> None:
    """Print a table to standard output, and what the words in it mean, the first time that they appear."""
    cells = [list(column.cells) for column in made.columns]
    room = terminal_width()
    natural = _width(made, cells, fold=False)
    if room is None or _width(made, cells, fold=True) <= room:
        Console(width=natural if room is None else room, highlight=False).print(made)
    else:
        _tell_rows(made, cells, Console(width=room, highlight=False))
    text = " ".join(str(part) for column in cells for part in column)
    tell_meanings(" ".join([str(made.title), *(str(column.header) for column in made.columns), text]))


def _width(made: Table, cells: list[list[Any]], fold: bool) -> int:
    """Return the characters that a table needs with all columns whole, or with its notes folded."""
    total = len(cells) * 3 + 2
    for column, parts in zip(made.columns, cells, strict=True):
        widest = max([Text(str(column.header)).cell_len, *(part.cell_len for part in parts)])
        total += min(widest, _NOTE) if fold and not column.no_wrap else widest
    return max(total, 0 if fold else Text(str(made.title)).cell_len)


def _tell_rows(made: Table, cells: list[list[Any]], console: Console) -> None:
    console.print(Text(str(made.title), style="bold"))
    for row in zip(*cells, strict=True):
        console.print(row[0], soft_wrap=True)
        for column, cell in zip(made.columns[1:], row[1:], strict=True):
            if cell.plain:
                line = Text(f"{column.header}: " if column.header else "") + cell
                console.print(
                    Text("    ") + line if column.no_wrap else Padding(line, (0, 0, 0, 4)), soft_wrap=column.no_wrap
                )
    console.print()


def tell(lines: Sequence[str]) -> None:
    """Print lines as they are, and what the words in them mean, the first time that they appear."""
    for line in lines:
        print(line)
    tell_meanings(" ".join(lines))


def tell_meanings(text: str) -> None:
    """Print what the words in a text mean that no earlier text had."""
    for line in explained(text):
        _tell_once(line)


@functools.cache
def _tell_once(line: str) -> None:
    print(f"  ({line})")


def forget_meanings() -> None:
    """Explain words again: a command has begun."""
    _tell_once.cache_clear()


def mechanisms_table(acting: Sequence[Any]) -> Table:
    """Return what each mechanism did, and where it did nothing, what to change."""
    rows = [(a.mechanism, "yes" if a.acts else "NO", "; ".join(filter(None, (a.evidence, a.remedy)))) for a in acting]
    named = ("mechanism", "acts", "measured")
    return table("What each mechanism did", named, rows or [("none is switched on", "", "")], ["measured"])


def evaluation_rows(named: dict[str, dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Return a row per evaluated model: name, accuracy, parsable, accuracy among the parsable."""
    from unisd.evaluation.answers import in_words

    return [
        (name, in_words(s["accuracy"]), in_words(s["parsable"]), in_words(s["accuracy_among_parsable"]))
        for name, s in named.items()
    ]


EVALUATION_COLUMNS = ("", "correct", "parsable", "correct among parsable")
