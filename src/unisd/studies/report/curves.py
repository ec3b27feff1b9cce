"""Curves of whatever a run's metrics hold, with titles in words."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unisd.mechanisms import Curve, known
from unisd.studies.report.blocks import Block, Cell, Closed, Row, Section, Table, number
from unisd.studies.report.charts import Lines

_POINTS = 200
"""Points of a line; of longer runs, means over equal stretches."""
_ABOUT = "What was measured at each optimizer step. Of long runs each point is the mean of a stretch of steps."


_OF_ALL_RUNS = (
    Curve("Loss", "loss", {"loss": "loss"}, "What training makes small."),
    Curve("Distance from the teacher", "nats a token", {"divergence/mean": "mean", "divergence/p95": "95 % lie below"},
          "How far the student's next-token distribution is from its teacher's."),
    Curve("Entropy of the student", "nats a token", {"student/entropy": "entropy"},
          "How open its choice of the next token is; near 0 it has none left."),
    Curve("Length of completions", "tokens", {"completions/mean_length": "mean length"}),
    Curve("Cut off, repeated, left out", "share",
          {"completions/unfinished": "cut off", "completions/repetition": "repeats itself",
           "completions/left_out": "left out"}),
    Curve("Gradient norm", "norm", {"grad_norm": "before clipping of gradients"}),
    Curve("Largest distance of one token", "nats", {"divergence/max": "largest"}, first=False),
    Curve("Learning rate", "rate", {"learning_rate": "learning rate"}, first=False),
    Curve("Time of a step", "seconds",
          {"time/sample": "write", "time/score": "score", "time/learn": "learn", "time/weigh": "weigh",
           "time/update": "update", "time/other": "other"}, first=False),
    Curve("Tokens written in a step", "tokens", {"completions/tokens": "tokens"}, first=False),
    Curve("Speed", "tokens a second", {"speed/tokens_per_second": "written and learned"}, first=False),
    Curve("Peak memory", "GiB", {"memory/peak_bytes": "peak so far"}, first=False),
)  # fmt: skip


def described() -> list[Curve]:
    """Return what is known of metrics: of those of every run, and of every mechanism's that is installed."""
    return [*_OF_ALL_RUNS, *(curve for mechanism in known().values() for curve in mechanism.curves)]


_SCALE = {"memory/peak_bytes": 2.0**-30}
_COUNTS = ("step", "epoch", "time/step")


def curves_section(rows: Sequence[Mapping[str, Any]]) -> Section | None:
    """Return the curves of a run's metrics; None where there are none."""
    if not rows:
        return None
    found, told = _series(rows), described()
    steady = {name: line[0][1] for name, line in found.items() if len({y for _, y in line}) == 1 and len(line) > 1}
    moving = {name: line for name, line in found.items() if name not in steady}
    if len(rows) == 1:
        moving, steady = {}, {name: line[0][1] for name, line in found.items()}
    first: list[Block] = []
    others: list[Block] = []
    for place, curve in enumerate([*told, *_unknown(moving, told)]):
        lines = {label: moving[name] for name, label in curve.lines.items() if name in moving}
        if lines:
            chart = Lines(f"curve-{place + 1}", curve.title, lines, y=curve.unit, about=curve.about)
            (first if curve.first else others).append(chart)
    blocks = first
    if steady:
        label = {name: f"{c.title}: {text}" for c in told for name, text in c.lines.items()}
        listed: list[Row] = [
            [label.get(name, _words(name)), Cell(number(value, 4), value)] for name, value in steady.items()
        ]
        title = "The only step" if len(rows) == 1 else "The same at every step"
        blocks = [*blocks, Table("steady", title, ["measured", "value"], listed)]
    if others:
        blocks = [*blocks, Closed("Time, memory, learning rate, and what else was measured", others)]
    return Section("curves", "Training", blocks, _ABOUT) if blocks else None


def _series(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Return the points of every metric that is a number, thinned out."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            plain = isinstance(value, int | float) and not isinstance(value, bool)
            if name not in _COUNTS and plain and math.isfinite(value):
                found.setdefault(str(name), []).append((float(row["step"]), value * _SCALE.get(name, 1.0)))
    return {name: _thinned(sorted(line)) for name, line in found.items()}


def _thinned(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    stride = -(-len(line) // _POINTS)
    if stride == 1:
        return line
    parts = [line[start : start + stride] for start in range(0, len(line), stride)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def _unknown(found: Mapping[str, Any], told: Sequence[Curve]) -> Iterator[Curve]:
    """Yield a curve for each metric that has no words of its own, as of mechanisms that others wrote."""
    for name in sorted(set(found) - {name for curve in told for name in curve.lines}):
        yield Curve(_words(name), "", {name: name}, first="/" in name and not name.startswith(("speed", "time")))


def _words(name: str) -> str:
    group, _, field = name.rpartition("/")
    text = f"{group}: {field}" if group else field
    return text.replace("_", " ").replace("/", ", ")[:80].capitalize()
