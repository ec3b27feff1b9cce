"""What a worker does with one job: train its run, ask the model along the way, write the result.

A worker is a process of its own (``python -m unisd.studies.work FOLDER``): what it does in memory is nobody else's,
its threads are bounded from outside, and whoever started it may die. It goes on where an earlier one was stopped.
"""

import json
import math
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from unisd.errors import Stopped, UniSDError
from unisd.files import fingerprint, read_jsonl, write_json, write_text
from unisd.studies.jobs import JOB_FILE, PARENT, RESULT_FILE, Exam

EVALUATIONS = "evaluation"


def work(folder: Path) -> None:
    """Do the job that ``job.json`` in ``folder`` names, and write ``result.json``.

    Raises:
        UniSDError: with one line that says what is wrong.
        Stopped: a signal came; what was done is kept.
    """
    from unisd.training.lock import run_lock

    job = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
    started = time.perf_counter()
    with run_lock(folder):
        if (folder / RESULT_FILE).is_file():
            (folder / RESULT_FILE).unlink()
        result = {key: job[key] for key in ("arm", "task", "model", "seed", "components", "value", "run", "exam")}
        if job["run"] is None:
            result["points"] = [_asked(folder, job, 0, None, 0)]
        else:
            if job["asking"]["retention"] and not (folder.parent / job["before"] / RESULT_FILE).is_file():
                raise UniSDError("the base has not been asked, which drift is measured from; see why its job failed")
            run = folder.parent.parent / "runs" / job["run_key"]
            steps = _trained(run, job)
            asked = [steps] if job["exam"]["part"] == "validation" else _steps(job, steps)
            result["points"] = [_asked(folder, job, step, run, steps) for step in asked]
            result["acting"] = json.loads((run / "summary.json").read_text(encoding="utf-8"))["mechanisms"]
            result["telemetry"] = _telemetry(run)
        result["seconds"] = round(time.perf_counter() - started, 1)
        write_json(folder / RESULT_FILE, result)


def _trained(run: Path, job: dict[str, Any]) -> int:
    """Train the job's run into its folder, or go on with it, or find it finished. Return its steps."""
    from unisd.training.run import CONFIG_FILE, finished, train_run
    from unisd.training.runfile import assemble, dumped

    done = finished(run)
    if done is not None and all(_checkpoint(run, step).is_dir() for step in _steps(job, done)[:-1]):
        return done
    if done is not None:  # its checkpoints were removed, and others are asked for now
        shutil.rmtree(run)
    if (run / CONFIG_FILE).is_file():
        return train_run(assemble(file=run / CONFIG_FILE), run, resume=True, quiet=True).steps
    values = job["run"]
    distance = math.gcd(*job["asking"]["at"], int(values["training"]["max_steps"]))
    saving = {"save_strategy": "steps", "save_steps": distance, "save_total_limit": None}
    values = {**values, "training": {**values["training"], **saving}}
    file = run.with_suffix(".yaml")
    write_text(file, dumped(values))
    return train_run(assemble(file=file), run, quiet=True).steps


def _steps(job: dict[str, Any], last: int) -> list[int]:
    return sorted({step for step in job["asking"]["at"] if 0 < step < last} | {last})


def _checkpoint(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"checkpoint-{step}"


def _asked(folder: Path, job: dict[str, Any], step: int, run: Path | None, last: int) -> dict[str, Any]:
    """Ask the model after a step, and measure its distance to the base; what was written before is used again."""
    from unisd.evaluation.answers import read_evaluation
    from unisd.evaluation.models import Loaded, find_model
    from unisd.evaluation.retention import retention
    from unisd.evaluation.session import Exam as Asked
    from unisd.evaluation.session import Options, ask
    from unisd.tasks import get

    asking, exam = job["asking"], Exam(**job["exam"])
    examples = exam.examples()
    found = find_model(job["model"] if run is None else str(run))
    if run is not None and step < last:
        checkpoint = str(_checkpoint(run, step))
        found = replace(found, weights=checkpoint, tokenizer=checkpoint)
    loaded = Loaded(found.weights, found=found)
    options = Options(max_new_tokens=asking["max_new_tokens"], batch_size=asking["batch_size"])
    asked = ask(loaded, Asked(exam.task, get(exam.task), examples), options, False, False)
    evaluation = asked.evaluation
    evaluation.write(folder / EVALUATIONS / f"step-{step}.json", asked.more())
    point: dict[str, Any] = {"step": step, **_compact(evaluation, get(exam.task), examples, exam.cluster)}
    if run is not None and asking["retention"]:
        before = read_evaluation(folder.parent / job["before"] / EVALUATIONS / "step-0.json")
        base, adapted = (lambda: loaded.weights(True)), (lambda: loaded.weights(False))
        point["retention"] = retention(base, adapted, loaded.builder(), before, evaluation)
    return point


def _compact(evaluation: Any, task: Any, examples: list[Any], cluster: str | None) -> dict[str, Any]:
    """Return an evaluation without its texts: what a study is analysed from."""
    items = evaluation.items
    return {
        "ids": [item.id for item in items],
        "correct": [int(item.correct) for item in items],
        "parsed": [None if item.parsed is None else _short(item.parsed) for item in items],
        "gold": [_short(item.gold) for item in items],
        "groups": ["" if cluster is None else str(example.fields[cluster]) for example in examples],
        "chance": [round(task.chance(example), 6) for example in examples],
        "mean_tokens": sum(len(item.ids) for item in items) / len(items),
        "finished": sum(item.finished for item in items) / len(items),
    }


def _short(text: str) -> str:
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…{fingerprint(text)}"


_SHORT = 80
"""Longer answers are kept by their beginning and a hash: they are compared, not read."""


def _telemetry(run: Path) -> dict[str, list[float | None]]:
    """Return every number of ``metrics.jsonl`` by its name, a value a step."""
    rows = read_jsonl(run / "metrics.jsonl")
    names = dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, int | float))
    return {name: [_number(row.get(name)) for row in rows] for name in names}


def _number(value: Any) -> float | None:
    return float(f"{value:.6g}") if isinstance(value, int | float) else None


def _end_with(parent: int) -> None:
    """Stop in order where whoever started this process has died: nobody would wait for it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main(folder: str) -> int:
    """Do a job; return 0, or 3 where it was stopped, or 1 with a line on standard error."""
    from unisd.training.signals import listening

    _end_with(int(os.environ.get(PARENT, os.getppid())))
    try:
        with listening():
            work(Path(folder))
    except (Stopped, KeyboardInterrupt) as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 3
    except UniSDError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
