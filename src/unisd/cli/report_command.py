"""``unisd report``."""

import argparse
from pathlib import Path

from unisd.cli.answer import Answer

EXAMPLE = """example:
  unisd report runs/first
  unisd report runs/first audits/scienceqa --format html,md,csv,tex,svg"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", nargs="+", type=Path, help="what train, evaluate, audit, demo or study wrote")
    parser.add_argument(
        "--format",
        default="html,md,csv",
        metavar="NAMES",
        help="html, md, csv, tex, svg, joined by commas (default html,md,csv)",
    )
    parser.add_argument("--output", type=Path, help="a folder to write into; default: each report lies beside its run")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", action="store_true", help="print where the reports lie as JSON")


def run(arguments: argparse.Namespace) -> Answer:
    """Write the reports."""
    from unisd.errors import UsageError
    from unisd.files import check_writable
    from unisd.studies.report import FORMATS, write_report

    formats = [name.strip() for name in arguments.format.split(",") if name.strip()]
    if not formats or (unknown := [name for name in formats if name not in FORMATS]):
        raise UsageError(f"--format {(unknown if formats else [''])[0]}: choose from {', '.join(FORMATS)}")
    if arguments.output is not None:
        check_writable(arguments.output, "--output", folder=True)
        if len(arguments.folder) > 1:
            raise UsageError("--output: for one folder; the reports of several lie beside their runs")
    pages = []
    for folder in arguments.folder:
        pages.append(write_report(folder, formats, arguments.output))
        if not (arguments.quiet or arguments.json):
            print(f"report: {pages[-1]}")
    return Answer({"pages": pages}, pages)


def show_page(folder: Path | None) -> None:
    """Write the page of what a command has just finished in ``folder``, and print where it lies; None: it kept nothing.

    The work is done by then: a page that cannot be written is a warning.
    """
    from unisd.errors import warn
    from unisd.studies.report import write_report

    if folder is None:
        return
    try:
        print(f"page: {write_report(folder)}")
    except Exception as error:
        why = " ".join(f"{error}".split())[:200]
        warn(f"no page was written ({why}); everything else is kept, and unisd report {folder} tries again")
