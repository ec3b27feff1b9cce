"""The page for those who come from other trainers: complete, and every setting on it is there."""

import json
import re
from pathlib import Path

import pytest

from unisd.settings import check_field, documented
from unisd.training.arguments import all_arguments
from unisd.training.runfile import all_groups, parse_override

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/coming_from.md").read_text(encoding="utf-8")
# By the heading of its table: the arguments of each trainer beyond transformers' own, or of its command line.
FOREIGN = json.loads((ROOT / "tests/foreign_arguments.json").read_text(encoding="utf-8"))
GROUPS = all_groups() | {"training": all_arguments()}


def tables() -> dict[str, list[list[str]]]:
    """The rows of each table, by its heading."""
    found = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        rows = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("|")]
        found[heading] = [[cell.strip(" |") for cell in (*row, "", "")[:3]] for row in rows[2:]]
    return found


def settings_in(text: str) -> list[str]:
    """What stands in code marks as ``group.field`` or ``group.field=value``."""
    return re.findall(r"`(\w+\.\w+(?:=[^`]+)?)`", text)


TABLES = tables()
NAMED = sorted({name for name in settings_in(PAGE) if not name.endswith((".jsonl", ".md", ".py"))})


@pytest.mark.parametrize("heading", FOREIGN)
def test_every_argument_is_there_once(heading):
    listed = [name for row in TABLES[heading] for name in re.findall(r"`([\w-]+)`", row[0])]
    assert sorted(listed) == sorted(FOREIGN[heading])


def test_no_table_is_without_a_list():
    assert TABLES.keys() - FOREIGN.keys() == set()


@pytest.mark.parametrize("heading", TABLES)
def test_each_has_a_name_here_or_a_reason(heading):
    for arguments, here, remarks in TABLES[heading]:
        if here == "–":
            assert remarks.endswith("."), arguments
        else:
            assert settings_in(here) or "`--" in here, arguments


@pytest.mark.parametrize("name", NAMED)
def test_every_setting_on_the_page_exists(name):
    setting, equals, _ = name.partition("=")
    group, field = setting.split(".")
    assert field in {known.name for known in documented(GROUPS[group])}
    if equals:
        check_field(GROUPS[group], field, parse_override(name)[group][field], setting)
