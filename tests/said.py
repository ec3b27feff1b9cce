"""What is said to people while something runs: lines of warning on standard error."""

import contextlib
import io
import re
from collections.abc import Iterator

from unisd.errors import warn_once


@contextlib.contextmanager
def warned(match: str | None) -> Iterator[list[str]]:
    """Collect the warnings of a block, as if none had been given before: one matches; None: there are none."""
    warn_once.cache_clear()
    lines: list[str] = []
    with contextlib.redirect_stderr(io.StringIO()) as caught:
        yield lines
    lines += [line for line in caught.getvalue().splitlines() if line.startswith("warning: ")]
    if match is None:
        assert not lines
    else:
        assert any(re.search(match, line) for line in lines), f"no warning matches {match!r}: {lines}"
