"""The tables of docs/compatibility.md: each row is what a test observed, and what it must observe again.

``UNISD_RECORD=1 pytest -n 0 <the tests>`` keeps it; ``python docs/make_compatibility.py`` writes the page.
"""

import json
import os
from pathlib import Path

TABLES = Path(__file__).resolve().parent.parent / "docs/compatibility"


def observed(table: str, row: str, **found: str) -> None:
    """Compare what a test found with the recorded row (column to cell), or keep it.

    ``docs/compatibility/<table>.json`` holds ``title``, ``text`` (what the table says, in a sentence or two), ``key``
    (the head of the first column) and ``rows``.
    """
    path = TABLES / f"{table}.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    if os.environ.get("UNISD_RECORD"):
        record["rows"][row] = found
        record["rows"] = dict(sorted(record["rows"].items(), key=lambda item: item[0].lower()))
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert record["rows"].get(row) == found, f"docs/compatibility/{table}.json says {record['rows'].get(row)} of {row}"


def recorded(table: str) -> dict[str, dict[str, str]]:
    """Return the rows of a table."""
    rows: dict[str, dict[str, str]] = json.loads((TABLES / f"{table}.json").read_text(encoding="utf-8"))["rows"]
    return rows
