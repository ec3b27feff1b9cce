"""Draws the figures of docs/performance.md from what step.py and scaling.py wrote.

    python benchmarks/plots.py --step step.json --scaling scaling.json --folder docs/images

It needs matplotlib (`pip install matplotlib`), which nothing else here does.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
from common import PHASES
from matplotlib import pyplot
from scaling import SWEEPS

PHASE_COLOURS = dict(zip(PHASES, ("#4477aa", "#66ccee", "#ccbb44", "#bbbbbb"), strict=True))
COLOURS = {"trl": "#aa3377", "core": "#4477aa", "unisd": "#228833", "ours": "#4477aa", "plain": "#aa3377"}
WORDS = {
    "vocabulary": "vocabulary V",
    "tokens": "tokens N",
    "completion": "new tokens",
    "batch": "batch",
    "probes": "probes K",
    "hidden": "hidden size H",
}


def draw_step(report: dict[str, Any], path: Path) -> None:
    """One bar a contestant, cut by phase, in medians of seconds."""
    results = report["results"]
    figure, axes = pyplot.subplots(figsize=(7.5, 0.9 + 0.42 * len(results)), layout="constrained")
    for row, found in enumerate(results.values()):
        left = 0.0
        for phase in PHASES:
            width = found["phases"][phase]["median"]
            axes.barh(row, width, left=left, color=PHASE_COLOURS[phase], label=phase if row == 0 else None)
            if width > 1.0:
                axes.text(left + width / 2, row, f"{width:.1f}", ha="center", va="center", fontsize=8)
            left += width
    axes.set_yticks(range(len(results)), list(results))
    axes.invert_yaxis()
    axes.set_xlabel("seconds a step, median")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(ncols=len(PHASES), loc="outside upper center", frameon=False)
    _save(figure, path)


def draw_divergence(points: list[dict[str, Any]], path: Path) -> None:
    """Time and memory of the divergence alone against each size."""
    sweeps = list(dict.fromkeys(point["sweep"] for point in points))
    figure, axes = pyplot.subplots(2, len(sweeps), figsize=(3.4 * len(sweeps), 5.0), layout="constrained")
    for column, sweep in enumerate(sweeps):
        chosen = [point for point in points if point["sweep"] == sweep]
        sizes = [point["size"][sweep] for point in chosen]
        times = {n: [1e3 * p["seconds"][n]["median"] for p in chosen] for n in ("ours", "plain")}
        peaks = {n: [p["peak_extra_mib"][n] for p in chosen] for n in ("ours", "plain")}
        _lines(axes[0][column], sizes, times, "", "ms" if column == 0 else "")
        _lines(axes[1][column], sizes, peaks, WORDS[sweep], "MiB beyond the inputs" if column == 0 else "")
    _share_legend(figure, axes[0][0])
    _save(figure, path)


def draw_steps(points: list[dict[str, Any]], path: Path) -> None:
    """Time of a whole step, and the memory that steps add, against each size."""
    sweeps = [sweep for sweep in SWEEPS if any(point["sweep"] == sweep for point in points)]
    figure, axes = pyplot.subplots(
        2, len(sweeps), figsize=(2.6 * len(sweeps), 5.0), layout="constrained", squeeze=False
    )
    for column, sweep in enumerate(sweeps):
        chosen = [point for point in points if point["sweep"] == sweep]
        values = [point["value"] for point in chosen]
        names = list(chosen[0]["seconds"])
        times = {name: [point["seconds"][name]["median"] for point in chosen] for name in names}
        peaks = {name: [point["peak_extra_mib"][name] for point in chosen] for name in names}
        _lines(axes[0][column], values, times, "", "seconds a step" if column == 0 else "")
        _lines(axes[1][column], values, peaks, WORDS[sweep], "MiB that steps add" if column == 0 else "")
    _share_legend(figure, axes[0][0])
    _save(figure, path)


def _lines(axes: Any, sizes: list[int], series: dict[str, list[float]], below: str, beside: str) -> None:
    for name, values in series.items():
        axes.plot(sizes, values, marker="o", color=COLOURS[name], label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set(xlabel=below, ylabel=beside)
    axes.spines[["top", "right"]].set_visible(False)


def _share_legend(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, ncols=len(labels), loc="outside upper center", frameon=False)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without a date and with fixed names inside, drawing again changes nothing.
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    print(path)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--step", type=Path, help="what step.py wrote")
    made.add_argument("--scaling", type=Path, help="what scaling.py wrote")
    made.add_argument("--folder", type=Path, default=Path("docs/images"), help="default: %(default)s")
    options = made.parse_args()
    matplotlib.use("agg")
    # Text stays text, and the same figures give the same file.
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "unisd"}
    if options.step:
        draw_step(json.loads(options.step.read_text()), options.folder / "step.svg")
    if options.scaling:
        report = json.loads(options.scaling.read_text())
        if "divergence" in report:
            draw_divergence(report["divergence"], options.folder / "scaling_divergence.svg")
        if "steps" in report:
            draw_steps(report["steps"], options.folder / "scaling_steps.svg")


if __name__ == "__main__":
    main()
