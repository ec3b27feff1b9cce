import json

import pytest

import foreign
from unisd import mechanisms, tasks
from unisd.cli.main import main
from unisd.settings import documented
from unisd.tasks.registry import TASKS
from unisd.training.runfile import all_groups, load_recipe, model_presets, recipe_names

KNOWN = {
    "recipes": lambda: recipe_names(),
    "tasks": lambda: tasks.names(),
    "models": lambda: list(model_presets()),
    "mechanisms": lambda: list(mechanisms.known()),
    "settings": lambda: [f"{name}.{field.name}" for name, cls in all_groups().items() for field in documented(cls)],
}


def printed(capsys, *words):
    assert main(["list", *words]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


@pytest.mark.parametrize("what", KNOWN)
def test_all_that_is_known_is_listed_and_nothing_else(what, capsys):
    known = KNOWN[what]()
    assert len(known) > 4
    assert list(json.loads(printed(capsys, what, "--json"))) == known
    assert printed(capsys, what, "--quiet").splitlines() == known
    lines = printed(capsys, what).splitlines()
    assert [line.split()[0] for line in lines] == known
    column = max(map(len, known)) + 2
    assert all(line[column - 2 : column] == "  " for line in lines)


def test_each_line_says_what_the_thing_is(capsys):
    width = max(map(len, recipe_names())) + 2
    for line in printed(capsys, "recipes").splitlines():
        name, about = line[:width].strip(), line[width:]
        assert about == load_recipe(name)["description"]
        assert about
    for line in printed(capsys, "tasks").splitlines():
        assert line.endswith(tasks.summary(line.split()[0]))
    for line, (name, cls) in zip(printed(capsys, "mechanisms").splitlines(), mechanisms.known().items(), strict=True):
        assert line.split() == [name, *cls.summary.split()]
        assert cls.summary
    for line, preset in zip(printed(capsys, "models").splitlines(), model_presets().values(), strict=True):
        assert line.endswith(f"  {preset['name']} ({preset['dtype']})")


def test_settings_have_their_default_and_their_meaning(capsys):
    found = json.loads(printed(capsys, "settings", "--json"))
    for name, cls in all_groups().items():
        for field in documented(cls):
            default, meaning = found[f"{name}.{field.name}"].values()
            assert default == field.default
            assert meaning == field.meaning
            assert meaning
    line = next(line for line in printed(capsys, "settings").splitlines() if line.startswith("clipping.cap "))
    assert line.split(maxsplit=2)[1:] == [str(found["clipping.cap"]["default"]), found["clipping.cap"]["meaning"]]


def test_what_another_package_brings_is_listed_with_where_it_comes_from(capsys, monkeypatch):
    with foreign.registered():
        found = json.loads(printed(capsys, "mechanisms", "--json"))
        assert found["patience"] == {"summary": "it waits", "package": "foreign"}
        assert {about["package"] for name, about in found.items() if name != "patience"} == {"unisd"}
        line = next(line for line in printed(capsys, "mechanisms").splitlines() if line.startswith("patience"))
        assert line.split() == ["patience", "it", "waits", "foreign"]
        assert "patience.strength" in json.loads(printed(capsys, "settings", "--json"))
    assert "patience" not in json.loads(printed(capsys, "mechanisms", "--json"))
    monkeypatch.setattr(TASKS, "entries", dict(TASKS.entries))
    tasks.register("sums", "sums:Sums", "sums in words")
    assert json.loads(printed(capsys, "tasks", "--json"))["sums"] == "sums in words"


def test_json_keeps_letters_as_they_are(capsys):
    text = printed(capsys, "settings", "--json")
    assert "‖" in text
    assert "\\u2016" not in text


def test_a_list_that_there_is_not(refused):
    line = refused("list", "recipies")
    assert all(what in line for what in ("recipies", *KNOWN))
