"""``unisd audit``."""

import argparse
from pathlib import Path
from typing import Any

from unisd.cli.answer import Answer
from unisd.cli.own_choices import choose, taken
from unisd.cli.placing import add_device_arguments, check_models

EXAMPLE = """example:
  unisd audit --task cos_e --source sample
  unisd audit --model runs/first --items 128
  unisd audit --task scienceqa --source data --model qwen2.5-1.5b --output audits/scienceqa"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--task", help="a task (unisd list tasks); default: what the run learned, where --model is one")
    parser.add_argument(
        "--source", help="where the data lies: hub, sample, or a folder with the official files; default: as a run's"
    )
    parser.add_argument("--split", help="default: the task's training split")
    parser.add_argument("--model", default="smollm2-135m", help="a run, an adapter, a short name, a hub id or a folder")
    parser.add_argument("--items", type=int, default=64, help="training items to ask, stably drawn (default 64)")
    parser.add_argument("--layout", action="append", help="a layout to try; repeatable; default: all three")
    parser.add_argument(
        "--context", action="append", help="a kind of context to try; repeatable; default: random, retrieval, induction"
    )
    parser.add_argument("--probes", type=int, default=3, help="retrieved contexts per item, for their agreement")
    parser.add_argument("--no-negatives", action="store_true", help="do not write and try wrong demonstrations")
    parser.add_argument("--max-new-tokens", type=int, help="room for an answer; default: the run's, else the task's")
    parser.add_argument("--batch-size", type=int, default=32, help="answers written at a time")
    parser.add_argument("--seed", type=int, default=42, help="seed of the sample and the contexts")
    add_device_arguments(parser)
    parser.add_argument(
        "--template-kwargs",
        metavar="YAML",
        help="what the chat template reads besides, such as '{enable_thinking: false}'; default: as a run was trained",
    )
    parser.add_argument("--output", type=Path, help="a folder for audit.json and the answers")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the audit as JSON")


def run(arguments: argparse.Namespace) -> Answer:
    """Audit."""
    from unisd.errors import UsageError
    from unisd.files import check_writable

    for name in ("items", "probes", "max_new_tokens", "batch_size"):
        value = getattr(arguments, name)
        least = 1 if name in ("max_new_tokens", "batch_size") else 2
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')}: {value} is too few; use {least} or more")
    if arguments.output is not None:
        check_writable(arguments.output, "--output", folder=True)
    _completed(arguments)
    check_models([arguments.model])
    from unisd.evaluation.audit import KINDS, LAYOUTS, Auditor, audit_sample
    from unisd.tasks import get

    for layout in arguments.layout or ():
        if layout not in LAYOUTS:
            raise UsageError(f"--layout {layout}: choose from {', '.join(LAYOUTS)}")
    task = get(arguments.task)
    pool = task.load(arguments.split or task.splits[0], arguments.source)
    if any(example.demonstration is None for example in pool):
        raise UsageError(
            f"--task {task.name}: it has no demonstrations, so there is no teacher; choose a task that has some"
        )
    from unisd.cli.evaluate_command import template_kwargs
    from unisd.evaluation.models import Loaded
    from unisd.rollout import CompletionStore, make_sampler

    loaded = Loaded(arguments.model, arguments.device, arguments.device_map)
    auditor = Auditor(
        task,
        pool,
        loaded.model,
        make_sampler(loaded.model, loaded.tokenizer, arguments.batch_size),
        loaded.builder(template_kwargs(arguments)),
        CompletionStore.in_cache("contexts", task.name, loaded.fingerprint(), arguments.batch_size),
        max_new_tokens=arguments.max_new_tokens,
        probes=arguments.probes,
        seed=arguments.seed,
        progress=not (arguments.quiet or arguments.json),
    )
    found = auditor.audit(
        audit_sample(pool, arguments.items, arguments.seed),
        arguments.layout or LAYOUTS,
        arguments.context or KINDS,
        not arguments.no_negatives,
    )
    files = [] if arguments.output is None else [write_audit(found, arguments.output)]
    if not arguments.json:
        show_audit(found)
    return Answer(found.summary(), files)


def _completed(arguments: argparse.Namespace) -> None:
    """Take from a run what is not given; say what."""
    named = arguments.task is not None
    arguments.task = [arguments.task] if named else None
    own = choose(arguments, [arguments.model])
    if not (arguments.quiet or arguments.json):
        for line in taken(arguments, own, named):
            print(line)
    (arguments.task,) = arguments.task
    if (said := own.get(arguments.task)) is not None:
        arguments.source = arguments.source or said.source
        arguments.max_new_tokens = arguments.max_new_tokens or said.max_new_tokens


def write_audit(found: Any, folder: Path) -> Path:
    """Write ``audit.json``, whose path is returned, and, per kind of asking, the answers."""
    from unisd.files import write_json

    for name, evaluation in found.rows():
        evaluation.write(folder / "answers" / f"{name.replace(', ', '-')}.json")
    path = folder / "audit.json"
    write_json(path, found.summary())
    return path


def show_audit(found: Any) -> None:
    """Print an audit's tables and its verdict; of too few items that alone."""
    from unisd.cli.tables import EVALUATION_COLUMNS, evaluation_rows, show, table, tell

    if not found.too_few:
        rows = evaluation_rows({name: evaluation.summary() for name, evaluation in found.rows()})
        show(
            table(f"Audit of {found.task}, {found.student.n} training items, 95 % intervals", EVALUATION_COLUMNS, rows)
        )
        show(table("What the contexts do", ("", "measured"), found.facts(), ["measured"]))
    tell(found.verdict())
