"""Writes docs/settings.md, and what unisd list looks up, from the declarations: run it after a change of them."""

from pathlib import Path

from unisd.cli.known import INDEX, index_text
from unisd.settings import documented
from unisd.training.runfile import all_groups

ROOT = Path(__file__).resolve().parent.parent
LEAD = """# Settings

Every setting with its default; `unisd list settings` shows those of other packages' mechanisms, too. Change one with
`--set group.field=value`, in a run file (YAML), or in Python as `UniSDConfig(group={"field": value})`. `training` takes
every field of transformers' `TrainingArguments`; in Python, these are arguments of `UniSDConfig` itself.
"""


def settings_page() -> str:
    """The whole page."""
    parts = [LEAD]
    for name, group in all_groups().items():
        if group.__module__.split(".")[0] != "unisd":
            continue
        rows = [
            f"| `{field.name}` | `{field.default!r}` | {field.meaning.replace('|', chr(92) + '|')} |"
            for field in documented(group)
        ]
        table = "\n".join(["| field | default | meaning |", "|---|---|---|", *rows])
        parts.append(f"## `{name}`\n\n{group.__doc__.splitlines()[0]}\n\n{table}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (ROOT / "docs/settings.md").write_text(settings_page(), encoding="utf-8")
    (ROOT / "src/unisd/cli" / INDEX).write_text(index_text(), encoding="utf-8")
