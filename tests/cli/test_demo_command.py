import json
from types import SimpleNamespace

import pytest

from unisd.cli.main import main
from unisd.studies import quickstart, report
from unisd.training.runfile import assemble

TINY = {
    "training.max_steps": 2, "training.per_device_train_batch_size": 2, "training.use_cpu": "true", "task.limit": 6,
    "rollout.max_completion_length": 80, "rollout.mix_steps": 2, "lora.r": 2,
}  # fmt: skip
COS_E = {
    "training.max_steps": 2, "training.per_device_train_batch_size": 2, "training.use_cpu": "true", "task.limit": 6,
    "rollout.max_completion_length": 6, "lora.r": 2, "contexts.max_prompt_length": 1900, "contrast.weight": 0,
}  # fmt: skip


def changes(values=TINY, **more):
    return [word for name, value in (values | more).items() for word in ("--set", f"{name}={value}")]


@pytest.fixture
def canned(monkeypatch):
    """Nothing is trained; what was asked for is kept."""
    asked = SimpleNamespace()

    def run_quickstart(settings, output, items, headroom_items, say, quiet, against):
        asked.settings, asked.output, asked.items, asked.headroom = settings, output, items, headroom_items
        asked.quiet, asked.against = quiet, against
        say("measuring")
        return SimpleNamespace(summary=lambda: {"seconds": 1.5})

    monkeypatch.setattr(quickstart, "run_quickstart", run_quickstart)
    monkeypatch.setattr(report, "write_report", lambda output: output / "report.html")
    return asked


def test_a_person_reads_headroom_gain_what_was_forgotten_and_where_things_lie(tmp_path, model_folder, capsys):
    output = tmp_path / "run"
    words = ["demo", "--output", str(output), "--items", "3", "--headroom-items", "2", "--quiet"]
    assert main([*words, *changes(**{"model.name": model_folder})]) == 0
    printed = capsys.readouterr().out
    titles = (
        "Headroom on training questions (95 % intervals)",
        "Held-out questions (95 % intervals)",
        "What was forgotten",
    )
    assert [printed.index(title) for title in titles] == sorted(printed.index(title) for title in titles)
    assert "2/6 headroom: what the teacher, who is shown the answer, can do beyond the student" in printed
    assert "What each mechanism did" not in printed  # none is on
    lines = [line.split("  ")[1:] for line in printed.splitlines() if line.startswith("  ")]
    names = [line[0].strip() for line in lines]
    assert [n for n in names if n.startswith(("student", "teacher"))] == [
        "student",
        "student, shown the form",
        "teacher (paper)",
    ]
    assert names.count("before") == 1
    assert names.count("self-distillation") == names.count("sft") == 2
    assert "Forgotten, self-distillation, 2 steps: " in printed
    assert "Imitation of the demonstrations (sft), at a gain as large: sft, 2 steps: " in printed
    assert "0 of 24 everyday requests are answered in the task's way" in printed
    last = printed.splitlines()[-4:]
    assert "peak memory" in last[0]
    assert last[1:] == [
        f"adapter (loads with plain PEFT): {output / 'adapter'}",
        f"page: {output / 'report.html'}",
        "next: unisd train --recipe unisd --help",
    ]
    for there in ("report.html", "adapter/adapter_config.json", "sft/adapter/adapter_config.json", "sft/metrics.jsonl"):
        assert (output / there).is_file()


def test_questions_are_the_second_choice_with_all_five_mechanisms(tmp_path, model_folder, capsys):
    words = [
        "demo",
        "--task",
        "cos_e",
        "--output",
        str(tmp_path / "run"),
        "--items",
        "3",
        "--headroom-items",
        "2",
        "--quiet",
    ]
    assert main([*words, *changes(COS_E, **{"model.name": model_folder})]) == 0
    printed = capsys.readouterr().out
    rows = {line.split("  ")[1]: line for line in printed.splitlines() if line.startswith("  ")}
    assert {"ema teacher", "clipping", "features", "agreement (token)"} <= rows.keys()
    assert "sft" not in rows
    assert not (tmp_path / "run/sft").exists()
    assert "Format: " in printed


def test_json_is_all_that_is_printed(canned, tmp_path, capsys):
    assert main(["demo", "--output", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"] == {"seconds": 1.5}
    assert canned.quiet


def test_options_reach_the_quickstart(canned, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--json"]) == 0
    assert (str(canned.output), canned.items, canned.headroom, canned.against) == ("runs/demo", 56, 7, True)
    assert canned.settings == assemble("quickstart")
    words = ["demo", "--output", "other", "--items", "7", "--headroom-items", "5", "--set", "training.max_steps=40"]
    assert main([*words, "--against", "nothing", "--seed", "7", "--json"]) == 0
    assert (str(canned.output), canned.items, canned.headroom, canned.against) == ("other", 7, 5, False)
    given = {"training": {"seed": 7}}
    assert canned.settings == assemble("quickstart", overrides=["training.max_steps=40"], given=given)
    assert main(["demo", "--task", "cos_e", "--output", "third", "--json"]) == 0
    assert (canned.settings, canned.against) == (assemble("quickstart_cos_e"), False)
    assert main(["demo", "--task", "cos_e", "--against", "sft", "--output", "third", "--json"]) == 0
    assert canned.against
    assert not list(tmp_path.iterdir())


def test_more_minutes_are_more_steps(canned, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    usual = assemble("quickstart")
    assert main(["demo", "--minutes", "5", "--json"]) == 0
    assert canned.settings == usual
    assert main(["demo", "--minutes", "8", "--json"]) == 0
    assert canned.settings.training["max_steps"] == 2 * usual.training["max_steps"]
    assert canned.settings.groups["rollout"]["mix_steps"] == 2 * usual.groups["rollout"]["mix_steps"]
    assert main(["demo", "--minutes", "8", "--task", "cos_e", "--json"]) == 0
    assert canned.settings.training["max_steps"] == 2 * assemble("quickstart_cos_e").training["max_steps"]


@pytest.mark.parametrize(
    ("words", "named", "remedy"),
    [
        (["--items", "0"], "--items", "use 1 or more"),
        (["--headroom-items", "-3"], "--headroom-items", "use 1 or more"),
        (["--minutes", "1"], "--minutes 1", "use more than 2"),
        (["--minutes", "nan"], "--minutes nan", "use more than 2"),
        (["--minutes", "soon"], "--minutes", "invalid float value"),
        (["--task", "gsm8k"], "--task", "see unisd demo --help"),
        (["--against", "core"], "--against", "see unisd demo --help"),
        (["--seed", "-1"], "training.seed", "use 0 or more"),
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


def test_an_interrupted_demo_leaves_one_line(monkeypatch, tmp_path, capsys):
    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(quickstart, "run_quickstart", interrupted)
    assert main(["demo", "--output", str(tmp_path / "run")]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "unisd: stopped; start it again with another --output, or remove the folder\n"
