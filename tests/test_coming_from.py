"""The page for those who come from other trainers: complete, and every setting on it is there."""

import json
import re
import runpy
from pathlib import Path

import pytest

from unisd.errors import UsageError
from unisd.settings import check_field, documented
from unisd.training.arguments import UniSDConfig, all_arguments
from unisd.training.fields import _FORMER as FORMER
from unisd.training.foreign import _FORMER as FORMER_NAMES
from unisd.training.foreign import foreign, hint
from unisd.training.runfile import all_groups, assemble, parse_override

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


def test_the_tables_are_those_of_the_package():
    made = runpy.run_path(str(ROOT / "docs/make_coming_from.py"))["page"](PAGE)
    assert made == PAGE, "run python docs/make_coming_from.py"


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


NAMES = sorted({name for names in FOREIGN.values() for name in names})


@pytest.mark.parametrize("name", NAMES)
def test_who_writes_a_foreign_name_is_told_what_it_is_here(name):
    """In Python, in a run file, and on the command line; unless it is a name here, too."""
    here = {field.name for field in documented(GROUPS["training"])}
    if name in here or name in {*FORMER, *FORMER_NAMES, "output_dir"}:
        return
    row = foreign(name)
    with pytest.raises(UsageError) as refused:
        UniSDConfig("runs/none", **{name: 1})
    said = str(refused.value)
    settings = [setting.partition("=")[0] for setting in row.settings]
    fields = [setting.split(".")[1] for setting in settings]
    assert "did you mean" not in said
    assert "choose one of" not in said
    if row.here == "–":
        assert hint(name) in said
    elif f"{{'{name}'" in said:
        assert name in fields
    else:
        assert all(setting in said for setting in settings)
        assert settings or "--" in said
    with pytest.raises(UsageError, match=re.escape(f"training.{name}: no such setting; {hint(name)}"[:60])):
        assemble("core", overrides=[f"training.{name}=1"])
    with pytest.raises(UsageError, match=re.escape(f"--set {name}=1: {hint(name)}"[:60])):
        parse_override(f"{name}=1")


def test_a_setting_is_named_where_one_table_has_one_and_another_a_reason():
    assert hint("repetition_penalty") == "it is rollout.repetition_penalty"
    assert hint("pad_to_multiple_of") == "there is no padding"
    assert hint("no_such_name") == ""
