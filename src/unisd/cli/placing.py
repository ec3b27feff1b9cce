"""Where a command's model runs."""

import argparse


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``--device`` and ``--device-map``."""
    parser.add_argument(
        "--device", default="auto", help="auto (an accelerator where there is one), cpu, cuda, cuda:1, mps"
    )
    parser.add_argument(
        "--device-map", choices=("auto", "balanced", "sequential"), help="spread the model over several devices"
    )
