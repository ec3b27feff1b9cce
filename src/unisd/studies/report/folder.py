"""What lies in the folder of a run, an evaluation or an audit, as far as it can be read."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from unisd.errors import UniSDError, UsageError
from unisd.evaluation.answers import Evaluation, read_evaluation
from unisd.evaluation.compare import Comparison, compare
from unisd.evaluation.distribution import Distribution
from unisd.training.completions import COMPLETIONS_FILE
from unisd.training.run import AUDIT_FILE, CONFIG_FILE, SUMMARY_FILE
from unisd.training.telemetry import METRICS_FILE, MetricsLog

_BEFORE = ("before", "base", "student")
_HEADROOM = "headroom-"
_READ = ("task", "metric", "n")


@dataclass(frozen=True)
class Answers:
    """A model's answers, as they lie in a file."""

    name: str
    """What the page calls the model."""
    evaluation: Evaluation
    summary: dict[str, Any]
    """What else the file holds: how it was asked, what was measured."""
    stem: str = ""
    """The file's name."""

    @cached_property
    def measured(self) -> dict[str, Any]:
        """What the answers add up to."""
        return self.evaluation.summary()

    @cached_property
    def given(self) -> Distribution:
        """Which answers were given how often."""
        return self.evaluation.distribution()


@dataclass(frozen=True)
class Exam:
    """The same questions, put to several models; the first is the one that the others are compared with."""

    name: str
    title: str
    answers: list[Answers]
    training: bool = False
    """Whether these are training questions, asked for what the teacher has to teach."""

    @cached_property
    def compared(self) -> list[tuple[Answers, Comparison]]:
        """Each further model with its comparison with the first."""
        first = self.answers[0]
        found = []
        for other in self.answers[1:]:
            ids = other.evaluation.by_example().keys()
            items = [item for item in first.evaluation.items if item.id in ids]
            found.append((other, compare(replace(first.evaluation, items=items), other.evaluation, first.name)))
        return found

    @cached_property
    def shown(self) -> tuple[Answers, Comparison]:
        """The further model that figures and items are shown of: of teachers the best one, else the first."""
        if self.training:
            return max(self.compared, key=lambda pair: (pair[1].difference.estimate, pair[1].n))
        return self.compared[0]


@dataclass
class Folder:
    """Everything that a page is made of."""

    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    """What the demo found (``evaluation/summary.json``)."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    written: list[dict[str, Any]] = field(default_factory=list)
    """Completions of training that were kept."""
    exams: list[Exam] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    """What could not be read, a line each."""

    @property
    def kind(self) -> str:
        """Return what made the folder: demo, train, evaluate or audit."""
        if self.config:
            return "demo" if self.found else "train"
        return "audit" if self.audit and "layout" in self.audit else "evaluate"

    @property
    def exam(self) -> Exam | None:
        """The exam that the page is about: of the task that was trained on, of questions that were held out."""
        task = str((self.config.get("task") or {}).get("name", "")).partition(":")[0]
        asked = [exam for exam in self.exams if not exam.training] or self.exams
        own = [exam for exam in asked if exam.answers[0].evaluation.task == task]
        return next(iter([*(e for e in own if len(e.answers) > 1), *own, *asked]), None)


def read_folder(path: Path) -> Folder:
    """Read what lies in ``path``; what is damaged is named in the result, and the rest is read.

    Raises:
        UsageError: there is no such folder, or nothing in it that a page could be made of.
    """
    if not path.is_dir():
        raise UsageError(f"report {path}: there is no such folder; name one that train, evaluate, audit or demo wrote")
    found = Folder(path)
    found.config = _mapping(path / CONFIG_FILE, found.damaged, yaml.safe_load)
    found.summary = _mapping(path / SUMMARY_FILE, found.damaged)
    found.audit = _mapping(path / AUDIT_FILE, found.damaged)
    found.found = _mapping(path / "evaluation" / "summary.json", found.damaged)
    found.metrics = _rows(path / METRICS_FILE, found.damaged)
    found.written = _rows(path / COMPLETIONS_FILE, found.damaged)
    found.exams = list(_exams(found, _answers(found)))
    if not (found.config or found.audit or found.exams or found.metrics):
        why = f" ({found.damaged[0]})" if found.damaged else ""
        raise UsageError(f"report {path}: no run, evaluation or audit lies there{why}; name the folder that one wrote")
    return found


def _mapping(file: Path, damaged: list[str], read: Any = json.loads) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        values = read(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no mapping")
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        damaged.append(f"{file.name} could not be read: {' '.join(str(error).split())[:200]}")
        return {}
    return values


def _rows(file: Path, damaged: list[str]) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    rows = MetricsLog(file).rows()
    lines = sum(bool(line.strip()) for line in file.read_bytes().split(b"\n"))
    if lines > len(rows):
        damaged.append(f"{file.name}: {lines - len(rows)} of {lines} lines could not be read and were left out")
    return rows


def _answers(folder: Folder) -> Iterator[Answers]:
    """Yield every evaluation of a folder, in the order of its files' names."""
    path = folder.path
    own = [path / "evaluation", path / "answers"] if (path / CONFIG_FILE).is_file() or folder.audit else []
    for place in own or [path, *sorted(p for p in path.iterdir() if p.is_dir())]:
        for file in sorted(place.glob("*.json")):
            if not file.with_suffix(".jsonl").is_file():
                continue
            summary = _mapping(file, folder.damaged)
            if not all(key in summary for key in _READ):
                continue
            try:
                evaluation = read_evaluation(file)
            except UniSDError as error:
                folder.damaged.append(str(error))
                continue
            if evaluation.items:
                yield Answers(_name(file, summary, folder), evaluation, summary, file.stem)


def _name(file: Path, summary: dict[str, Any], folder: Folder) -> str:
    """Return what to call a model: as it was named, without its folders, or as the file is."""
    if (model := summary.get("model")) is not None:
        name = str(model)
        if name.endswith(" (base)"):
            return f"{Path(name.removesuffix(' (base)')).name} (base)" if not folder.config else "base"
        here = folder.config and Path(name).name == folder.path.resolve().name
        return "after training" if here else Path(name).name or name
    stem = file.stem
    for task in dict.fromkeys((str(summary.get("label", "")), str(summary["task"]))):
        if task and stem.startswith(f"{task}-"):
            stem = stem.removeprefix(f"{task}-")
            break
    if stem.startswith(_HEADROOM):
        stem = stem.removeprefix(_HEADROOM)
        stem = stem if stem.startswith(("student", "teacher")) else f"teacher-{stem}"
        return stem.replace("teacher-", "teacher, ").replace("-", " ")
    return stem.replace("-", ", ") if folder.audit and not folder.config else stem


def _exams(folder: Folder, answers: Iterator[Answers]) -> Iterator[Exam]:
    """Group answers to the same questions; those to a part of the questions belong to the whole."""
    groups: list[list[Answers]] = []

    def asked_of(group: list[Answers]) -> Any:
        return group[0].evaluation.by_example().keys()

    for found in sorted(answers, key=lambda a: -len(a.evaluation.by_example())):
        ids = found.evaluation.by_example().keys()
        for group in groups:
            same = _HEADROOM in group[0].stem, group[0].evaluation.task
            if same == (_HEADROOM in found.stem, found.evaluation.task) and ids <= asked_of(group):
                group.append(found)
                break
        else:
            groups.append([found])
    asked = _order(folder)
    used: dict[str, int] = {}
    for group in groups:
        group.sort(key=lambda a: (not _is_first(a), asked.get(str(a.summary.get("model")), len(asked)), a.stem))
        training = bool(folder.audit and not folder.config) or all(_HEADROOM in a.stem for a in group)
        task = str(group[0].summary.get("label") or group[0].evaluation.task)
        number = used[task] = used.get(task, 0) + 1
        title = f"{task}, training questions" if training else task if number == 1 else f"{task} ({number})"
        yield Exam(f"{_slug(task)}-{number}", title, _distinct(group), training)


def _is_first(answers: Answers) -> bool:
    return answers.name in _BEFORE or answers.name.endswith("(base)")


def _order(folder: Folder) -> dict[str, int]:
    """Return the models in the order in which they were named, where a report says so."""
    report = _mapping(folder.path / "report.json", folder.damaged)
    results = report.get("results")
    named = [str(r.get("model")) for r in results if isinstance(r, dict)] if isinstance(results, list) else []
    return {name: place for place, name in enumerate(dict.fromkeys(named))}


def _distinct(group: list[Answers]) -> list[Answers]:
    """Return answers whose names differ: models of one name are told apart by their whole names."""
    names = [a.name for a in group]
    return [
        a if names.count(a.name) == 1 else replace(a, name=str(a.summary.get("model", f"{a.name} {place + 1}")))
        for place, a in enumerate(group)
    ]


def _slug(text: str) -> str:
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())
    return "-".join(filter(None, kept.split("-"))) or "task"
