"""Where a command's model comes from, and where it runs."""

import argparse
from collections.abc import Iterable


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``--device`` and ``--device-map``."""
    parser.add_argument(
        "--device", default="auto", help="auto (an accelerator where there is one), cpu, cuda, cuda:1, mps"
    )
    parser.add_argument(
        "--device-map", choices=("auto", "balanced", "sequential"), help="spread the model over several devices"
    )


def check_models(names: Iterable[str]) -> None:
    """Make sure that models can be had, before seconds are spent on imports.

    Raises:
        UniSDError: one would have to come from the hub, which cannot be reached.
    """
    from unisd import hub
    from unisd.cli.known import models

    known = {entry["name"]: entry["hub"] for entry in models()}
    for name in names:
        if name != hub.NAME or hub.carried_file() is None:
            hub.require(hub.HUB_ID if name == hub.NAME else known.get(name, name), "model", hub.instead())
