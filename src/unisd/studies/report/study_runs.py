"""How the runs of a study went: curves with a band of seeds, what each mechanism did, what a run cost."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from unisd.studies.analysis.effects import contrast
from unisd.studies.jobs import BASE
from unisd.studies.report.blocks import Block, Cell, Closed, Row, Table, number
from unisd.studies.report.charts import Lines
from unisd.studies.report.curves import described
from unisd.studies.results import Place, Run

DRAWN = 6
"""Arms of a chart; others stand in tables."""


def curves(place: Place, arms: Sequence[str], name: str) -> Iterator[Block]:
    """Yield charts of what was measured while training, a line an arm; ``name`` begins the charts' names."""
    blocks: list[Block] = []
    for place_, curve in enumerate(described()):
        for metric, label in curve.lines.items():
            lines: dict[str, list[tuple[float, float]]] = {}
            bands: dict[str, list[tuple[float, float, float]]] = {}
            for arm in arms:
                rows = [run.telemetry.get(metric) or [] for run in place.arms[arm]]
                length = min((len(row) for row in rows), default=0)
                columns = [[v for row in rows if (v := row[i]) is not None] for i in range(length)]
                if any(columns) and len({v for column in columns for v in column}) > 1:
                    lines[arm] = [(i + 1.0, float(np.mean(c))) for i, c in enumerate(columns) if c]
                    bands[arm] = [(i + 1.0, min(c), max(c)) for i, c in enumerate(columns) if c]
            if lines:
                kept = dict(list(lines.items())[:DRAWN])
                title = curve.title if len(curve.lines) == 1 else f"{curve.title}: {label}"
                blocks.append(
                    Lines(f"{name}-c{place_}-{len(blocks)}", title, kept, y=curve.unit, bands=bands, about=curve.about)
                )
    yield from blocks[:4]
    if blocks[4:]:
        yield Closed("All that was measured at each step", blocks[4:])


def acting(place: Place, arms: Sequence[str], name: str) -> Iterator[Block]:
    """Yield what each mechanism did, and what a run of each arm cost."""
    rows: list[Row] = []
    for arm in arms:
        found: dict[str, list[dict[str, Any]]] = {}
        for run in place.arms[arm]:
            for acting in run.acting:
                found.setdefault(str(acting.get("mechanism")), []).append(acting)
        for mechanism, each in found.items():
            acted = sum(bool(one.get("acts")) for one in each) / len(each)
            how = Cell(f"{round(acted * len(each))} of {len(each)} runs", acted)
            rows.append([arm, mechanism, how, str(each[0].get("evidence", ""))])
    if rows:
        columns = ["arm", "mechanism", "acted", "measured, first seed"]
        yield Table(f"{name}-mechanisms", "What each mechanism did", columns, rows)
    columns = ["arm", "training, s", "writing, s", "scoring, s", "learning, s", "tokens written", "peak GiB"]
    cost = [_cost(place, arm) for arm in arms]
    note = "Means over seeds, on the machine of the study."
    yield Table(f"{name}-cost", "Cost of a run", [*columns, "s a point gained"], cost, note)


def _cost(place: Place, arm: str) -> Row:
    runs = place.arms[arm]
    seconds = _sum(runs, "time/step")
    memory = [max((v or 0.0 for v in run.telemetry.get("memory/peak_bytes", [])), default=0.0) for run in runs]
    peak = float(np.mean(memory)) / 2**30
    gain = contrast(place, {arm: 1.0, BASE: -1.0})
    a_point = seconds / (100 * gain.estimate) if gain is not None and gain.estimate > 0 else None
    whole = [seconds, *(_sum(runs, f"time/{part}") for part in ("sample", "score", "learn"))]
    whole.append(_sum(runs, "completions/tokens"))
    cells = [Cell(f"{value:,.0f}", value) for value in whole]
    return [arm, *cells, Cell(f"{peak:.2f}", peak), Cell(number(a_point) if a_point else "", a_point)]


def _sum(runs: Sequence[Run], metric: str) -> float:
    return float(np.mean([sum(v or 0.0 for v in run.telemetry.get(metric, [])) for run in runs]))
