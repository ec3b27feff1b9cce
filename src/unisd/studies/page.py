"""A run's page: one self-contained HTML file with the loss curve and answers side by side."""

import html
from collections.abc import Sequence
from typing import Any

_STYLE = """
:root { --ink: #1d2430; --soft: #5d6675; --line: #dde2ea; --paper: #ffffff; --ground: #f5f7fa; --accent: #2457c5;
  --good: #1a7f4b; --bad: #b3372f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaf0; --soft: #9aa4b5; --line: #333b49; --paper: #1b212b;
  --ground: #12161d; --accent: #7ea6ff; --good: #5fd39a; --bad: #ff8f86; } }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; background: var(--paper); font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .5rem .7rem; border: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; font-size: .9rem; } .scroll { overflow-x: auto; }
svg { background: var(--paper); border: 1px solid var(--line); width: 100%; height: auto; }
.answer { white-space: pre-wrap; font: .86rem/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
"""


def page(title: str, lead: Sequence[str], sections: Sequence[tuple[str, str]]) -> str:
    """Return an HTML page: a title, lead sentences (text), and sections of (heading, HTML)."""
    body = "".join(f"<h2>{html.escape(heading)}</h2>\n{content}\n" for heading, content in sections)
    sentences = "".join(f"<p>{html.escape(line)}</p>\n" for line in lead)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><h1>{html.escape(title)}</h1>\n{sentences}{body}</main></body></html>\n"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table of plain texts."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def curve(points: Sequence[tuple[float, float]], x_label: str, y_label: str) -> str:
    """Return a line chart as inline SVG, its axes labelled, y from 0."""
    if len(points) < 2:
        return '<p class="soft">Too few steps for a curve.</p>'
    width, height, left, bottom, top, right = 720, 260, 64, 44, 16, 16
    xs = [x for x, _ in points]
    highest = max(y for _, y in points) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - xs[0]) / ((xs[-1] - xs[0]) or 1)
        return left + across * (width - left - right), height - bottom - y / highest * (height - bottom - top)

    marks = []
    for part in range(5):
        value = highest * part / 4
        _, y = at(xs[0], value)
        marks.append(f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>')
        marks.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    marks += [
        f'<text x="{at(x, 0)[0]:.1f}" y="{height - bottom + 18}" text-anchor="middle">{x:g}</text>'
        for x in dict.fromkeys([xs[0], xs[len(xs) // 2], xs[-1]])
    ]
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(x, y) for x, y in points))
    label = f"{html.escape(y_label)} over {html.escape(x_label)}"
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}" '
        f'font-size="12" fill="var(--soft)" font-family="system-ui, sans-serif">{"".join(marks)}'
        f'<polyline points="{line}" fill="none" stroke="var(--accent)" stroke-width="2"/>'
        f'<text x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">{html.escape(x_label)}</text>'
        f'<text transform="translate(14 {(height - bottom + top) / 2}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text></svg>"
    )


def side_by_side(pairs: Sequence[tuple[Any, Any]]) -> str:
    """Return questions with the answers before and after beside each other."""
    rows = []
    for before, after in pairs:
        cells = "".join(
            f"<td>{_verdict(item)}<div class='answer'>{html.escape(item.output)}</div></td>" for item in (before, after)
        )
        question = html.escape(before.prompt)
        rows.append(
            f"<tr><td><div class='answer'>{question}</div><p class='soft'>key: {html.escape(before.gold)}</p></td>"
            f"{cells}</tr>"
        )
    head = "<tr><th>question</th><th>before</th><th>after</th></tr>"
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _verdict(item: Any) -> str:
    if item.parsed is None:
        return '<span class="bad">no answer could be read</span>'
    word, style = ("correct", "good") if item.correct else ("wrong", "bad")
    return f'<span class="{style}">{html.escape(item.parsed)}: {word}</span>'
