"""``unisd evaluate``."""

import argparse
import json
from pathlib import Path

EXAMPLE = """example:
  unisd evaluate runs/first --task cos_e --source sample
  unisd evaluate smollm2-135m --task cos_e --source sample --limit 50 --output base.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", help="a run's folder, an adapter, a model folder, a short name or a hub id")
    parser.add_argument("--task", required=True, help="a task (unisd list tasks)")
    parser.add_argument("--source", help="where the task's data lies: hub, sample, or a folder with the official files")
    parser.add_argument("--split", help="default: the task's evaluation split")
    parser.add_argument("--limit", type=int, help="ask this many items, drawn by a stable hash")
    parser.add_argument("--max-new-tokens", type=int, help="room for an answer; default: the task's")
    parser.add_argument("--batch-size", type=int, default=32, help="answers written at a time")
    parser.add_argument("--output", type=Path, help="write the summary here (.json) and the answers beside it (.jsonl)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate."""
    from unisd.errors import UsageError
    from unisd.tasks import get

    for name in ("limit", "max_new_tokens", "batch_size"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')}: {value} is not allowed; use 1 or more")
    task = get(arguments.task)
    from unisd.evaluation.evaluate import drawn, evaluate
    from unisd.evaluation.models import find_model

    found = find_model(arguments.model)
    examples = drawn(task.load(arguments.split or task.splits[-1], arguments.source), arguments.limit)
    from unisd.contexts import PromptBuilder
    from unisd.models import load_model, load_tokenizer
    from unisd.rollout import TorchSampler

    tokenizer = load_tokenizer(found.tokenizer)
    sampler = TorchSampler(load_model(found.weights, found.dtype), tokenizer, arguments.batch_size)
    quiet = arguments.quiet or arguments.json
    result = evaluate(
        task,
        examples,
        sampler,
        PromptBuilder(tokenizer, "paper"),
        arguments.max_new_tokens,
        progress=None if quiet else "evaluating",
    )
    output = arguments.output or (found.run / "evaluation" / f"{task.name}.json" if found.run else None)
    if output is not None:
        result.write(output)
    if arguments.json:
        print(json.dumps(result.summary(), indent=2))
    else:
        from unisd.cli.tables import EVALUATION_COLUMNS, evaluation_rows, show, table

        rows = evaluation_rows({arguments.model: result.summary()})
        show(table(f"{task.name}, {result.n} items, 95 % intervals", EVALUATION_COLUMNS, rows))
        if output is not None:
            print(f"answers in {output.with_suffix('.jsonl')}")
    return 0
