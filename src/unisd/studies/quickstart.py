"""The quickstart: headroom, before, self-distillation, after, and imitation at equal gain; on a real model."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from unisd.contexts import Context, PromptBuilder
from unisd.errors import UsageError
from unisd.evaluation.answers import Evaluation
from unisd.evaluation.compare import Comparison, compare
from unisd.evaluation.evaluate import drawn, evaluate
from unisd.evaluation.headroom import measure
from unisd.evaluation.results import renew_card
from unisd.files import write_json
from unisd.mechanisms import Acting
from unisd.models import load_model_and_tokenizer
from unisd.rollout import Sampler, make_sampler
from unisd.studies.everyday import Everyday, Kept, asked, kept
from unisd.tasks import Example, Task
from unisd.training.prepare import load_examples
from unisd.training.run import RunResult, claim_folder, train_run
from unisd.training.runfile import RunSettings, assemble
from unisd.training.telemetry import peak_memory_bytes

MINUTES, _FIXED = 5.0, 2.0
"""What the recipes' steps are made for on two quiet cores; and how much of it everything but training takes."""
OWN, IMITATION = "self-distillation", "sft"
FORM = "student, shown the form"
_LOOKS = 5
"""Imitation is asked every so many steps."""


def steps_for(minutes: float | None, steps: int) -> int:
    """Return how many steps fit into a time, where a recipe's fit into `MINUTES`.

    Raises:
        UsageError: the time is no longer than what everything but training takes.
    """
    if minutes is None:
        return steps
    if not _FIXED < minutes < 10_000:
        raise UsageError(f"--minutes {minutes:g}: use more than {_FIXED:g}, which is what all but training takes")
    return max(1, round(steps * (minutes - _FIXED) / (MINUTES - _FIXED)))


@dataclass
class Method:
    """What a method of training reached, and what it cost."""

    name: str
    steps: int
    seconds: float
    after: Evaluation
    change: Comparison
    kept: Kept
    points: list[dict[str, int]] = field(default_factory=list)
    """Of what was asked on the way: ``steps``, ``correct``, ``readable``."""

    def in_words(self) -> str:
        """Return what was gained beside what was forgotten, in a sentence."""
        return f"{self.name}, {self.steps} steps: {self.after.correct} of {self.after.n} right; {self.kept.in_words()}"

    def summary(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "correct": self.after.correct,
            "readable": self.after.parsable,
            "n": self.after.n,
            "change": self.change.summary(),
            "kept": self.kept.summary(),
            "points": self.points,
        }


@dataclass
class Quickstart:
    """What the quickstart found."""

    headroom: dict[str, Evaluation]
    """On training questions: ``student``, the student that is shown the form by another item, and the teacher."""
    before: Evaluation
    methods: dict[str, Method]
    """By name: `OWN`, and where it was compared, `IMITATION`."""
    acting: list[Acting]
    weights: Path
    chance: float
    """Accuracy of a guesser that always answers in the right format."""
    seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds of each part."""
    peak_memory_bytes: int = 0

    @property
    def after(self) -> Evaluation:
        """The answers after self-distillation."""
        return self.methods[OWN].after

    def summary(self) -> dict[str, Any]:
        """Return everything that was found, as plain values (``evaluation/summary.json``; docs/demo.md)."""
        own = self.methods[OWN]
        difference = own.change.difference
        gain = {"difference": difference.estimate, "low": difference.low, "high": difference.high}
        return {
            "evaluations": {
                **{f"training questions: {name}": found.summary() for name, found in self.headroom.items()},
                "held-out questions: before": self.before.summary(),
                **{f"held-out questions: {name}": method.after.summary() for name, method in self.methods.items()},
            },
            "gain": gain | {"mcnemar_p": own.change.mcnemar_p},
            "methods": {name: method.summary() for name, method in self.methods.items()},
            "chance": self.chance,
            "verdict": self.verdict(),
            "mechanisms": [vars(acting) for acting in self.acting],
            "seconds": round(self.seconds, 1),
            "parts": {name: round(seconds, 1) for name, seconds in self.parts.items()},
            "peak_memory_bytes": self.peak_memory_bytes,
        }

    def verdict(self) -> list[str]:
        """Say in plain words how large the gain is, what part of it is format, and what was forgotten."""
        own, form = self.methods[OWN], self.headroom[FORM]
        lines = [f"{self.before.correct} of {self.before.n} right before, {own.after.correct} after."]
        lines += own.change.verdict()
        lines.append(
            f"For comparison: untrained, but shown the form by one solved item of another kind, the model is right on "
            f"{form.correct} of {form.n} training questions ({form.parsable} readable)."
        )
        lines.append(f"Forgotten, {own.in_words()}.")
        if (other := self.methods.get(IMITATION)) is not None:
            reached = "at a gain as large" if other.after.correct >= own.after.correct else "which gained less"
            lines.append(f"Imitation of the demonstrations (sft), {reached}: {other.in_words()}.")
        return lines


class _Until(TrainerCallback):
    """Asks the held-out questions every few steps of imitation, and ends it when it has gained as much.

    Args:
        ask: gives the answers of the model as it is.
        goal: as many right answers end it.
    """

    def __init__(self, ask: Callable[[], Evaluation], goal: int) -> None:
        self.ask = ask
        self.goal = goal
        self.points: list[dict[str, int]] = []
        self.latest: Evaluation | None = None
        self.seconds = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look, where it is time."""
        last = state.global_step >= state.max_steps
        if state.global_step % _LOOKS and not last:
            return
        started = time.perf_counter()
        kwargs["model"].eval()
        self.latest = found = self.ask()
        self.points.append({"steps": state.global_step, "correct": found.correct, "readable": found.parsable})
        self.seconds += time.perf_counter() - started
        control.should_training_stop = control.should_training_stop or found.correct >= self.goal


def imitation(settings: RunSettings, steps: int) -> RunSettings:
    """Return the same run by imitation: the same items, adapter, rate and batch, cross-entropy on demonstrations."""
    values = settings.plain()
    given = {name: values[name] for name in ("task", "model", "lora", "training")}
    given["training"] = {**values["training"], "max_steps": steps, "save_strategy": "no"}
    room = max(256, values["rollout"]["max_completion_length"])  # demonstrations are learned whole
    given["rollout"] = {"max_completion_length": room, "batch_size": values["rollout"]["batch_size"]}
    given["contexts"] = {"max_prompt_length": values["contexts"]["max_prompt_length"]}
    return assemble("sft", given=given)


class _Demo:
    """One run of the quickstart; the parts share the model and what is asked."""

    def __init__(self, settings: RunSettings, folder: Path, say: Callable[[str], None], quiet: bool) -> None:
        self.settings, self.folder, self.say, self.quiet = settings, folder, say, quiet
        self.config = settings.config(folder)
        self.task: Task
        self.builder: PromptBuilder
        self.held_out: list[Example] = []
        self.parts: dict[str, float] = {}
        self._part, self._since = "", time.perf_counter()

    def begin(self, part: str, line: str) -> None:
        """Say what comes, and end the clock of what came before."""
        now = time.perf_counter()
        if self._part:
            self.parts[self._part] = self.parts.get(self._part, 0.0) + now - self._since
        self._part, self._since = part, now
        if line:
            self.say(line)

    def ask(self, sampler: Sampler, shown: str) -> Evaluation:
        """Put the held-out questions to the model as it is."""
        room = self.config.rollout.max_completion_length
        return evaluate(self.task, self.held_out, sampler, self.builder, room, progress=None if self.quiet else shown)

    def headroom(self, examples: Sequence[Example], sampler: Sampler) -> dict[str, Evaluation]:
        """Ask training questions of the student, of the student that sees the form, and of the teacher."""
        room, layout = self.config.rollout.max_completion_length, self.config.contexts.layout
        found = measure(self.task, examples, sampler, self.builder, [layout], room, progress=not self.quiet)
        others = [another(self.task, examples, number) for number in range(len(examples))]
        contexts = [Context("random", other.demonstration or "", other.prompt) for other in others]
        shown = None if self.quiet else "headroom: form"
        # An earlier exchange shows a form best, whatever the teacher's layout is.
        form = evaluate(self.task, examples, sampler, self.builder.in_layout("turn"), room, contexts, shown)
        return {"student": found["student"], FORM: form, f"teacher ({layout})": found[layout]}

    def method(self, name: str, run: RunResult, after: Evaluation, before: Evaluation, everyday: Evaluation) -> Method:
        """Return what a run reached, and measure what is left of the base."""
        example = Everyday(self.task, self.held_out[0])
        left = kept(run.trainer.model, self.builder, everyday, asked(example, run.trainer.sampler, self.builder))
        stem = "after" if name == OWN else name
        more = {"model": name, "retention": left.retention}
        after.write(self.folder / "evaluation" / f"{self.task.name}-{stem}.json", more)
        return Method(name, run.steps, run.seconds, after, compare(before, after, "before"), left)


def another(task: Task, examples: Sequence[Example], number: int) -> Example:
    """Return the next example of another group, or where all are of one, the next one."""
    order = [examples[(number + step) % len(examples)] for step in range(1, len(examples) + 1)]
    here = task.group(examples[number])
    return next((other for other in order if task.group(other) != here), order[0])


def run_quickstart(
    settings: RunSettings,
    folder: Path,
    items: int,
    headroom_items: int,
    say: Callable[[str], None],
    quiet: bool = False,
    against: bool = True,
) -> Quickstart:
    """Measure, train and measure again into ``folder``; then imitate until as much is gained, in ``folder/sft``.

    Args:
        settings: the run (recipe ``quickstart`` or one like it).
        folder: a free folder.
        items: held-out questions asked before and after.
        headroom_items: training questions on which student and teacher are compared.
        say: called with a line at the start of each part.
        quiet: no progress bars.
        against: whether imitation is compared.
    """
    started, of = time.perf_counter(), 6 if against else 5
    claim_folder(folder, resume=None)
    demo = _Demo(settings, folder, say, quiet)
    demo.task, training = load_examples(settings)
    task = demo.task
    demo.held_out = drawn(task.load(task.splits[-1], settings.task.source), items)
    demo.begin("load", f"1/{of} loading {settings.model.name}")
    model, tokenizer = load_model_and_tokenizer(settings.model, demo.config.device)
    demo.builder = demo.config.contexts.builder(tokenizer)
    sampler = make_sampler(model, tokenizer, demo.config.rollout.batch_size)
    demo.begin("headroom", f"2/{of} headroom: what the teacher, who is shown the answer, can do beyond the student "
               f"({headroom_items} training questions)")  # fmt: skip
    headroom = demo.headroom(training[:headroom_items], sampler)
    demo.begin("before", f"3/{of} before: {len(demo.held_out)} held-out questions, and everyday requests")
    before = demo.ask(sampler, "before")
    everyday = asked(Everyday(task, demo.held_out[0]), sampler, demo.builder)
    steps, batch = demo.config.max_steps, demo.config.per_device_train_batch_size
    demo.begin("train", f"4/{of} self-distillation: {steps} steps of {batch} questions")
    run = train_run(settings, folder, quiet=quiet, loaded=(model, tokenizer))
    demo.begin("after", f"5/{of} after: the same questions and requests")
    own = demo.method(OWN, run, demo.ask(run.trainer.sampler, "after"), before, everyday)
    found = Quickstart(headroom, before, {OWN: own}, run.acting, run.weights, _chance(demo))
    for name, evaluation in {"before": before, **{f"headroom-{k}": v for k, v in headroom.items()}}.items():
        evaluation.write(folder / "evaluation" / f"{task.name}-{_stem(name)}.json")
    if against:
        demo.begin("sft", f"6/{of} imitation (sft) of the same demonstrations, until it has gained as much")
        bare = run.trainer.model.unload()
        found.methods[IMITATION] = _imitate(demo, (bare, tokenizer), found, everyday, steps)
    demo.begin("", "")
    found.seconds, found.parts = time.perf_counter() - started, demo.parts
    found.peak_memory_bytes = peak_memory_bytes()
    write_json(folder / "evaluation" / "summary.json", found.summary())
    renew_card(folder)
    return found


def _imitate(demo: _Demo, loaded: tuple[Any, Any], found: Quickstart, everyday: Evaluation, steps: int) -> Method:
    sampler = make_sampler(*loaded, demo.config.rollout.batch_size)
    until = _Until(lambda: demo.ask(sampler, "sft"), found.after.correct)
    settings = imitation(demo.settings, steps)
    run = train_run(settings, demo.folder / IMITATION, quiet=demo.quiet, loaded=loaded, callbacks=[until])
    assert until.latest is not None
    method = demo.method(IMITATION, run, until.latest, found.before, everyday)
    method.seconds, method.points = run.seconds - until.seconds, until.points
    return method


def _chance(demo: _Demo) -> float:
    return sum(map(demo.task.chance, demo.held_out)) / len(demo.held_out)


def _stem(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name).strip("-").replace("--", "-")
