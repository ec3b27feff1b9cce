"""The quickstart: headroom, before, training with all five mechanisms, after; on a real model and real questions."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisd.evaluation.answers import Evaluation
from unisd.evaluation.compare import compare
from unisd.evaluation.evaluate import drawn, evaluate
from unisd.evaluation.headroom import measure
from unisd.evaluation.results import renew_card
from unisd.files import write_json
from unisd.models import load_model_and_tokenizer
from unisd.rollout import make_sampler
from unisd.training.prepare import load_examples
from unisd.training.run import RunResult, claim_folder, train_run
from unisd.training.runfile import RunSettings
from unisd.training.telemetry import peak_memory_bytes


@dataclass
class Quickstart:
    """What the quickstart found."""

    headroom: dict[str, Evaluation]
    before: Evaluation
    after: Evaluation
    run: RunResult
    chance: float
    """Accuracy of a guesser that always answers in the right format."""
    seconds: float
    peak_memory_bytes: int

    def gain(self) -> dict[str, float]:
        """Return the paired difference in accuracy with its 95 % bootstrap interval, and McNemar's exact p-value."""
        found = compare(self.before, self.after)
        difference, p = found.difference, found.mcnemar_p
        assert p is not None
        return {"difference": difference.estimate, "low": difference.low, "high": difference.high, "mcnemar_p": p}

    def summaries(self) -> dict[str, dict[str, Any]]:
        """Return the summaries of all four kinds of answers, by name."""
        teacher = next(name for name in self.headroom if name != "student")
        return {
            "training questions: student": self.headroom["student"].summary(),
            f"training questions: teacher ({teacher})": self.headroom[teacher].summary(),
            "held-out questions: before": self.before.summary(),
            "held-out questions: after": self.after.summary(),
        }

    def summary(self) -> dict[str, Any]:
        """Return everything that was found, as plain values."""
        return {
            "evaluations": self.summaries(),
            "gain": self.gain(),
            "chance": self.chance,
            "verdict": self.verdict(),
            "mechanisms": [vars(acting) for acting in self.run.acting],
            "seconds": self.seconds,
            "peak_memory_bytes": self.peak_memory_bytes,
        }

    def verdict(self) -> list[str]:
        """Say in plain words how large the gain is and what part of it is format."""
        chance, gain, summary = self.chance, self.gain(), self.after.summary()
        right = summary["accuracy_among_parsable"]
        rose = self.after.parsable - self.before.parsable
        lines = [
            f"Correct answers: {self.before.correct} before, {self.after.correct} after, of {self.after.n} "
            f"({gain['difference']:+.1%}, 95 % interval {gain['low']:+.1%} to {gain['high']:+.1%}, "
            f"McNemar p = {gain['mcnemar_p']:.2g}).",
            f"Format: {rose:+d} answers became readable. A guesser in the right format would score {chance:.0%}.",
        ]
        if right["low"] > chance:
            lines.append(
                f"Among readable answers {right['value']:.0%} are correct, above chance: more than format was gained."
            )
        else:
            lines.append(
                f"Among readable answers {right['value']:.0%} are correct, with an interval that holds chance: "
                "the gain shown here is format, not knowledge."
            )
        return lines


def run_quickstart(
    settings: RunSettings,
    folder: Path,
    items: int,
    headroom_items: int,
    say: Callable[[str], None],
    quiet: bool = False,
) -> Quickstart:
    """Measure, train and measure again into ``folder``.

    Args:
        settings: the run (recipe ``quickstart``).
        folder: a free folder.
        items: held-out questions asked before and after.
        headroom_items: training questions on which student and teacher are compared.
        say: called with a line at the start of each part.
        quiet: no progress bars.
    """
    started = time.perf_counter()
    claim_folder(folder, resume=None)
    config = settings.config(folder)
    task, training = load_examples(settings)
    held_out = drawn(task.load(task.splits[-1], settings.task.source), items)
    room = config.rollout.max_completion_length
    say(f"1/5 loading {settings.model.name}")
    model, tokenizer = load_model_and_tokenizer(settings.model, config.device)
    builder = config.contexts.builder(tokenizer)
    sampler = make_sampler(model, tokenizer, config.rollout.batch_size)
    say(f"2/5 headroom: student and teacher on {headroom_items} training questions")
    headroom = measure(
        task, training[:headroom_items], sampler, builder, [config.contexts.layout], room, progress=not quiet
    )
    say(f"3/5 before: {len(held_out)} held-out questions")
    shown = None if quiet else "before"
    before = evaluate(task, held_out, sampler, builder, room, progress=shown)
    say(
        f"4/5 training: {config.max_steps} steps of {config.per_device_train_batch_size} questions, all five mechanisms"
    )
    run = train_run(settings, folder, quiet=quiet, loaded=(model, tokenizer))
    say(f"5/5 after: the same {len(held_out)} questions")
    after = evaluate(task, held_out, run.trainer.sampler, builder, room, progress=None if quiet else "after")
    chance = sum(map(task.chance, held_out)) / len(held_out)
    found = Quickstart(headroom, before, after, run, chance, time.perf_counter() - started, peak_memory_bytes())
    for name, evaluation in {
        "before": before,
        "after": after,
        **{f"headroom-{k}": v for k, v in headroom.items()},
    }.items():
        evaluation.write(folder / "evaluation" / f"{task.name}-{name}.json")
    write_json(folder / "evaluation" / "summary.json", found.summary())
    renew_card(folder)
    return found
