"""Writing a page: HTML in one file, and beside it Markdown, tables as CSV and LaTeX, and charts as SVG."""

import base64
import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from unisd import __version__
from unisd.errors import UsageError
from unisd.files import write_text
from unisd.studies.report.blocks import Block, Browser, Cell, Closed, Examples, Page, Table, Text, embedded, shown
from unisd.studies.report.charts import HINT, can_draw, draw

FORMATS = ("html", "md", "csv", "tex", "svg")


def write_page(page: Page, folder: Path, formats: Sequence[str] = ("html", "md", "csv"), stem: str = "report") -> Path:
    """Write a page into ``folder``: ``report.html``, ``report.md``, and ``report/`` with a file a table (and chart).

    Args:
        page: what it says.
        folder: where; what an earlier report left there is written over.
        formats: which of `FORMATS`.
        stem: the name of the files.

    Returns:
        The first file that a reader wants: the HTML page where that is written.

    Raises:
        UsageError: an unknown format, or charts are asked for and matplotlib is missing.
        UniSDError: it cannot be written.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(f"--format {unknown[0]}: choose from {', '.join(FORMATS)}")
    if "svg" in formats and not can_draw():
        raise UsageError("--format svg: charts are drawn by matplotlib; pip install 'unisd[report]', or leave it out")
    written = []
    if "html" in formats:
        written.append(folder / f"{stem}.html")
        write_text(written[-1], html_of(page))
    if "md" in formats:
        written.append(folder / f"{stem}.md")
        write_text(written[-1], markdown_of(page))
    beside = folder / stem
    for name, text in {"csv": csv_of, "tex": latex_of}.items():
        for table in (table for table in tables_of(page) if name in formats and table.main):
            written.append(beside / f"{table.name}.{name}")
            write_text(written[-1], text(table))
    for chart in (block for block in _blocks(page) if "svg" in formats and _is_chart(block)):
        written.append(beside / f"{chart.name}.svg")
        write_text(written[-1], _standing_alone(draw(chart)))
    return written[0] if written else folder


def html_of(page: Page) -> str:
    """Return a page as one HTML file that needs nothing else."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.finalize = lambda value: shown(value) if type(value) is str else value
    folder = resources.files("unisd.studies.report")
    template, style, script = ((folder / f"page.{end}").read_text(encoding="utf-8") for end in ("html", "css", "js"))
    drawing = can_draw()
    blocks = list(_blocks(page))
    return environment.from_string(template).render(
        page=page,
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        kind_of=lambda block: type(block).__name__,
        embedded=lambda data: Markup(embedded(data)),
        drawn=lambda chart: Markup(draw(chart)) if drawing else "",
        can_draw=drawing,
        hint="" if drawing or not any(map(_is_chart, blocks)) else HINT,
        runs=lambda found: [(together, list(part)) for together, part in groupby(found, _is_chart)],
    )


def tables_of(page: Page) -> Iterator[Table]:
    """Yield the tables of a page, closed ones too."""
    return (block for block in _blocks(page) if isinstance(block, Table))


def _blocks(page: Page) -> Iterator[Any]:
    def inside(blocks: Sequence[Block]) -> Iterator[Block]:
        for block in blocks:
            yield block
            if isinstance(block, Closed):
                yield from inside(block.blocks)

    for section in page.sections:
        yield from inside(section.blocks)


def _is_chart(block: object) -> bool:
    return hasattr(block, "draw")


def _text(cell: str | Cell) -> str:
    return shown(cell if isinstance(cell, str) else cell.text)


def markdown_of(page: Page) -> str:
    """Return a page's findings in Markdown: figures, sentences and main tables."""
    parts = [f"# {_flat(page.title)}", _flat(page.about)]
    parts.append("\n".join(f"* {_flat(f.label)}: **{_flat(f.value)}** {_flat(f.note)}".rstrip() for f in page.figures))
    parts += ["\n\n".join(_flat(line) for line in said.lines) for said in page.verdict]
    for section in page.sections:
        found: list[str] = []
        for block in section.blocks:
            if isinstance(block, Table) and block.main:
                found.append(f"### {_flat(block.title)}" if block.title else "")
                found.append(_markdown_table(block))
            elif isinstance(block, Text):
                code = block.kind == "code"
                found.append(
                    "\n".join(
                        ["    " + shown(line).replace("\n", "\n    ") for line in block.lines]
                        if code
                        else map(_flat, block.lines)
                    )
                )
        if found:
            parts += [f"## {_flat(section.title)}", *found]
    return "\n\n".join(part for part in parts if part) + "\n"


_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>|#~$"})


def _flat(text: str) -> str:
    """Return a text on one line in which nothing is markup."""
    return " ".join(shown(text).split()).translate(_SPECIAL)


def _markdown_table(table: Table) -> str:
    lines = [[_flat(column) for column in table.columns], ["---"] * len(table.columns)]
    lines += [[_flat(_text(cell)) for cell in row] for row in table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def csv_of(table: Table) -> str:
    """Return a table as CSV. A column of figures with intervals becomes three; figures are not rounded.

    Texts that a spreadsheet would take for a formula get a leading apostrophe.
    """
    wide = [any(isinstance(row[i], Cell) and row[i].low is not None for row in table.rows)  # type: ignore[union-attr]
            for i in range(len(table.columns))]  # fmt: skip
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    header: list[str] = []
    for name, broad in zip(table.columns, wide, strict=True):
        header += [name, f"{name} low", f"{name} high"] if broad else [name]
    writer.writerow(map(_no_formula, header))
    for row in table.rows:
        line: list[Any] = []
        for cell, broad in zip(row, wide, strict=True):
            if isinstance(cell, Cell) and cell.value is not None:
                line += [cell.value, cell.low, cell.high] if broad else [cell.value]
            else:
                line += [_no_formula(_text(cell)), *([""] * 2 if broad else [])]
        writer.writerow(line)
    return file.getvalue()


def _no_formula(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text


_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "−": "$-$", "→": r"$\to$"}
)


def latex_of(table: Table) -> str:
    """Return a table in LaTeX (with the package booktabs)."""
    rows = [table.columns, *([_text(cell) for cell in row] for row in table.rows)]
    head, *body = [" & ".join(" ".join(text.split()).translate(_LATEX) for text in row) + r" \\" for row in rows]
    lines = [r"\begin{tabular}{" + "l" * len(table.columns) + "}", r"\toprule", head, r"\midrule", *body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _standing_alone(svg: str) -> str:
    """Return a chart of a page as a file of its own, in the colours for paper."""
    style = (resources.files("unisd.studies.report") / "page.css").read_text(encoding="utf-8")
    colours = style[: style.index("}") + 1]
    spaces = 'xmlns="http://www.w3.org/2000/svg"'
    return svg.replace("<svg ", f"<svg {spaces} ", 1).replace(">", f"><style>{colours}</style>", 1)


__all__ = ["FORMATS", "Browser", "Examples", "csv_of", "html_of", "latex_of", "markdown_of", "tables_of", "write_page"]
