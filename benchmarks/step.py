"""A whole optimizer step and its phases: recipes of unisd beside TRL's SDFTTrainer, on the same model, data and batch.

    python benchmarks/step.py                          # SmolLM2-135M, LoRA r 64 on all linear layers, CoS-E, batch 8
    python benchmarks/step.py --quick                  # a tiny random model: to see that it runs
    python benchmarks/step.py --contestants trl core unisd --rounds 5 --output step.json

Every contestant is a process of its own that holds its trainer; they take turns, one step each a round (see common.py).
TRL (`pip install --no-deps trl==1.16.*`) does the job of recipe `core`: full-vocabulary forward KL to the gold context
with the adapter switched off. Both sides write exactly `--new-tokens` tokens: TRL through `min_new_tokens`, ours by
having no end-of-turn token. TRL runs without gradient checkpointing (its default, slower) unless `trl_checkpointed` is
asked for. The other recipes do more than TRL's trainer can; their ratio says what that costs. Any recipe whose student
samples at every step can take part, and `unisd:paper`, whose question stands before every context, so that views share
more. All contestants stay in memory: where that is short, name a few, `trl` among them.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from common import (
    PEER,
    PEER_CHECKPOINTED,
    PHASES,
    Job,
    Loaded,
    adapter,
    has_peer,
    interleaved,
    load,
    machine,
    parser,
    quick,
    ratio,
    running,
    settings,
    shared_training,
    summary,
    targets_table,
    words,
    write,
)
from peer import same_work

RECIPES = (
    "core",
    "clip",
    "agreement_token",
    "agreement_sequence",
    "contrast",
    "ema",
    "match_joint",
    "match_representation",
    "unisd",
)
TARGETS = (("core", "rest", 0.55), ("core", "step", 0.55), ("unisd", "step", 1.0))
"""The most that a contestant may take of TRL's time, by part of the step."""
PARTS = {"generation": "generation", "rest": "everything but generation", "step": "whole step"}
# No model writes this id.
NO_TOKEN = -1


# -- trainers ------------------------------------------------------------------------------------------------------


def _our_trainer(job: Job, loaded: Loaded, folder: str) -> Any:
    from unisd.training.trainer import UniSDTrainer

    trainer = UniSDTrainer(
        loaded.model,
        settings(job, job.contestant, folder),
        train_dataset=loaded.rows,
        processing_class=loaded.tokenizer,
        peft_config=adapter(job),
    )
    trainer.sampler.end_tokens = frozenset({NO_TOKEN})
    return trainer


def _peer_trainer(job: Job, loaded: Loaded, folder: str) -> Any:
    """TRL's SDFTTrainer on the job of recipe `core`, at its fastest but for what is given."""
    from datasets import Dataset
    from trl.experimental.sdft import SDFTConfig, SDFTTrainer

    core = settings(job, "core", folder)
    config = SDFTConfig(
        output_dir=folder,
        **shared_training(job),
        learning_rate=core.learning_rate,
        lr_scheduler_type=core.lr_scheduler_type,
        warmup_steps=core.warmup_steps,
        max_grad_norm=core.max_grad_norm,
        gradient_checkpointing=job.contestant == PEER_CHECKPOINTED,
        **same_work(core, job.new_tokens),
    )
    return SDFTTrainer(
        loaded.model,
        config,
        train_dataset=Dataset.from_list(_peer_rows(loaded)),
        processing_class=loaded.tokenizer,
        peft_config=adapter(job),
    )


def _peer_rows(loaded: Loaded) -> list[dict[str, str]]:
    """Rendered prompts, so that TRL's student and teacher read exactly the token ids that ours read.

    TRL's own template puts the context behind the question inside one user turn. Here the teacher's whole prompt is
    the student's (question, start of the reply) and what follows it (the demonstration, the question asked again).
    """
    rows = []
    for row in loaded.prepared:
        student, teacher = (loaded.tokenizer.decode(ids) for ids in (row.student_ids, row.contexts["gold"][0]))
        for text, ids in ((student, row.student_ids), (teacher, row.contexts["gold"][0])):
            if loaded.tokenizer(text)["input_ids"] != ids:
                raise SystemExit(f"item {row.id}: its prompt changes when it is written out and read again")
        if not teacher.startswith(student):
            raise SystemExit(f"item {row.id}: the teacher's prompt does not begin with the student's; use layout turn")
        rows.append({"prompt": student, "privileged_context": teacher[len(student) :]})
    return rows


# -- the inside of a contestant ------------------------------------------------------------------------------------


class _StopTrainingError(Exception):
    """Leaves a training loop between two steps."""


class Meter:
    """Time, and peak memory if asked, by phase; a phase inside another interrupts it.

    Args:
        memory: whether to read and reset the system's peak counter at every change of phase.
        clock: ``wall`` or ``cpu`` (the process's own time).
    """

    def __init__(self, memory: bool = False, clock: str = "wall") -> None:
        self.memory = memory
        self._now = time.process_time if clock == "cpu" else time.perf_counter
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.peak_bytes = dict.fromkeys(PHASES, 0)
        self.highest = 0
        self._open = ["update"]
        self._since = self._now()

    def start(self) -> None:
        """Begin a step: the times start from zero, the peaks stay."""
        self._close()
        self.seconds = dict.fromkeys(PHASES, 0.0)

    def stop(self) -> float:
        """End a step; return its seconds."""
        self._close()
        return sum(self.seconds.values())

    def wrap(self, owner: Any, method: str, phase: str, when: Callable[[], bool] = lambda: True) -> None:
        """Count calls of ``owner.method`` for which ``when`` holds to ``phase``."""
        inner = getattr(owner, method)

        def measured(*args: Any, **kwargs: Any) -> Any:
            if not when():
                return inner(*args, **kwargs)
            self._close()
            self._open.append(phase)
            try:
                return inner(*args, **kwargs)
            finally:
                self._close()
                self._open.pop()

        setattr(owner, method, measured)

    def _close(self) -> None:
        now, phase = self._now(), self._open[-1]
        self.seconds[phase] += now - self._since
        if self.memory:
            lines = Path("/proc/self/status").read_text().splitlines()
            peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
            self.peak_bytes[phase] = max(self.peak_bytes[phase], peak)
            self.highest = max(self.highest, peak)
            Path("/proc/self/clear_refs").write_text("5")
            now = self._now()
        self._since = now


def _attach_meter(trainer: Any, meter: Meter, ours: bool) -> Callable[[], int]:
    """Split the trainer's steps into phases; the returned function gives the tokens that a step wrote."""
    import torch

    written: list[int] = []

    def counting(inner: Callable[..., Any], read: Callable[[Any], int]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            result = inner(*args, **kwargs)
            written.append(read(result))
            return result

        return counted

    if ours:
        trainer.sampler.sample = counting(trainer.sampler.sample, lambda done: sum(len(c.ids) for c in done))
        meter.wrap(trainer.sampler, "sample", "sample")
        meter.wrap(trainer.planner, "plan", "score")
        meter.wrap(trainer.learner, "learn", "learn")
    else:
        trainer._generate = counting(trainer._generate, lambda done: sum(len(ids) for ids in done[1]))
        meter.wrap(trainer, "_generate", "sample")
        meter.wrap(trainer, "_forward_logits", "score", when=lambda: not torch.is_grad_enabled())
        meter.wrap(trainer, "training_step", "learn")
    return lambda: written[-1]


def serve(job: Job, ask: TextIO, answer: TextIO) -> None:
    """Build the trainer, then run one full step of its own training loop for each line that is read."""
    import torch
    from transformers.utils import logging

    from unisd.training.telemetry import peak_memory_bytes

    logging.set_verbosity_error()
    if job.threads:
        torch.set_num_threads(job.threads)
    ours = not job.contestant.startswith(PEER)
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(job)
        trainer = (_our_trainer if ours else _peer_trainer)(job, loaded, folder)
        meter = Meter(job.phase_memory, job.clock)
        tokens = _attach_meter(trainer, meter, ours)
        take = trainer.get_batch_samples
        started = False

        def say(**values: Any) -> None:
            answer.write(json.dumps(values) + "\n")
            answer.flush()

        def gate(*args: Any, **kwargs: Any) -> Any:
            # A step begins where its batch is taken and ends where the next one would be: all of the loop is inside.
            nonlocal started
            if started:
                say(seconds=meter.stop(), tokens=tokens(), **meter.seconds)
            if not ask.readline():
                raise _StopTrainingError
            meter.start()
            started = True
            return take(*args, **kwargs)

        trainer.get_batch_samples = gate
        say(items=len(loaded.rows), threads=torch.get_num_threads(), loaded_peak_bytes=peak_memory_bytes())
        with contextlib.suppress(_StopTrainingError):
            trainer.train()
        peak = max(peak_memory_bytes(), meter.highest)
        say(peak_bytes=peak, phase_peak_bytes=meter.peak_bytes if job.phase_memory else None)


# -- the comparison ------------------------------------------------------------------------------------------------


def parts(results: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the seconds of each part of the step, round by round."""
    return {
        "generation": [r["sample"] for r in results],
        "rest": [r["seconds"] - r["sample"] for r in results],
        "step": [r["seconds"] for r in results],
    }


def evaluate(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return each contestant's figures in seconds, and its ratios to TRL where TRL took part."""
    peer = parts(results[PEER]) if PEER in results else None
    report = {}
    for name, found in results.items():
        own = parts(found)
        report[name] = {
            "seconds": {part: summary(values) for part, values in own.items()},
            "phases": {phase: summary([r[phase] for r in found]) for phase in PHASES},
            "of_trl": {part: ratio(own[part], peer[part]) for part in PARTS} if peer else None,
        }
    return report


def show_report(report: dict[str, Any], job: Job, with_targets: bool) -> None:
    """Print phases, ratios and, where they mean something, targets."""
    from unisd.cli.tables import show, table

    size = f"batch {job.batch}, {job.new_tokens} new tokens forced on both sides, LoRA r {job.rank}"
    rows = [
        (name, words(found["seconds"]["step"]), *(f"{found['phases'][phase]['median']:.2f}" for phase in PHASES))
        for name, found in report.items()
    ]
    show(
        table(f"One optimizer step, seconds, median (lowest–highest): {job.model}, {size}", ("", "step", *PHASES), rows)
    )
    if PEER not in report:
        print("TRL did not take part, so there are no ratios")
        return
    rows = [(name, *(words(found["of_trl"][part]) for part in PARTS)) for name, found in report.items() if name != PEER]
    show(table("Time as a share of TRL's, same round", ("", *PARTS.values()), rows))
    if not with_targets:
        return
    claims = []
    for name, part, limit in TARGETS:
        measured = report[name]["of_trl"][part]["median"] if name in report else None
        claims.append((f"{name}, {PARTS[part]} / TRL", measured, limit))
    show(targets_table(claims))


def main() -> None:
    made = parser(__doc__, rounds=7)
    made.add_argument("--contestants", nargs="+", help="default: trl, core, each mechanism, unisd")
    made.add_argument("--model", default=Job.model, help="a model that unisd loads, or random (default: %(default)s)")
    made.add_argument("--batch", type=int, default=Job.batch, help="default: %(default)s")
    made.add_argument("--new-tokens", type=int, default=Job.new_tokens, help="default: %(default)s")
    made.add_argument("--probes", type=int, default=Job.probes, help="default: %(default)s")
    made.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: one thread on a busy machine")
    options = made.parse_args()
    job = Job(
        model=options.model,
        batch=options.batch,
        new_tokens=options.new_tokens,
        probes=options.probes,
        threads=options.threads,
        clock=options.clock,
    )
    if options.quick:
        job, options.rounds = quick(job), min(options.rounds, 2)
    asked = options.contestants or ((PEER, "core", "unisd") if options.quick else (PEER, *RECIPES))
    names = [name for name in asked if has_peer() or not name.startswith(PEER)]
    if not names:
        raise SystemExit("TRL is not installed: pip install --no-deps 'trl==1.16.*', or choose recipes")
    with running([job.of(name) for name in names]) as contestants:
        threads = contestants[names[0]].opening["threads"]
        results = interleaved({name: contestant.step for name, contestant in contestants.items()}, options.rounds)
    report = evaluate(results)
    show_report(report, job, with_targets=not options.quick)
    about = machine()
    print(f"{about['cpu']}, {threads} threads, {options.rounds} rounds, torch {about['versions']['torch']}")
    write(options.output, {"job": vars(job), "threads": threads, "rounds": results, "results": report}, options.quick)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        # Whatever the libraries print goes to the error stream: the answers have a stream of their own.
        with os.fdopen(os.dup(1), "w") as own:
            os.dup2(2, 1)
            serve(Job(**json.loads(sys.argv[2])), sys.stdin, own)
    else:
        main()
