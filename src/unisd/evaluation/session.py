"""Several models on several tasks: what ``unisd evaluate`` does."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unisd.errors import UniSDError, UsageError
from unisd.evaluation.answers import Evaluation, read_evaluation
from unisd.evaluation.compare import Comparison, compare, forgetting
from unisd.evaluation.evaluate import drawn, evaluate, regrade
from unisd.evaluation.instructions import instruction_change, instruction_following
from unisd.evaluation.likelihood import choice_calibration, gold_perplexity
from unisd.evaluation.models import Loaded, Own, find_model
from unisd.evaluation.retention import retention
from unisd.files import write_json
from unisd.models import load_tokenizer
from unisd.models.load import max_positions
from unisd.rollout import CompletionStore, make_sampler
from unisd.tasks import Example, Task, get, names
from unisd.tasks.instructions import Instructions
from unisd.tasks.turns import Thoughts

ALL = "all"
DECODING = ("samples", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
BASE = "base"
_TAKEN = re.compile(r"report|summary|headroom.*|.*-headroom-.*|.*-(base|before|after)")
"""Names of files that say something else than a task's answers: a task that is called so gets a `_` behind its name."""


@dataclass(frozen=True)
class Options:
    """How to ask, and what to measure beside the answers."""

    max_new_tokens: int | None = None
    batch_size: int = 32
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 42
    base: bool = False
    """Ask each adapted model's base, too, and compare."""
    likelihood: bool = False
    """Measure the perplexity of gold completions and the calibration of multiple choice."""
    retention: bool = False
    """Measure the distance to the base, and whether instructions are still followed; asks the base, too."""
    instructions: int | None = None
    """How many instructions are asked for that; None: all that there are."""
    fresh: bool = False
    """Do not use completions that earlier evaluations kept."""
    template_kwargs: dict[str, Any] | None = None
    """What the chat template reads beside the messages; None: as each run was trained."""
    thoughts: Thoughts = "cut"
    """Whether thoughts are cut before answers are graded."""
    device: str = "auto"
    """Where models run: auto, or as PyTorch names it."""
    device_map: str | None = None
    """How each is spread over several devices; None: it is not."""


@dataclass(frozen=True)
class Exam:
    """A task and the items that are asked of it."""

    label: str
    """The task as it was named, options included."""
    task: Task
    examples: list[Example]
    origin: dict[str, Any] = field(default_factory=dict)
    """Source, split and limit that the items came from."""
    max_new_tokens: int | None = None
    """Room for an answer, where nothing else is said; None: the task's."""

    @property
    def file_name(self) -> str:
        """The stem of its files' names: the label, or the name that a task of one's own gives itself."""
        own = self.label.endswith((".yaml", ".yml"))
        stem = re.sub(r"[^\w.-]+", "-", self.task.name if own else self.label)
        return f"{stem}_" if _TAKEN.fullmatch(stem) else stem


@dataclass
class Result:
    """One model's answers on one task, and what else was measured."""

    model: str
    exam: Exam
    evaluation: Evaluation
    measures: dict[str, Any] = field(default_factory=dict)
    """Perplexity, calibration, retention: as far as they were asked for."""
    asked: dict[str, Any] = field(default_factory=dict)
    """How the answers were asked for."""

    def more(self) -> dict[str, Any]:
        """Return what is written beside the answers' own summary."""
        return {"model": self.model, "label": self.exam.label, "asked": self.asked, **self.measures}

    def summary(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return self.evaluation.summary() | self.more()


@dataclass
class Report:
    """All results, and the comparisons with the first model (or with each model's base)."""

    results: list[Result]
    comparisons: dict[str, dict[str, Comparison]]
    """Per model and task."""
    forgetting: dict[str, dict[str, Any]]
    """Per run that was compared with its own base: the change on tasks that it was not trained on."""
    notes: list[str] = field(default_factory=list)
    """What was asked for and could not be done."""

    def summary(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "results": [r.summary() for r in self.results],
            "comparisons": {
                model: {label: found.summary() for label, found in by_task.items()}
                for model, by_task in self.comparisons.items()
            },
            "forgetting": self.forgetting,
            "notes": self.notes,
        }


def load_exams(
    labels: Sequence[str],
    source: str | None,
    split: str | None,
    limit: int | None,
    own: Mapping[str, Own] | None = None,
) -> tuple[list[Exam], dict[str, str]]:
    """Load the items of each task; ``all`` means every task that can be had.

    Args:
        labels: tasks with their options, or ``all``.
        source: as for a task's ``load``; a folder may hold one folder per task, named like it.
        split: None takes each task's evaluation split.
        limit: items per task, drawn by a stable hash.
        own: by task, how the runs that are asked were trained on it: where its data lie where ``source`` does not say,
            and how long answers may be.

    Returns:
        The exams, and for ``all`` the tasks that are left out, with the reason.

    Raises:
        UsageError: an unknown task, split or source, or a damaged file.
        UniSDError: a task that was named cannot be had.
    """
    exams, skipped = [], {}
    everything = ALL in labels
    folder = Path(source).expanduser() if source not in (None, "hub", "sample") else None
    named = [label for label in labels if label != ALL]
    for label in dict.fromkeys([*names(), *named] if everything else named):
        if label not in named and folder is not None and not (folder / label).is_dir():
            skipped[label] = f"{folder} has no folder {label}"
            continue
        said = (own or {}).get(label)
        place = said.source if source is None and said is not None else source
        try:
            task = get(label)
            found = task.load(split or task.splits[-1], place)
        except UniSDError as error:
            # With a folder all damage is an error; where anything goes, what cannot be had is left out.
            if label in named or folder is not None:
                raise
            skipped[label] = str(error)
            continue
        origin = {"source": place, "split": split or task.splits[-1], "limit": limit}
        exams.append(Exam(label, task, drawn(found, limit), origin, None if said is None else said.max_new_tokens))
    if not exams:
        raise UsageError("no task can be evaluated: " + "; ".join(f"{name}: {why}" for name, why in skipped.items()))
    stems = [exam.file_name for exam in exams]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise UsageError(f"--task: two tasks would both be written as '{twice}'; give one of them another name")
    return exams, skipped


def run_session(
    models: Sequence[str],
    exams: Sequence[Exam],
    options: Options,
    keep: Callable[[Loaded, Result], None] | None = None,
    progress: bool = True,
) -> Report:
    """Ask every model every task; the completions are kept, so a killed session goes on where it stopped.

    Args:
        models: as a user names them; all are compared with the first, or with their bases.
        exams: what is asked.
        options: how, and what else is measured.
        keep: called with each result as soon as it is there.
        progress: show progress bars.
    """
    for name in models:  # before any work: a wrong name must not be found out after an hour
        load_tokenizer(find_model(name).tokenizer)
    report = Report([], {}, {})
    first: dict[str, Evaluation] = {}
    with_base = options.base or options.retention
    for name in dict.fromkeys(models):
        loaded = Loaded(name, options.device, options.device_map)
        if with_base and not loaded.has_base:
            if len(models) == 1:
                raise UsageError(f"{name}: it is not known what it was adapted from; leave out --base and --retention")
            report.notes.append(f"{name}: no base is known, so neither --base nor --retention was done for it")
        instructed = _instructed(loaded, options, progress)
        for exam in exams:
            before, against = first.get(exam.label), models[0]
            if with_base and loaded.has_base:
                asked = ask(loaded, exam, options, True, progress)
                before, against = asked.evaluation, asked.model
                _keep(report, asked, keep, loaded)
            result = ask(loaded, exam, options, False, progress)
            if options.retention and before is not None and loaded.has_base:
                kept = retention(
                    lambda loaded=loaded: loaded.weights(True),  # type: ignore[misc]
                    lambda loaded=loaded: loaded.weights(False),  # type: ignore[misc]
                    loaded.builder(options.template_kwargs),
                    before,
                    result.evaluation,
                )
                result.measures["retention"] = {**(kept or {}), **instructed} or None
            _keep(report, result, keep, loaded)
            if before is not None:
                found = compare(before, result.evaluation, against)
                report.comparisons.setdefault(name, {})[exam.label] = found
            first.setdefault(exam.label, result.evaluation)
        if with_base and loaded.has_base and loaded.found.trained_on:
            trained = [exam.label for exam in exams if _same_task(exam, loaded.found.trained_on)]
            if (lost := forgetting(report.comparisons[name], trained)) is not None:
                report.forgetting[name] = lost
    return report


def _same_task(exam: Exam, trained_on: str) -> bool:
    return exam.label == trained_on or exam.task.name == trained_on.partition(":")[0]


def _keep(report: Report, result: Result, keep: Callable[[Loaded, Result], None] | None, loaded: Loaded) -> None:
    report.results.append(result)
    if keep is not None:
        keep(loaded, result)


def _instructed(loaded: Loaded, options: Options, progress: bool) -> dict[str, Any]:
    """Return what became of following instructions, where that is to be measured: once a model."""
    if not (options.retention and loaded.has_base) or options.instructions == 0:
        return {}

    def asked(base: bool) -> Evaluation:
        with loaded.weights(base) as model:
            return instruction_following(
                make_sampler(model, loaded.tokenizer, options.batch_size),
                loaded.builder(options.template_kwargs),
                options.instructions,
                _store(loaded, options, Instructions.name, base),
                max_new_tokens=options.max_new_tokens,
                max_length=max_positions(model),
                thoughts=options.thoughts,
                progress=f"{Instructions.name}, {_named(loaded, base)}" if progress else None,
            )

    found = instruction_change(asked(True), asked(False), options.thoughts)
    return {"instructions": {"asked": options.instructions, **found}}


def _store(loaded: Loaded, options: Options, task: str, base: bool) -> CompletionStore | None:
    if options.fresh:
        return None
    return CompletionStore.in_cache("answers", task, loaded.fingerprint(base), options.batch_size)


def _named(loaded: Loaded, base: bool) -> str:
    return f"{loaded.name} ({BASE})" if base else loaded.name


def ask(loaded: Loaded, exam: Exam, options: Options, base: bool = False, progress: bool = True) -> Result:
    """Ask one model, or the base that it was adapted from, the items of one exam; answers that were kept are used."""
    name = _named(loaded, base)
    builder, room = loaded.builder(options.template_kwargs), options.max_new_tokens or exam.max_new_tokens
    asked: dict[str, Any] = {key: getattr(options, key) for key in DECODING}
    with loaded.weights(base) as model:
        sampler = make_sampler(model, loaded.tokenizer, options.batch_size)
        found = evaluate(
            exam.task,
            exam.examples,
            sampler,
            builder,
            room,
            progress=f"{exam.label}, {name}" if progress else None,
            store=_store(loaded, options, exam.task.name, base),
            max_length=max_positions(model),
            thoughts=options.thoughts,
            **asked,
        )
        measures: dict[str, Any] = {}
        if options.likelihood:
            measures["ppl_fit"] = gold_perplexity(model, builder, exam.task, exam.examples)
            measured = choice_calibration(model, builder, exam.task, exam.examples)
            measures["calibration"] = None if measured is None else dataclasses.asdict(measured)
    if options.thoughts != "cut":
        asked["thoughts"] = options.thoughts
    if builder.variables:
        asked["template_kwargs"] = builder.variables
    asked["max_new_tokens"] = room or exam.task.max_new_tokens
    return Result(name, exam, found, measures, asked | exam.origin)


def write_result(result: Result, folder: Path) -> Path:
    """Write a result into ``folder``: ``<task>.json`` and ``<task>.jsonl``, or ``<task>-base`` for a base's."""
    base = f"-{BASE}" if result.model.endswith(f"({BASE})") else ""
    path = folder / f"{result.exam.file_name}{base}.json"
    result.evaluation.write(path, result.more())
    return path


def write_report(report: Report, folder: Path) -> Path:
    """Write ``report.json``: all summaries and comparisons."""
    path = folder / "report.json"
    write_json(path, report.summary())
    return path


def regrade_file(task: Task, path: Path, thoughts: Thoughts = "cut") -> dict[str, Any]:
    """Grade the answers in ``path`` (and the items beside it) again, write them back, and return the summary.

    Raises:
        UsageError: the files are missing, damaged, or another task's.
    """
    evaluation = regrade(task, read_evaluation(path), thoughts)
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not isinstance(kept.get("asked") or {}, dict):
        raise UsageError(f"{path}: 'asked' is no mapping; the file is damaged, evaluate again")
    before = evaluation.summary()
    if asked := kept.get("asked"):
        asked.pop("thoughts", None)
        asked |= {} if thoughts == "cut" else {"thoughts": thoughts}
    evaluation.write(path, {key: kept[key] for key in kept if key not in before})
    return before
