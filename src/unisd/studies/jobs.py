"""The jobs of a study, each known by a hash of all that determines its result."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisd import __version__
from unisd.errors import UniSDError, UsageError
from unisd.files import contents, fingerprint, write_json
from unisd.studies.arms import StudyArm
from unisd.studies.settings import Asking, Study, StudyTask
from unisd.tasks import Example, get
from unisd.training.prepare import held_out, load_examples

JOB_FILE, RESULT_FILE, LOG_FILE = "job.json", "result.json", "log.txt"
BASE = "base"
"""The arm that is not trained."""
PARENT = "UNISD_STUDY_PARENT"
"""The variable that tells a worker who started it: its parent may be dead before it can ask."""


@dataclass(frozen=True)
class Exam:
    """Which items a job asks."""

    part: str
    """test, or validation: items of the training split that no run of the study trains on."""
    task: str
    source: str | None
    split: str | None
    count: int | None
    cluster: str | None = None
    """The field whose values say which items were drawn together."""

    def examples(self) -> list[Example]:
        """Return them.

        Raises:
            UsageError: the task has no such split, or fewer items than are asked for.
        """
        task = get(self.task)
        if self.part == "validation":
            found = held_out(task.load(task.splits[0], self.source), self.count or 0)
        else:
            from unisd.evaluation.evaluate import drawn

            split = self.split or task.splits[-1]
            if split == task.splits[0]:
                raise UsageError(
                    f"{self.task} has no split beside '{split}', which is trained on; give tasks.{self.task}.split"
                )
            found = drawn(task.load(split, self.source), self.count)
        if self.count is not None and len(found) < self.count:
            raise UsageError(f"{self.task}: {self.count} {self.part} items are asked for and {len(found)} are there")
        if self.cluster is not None and any(self.cluster not in example.fields for example in found):
            fields = ", ".join(sorted(found[0].fields)) or "no field"
            raise UsageError(f"tasks.{self.task}.cluster: not all items have '{self.cluster}'; they have {fields}")
        return found


@dataclass(frozen=True)
class Job:
    """One run that is asked, or the base that is asked."""

    arm: str
    task: str
    model: str
    seed: int
    run: dict[str, Any] | None
    """The run's whole settings; None: the base."""
    exam: Exam
    asking: dict[str, Any]
    """`unisd.studies.settings.Asking`, as plain values."""
    data: str
    """A fingerprint of the items: those of training and those that are asked."""
    weights: str
    """A fingerprint of the model's files, or its name on the hub."""
    components: tuple[str, ...] | None = None
    """Which components are on, where a design says so."""
    value: Any = None
    """The value of the setting that is chosen, in a run to choose it by."""

    @property
    def run_key(self) -> str:
        """The name of the run: equal runs of two arms are one."""
        return fingerprint(__version__, self.run, self.data, self.weights)

    @property
    def key(self) -> str:
        """The name of the job, which does not hold the arm's: equal arms are one."""
        # What stands at its default is left out: a measure that comes later makes no job another one.
        usual, only_trained = vars(Asking()), ("at", "retention")
        asked = {name: value for name, value in self.asking.items() if value != usual.get(name)}
        asked = {name: value for name, value in asked.items() if self.run is not None or name not in only_trained}
        return fingerprint(self.run_key, vars(self.exam), asked)

    def folder(self, study: Path) -> Path:
        """Return where its result lies."""
        return study / "jobs" / self.key

    def write(self, study: Path, before: str | None) -> Path:
        """Write ``job.json``, from which a worker works; ``before`` is the key of the base's job. Return the folder."""
        folder = self.folder(study)
        values = {**vars(self), "exam": vars(self.exam), "run_key": self.run_key, "before": before}
        if not (folder / JOB_FILE).is_file():
            write_json(folder / JOB_FILE, values)
        return folder

    def state(self, study: Path) -> str:
        """Return finished, failed, started or waiting."""
        folder = self.folder(study)
        if read_result(folder) is not None:
            return "finished"
        log = folder / LOG_FILE
        return "waiting" if not log.is_file() else "failed" if (folder / "failed").is_file() else "started"


class Jobs:
    """All jobs of a study, in three phases: bases; runs to choose a setting by; runs.

    Raises:
        UsageError: a task without the splits or items that are asked for.
    """

    def __init__(self, study: Study, arms: Sequence[StudyArm], without_data: bool = False) -> None:
        self.study, self.arms, self.without_data = study, list(arms), without_data
        self.lacking: dict[str, str] = {}
        """Tasks whose data are not here, with why; only ``without_data``, which is for counting."""
        self._asking = vars(study.evaluate)
        self._data: dict[Any, str] = {}
        self._weights = {model: _weights(model) for model in study.about.models}

    def places(self) -> Iterator[tuple[str, StudyTask, str]]:
        """Yield every task with its settings and every model."""
        for name, task in self.study.tasks.items():
            for model in self.study.about.models:
                yield name, task, model

    def more(self, task: str, model: str, seed: int) -> dict[str, Any]:
        """Return what is laid over an arm for a task, a model and a seed."""
        of = self.study.tasks[task]
        about = {"name": task, "source": of.source, "limit": of.items, "hold_out": of.validation}
        return {"task": about, "model": {"name": model}, "training": {"seed": seed}}

    def bases(self) -> list[Job]:
        """Return the jobs that ask each model before it is trained."""
        found = []
        for task, of, model in self.places():
            found += [self._job(BASE, task, model, -1, None, part) for part in self._parts(of)]
        return found

    def _parts(self, task: StudyTask) -> list[str]:
        return ["test", "validation"] if self.study.select else ["test"]

    def base_of(self, job: Job) -> Job:
        """Return the base's job for the same items."""
        return self._job(BASE, job.task, job.model, -1, None, job.exam.part)

    def choosing(self) -> list[Job]:
        """Return the runs by which arms choose a setting."""
        select = self.study.select
        if select is None:
            return []
        group, field = select.setting.split(".")
        return [
            self._job(arm, task, model, select.seed, {group: {field: value}}, "validation", value)
            for task, _, model in self.places()
            for arm in self.arms
            if arm.may_differ.isdisjoint({select.setting})
            for value in select.values
        ]

    def unchosen(self, arm: StudyArm, task: str, model: str, chosen: Mapping[tuple[str, str, str], Any]) -> bool:
        """Return whether an arm chooses a setting and has not yet."""
        select = self.study.select
        return select is not None and select.setting not in arm.may_differ and (arm.name, task, model) not in chosen

    def runs(self, chosen: Mapping[tuple[str, str, str], Any], whole: bool = True) -> list[Job]:
        """Return the runs of the study.

        Args:
            chosen: each arm's value of the setting that is chosen, by arm, task and model.
            whole: with those whose value is not chosen yet, as their recipe has it; they may be counted, not run.
        """
        select, found = self.study.select, []
        for task, _, model in self.places():
            for arm in self.arms:
                if not whole and self.unchosen(arm, task, model, chosen):
                    continue
                laid: dict[str, Any] = {}
                if select is not None and (arm.name, task, model) in chosen:
                    group, field = select.setting.split(".")
                    laid = {group: {field: chosen[arm.name, task, model]}}
                found += [self._job(arm, task, model, seed, laid, "test") for seed in arm.seeds]
        return found

    def _job(
        self,
        arm: StudyArm | str,
        task: str,
        model: str,
        seed: int,
        laid: dict[str, Any] | None,
        part: str,
        value: Any = None,
    ) -> Job:
        of = self.study.tasks[task]
        exam = Exam(part, task, of.source, of.split, of.validation if part == "validation" else of.test, of.cluster)
        if isinstance(arm, str):
            data, settings, name, on = self._items(exam, None), None, arm, None
        else:
            more = self.more(task, model, seed)
            for group, values in (laid or {}).items():
                more[group] = {**more.get(group, {}), **values}
            run = arm.settings(more)
            settings = {name: v for name, v in run.plain().items() if name not in ("recipe", "description")}
            settings = json.loads(json.dumps(settings))
            data, name = self._items(exam, run), arm.name
            on = None if arm.components is None else tuple(sorted(arm.components))
        return Job(name, task, model, seed, settings, exam, self._asking, data, self._weights[model], on, value)

    def _items(self, exam: Exam, run: Any) -> str:
        key = (fingerprint(vars(exam)), None if run is None else fingerprint(vars(run.task), run.training.get("seed")))
        if key not in self._data:
            try:
                asked = [vars(example) for example in exam.examples()]
                learned = [] if run is None else [vars(example) for example in load_examples(run)[1]]
                self._data[key] = fingerprint(asked, learned)
            except UniSDError as error:
                if isinstance(error, UsageError) or not self.without_data:
                    raise
                self.lacking[exam.task], self._data[key] = str(error), ""
        return self._data[key]


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return a job's result, or None where there is none that can be read."""
    try:
        found = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if _is_whole(found) else None


def _is_whole(result: Any) -> bool:
    points = result.get("points") if isinstance(result, dict) else None
    if not isinstance(points, list) or not points or not isinstance(result.get("seconds"), int | float):
        return False
    return all(isinstance(point, dict) and _is_asked(point) for point in points)


def _is_asked(point: dict[str, Any]) -> bool:
    lengths = {len(each) if isinstance(each := point.get(name), list) else 0 for name in ("ids", "correct", "parsed")}
    return len(lengths) == 1 and 0 not in lengths


def is_damaged(folder: Path) -> bool:
    """Return whether a result lies there that cannot be read."""
    return (folder / RESULT_FILE).is_file() and read_result(folder) is None


def _weights(model: str) -> str:
    folder = Path(model)
    return fingerprint(contents(folder)) if folder.is_dir() else model
