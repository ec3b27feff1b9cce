import json
import subprocess
import sys
import time

import pytest

import foreign
from unisd import contexts, mechanisms, tasks
from unisd.cli.known import SORTS
from unisd.cli.main import main
from unisd.settings import documented
from unisd.tasks.custom import _ANSWER_KEYS
from unisd.tasks.registry import TASKS
from unisd.training.runfile import all_groups, load_recipe, model_presets, recipe_names

KNOWN = {
    "recipes": lambda: recipe_names(),
    "tasks": lambda: tasks.names(),
    "models": lambda: list(model_presets()),
    "mechanisms": lambda: list(mechanisms.known()),
    "contexts": lambda: contexts.known(),
    "readers": lambda: list(_ANSWER_KEYS),
    "settings": lambda: [f"{name}.{field.name}" for name, cls in all_groups().items() for field in documented(cls)],
}


def printed(capsys, *words):
    assert main(["list", *words]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def entries(capsys, *words):
    result = json.loads(printed(capsys, *words, "--json"))["result"]
    assert result["sort"] == words[0]
    return {entry.pop("name"): entry for entry in result["entries"]}


@pytest.mark.parametrize("what", SORTS)
def test_all_that_is_known_is_listed_and_nothing_else(what, capsys):
    known = KNOWN[what]()
    assert len(known) > 4
    assert list(entries(capsys, what)) == known
    assert printed(capsys, what, "--quiet").splitlines() == known
    lines = printed(capsys, what).splitlines()
    assert [line.split()[0] for line in lines] == known
    if what != "settings":
        column = max(map(len, known)) + 2
        assert all(line[column - 2 : column] == "  " and line[column] != " " for line in lines)


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
    for line in printed(capsys, "contexts").splitlines():
        assert line.endswith(contexts.get(line.split()[0]).summary)


def test_settings_have_their_type_their_default_and_their_meaning(capsys):
    found = entries(capsys, "settings")
    for name, cls in all_groups().items():
        for field in documented(cls):
            entry = found[f"{name}.{field.name}"]
            assert entry == {"type": field.kind, "default": field.default, "summary": field.meaning, "package": "unisd"}
            assert field.meaning
            assert field.kind
    line = next(line for line in printed(capsys, "settings").splitlines() if line.startswith("clipping.cap "))
    assert line == "clipping.cap = null (number or null, above 0)  " + found["clipping.cap"]["summary"]


def test_a_word_is_looked_for_in_names_and_then_in_what_is_said(capsys):
    found = entries(capsys, "settings", "Temperature")
    assert list(found)[:2] == ["divergence.temperature", "rollout.temperature"]
    rest = list(found.items())[2:]
    assert rest
    assert all("temperature" in about["summary"].lower() and "temperature" not in name for name, about in rest)
    assert list(entries(capsys, "settings", "position.")) == ["position.floor", "position.center", "position.width"]
    assert list(entries(capsys, "recipes", "unisd_star")) == ["paper_unisd_star"]
    assert "mbpp" in entries(capsys, "tasks", "python")


@pytest.mark.parametrize("what", SORTS)
def test_a_word_that_nothing_speaks_of(what, refused):
    assert refused("list", what, "qzqzq").startswith(f"unisd: list {what}: nothing speaks of 'qzqzq'; ")
    assert "did you mean 'rollout.temperature'" in refused("list", "settings", "temprature")


def test_in_a_narrow_terminal_the_name_stays_whole_and_what_is_said_is_folded(capsys, monkeypatch):
    monkeypatch.setattr("unisd.cli.list_command.terminal_width", lambda: 60)
    lines = printed(capsys, "settings", "contexts.layout").splitlines()
    assert lines[0] == "contexts.layout = paper (paper or turn or system)"
    assert len(lines) > 2
    assert all(line.startswith("    ") and len(line) < 60 for line in lines[1:])


def test_what_another_package_brings_is_listed_with_where_it_comes_from(capsys, monkeypatch):
    with foreign.registered():
        found = entries(capsys, "mechanisms")
        assert found["patience"] == {"summary": "it waits", "package": "foreign"}
        assert {about["package"] for name, about in found.items() if name != "patience"} == {"unisd"}
        line = next(line for line in printed(capsys, "mechanisms").splitlines() if line.startswith("patience"))
        assert line.split() == ["patience", "it", "waits", "(of", "foreign)"]
        assert "patience.strength" in entries(capsys, "settings")
    assert "patience" not in entries(capsys, "mechanisms")
    monkeypatch.setattr(TASKS, "entries", dict(TASKS.entries))
    tasks.register("sums", "sums:Sums", "sums in words")
    assert entries(capsys, "tasks")["sums"] == {"summary": "sums in words"}


def test_json_keeps_letters_as_they_are(capsys):
    text = printed(capsys, "settings", "--json")
    assert "‖" in text
    assert "\\u2016" not in text


def test_a_list_that_there_is_not(refused):
    line = refused("list", "recipies")
    assert all(what in line for what in ("recipies", *SORTS))


HEAVY = ("torch", "transformers", "peft", "accelerate", "datasets", "numpy", "pandas", "pydantic", "huggingface_hub")


def test_nothing_heavy_is_imported_to_list_or_to_help():
    """In a process of its own, for here everything is imported already."""
    code = (
        "import contextlib, io, sys\n"
        "from unisd.cli.main import COMMANDS, main\n"
        "out = io.StringIO()\n"
        "for words in [['--help'], ['--version'], *([name, '--help'] for name in COMMANDS)]:\n"
        "    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):\n"
        "        main(words)\n"
        "from unisd.cli.known import SORTS\n"
        "with contextlib.redirect_stdout(out):\n"
        "    assert not any(main(['list', what]) for what in SORTS)\n"
        "    assert not any(main(['list', what, 'e', '--json']) for what in SORTS)\n"
        f"print(sorted(set({HEAVY}) & set(sys.modules)), len(out.getvalue()))\n"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, size = done.stdout.rsplit(maxsplit=1)
    assert found == "[]"
    assert int(size) > 20_000
    assert time.perf_counter() - started < 10  # all 20 of them together, on a busy machine
