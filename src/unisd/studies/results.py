"""A study's results as they lie in its folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unisd.errors import UsageError
from unisd.studies.analysis.crossed import Spread, spread_of
from unisd.studies.jobs import BASE, is_damaged, read_result
from unisd.studies.study import INDEX_FILE, STUDY_FILE
from unisd.training.runfile import read_yaml

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """A model after some steps of one run, as it answered the items; arrays are (items,), in the items' order."""

    step: int
    correct: Array
    readable: Array
    answers: tuple[str | None, ...]
    drift: float | None
    """KL of the adapted model from the base, KL(base ‖ adapted), on the base's own texts, in nats a token."""
    entropy: float | None
    """Of the adapted model on the base's own texts, in nats a token."""
    raw: dict[str, Any]
    """The point as it was written."""


@dataclass(frozen=True)
class Run:
    """One seed of one arm."""

    arm: str
    seed: int
    points: tuple[Point, ...]
    """In the order of their steps."""
    components: frozenset[str] | None
    acting: tuple[dict[str, Any], ...]
    telemetry: dict[str, list[float | None]]
    seconds: float
    settings: dict[str, Any] | None

    @property
    def last(self) -> Point:
        """The point after the last step."""
        return self.points[-1]


@dataclass
class Place:
    """One task with one model: the base, and every arm's runs."""

    task: str
    model: str
    base: Run | None
    arms: dict[str, list[Run]] = field(default_factory=dict)
    """By arm, in the order of their seeds."""
    missing: list[str] = field(default_factory=list)
    """Runs without a result, in words."""
    _spreads: dict[str, Spread | None] = field(default_factory=dict, repr=False)

    @cached_property
    def items(self) -> dict[str, Any]:
        """``ids``, ``gold``, ``groups`` and ``chance`` of the items, which all runs share."""
        runs = [run for runs in self.arms.values() for run in runs]
        first = (self.base or runs[0]).last.raw
        return {name: first[name] for name in ("ids", "gold", "groups", "chance")}

    @cached_property
    def constant(self) -> float:
        """The share of the items that the best constant answer gets right."""
        gold = self.items["gold"]
        return float(max(gold.count(answer) for answer in set(gold)) / len(gold))

    def table(self, arm: str, seeds: Sequence[int] | None = None, what: str = "correct") -> Array:
        """Return an arm's last answers as (seeds, items); the base's as (1, items).

        Args:
            arm: its name, or base.
            seeds: whose; None: all that the arm has.
            what: correct, readable, or content: correct less what the best constant answer would get of the readable.
        """
        runs = [self.base] if arm == BASE else self.arms.get(arm, [])
        chosen = [run for run in runs if run is not None and (seeds is None or arm == BASE or run.seed in seeds)]
        return np.stack([self.scores(run.last, what) for run in chosen])

    def spread(self, what: str = "correct") -> Spread | None:
        """Return how far seeds lie apart, over all arms."""
        if what not in self._spreads:
            self._spreads[what] = spread_of([self.table(arm, what=what) for arm in self.arms])
        return self._spreads[what]

    def scores(self, point: Point, what: str = "correct") -> Array:
        """Return a point's scores of the items."""
        if what == "content":
            return point.correct - self.constant * point.readable
        found: Array = getattr(point, what)
        return found

    def seeds(self, arm: str) -> list[int]:
        """Return the seeds of which an arm has a result."""
        return [run.seed for run in self.arms.get(arm, [])]


@dataclass
class Results:
    """All of a study that is finished."""

    name: str
    about: dict[str, Any]
    """The study file."""
    places: list[Place]
    chosen: dict[tuple[str, str, str], dict[str, float]]
    """For each arm, task and model the share of validation items that came out right, by value."""
    notes: list[str] = field(default_factory=list)
    """What is missing or damaged, one line each."""


def read_results(folder: Path) -> Results:
    """Read what lies in a study's folder; what is missing or damaged is named and left out.

    Raises:
        UsageError: no study lies there, or nothing of it is finished.
    """
    about = read_yaml(folder / STUDY_FILE)
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        entries = [dict(entry) for entry in index]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{folder / INDEX_FILE}: no list of a study's jobs; run unisd study again") from error
    found = Results(str(about.get("name")), about, [], {})
    places: dict[tuple[str, str], Place] = {}
    for entry in entries:
        task, model, arm, part = (str(entry.get(name)) for name in ("task", "model", "arm", "part"))
        place = places.setdefault((task, model), Place(task, model, None))
        job = folder / "jobs" / str(entry.get("key"))
        result = read_result(job)
        what = f"{arm}, {task}, {model}, seed {entry.get('seed')}"
        if result is None:
            found.notes.append(f"{what}: " + ("its result is damaged" if is_damaged(job) else "not finished"))
            continue
        try:
            run = _run(entry, result)
        except (LookupError, TypeError, ValueError, AttributeError):
            found.notes.append(f"{what}: its result is damaged")
            continue
        if part == "validation":
            if arm != BASE:
                scores = found.chosen.setdefault((arm, task, model), {})
                scores[str(entry.get("value"))] = float(run.last.correct.mean())
            continue
        if arm == BASE:
            place.base = run
        else:
            place.arms.setdefault(arm, []).append(run)
    found.places = [place for place in places.values() if place.arms]
    if not found.places:
        raise UsageError(f"{folder}: no run of the study is finished yet; unisd study goes on with it")
    for place in found.places:
        _check_alike(place, folder)
        for runs in place.arms.values():
            runs.sort(key=lambda run: run.seed)
    return found


def _run(entry: dict[str, Any], result: dict[str, Any]) -> Run:
    parts = entry.get("components")
    return Run(
        arm=str(entry["arm"]),
        seed=int(entry["seed"]),
        points=tuple(_point(raw) for raw in sorted(result["points"], key=lambda raw: raw["step"])),
        components=None if parts is None else frozenset(parts),
        acting=tuple(result.get("acting") or ()),
        telemetry=result.get("telemetry") or {},
        seconds=float(result["seconds"]),
        settings=result.get("run"),
    )


def _point(raw: dict[str, Any]) -> Point:
    on_base = (raw.get("retention") or {}).get("on_base_text") or {}
    return Point(
        step=int(raw["step"]),
        correct=np.array(raw["correct"], dtype=np.float64),
        readable=np.array([answer is not None for answer in raw["parsed"]], dtype=np.float64),
        answers=tuple(raw["parsed"]),
        drift=on_base.get("kl_base_adapted"),
        entropy=on_base.get("entropy_adapted"),
        raw=raw,
    )


def _check_alike(place: Place, folder: Path) -> None:
    """Raise UsageError where runs were asked other items: their differences would mean nothing."""
    ids = place.items["ids"]
    for run in [run for runs in place.arms.values() for run in runs]:
        if any(point.raw["ids"] != ids for point in run.points):
            raise UsageError(f"{folder}: {run.arm}, seed {run.seed}, was asked other items than the rest; run it again")
