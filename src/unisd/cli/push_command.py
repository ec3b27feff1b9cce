"""``unisd push``."""

import argparse
import sys
from pathlib import Path

from unisd.cli.answer import Answer

EXAMPLE = """example:
  unisd push runs/first --dry-run
  unisd push runs/first --to user/name --private"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="a finished run's folder")
    parser.add_argument("--to", metavar="USER/NAME", help="the repository; default: your name, and that of the folder")
    parser.add_argument("--private", action="store_true", help="only you (or your organisation) can see it")
    parser.add_argument("--update", action="store_true", help="put a new version into a repository that exists")
    parser.add_argument("--base-model", metavar="USER/NAME", help="the base's name on the hub, if it was a folder")
    parser.add_argument(
        "--include", action="append", default=[], metavar="FILE", help="also publish this file of the run; repeatable"
    )
    parser.add_argument("--dry-run", action="store_true", help="check, print what would be published, send nothing")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", action="store_true", help="print what was published as JSON")


def run(arguments: argparse.Namespace) -> Answer:
    """Publish a run's weights with their card."""
    from unisd.evaluation.publish import announce, publication, push

    with publication(arguments.folder, arguments.include, arguments.base_model) as found:
        announce(found)
        sizes = {name: (found.folder / name).stat().st_size for name in found.files}
        at = None
        if not arguments.dry_run:
            bars = sys.stderr.isatty() and not (arguments.quiet or arguments.json)
            at = push(found, arguments.to, arguments.folder, arguments.private, arguments.update, bars)
        if not (arguments.quiet or arguments.json):
            for name, size in sizes.items():
                print(f"{size:>12,}  {name}")
            card = (found.folder / "README.md").read_text(encoding="utf-8")
            print(f"\n{card}\nnothing was sent: --dry-run" if at is None else f"published at {at}")
        return Answer({"published": at, "files": sizes, "bytes": found.bytes, "left": found.left})
