import json
import time

import pytest

from unisd.cli.main import main
from unisd.contexts import Item
from unisd.training.prepare import Prepared, load_examples

COS_E = ["--task", "cos_e", "--source", "sample"]
TWO = ["--set", "task.limit=2"]


@pytest.fixture
def canned(monkeypatch):
    """No model is loaded and no context made; what was asked for is kept, and something was dropped."""
    calls = []

    def prepare(settings, config, progress):
        task, examples = load_examples(settings)
        calls.append((config, task, examples, progress))
        items = [Item(example.id, example.prompt, None, {}) for example in examples]
        dropped = {"negative: the text is not surely wrong": 5, "induction: empty": 1}
        return Prepared(task, examples, None, None, items, dropped=dropped)

    monkeypatch.setattr("unisd.training.prepare.prepare", prepare)
    return calls


def test_prepare_builds_what_train_then_finds(tmp_path, model_folder, capsys, monkeypatch):
    words = ["--recipe", "agreement_token", *COS_E, "--model", model_folder, "--set", "task.limit=6"]
    rows = tmp_path / "rows.jsonl"
    assert main(["prepare", *words, "--output", str(rows), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert found == {"items": 6, "auxiliary contexts": 18, "negative contexts": 0, "dropped": {}}
    kept = [json.loads(line) for line in rows.read_text().splitlines()]
    assert len(kept) == 6
    assert all(len(row["auxiliary_contexts"]) == 3 and row["privileged_context"] for row in kept)


def test_what_the_model_writes_is_not_written_again(tmp_path, model_folder, capsys, monkeypatch):
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path / "cache"))
    words = ["prepare", "--recipe", "contrast", *COS_E, "--model", model_folder, *TWO, "--set", "contrast.per_item=1"]
    words += ["--set", "rollout.max_completion_length=6", "--json"]
    assert main(words) == 0
    first = json.loads(capsys.readouterr().out)["result"]
    assert first["negative contexts"] + sum(first["dropped"].values()) == 2

    def never(*_, **__):
        raise AssertionError("the answers are kept")

    monkeypatch.setattr("unisd.rollout.TorchSampler.sample", never)
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["result"] == first


def test_a_time_that_is_over_says_what_is_kept(model_folder, refused, monkeypatch):
    monkeypatch.setattr("unisd.rollout.TorchSampler.sample", lambda *_, **__: time.sleep(5))
    words = ["prepare", "--recipe", "contrast", *COS_E, "--model", model_folder, *TWO, "--set", "contrast.per_item=1"]
    line = refused(*words, "--set", "rollout.max_completion_length=7", "--max-time", "1", "--quiet", code=3)
    assert line.startswith("unisd: stopped by --max-time; contexts that were written are kept: the same command")


def test_a_person_gets_a_table_that_says_what_was_dropped(tmp_path, canned, capsys):
    rows = tmp_path / "rows.jsonl"
    assert main(["prepare", "--recipe", "unisd", *COS_E, *TWO, "--output", str(rows)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "Contexts for cos_e"
    for line in ("items 2", "auxiliary contexts 0", "dropped: negative: the text is not surely wrong 5"):
        assert line in lines
    assert lines.index("dropped: induction: empty 1") < lines.index("dropped: negative: the text is not surely wrong 5")
    assert lines[-1] == f"rows in {rows}"
    assert canned[0][3] is True


def test_quiet_and_json_show_no_progress_and_write_only_where_it_is_said(tmp_path, canned, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for more in (["--quiet"], ["--json"]):
        assert main(["prepare", "--recipe", "core", *COS_E, *TWO, *more]) == 0
        assert canned[-1][3] is False
        assert "rows in" not in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_run_file_and_named_options_say_which_run_is_meant(tmp_path, canned, capsys):
    file = tmp_path / "run.yaml"
    file.write_text("recipe: ema\ncontexts: {count: 2}\ntask: {name: mbpp, limit: 9}\n", encoding="utf-8")
    words = ["prepare", str(file), *COS_E, "--model", "qwen2.5-0.5b", "--set", "task.limit=3", "--json"]
    assert main(words) == 0
    ((config, task, examples, _),) = canned
    assert (config.teacher.kind, config.contexts.count, task.name, len(examples)) == ("ema", 2, "cos_e", 3)
    assert json.loads(capsys.readouterr().out)["result"]["items"] == 3


@pytest.mark.parametrize(
    ("words", "named", "remedy"),
    [
        (COS_E, "prepare:", "give --recipe NAME or a run file"),
        (["--recipe", "unisdd"], "unknown recipe 'unisdd'", "did you mean 'unisd'?"),
        (["nofile.yaml"], "cannot read nofile.yaml", "give a YAML file"),
        (["--recipe", "core", "--task", "cose"], "no task 'cose'", "did you mean 'cos_e'?"),
        (["--recipe", "core", "--set", "lora"], "--set lora", "write group.field=value"),
        (["--recipe", "core", "--device", "gpu"], "model.device: 'gpu' is no device", "choose auto, cpu"),
        (["--recipe", "core", "--source", "nofolder"], "no such source: nofolder", "use hub, sample, or a folder"),
        (["--recipe", "core", "--output", "."], "--output .: a folder of that name exists", "choose another name"),
    ],
)
def test_something_wrong_was_asked(words, named, remedy, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    line = refused("prepare", *words)
    assert named in line
    assert remedy in line
    assert not list(tmp_path.iterdir())


def test_an_output_below_a_file(tmp_path, refused):
    (tmp_path / "file").write_text("x")
    line = refused("prepare", "--recipe", "core", "--output", tmp_path / "file/rows.jsonl")
    assert line.endswith("is a file, not a folder; choose another name")


def test_only_what_so_many_steps_draw_and_train_finds_it(tmp_path, model_folder, capsys, monkeypatch):
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path / "cache"))
    words = ["--recipe", "contrast", *COS_E, "--model", model_folder, "--set", "contrast.draw=all"]
    words += ["--set", "contrast.per_item=2", "--set", "rollout.max_completion_length=32", "--quiet"]
    words += ["--set", "training.per_device_train_batch_size=4", "--set", "training.use_cpu=true"]
    rows = tmp_path / "rows.jsonl"
    assert main(["prepare", *words, "--steps", "1", "--output", str(rows)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "for the 4 of 300 items that are drawn first; without --steps and --limit, for all" in out
    written = (tmp_path / "cache/contexts/cos_e.jsonl").read_text().splitlines()
    assert (len(rows.read_text().splitlines()), len(written)) == (4, 8)
    assert main(["prepare", *words, "--limit", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["items"] == 2
    short = ["--output", str(tmp_path / "run"), "--set", "training.max_steps=1"]
    assert main(["train", *words, *short, "--set", "training.save_strategy=no"]) == 0
    assert (tmp_path / "cache/contexts/cos_e.jsonl").read_text().splitlines() == written


@pytest.mark.parametrize("words", [["--steps", "0"], ["--limit", "-1"], ["--steps", "1", "--limit", "1"]])
def test_no_steps_are_refused(refused, words):
    line = refused("prepare", "--recipe", "contrast", *COS_E, *words)
    assert line.startswith(f"unisd: {words[0]}") or "not allowed with argument --steps" in line
