"""``unisd prepare``."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unisd.cli.answer import Answer
from unisd.cli.placing import check_models
from unisd.cli.train_command import add_run_arguments, given_settings

EXAMPLE = """example:
  unisd prepare --recipe unisd --task cos_e --source sample --output rows.jsonl
  unisd prepare --recipe unisd --task cos_e --source sample --steps 20
  unisd train --recipe unisd --task cos_e --source sample --output runs/first"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_run_arguments(parser)
    parser.add_argument("--output", type=Path, help="also write the training rows here (JSONL), to look at or to share")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--steps", type=int, metavar="N", help="only for the items that the first N steps draw")
    some.add_argument("--limit", type=int, metavar="N", help="only for the first N items, in the order of drawing")
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
    for name in ("steps", "limit"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise UsageError(f"--{name} {value}: use 1 or more, or leave it out for all items")
    if arguments.output is not None:
        check_writable(arguments.output, "--output", folder=False)
    settings = assemble(arguments.recipe, arguments.file, arguments.set, given_settings(arguments))
    quiet = arguments.quiet or arguments.json
    with tempfile.TemporaryDirectory() as folder:  # transformers wants one, and writes nothing into it
        items, of, dropped = _made(settings, folder, arguments.steps, arguments.limit, quiet)
    counts: dict[str, Any] = {
        "items": len(items),
        "auxiliary contexts": sum(len(item.contexts.get("auxiliary", ())) for item in items),
        "negative contexts": sum(len(item.contexts.get("negative", ())) for item in items),
        "dropped": dropped,
    }
    if arguments.output is not None:
        from unisd.contexts import columns_of
        from unisd.files import write_jsonl

        write_jsonl(arguments.output, [columns_of(item) for item in items])
    if not arguments.json:
        from unisd.cli.tables import show, table

        rows = [(name, str(value)) for name, value in counts.items() if name != "dropped"]
        rows += [(f"dropped: {why}", str(number)) for why, number in sorted(dropped.items())]
        show(table(f"Contexts for {settings.task.name}", ("", "count"), rows))
        if len(items) < of:
            print(f"for the {len(items):,} of {of:,} items that are drawn first; without --steps and --limit, for all")
        if arguments.output is not None:
            print(f"rows in {arguments.output}")
    return Answer(counts, [] if arguments.output is None else [arguments.output])


def _made(
    settings: "RunSettings", folder: str, steps: int | None, limit: int | None, quiet: bool
) -> tuple[list["Item"], int, dict[str, int]]:
    """Return the items with their contexts, how many items there are, and what was dropped."""
    from unisd.errors import warn
    from unisd.training.prepare import prepare

    config = settings.config(folder)
    found = prepare(settings, config, progress=not quiet)
    items, later = found.items, found.later
    if later is None:
        return items[:limit], len(items), dict(found.dropped)
    if steps is None and limit is None:
        made = later.made([item.id for item in items])
        for note in later.notes:
            warn(note)
    else:
        from unisd.training.run import trainer_of

        config.disable_tqdm = quiet
        made = trainer_of(settings, config, found).make_ahead(steps, limit)
    return made, len(items), {**found.dropped, **later.dropped}


if TYPE_CHECKING:
    from unisd.contexts import Item
    from unisd.training.runfile import RunSettings
