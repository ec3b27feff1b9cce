"""The kinds of charts, and how matplotlib draws them as SVG whose colours are the page's."""

import importlib.util
import io
import logging
import math
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unisd.studies.report.blocks import Cell, Chart, Row, Table, number, shown

_COLOURS = {
    "--ink": "#010203",
    "--soft": "#040506",
    "--line": "#070809",
    "--paper": "#0a0b0c",
    "--series-1": "#110101",
    "--series-2": "#110202",
    "--series-3": "#110303",
    "--series-4": "#110404",
    "--series-5": "#110505",
    "--series-6": "#110606",
}
"""What is drawn for each of the page's colours, and replaced by it afterwards."""
INK, SOFT, LINE, PAPER, *SERIES = _COLOURS.values()
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.2, 1.5, 1.2)), (0, (3, 1)), (0, (1, 2.5)))
_MARKS = "osD^vP"
_WIDTH = 3.6
"""Inches: text keeps its size on a telephone."""
_LISTED = 200
"""Rows of a table of data."""
_NAMED = 12
"""Labels of a legend."""
_DRAWN = 40
"""Rows of a chart of estimates; the table has all of them."""
_LABEL = 26
HINT = "Charts were left out: matplotlib is not installed (pip install 'unisd[report]'). Their data stand here."


def can_draw() -> bool:
    """Return whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def _short(text: str, limit: int = _LABEL) -> str:
    flat = " ".join(shown(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


@dataclass(frozen=True)
class Lines:
    """Values over steps."""

    name: str
    title: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    """Points ``(x, y)`` in the order of x, by label."""
    x: str = "step"
    y: str = ""
    bands: Mapping[str, Sequence[tuple[float, float, float]]] = field(default_factory=dict)
    """``(x, low, high)`` by the label of the line that they belong to."""
    about: str = ""

    def draw(self, axes: Any) -> None:
        """Draw a line a series; a mark where a single point would not be seen."""
        for place, (label, points) in enumerate(self.series.items()):
            xs, ys = [x for x, _ in points], [y for _, y in points]
            style = {"color": SERIES[place % len(SERIES)], "linestyle": _DASHES[place % len(_DASHES)]}
            mark = _MARKS[place % len(_MARKS)] if len(points) <= 12 else ""
            axes.plot(xs, ys, label=_short(label), linewidth=1.6, marker=mark, markersize=3.5, **style)
            if band := self.bands.get(label):
                axes.fill_between(*zip(*band, strict=True), color=style["color"], alpha=0.18, linewidth=0)
        axes.set_xlabel(self.x)
        axes.set_ylabel(self.y)
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=7, min_n_ticks=2)
        axes.yaxis.get_major_locator().set_params(nbins=5)
        axes.grid(axis="y", color=LINE, linewidth=0.8)
        if len(self.series) > 1:
            _legend(axes, self.series)

    def table(self) -> Table:
        """Return a row a step, of long runs some."""
        found = {label: dict(points) for label, points in self.series.items()}
        steps = sorted({x for points in found.values() for x in points})
        stride = -(-len(steps) // _LISTED)
        kept = [step for place, step in enumerate(steps) if (len(steps) - 1 - place) % max(stride, 1) == 0]
        rows = [[_cell(step), *(_cell(found[label].get(step)) for label in found)] for step in kept]
        note = f"One of {stride} of the chart's {len(steps):,} points." if stride > 1 else ""
        return Table(self.name, self.title, [self.x, *map(_named(self.y), found)], rows, note, main=False)

    def height(self) -> float:
        """Return the height in inches."""
        return 2.3 + 0.18 * _legend_rows(self.series)


@dataclass(frozen=True)
class Whiskers:
    """Estimates with their intervals, one below the other."""

    name: str
    title: str
    rows: Sequence[tuple[str, float, float, float]]
    """Label, estimate, low, high."""
    unit: str
    marks: Sequence[tuple[str, float]] = ()
    """What the estimates are to be seen against: label and value."""
    percent: bool = True
    """Values are shares and shown in percent (or points)."""
    about: str = ""

    def draw(self, axes: Any) -> None:
        """Draw a point and its interval a row, the first on top."""
        scale = 100 if self.percent else 1
        rows = self.rows[:_DRAWN]
        for place, (_, value, low, high) in enumerate(rows):
            axes.plot([scale * low, scale * high], [place, place], color=SERIES[0], linewidth=2, solid_capstyle="butt")
            axes.plot([scale * value], [place], color=SERIES[0], marker="o", markersize=6)
            at = (scale * value, place)
            text = f"{scale * value:.1f}" if self.percent else number(scale * value)
            axes.annotate(text, at, (5, 4), textcoords="offset points", color=INK)
        for place, (label, value) in enumerate(self.marks):
            axes.axvline(
                scale * value, color=SOFT, linewidth=1.2, linestyle=_DASHES[1 + place], label=_short(label, 40)
            )
        axes.set_yticks(range(len(rows)), [_short(row[0]) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.7)
        axes.set_xlabel(self.unit if rows == self.rows else f"{self.unit} (the first {_DRAWN} of {len(self.rows)})")
        axes.xaxis.get_major_locator().set_params(nbins=5)
        axes.grid(axis="x", color=LINE, linewidth=0.8)
        if self.marks:
            _legend(axes, [label for label, _ in self.marks])

    def table(self) -> Table:
        """Return a row an estimate."""
        scale = 100 if self.percent else 1
        rows: list[Row] = [[label, *(_cell(scale * v) for v in values)] for label, *values in self.rows]
        rows += [[label, _cell(scale * value), "", ""] for label, value in self.marks]
        return Table(self.name, self.title, ["", self.unit, "95 % from", "to"], rows, main=False)

    def height(self) -> float:
        """Return the height in inches."""
        return 0.75 + 0.42 * min(len(self.rows), _DRAWN) + 0.2 * len(self.marks)


@dataclass(frozen=True)
class Bars:
    """Shares by label, several kinds of them beside each other."""

    name: str
    title: str
    labels: Sequence[str]
    groups: Mapping[str, Sequence[float]]
    """A share in [0, 1] for each label, by kind."""
    unit: str
    about: str = ""

    def draw(self, axes: Any) -> None:
        """Draw bars from left to right, the first label on top."""
        thick = 0.8 / len(self.groups)
        for place, (label, values) in enumerate(self.groups.items()):
            where = [row - 0.4 + thick * (place + 0.5) for row in range(len(self.labels))]
            axes.barh(
                where, [100 * v for v in values], height=thick * 0.9, color=SERIES[place % 6], label=_short(label)
            )
        axes.set_yticks(range(len(self.labels)), [_short(label, 22) for label in self.labels])
        axes.set_ylim(len(self.labels) - 0.45, -0.55)
        axes.set_xlabel(self.unit)
        axes.set_xlim(left=0)
        axes.xaxis.get_major_locator().set_params(nbins=5)
        axes.grid(axis="x", color=LINE, linewidth=0.8)
        _legend(axes, self.groups)

    def table(self) -> Table:
        """Return a row a label."""
        rows: list[Row] = [
            [shown(label, 200), *(_cell(100 * values[i]) for values in self.groups.values())]
            for i, label in enumerate(self.labels)
        ]
        return Table(self.name, self.title, ["answer", *map(_named(self.unit), self.groups)], rows, main=False)

    def height(self) -> float:
        """Return the height in inches."""
        bars = len(self.labels) * (0.1 + 0.11 * len(self.groups))
        return 0.8 + bars + 0.18 * _legend_rows(self.groups)


@dataclass(frozen=True)
class Scatter:
    """Points with intervals in y: one thing against another."""

    name: str
    title: str
    points: Mapping[str, Sequence[tuple[float, float, float, float]]]
    """``(x, y, low, high)`` in the order in which they are joined, by label."""
    x: str
    y: str
    percent: bool = True
    """y is a share, and shown in percent (or points)."""
    about: str = ""

    def draw(self, axes: Any) -> None:
        """Draw marks with whiskers; points of one label are joined."""
        scale = 100 if self.percent else 1
        for place, (label, points) in enumerate(self.points.items()):
            xs, ys = [p[0] for p in points], [scale * p[1] for p in points]
            spread = [[scale * (p[1] - p[2]) for p in points], [scale * (p[3] - p[1]) for p in points]]
            axes.errorbar(
                xs, ys, yerr=spread, label=_short(label), color=SERIES[place % 6], marker=_MARKS[place % 6],
                markersize=6, linewidth=1.4, elinewidth=1.2, capsize=2.5, linestyle=_DASHES[place % 6],
            )  # fmt: skip
        axes.axhline(0, color=SOFT, linewidth=1)
        axes.set_xlabel(self.x)
        axes.set_ylabel(self.y)
        axes.set_xlim(
            left=0, right=1.08 * max((p[0] for points in self.points.values() for p in points), default=1) or 1
        )
        axes.xaxis.get_major_locator().set_params(nbins=5)
        axes.grid(color=LINE, linewidth=0.8)
        _legend(axes, self.points)

    def table(self) -> Table:
        """Return a row a point."""
        scale = 100 if self.percent else 1
        rows: list[Row] = [
            [label, _cell(x), *(_cell(scale * v) for v in values)]
            for label, points in self.points.items()
            for x, *values in points
        ]
        return Table(self.name, self.title, ["", self.x, self.y, "95 % from", "to"], rows, main=False)

    def height(self) -> float:
        """Return the height in inches."""
        return 2.7 + 0.18 * _legend_rows(self.points)


@dataclass(frozen=True)
class Heat:
    """A value for each pair of labels."""

    name: str
    title: str
    labels: Sequence[str]
    values: Mapping[tuple[str, str], float]
    """Shares, by pair; of a pair and its mirror one is enough."""
    unit: str
    about: str = ""

    def draw(self, axes: Any) -> None:
        """Draw a square a pair, the stronger the colour the larger its size, with its figure inside."""
        largest = max((abs(value) for value in self.values.values()), default=0.0) or 1.0
        places = {label: place for place, label in enumerate(self.labels)}
        for pair, value in self.values.items():
            low, high = sorted(places[label] for label in pair)
            colour = SERIES[0] if value > 0 else SERIES[1]
            axes.fill_between(
                [low - 0.5, low + 0.5],
                high - 0.5,
                high + 0.5,
                color=colour,
                alpha=0.08 + 0.5 * abs(value) / largest,
                linewidth=0,
            )
            axes.text(low, high, f"{100 * value:+.1f}", ha="center", va="center", color=INK)
        axes.set_xticks(range(len(self.labels)), [_short(label, 12) for label in self.labels], rotation=40, ha="right")
        axes.set_yticks(range(len(self.labels)), [_short(label, 12) for label in self.labels])
        axes.set_xlim(-0.5, len(self.labels) - 0.5)
        axes.set_ylim(len(self.labels) - 0.5, -0.5)

    def table(self) -> Table:
        """Return a row a pair."""
        rows: list[Row] = [[f"{a} and {b}", _cell(100 * value)] for (a, b), value in self.values.items()]
        return Table(self.name, self.title, ["", self.unit], rows, main=False)

    def height(self) -> float:
        """Return the height in inches."""
        return 1.1 + 0.42 * len(self.labels)


def _named(unit: str) -> Any:
    return lambda label: f"{label} ({unit})" if unit and unit != label else label


def _cell(value: float | None) -> Cell:
    return Cell("" if value is None else number(value, 4), value)


def _legend_columns(labels: Collection[str]) -> int:
    """Return as many as fit beside each other."""
    widest = max(len(_short(label)) for label in labels)
    return min(3 if widest <= 9 else 2 if widest <= 17 else 1, len(labels))


def _legend_rows(labels: Collection[str]) -> int:
    return 0 if not 2 <= len(labels) <= _NAMED else -(-len(labels) // _legend_columns(labels))


def _legend(axes: Any, labels: Collection[str]) -> None:
    if len(labels) > _NAMED:  # the table names them
        return
    axes.figure.legend(
        loc="outside upper left", ncols=_legend_columns(labels), frameon=False, borderaxespad=0.2,
        handlelength=2.2, columnspacing=1.2, labelspacing=0.25,
    )  # fmt: skip


_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.unicode_minus": True,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 6),
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}


def draw(chart: Chart) -> str:
    """Return a chart as an SVG element that takes the page's colours and font, the same each time.

    Raises:
        ImportError: matplotlib is not there (`can_draw`).
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # fonts that it lists, folders that it makes
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": chart.name}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that its fonts lack: the reader's has them
        figure = Figure(figsize=(_WIDTH, chart.height()), layout="constrained")
        chart.draw(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(file.getvalue(), chart)


def _inline(svg: str, chart: Chart) -> str:
    """Return matplotlib's file as an element of a page."""
    body = svg[svg.index("<svg") :]
    body = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", body, flags=re.S
    )
    width, height = (float(x) for x in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', body).groups())  # type: ignore[union-attr]
    body = re.sub(r"^<svg[^>]*>", "", body, count=1)
    body = body.replace("xlink:href", "href")
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{chart.name}-", body)
    for name, colour in _COLOURS.items():
        body = body.replace(colour, f"var({name})")
    body = re.sub(r"<[^>]*>", lambda tag: re.sub(r"\d+\.\d{3,}", _rounded, tag[0]), body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    label = _attribute(f"{chart.title}; the data stand in the table below")
    return f'<svg viewBox="0 0 {math.ceil(width)} {math.ceil(height)}" role="img" aria-label="{label}">{body}'


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def _attribute(text: str) -> str:
    import html

    return html.escape(shown(text))
