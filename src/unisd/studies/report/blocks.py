"""What a page is made of: figures, sentences, tables, charts and items; nothing here knows HTML."""

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Tone = Literal["plain", "good", "bad", "soft"]


@dataclass(frozen=True)
class Cell:
    """A figure in a table: how it reads, and the numbers that sorting and CSV files take."""

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None


Row = Sequence[str | Cell]


@dataclass(frozen=True)
class Table:
    """A table; its first column names the rows."""

    name: str
    """Of its files, unique on the page: letters, figures and hyphens."""
    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    note: str = ""
    main: bool = True
    """Whether it is written beside the page, as Markdown, CSV and LaTeX."""


class Chart(Protocol):
    """Something that is drawn, and whose data stand below it."""

    @property
    def name(self) -> str:
        """As of a table."""

    @property
    def title(self) -> str:
        """What is shown."""

    @property
    def about(self) -> str:
        """A sentence below the title; may be empty."""

    def draw(self, axes: Any) -> None:
        """Draw into matplotlib's axes, in the colours of `unisd.studies.report.charts`."""

    def table(self) -> Table:
        """Return the data."""

    def height(self) -> float:
        """Return the height in inches; each chart is as wide as a telephone."""


@dataclass(frozen=True)
class Text:
    """Sentences, or lines that a reader may copy."""

    lines: Sequence[str]
    kind: Literal["plain", "good", "warning", "code"] = "plain"


@dataclass(frozen=True)
class Example:
    """A question with the answers of two models."""

    label: str
    """What became of it: gained, lost, ..."""
    question: str
    key: str
    answers: Sequence[tuple[str, str, str, Tone]]
    """Whose it is, the answer, what was read in it and whether that is right, and how that is to be shown."""


@dataclass(frozen=True)
class Examples:
    """A few items for everybody to read, on paper too."""

    items: Sequence[Example]


@dataclass(frozen=True)
class Browser:
    """Items to look through: embedded as data, shown a few at a time."""

    name: str
    data: Mapping[str, Any]
    """As page.js reads it: see `unisd.studies.report.items`."""
    note: str = ""


@dataclass(frozen=True)
class Closed:
    """Blocks that are shown when they are asked for."""

    title: str
    blocks: Sequence["Block"]


Block = Table | Text | Chart | Examples | Browser | Closed


@dataclass(frozen=True)
class Section:
    """A part of a page."""

    name: str
    title: str
    blocks: Sequence[Block]
    about: str = ""


@dataclass(frozen=True)
class Figure:
    """A large number at the top."""

    label: str
    value: str
    note: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True)
class Page:
    """A whole report: what came out first, then everything that shows it."""

    title: str
    about: str
    """One line: what, when, of which model."""
    figures: Sequence[Figure]
    verdict: Sequence[Text]
    sections: Sequence[Section] = field(default_factory=list)


def shown(text: object, limit: int | None = None) -> str:
    """Return a text as it can stand on any page: half surrogates, control characters and marks that turn the direction
    of what follows are replaced; what is beyond ``limit`` is cut off, which is said."""
    given = str(text)
    cut = f" … ({len(given) - limit:,} more characters)" if limit is not None and len(given) > limit else ""
    kept = given if limit is None else given[:limit]
    return "".join(map(_harmless, kept)) + cut


def _harmless(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    kind = unicodedata.category(character)
    if character == "\r":
        return ""
    no_character = 0xFDD0 <= ord(character) <= 0xFDEF or ord(character) & 0xFFFE == 0xFFFE
    return character if kind in ("Zs", "Cn", "Co") and not no_character else "\ufffd"


def embedded(data: Any) -> str:
    """Return data as JSON that cannot end the element in which it stands, whatever its texts hold."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure of so many significant digits, without an exponent where that is short."""
    if value is None or not math.isfinite(value):
        return "none" if value is None else str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    size = abs(value)
    if not 1e-3 <= size < 1e6:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(digits - 1 - math.floor(math.log10(size)), 0)}f}"


def share_cell(part: Mapping[str, Any]) -> Cell:
    """Return a share as `unisd.evaluation.answers.share` gives it, as a cell."""
    from unisd.evaluation.answers import in_words

    return Cell(in_words(dict(part)), float(part["value"]), float(part["low"]), float(part["high"]))


def points_cell(part: Any) -> Cell:
    """Return a change of a share (an interval) as a cell, in points."""
    text = f"{100 * part.estimate:+.1f} [{100 * part.low:+.1f}, {100 * part.high:+.1f}]"
    return Cell(text, part.estimate, part.low, part.high)
