"""Gain against drift: what an arm gains at the drift that another one has, and what drift it costs to gain as much.

An arm is a path: from the base, where both are 0, through the points at which it was asked. Between points the path is
straight; beyond its last point nothing is said.
"""

from dataclasses import dataclass

import numpy as np

from unisd.studies.analysis.crossed import Array, Effect, crossed_statistic
from unisd.studies.results import Place


@dataclass(frozen=True)
class Path:
    """An arm's means over seeds and items, from the base on."""

    arm: str
    steps: tuple[int, ...]
    drift: tuple[float, ...]
    """Nats a token."""
    gain: tuple[float, ...]
    """Change of the share of right answers."""


@dataclass(frozen=True)
class AtEqual:
    """Two arms where they meet in one of the two."""

    arm: str
    other: str
    level: float
    """The drift, or the gain, at which they are compared."""
    effect: Effect
    """``arm`` less ``other`` in what is compared."""


def path(place: Place, arm: str) -> Path | None:
    """Return an arm's path; None where drift was not measured."""
    found = _table(place, arm)
    if found is None:
        return None
    steps, drift, gain = found
    return Path(arm, (0, *steps), (0.0, *drift.mean(0)), (0.0, *gain.mean((0, 2))))


def gain_at_equal_drift(place: Place, arm: str, other: str, resamples: int = 400) -> AtEqual | None:
    """Compare two arms at the largest drift that both reach."""
    return _at_equal(place, arm, other, resamples, by_drift=True)


def drift_at_equal_gain(place: Place, arm: str, other: str, resamples: int = 400) -> AtEqual | None:
    """Compare two arms at the largest gain that both reach."""
    return _at_equal(place, arm, other, resamples, by_drift=False)


def _at_equal(place: Place, arm: str, other: str, resamples: int, by_drift: bool) -> AtEqual | None:
    shared = sorted(set(place.seeds(arm)) & set(place.seeds(other)))
    tables = [_table(place, name, shared) for name in (arm, other)]
    if not shared or tables[0] is None or tables[1] is None:
        return None
    (_, drift_a, gain_a), (_, drift_b, gain_b) = tables[0], tables[1]

    def paths(seeds: Array, items: Array) -> list[tuple[Array, Array]]:
        """Return for each arm what is held equal and what is compared, both (draws, points), from the base on."""
        found = []
        for drift, gain in ((drift_a, gain_a), (drift_b, gain_b)):
            share = seeds / seeds.sum(1, keepdims=True), items / items.sum(1, keepdims=True)
            asked = np.einsum("ds,dst->dt", share[0], np.einsum("sti,di->dst", gain, share[1], optimize=True))
            start = np.zeros((len(seeds), 1))
            pair = np.hstack([start, share[0] @ drift]), np.hstack([start, asked])
            found.append(pair if by_drift else pair[::-1])
        return found

    ones = np.ones((1, len(shared))), np.ones((1, gain_a.shape[2]))
    level = min(float(x.max()) for x, _ in paths(*ones))
    if level <= 0:
        return None

    def difference(seeds: Array, items: Array) -> Array:
        first, second = (_first_at(x, y, level) for x, y in paths(seeds, items))
        return np.asarray(first - second)

    effect = crossed_statistic(difference, len(shared), gain_a.shape[2], resamples=resamples)
    return AtEqual(arm, other, level, effect)


def _first_at(x: Array, y: Array, level: float) -> Array:
    """Return y (draws,) where paths first reach ``level``; at the highest x of those that stay below by chance."""
    rows = np.arange(len(x))
    found: Array = y[rows, x.argmax(1)]
    open_ = np.ones(len(x), dtype=bool)
    for left in range(x.shape[1] - 1):
        low, high = x[:, left], x[:, left + 1]
        hit = open_ & (low <= level) & (level <= high) & (high > low)
        part = (level - low[hit]) / (high[hit] - low[hit])
        found[hit] = y[hit, left] + (y[hit, left + 1] - y[hit, left]) * part
        open_ &= ~hit
    return found


def _table(place: Place, arm: str, seeds: list[int] | None = None) -> tuple[tuple[int, ...], Array, Array] | None:
    """Return an arm's steps, its drift (seeds, steps) and its gain over the base (seeds, steps, items)."""
    runs = [run for run in place.arms.get(arm, []) if seeds is None or run.seed in seeds]
    if not runs or place.base is None or any(point.drift is None for run in runs for point in run.points):
        return None
    steps = sorted(set.intersection(*({point.step for point in run.points} for run in runs)))
    if not steps:
        return None
    base = place.base.last.correct
    points = [[next(p for p in run.points if p.step == step) for step in steps] for run in runs]
    drift = np.array([[float(point.drift or 0.0) for point in row] for row in points])
    gain = np.stack([np.stack([point.correct - base for point in row]) for row in points])
    return tuple(steps), drift, gain
