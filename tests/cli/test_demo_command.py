import json
from types import SimpleNamespace

import pytest

from unisd.cli.main import main
from unisd.studies import quickstart
from unisd.training.runfile import assemble

TINY = {
    "training.max_steps": 2, "training.per_device_train_batch_size": 2, "training.use_cpu": "true", "task.limit": 6,
    "rollout.max_completion_length": 6, "lora.r": 2, "contexts.max_prompt_length": 1900, "contrast.weight": 0,
}  # fmt: skip


def changes(**more):
    return [word for name, value in (TINY | more).items() for word in ("--set", f"{name}={value}")]


@pytest.fixture
def canned(monkeypatch):
    """Nothing is trained; what was asked for is kept."""
    asked = SimpleNamespace()

    def run_quickstart(settings, output, items, headroom_items, say, quiet):
        asked.settings, asked.output, asked.items, asked.headroom = settings, output, items, headroom_items
        asked.quiet = quiet
        say("measuring")
        return SimpleNamespace(summary=lambda: {"seconds": 1.5})

    monkeypatch.setattr(quickstart, "run_quickstart", run_quickstart)
    monkeypatch.setattr(quickstart, "write_page", lambda found, output: output / "report.html")
    return asked


def test_a_person_reads_headroom_gain_mechanisms_and_where_things_lie(tmp_path, model_folder, capsys):
    output = tmp_path / "run"
    words = ["demo", "--output", str(output), "--items", "3", "--headroom-items", "2", "--quiet"]
    assert main([*words, *changes(**{"model.name": model_folder})]) == 0
    printed = capsys.readouterr().out
    titles = (
        "Headroom on training questions (95 % intervals)",
        "Held-out questions (95 % intervals)",
        "What each mechanism did",
    )
    assert [printed.index(title) for title in titles] == sorted(printed.index(title) for title in titles)
    rows = {line.split("  ")[1]: line for line in printed.splitlines() if line.startswith("  ")}
    assert all("/2)" in rows[name] for name in ("student, alone", "teacher, layout turn"))
    assert all("/3)" in rows[name] for name in ("before", "after"))
    assert {"ema teacher", "clipping", "features", "agreement (token)"} <= rows.keys()
    assert "Correct answers: " in printed
    last = printed.splitlines()[-4:]
    assert "peak memory" in last[0]
    assert last[1:] == [
        f"adapter (loads with plain PEFT): {output / 'adapter'}",
        f"page: {output / 'report.html'}",
        "next: unisd train --recipe unisd --help",
    ]
    assert (output / "report.html").is_file()
    assert (output / "adapter/adapter_config.json").is_file()


def test_json_is_all_that_is_printed(canned, tmp_path, capsys):
    assert main(["demo", "--output", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"] == {"seconds": 1.5}
    assert canned.quiet


def test_options_reach_the_quickstart(canned, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--json"]) == 0
    assert (str(canned.output), canned.items, canned.headroom) == ("runs/demo", 100, 32)
    assert canned.settings == assemble("quickstart")
    words = ["demo", "--output", "other", "--items", "7", "--headroom-items", "5", "--set", "training.max_steps=40"]
    assert main([*words, "--json"]) == 0
    assert (str(canned.output), canned.items, canned.headroom) == ("other", 7, 5)
    assert canned.settings == assemble("quickstart", overrides=["training.max_steps=40"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "named", "remedy"),
    [
        (["--items", "0"], "--items", "use 1 or more"),
        (["--headroom-items", "-3"], "--headroom-items", "use 1 or more"),
        (["--set", "steps=3"], "--set steps=3", "write group.field=value"),
        (["--set", "training.max_step=3"], "training.max_step", "did you mean 'max_steps'?"),
        (["--output", "file"], "--output file: a file of that name exists", "choose another folder"),
        (["--output", "used"], "--output used: the folder is in use", "choose another"),
    ],
)
def test_something_wrong_was_asked(words, named, remedy, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "used").mkdir()
    (tmp_path / "used/precious.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    line = refused("demo", *words)
    assert named in line
    assert remedy in line
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "file",
        "used",
        "used/precious.txt",
    ]


def test_a_folder_in_use_is_refused_without_an_option_that_demo_has_not(tmp_path, refused):
    (tmp_path / "kept").write_text("mine")
    line = refused("demo", "--output", tmp_path)
    assert line.endswith("the folder is in use; choose another")
