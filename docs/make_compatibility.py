"""Writes docs/compatibility.md from docs/compatibility/*.json, which tests keep: python docs/make_compatibility.py."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEAD = """# Compatibility

What works with what, as the tests see it with the versions in `constraints.txt`. Each row is a record of a test, which
must see the same again.
"""


def compatibility_page() -> str:
    """The whole page."""
    parts = [LEAD]
    for path in sorted((ROOT / "docs/compatibility").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if not record["rows"]:
            continue
        columns = list(dict.fromkeys(name for row in record["rows"].values() for name in row))
        lines = [[record["key"], *columns], ["---"] * (len(columns) + 1)]
        lines += [[name, *(row.get(column, "") for column in columns)] for name, row in record["rows"].items()]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        parts.append(f"## {record['title']}\n\n{record['text']}\n\n{table}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (ROOT / "docs/compatibility.md").write_text(compatibility_page(), encoding="utf-8")
