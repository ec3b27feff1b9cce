"""``unisd prepare``."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from unisd.cli.answer import Answer
from unisd.cli.placing import check_models
from unisd.cli.train_command import add_run_arguments, given_settings

EXAMPLE = """example:
  unisd prepare --recipe unisd --task cos_e --source sample --output rows.jsonl
  unisd train --recipe unisd --task cos_e --source sample --output runs/first"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_run_arguments(parser)
    parser.add_argument("--output", type=Path, help="also write the training rows here (JSONL), to look at or to share")
    parser.add_argument("--max-time", metavar="TIME", help="stop then, with what was written kept: 90m, 2h30m, seconds")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")


def run(arguments: argparse.Namespace) -> Answer:
    """Build the contexts that a run needs; what the model writes is kept for the run."""
    from unisd.errors import UsageError
    from unisd.files import check_writable

    if arguments.model is not None:
        check_models([arguments.model])
    from unisd.training.runfile import assemble

    if not (arguments.file or arguments.recipe):
        raise UsageError("prepare: give --recipe NAME or a run file; it says which contexts are needed")
    if arguments.output is not None:
        check_writable(arguments.output, "--output", folder=False)
    settings = assemble(arguments.recipe, arguments.file, arguments.set, given_settings(arguments))
    from unisd.training.prepare import prepare

    quiet = arguments.quiet or arguments.json
    with tempfile.TemporaryDirectory() as folder:  # transformers wants one, and writes nothing into it
        config = settings.config(folder)
    found = prepare(settings, config, progress=not quiet)
    counts: dict[str, Any] = {
        "items": len(found.items),
        "auxiliary contexts": sum(len(item.contexts.get("auxiliary", ())) for item in found.items),
        "negative contexts": sum(len(item.contexts.get("negative", ())) for item in found.items),
        "dropped": found.dropped,
    }
    if arguments.output is not None:
        from unisd.contexts import columns_of
        from unisd.files import write_jsonl

        write_jsonl(arguments.output, [columns_of(item) for item in found.items])
    if not arguments.json:
        from unisd.cli.tables import show, table

        rows = [(name, str(value)) for name, value in counts.items() if name != "dropped"]
        rows += [(f"dropped: {why}", str(number)) for why, number in sorted(found.dropped.items())]
        show(table(f"Contexts for {settings.task.name}", ("", "count"), rows))
        if arguments.output is not None:
            print(f"rows in {arguments.output}")
    return Answer(counts, [] if arguments.output is None else [arguments.output])
