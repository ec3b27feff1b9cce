"""What is printed to."""

import shutil
import sys
import textwrap


def terminal_width() -> int | None:
    """Return the width of the terminal that is printed to; None where it is none: a file or a pipe has no edge."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def folded(text: str, width: int | None, indent: str = "") -> str:
    """Return a line for a terminal of that width, broken between words; as it is where there is no edge."""
    if width is None:
        return indent + text
    whole = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(text, max(width - 1, 20), initial_indent=indent, subsequent_indent=indent, **whole)  # type: ignore[arg-type]
