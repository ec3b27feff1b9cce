"""Running a study: its jobs, phase by phase, on an engine; what is done, what is left, and what it will take."""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unisd.errors import UsageError
from unisd.files import write_json, write_text
from unisd.settings import plain
from unisd.studies.arms import check_equal_work, study_arms
from unisd.studies.engines import Engine
from unisd.studies.jobs import LOG_FILE, Job, Jobs, is_damaged, read_result
from unisd.studies.settings import Study
from unisd.training.lock import run_lock
from unisd.training.runfile import dumped, read_yaml

STUDY_FILE, INDEX_FILE = "study.yaml", "index.json"
Say = Callable[[str], None]


@dataclass
class StudyRun:
    """What became of a study's jobs."""

    folder: Path
    finished: int = 0
    failed: dict[Path, str] = field(default_factory=dict)
    """Folders of jobs that failed, with why."""
    chosen: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    """The value of the setting that is chosen, by arm, task and model."""


def plan(study: Study, without_data: bool = False) -> Jobs:
    """Return a study's jobs, after everything about it that can be checked without a model was checked.

    Args:
        study: the study.
        without_data: count jobs of tasks, too, whose data are not on this machine (`Jobs.lacking`).

    Raises:
        UsageError: unknown names, arms that get unequal work, a task without the items that are asked for; one line.
    """
    arms = study_arms(study)
    jobs = Jobs(study, arms, without_data)
    for task, _, model in jobs.places():
        check_equal_work(study, arms, jobs.more(task, model, study.about.seeds[0]))
    phases(jobs, {})  # reads all items
    return jobs


def claim(folder: Path, study: Study) -> None:
    """Make sure that a folder is free or holds this study's results.

    Raises:
        UsageError: it holds another study's, or something else.
    """
    file = folder / STUDY_FILE
    if file.is_file():
        name = read_yaml(file).get("name")
        if name != study.name:
            raise UsageError(
                f"--output {folder}: it holds the results of study '{name}', not '{study.name}'; choose another"
            )
    elif folder.exists() and (not folder.is_dir() or any(path.name != "run.lock" for path in folder.iterdir())):
        raise UsageError(f"--output {folder}: it is in use and holds no study; choose another folder")


def run_study(study: Study, folder: Path, engine: Engine, say: Say = print) -> StudyRun:
    """Run what is missing of a study. A job that fails stops nobody; a study that was killed goes on.

    Args:
        study: the study.
        folder: where its results lie, or are to lie.
        engine: who runs jobs.
        say: called with a line as things happen.

    Raises:
        UsageError: see `plan` and `claim`.
    """
    jobs = plan(study)
    claim(folder, study)
    with run_lock(folder):
        write_text(folder / STUDY_FILE, dumped({**plain(study.about), "name": study.name}))
        run, index = StudyRun(folder), list[dict[str, Any]]()
        for title in PHASES:
            wanted = dict(phases(jobs, run.chosen, whole=False))[title]
            index += [_entry(title, job) for job in wanted]
            write_json(folder / INDEX_FILE, index)
            _phase(title, wanted, jobs, run, engine, say)
            if title == CHOOSING:
                run.chosen = choose(jobs, folder)
        if not run.failed:
            for checkpoints in folder.glob("runs/*/checkpoints"):
                shutil.rmtree(checkpoints, ignore_errors=True)
    return run


CHOOSING = "runs to choose by"
PHASES = ("bases", CHOOSING, "runs")


def phases(jobs: Jobs, chosen: Mapping[tuple[str, str, str], Any], whole: bool = True) -> list[tuple[str, list[Job]]]:
    """Return the jobs of a study phase by phase, each of which needs those before it; see `Jobs.runs`."""
    return list(zip(PHASES, (jobs.bases(), jobs.choosing(), jobs.runs(chosen, whole)), strict=True))


def _entry(phase: str, job: Job) -> dict[str, Any]:
    """Return what the index says of a job; a job of two arms stands there twice."""
    named = {name: getattr(job, name) for name in ("arm", "task", "model", "seed", "components", "value", "key")}
    return {"phase": phase, "part": job.exam.part, **named}


def _phase(title: str, wanted: Sequence[Job], jobs: Jobs, run: StudyRun, engine: Engine, say: Say) -> None:
    unique = {job.key: job for job in wanted}
    missing = {}
    for job in unique.values():
        folder = job.folder(run.folder)
        if is_damaged(folder):
            say(f"{folder}: its result is damaged and is made again")
        if read_result(folder) is None:
            missing[job.write(run.folder, None if job.run is None else jobs.base_of(job).key)] = job
    run.finished += len(unique) - len(missing)
    if missing:
        say(f"{title}: {len(missing)} to do, {len(unique) - len(missing)} done before")
    with closing(engine.run(list(missing))) as ended:
        for number, (folder, why) in enumerate(ended, start=1):
            if why:
                run.failed[folder] = why
            else:
                run.finished += 1
            how = f"failed: {why} (see {folder / LOG_FILE})" if why else _score(read_result(folder))
            say(f"  {number}/{len(missing)} {in_words(missing[folder])}: {how}")


def choose(jobs: Jobs, folder: Path) -> dict[tuple[str, str, str], Any]:
    """Return for every arm, task and model the value with which most validation items came out right.

    Among equals the one that moved less from the base, then the one that stands first. An arm of which a run to choose
    by is missing chooses nothing yet: every arm gets the same effort.
    """
    lacks = set[tuple[str, str, str]]()
    best: dict[tuple[str, str, str], tuple[tuple[float, float], Any]] = {}
    for job in jobs.choosing():
        result, place = read_result(job.folder(folder)), (job.arm, job.task, job.model)
        if result is None:
            lacks.add(place)
            continue
        point = result["points"][-1]
        drift = ((point.get("retention") or {}).get("on_base_text") or {}).get("kl_base_adapted", 0.0)
        rank = (float(sum(point["correct"])), -float(drift))
        if place not in best or rank > best[place][0]:
            best[place] = (rank, job.value)
    return {place: value for place, (_, value) in best.items() if place not in lacks}


def in_words(job: Job) -> str:
    """Return what a job is, on one line."""
    seed = "" if job.run is None else f", seed {job.seed}"
    tried = "" if job.value is None else f", {job.value}"
    return f"{job.arm}, {job.task}, {job.model}{seed}{tried}"


def _score(result: dict[str, Any] | None) -> str:
    if result is None:
        return "no result"
    point = result["points"][-1]
    return f"{sum(point['correct'])} of {len(point['correct'])} right, {result['seconds']:.0f} s"


def status(jobs: Jobs, folder: Path) -> list[tuple[str, Counter[str], list[tuple[str, str]]]]:
    """Return for each phase its name, how many jobs are in which state, and what is neither finished nor waiting."""
    found = []
    for title, wanted in phases(jobs, choose(jobs, folder)):
        unique = {job.key: job for job in wanted}.values()
        states = [(job, job.state(folder)) for job in unique]
        named = [(in_words(job), state) for job, state in states if state in ("started", "failed")]
        found.append((title, Counter(state for _, state in states), named))
    return found


@dataclass(frozen=True)
class Estimate:
    """What a phase will take."""

    title: str
    jobs: int
    missing: int
    seconds: float | None
    """Of all that is missing, one after the other; None: nothing like it was measured yet."""


def estimate(jobs: Jobs, folder: Path) -> list[Estimate]:
    """Return what is left of each phase, from the seconds of jobs that are finished there."""
    measured: dict[tuple[str, ...], list[float]] = {}
    by_phase = phases(jobs, choose(jobs, folder))
    for _, wanted in by_phase:
        for job in wanted:
            result = read_result(job.folder(folder))
            if result is not None:
                for key in _alike(job):
                    measured.setdefault(key, []).append(float(result["seconds"]))
    found = []
    for title, wanted in by_phase:
        unique = {job.key: job for job in wanted}.values()
        missing = [job for job in unique if read_result(job.folder(folder)) is None]
        times = [_expected(job, measured, jobs.study.about.seconds_per_step) for job in missing]
        known = [time for time in times if time is not None]
        found.append(Estimate(title, len(unique), len(missing), sum(known) if len(known) == len(times) else None))
    return found


def _alike(job: Job) -> list[tuple[str, ...]]:
    """Return what a job's time is like, the most alike first."""
    kind = "base" if job.run is None else "run"
    return [(kind, job.arm, job.task, job.model), (kind, job.task, job.model), (kind, job.model)]


def _expected(job: Job, measured: dict[tuple[str, ...], list[float]], per_step: float | None) -> float | None:
    for key in _alike(job):
        if key in measured:
            return sum(measured[key]) / len(measured[key])
    if per_step is None:
        return None
    return per_step * (job.run["training"]["max_steps"] if job.run is not None else 1)
