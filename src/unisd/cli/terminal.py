"""What is printed to."""

import shutil
import sys


def terminal_width() -> int | None:
    """Return the width of the terminal that is printed to; None where it is none: a file or a pipe has no edge."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
