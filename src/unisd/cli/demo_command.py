"""``unisd demo``."""

import argparse
from pathlib import Path
from typing import Any

from unisd.cli.answer import Answer

EXAMPLE = """example:
  unisd demo
  unisd demo --output runs/longer --set training.max_steps=40"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="the run's folder (default runs/demo)")
    parser.add_argument(
        "--items", type=int, default=100, help="held-out questions, asked before and after (default 100)"
    )
    parser.add_argument("--headroom-items", type=int, default=32, help="questions for the headroom (default 32)")
    parser.add_argument("--set", action="append", default=[], metavar="GROUP.FIELD=VALUE", help="override a setting")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(arguments: argparse.Namespace) -> Answer:
    """Run the quickstart, print its tables and write its page."""
    from unisd.errors import UsageError
    from unisd.training.run import claim_folder
    from unisd.training.runfile import assemble

    for name in ("items", "headroom_items"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')}: use 1 or more")
    claim_folder(arguments.output, resume=None)
    settings = assemble("quickstart", overrides=arguments.set)
    from unisd.studies.quickstart import run_quickstart, write_page

    silent = arguments.json
    found = run_quickstart(
        settings,
        arguments.output,
        arguments.items,
        arguments.headroom_items,
        say=lambda line: None if silent else print(line, flush=True),
        quiet=arguments.quiet or silent,
    )
    page = write_page(found, arguments.output)
    if not silent:
        _print(found, page, arguments.output)
    return Answer(found.summary(), [arguments.output, page])


def _print(found: Any, page: Path, output: Path) -> None:
    from unisd.cli.tables import EVALUATION_COLUMNS, evaluation_rows, mechanisms_table, show, table

    names = {
        ("student, alone" if k == "student" else f"teacher, layout {k}"): v.summary() for k, v in found.headroom.items()
    }
    show(table("Headroom on training questions (95 % intervals)", EVALUATION_COLUMNS, evaluation_rows(names)))
    both = {"before": found.before.summary(), "after": found.after.summary()}
    show(table("Held-out questions (95 % intervals)", EVALUATION_COLUMNS, evaluation_rows(both)))
    show(mechanisms_table(found.run.acting))
    for line in found.verdict():
        print(line)
    print(f"\n{found.seconds:.0f} s, peak memory {found.peak_memory_bytes / 2**30:.2f} GiB")
    print(
        f"adapter (loads with plain PEFT): {found.run.weights}\npage: {page}\nnext: unisd train --recipe unisd --help"
    )
