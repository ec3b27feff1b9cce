import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from rollout.templates import FAMILIES
from unisd import tasks
from unisd.cli.main import main
from unisd.evaluation import session
from unisd.rollout import make_sampler

COS_E = ["--task", "cos_e", "--source", "sample"]
FEW = ["--limit", "3", "--max-new-tokens", "4"]
SUMS = Path(__file__).parents[2] / "examples/custom_task"


@pytest.fixture
def written(monkeypatch, tmp_path_factory):
    """What the sampler is asked for, call by call, with a cache of its own: requests, parameters, batch size, bar."""
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path_factory.mktemp("cache")))
    calls = []

    def spied(model, tokenizer, batch_size):
        sampler = make_sampler(model, tokenizer, batch_size)

        class Spy:
            def sample(self, requests, params, progress=None):
                calls.append((list(requests), params, batch_size, progress))
                return sampler.sample(requests, params, None)

            def decode(self, completion):
                return sampler.decode(completion)

        return Spy()

    monkeypatch.setattr(session, "make_sampler", spied)
    return calls


@pytest.fixture
def run_folder(tmp_path, adapter_folder, model_folder):
    """What a finished run looks like."""
    folder = tmp_path / "run"
    shutil.copytree(adapter_folder, folder / "adapter")
    text = f"model: {{name: '{model_folder}', dtype: float32}}\ntask: {{name: cos_e, source: sample}}\n"
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return folder


def found(capsys, *words):
    """Evaluate with --json; return the result, or what is said of the one model and task."""
    capsys.readouterr()
    assert main(["evaluate", *map(str, words), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    return result["results"][0] if len(result["results"]) == 1 else result


# -- what is asked ----------------------------------------------------------------------------------------------------


def test_options_reach_the_sampler_and_are_kept(model_folder, capsys, written):
    words = [model_folder, *COS_E, "--limit", "3", "--max-new-tokens", "5", "--fresh"]
    plain = found(capsys, *words)
    ((requests, params, batch_size, progress),) = written
    assert (len(requests), batch_size, progress) == (3, 32, None)
    assert (params.max_new_tokens, params.temperature, params.top_p, params.seed) == (5, 0.0, 1.0, 42)
    assert plain["n"] == 3
    assert plain["asked"] == {
        "samples": 1, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
        "seed": 42, "max_new_tokens": 5,
        "source": "sample", "split": "validation", "limit": 3,
    }  # fmt: skip
    more = ["--split", "train", "--samples", "2", "--temperature", "0.8", "--top-p", "0.9", "--seed", "7"]
    more += ["--top-k", "40", "--min-p", "0.05", "--repetition-penalty", "1.1"]
    sampled = found(capsys, *words, *more, "--batch-size", "2")
    requests, params, batch_size, _ = written[-1]
    assert (len(requests), batch_size) == (6, 2)
    assert (params.max_new_tokens, params.temperature, params.top_p, params.seed) == (5, 0.8, 0.9, 7)
    assert (params.top_k, params.min_p, params.repetition_penalty) == (40, 0.05, 1.1)
    assert sampled["n"] == 6
    assert sampled["asked"] == {
        "samples": 2, "temperature": 0.8, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1,
        "seed": 7, "max_new_tokens": 5,
        "source": "sample", "split": "train", "limit": 3,
    }  # fmt: skip


def test_where_a_model_runs_is_an_option(model_folder, refused, written, capsys):
    few = [model_folder, *COS_E, "--limit", "1", "--max-new-tokens", "2"]
    assert "--device: 'gpu' is no device" in refused("evaluate", *few, "--device", "gpu")
    assert found(capsys, *few, "--device", "cpu", "--device-map", "auto")["n"] == 1
    assert len(written) == 1


def test_the_chat_template_and_thoughts_are_options(run_folder, model_folder, capsys, refused, written, tmp_path):
    folder = tmp_path / "thinks"
    shutil.copytree(model_folder, folder)
    FAMILIES["Qwen3"].tokenizer().save_pretrained(folder)
    words = [folder, *COS_E, "--limit", "1", "--max-new-tokens", "5", "--fresh"]
    plain = found(capsys, *words)
    off = found(capsys, *words, "--template-kwargs", "{enable_thinking: false}", "--thoughts", "keep")
    assert "template_kwargs" not in plain["asked"]
    assert "thoughts" not in plain["asked"]
    assert off["asked"]["template_kwargs"] == {"enable_thinking": False}
    assert off["asked"]["thoughts"] == "keep"
    (first, *_), (second, *_) = written
    assert list(second[0].prompt_ids)[: len(first[0].prompt_ids)] == list(first[0].prompt_ids)
    assert len(second[0].prompt_ids) > len(first[0].prompt_ids)
    assert "a mapping of names" in refused("evaluate", *words, "--template-kwargs", "off")
    assert "--template-kwargs: 'tokenize' is no" in refused("evaluate", *words, "--template-kwargs", "{tokenize: true}")


def test_without_a_limit_all_items_are_asked_with_the_tasks_own_room(model_folder, capsys, written):
    task = str(SUMS / "task.yaml")
    plain = found(capsys, model_folder, "--task", task)
    assert plain["n"] == len((SUMS / "test.jsonl").read_text().splitlines())
    assert plain["asked"]["max_new_tokens"] == tasks.get(task).max_new_tokens
    assert plain["asked"]["split"] == "test"
    assert plain["label"] == task


def test_answers_are_kept_between_calls_unless_fresh_ones_are_wanted(model_folder, capsys, written):
    words = [model_folder, *COS_E, "--limit", "4", "--max-new-tokens", "3"]
    first = found(capsys, *words)
    assert len(written) == 1
    assert found(capsys, *words) == first
    assert len(written) == 1
    assert found(capsys, *words, "--fresh") == first
    assert len(written) == 2


def test_a_signal_says_what_is_kept_and_a_time_that_is_over_too(model_folder, refused, monkeypatch):
    def stopped(*_, **__):
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(5)

    words = ["evaluate", model_folder, *COS_E, "--limit", "4", "--max-new-tokens", "5", "--quiet"]
    kept = "answers that were written are kept: the same command asks for the others alone"
    monkeypatch.setattr("unisd.rollout.TorchSampler.sample", stopped)
    assert refused(*words, code=3) == f"unisd: stopped by SIGHUP; {kept}"
    monkeypatch.setattr("unisd.rollout.TorchSampler.sample", lambda *_, **__: time.sleep(5))
    assert refused(*words, "--max-time", "1", code=3) == f"unisd: stopped by --max-time; {kept}"


def test_all_asks_what_lies_in_a_folder_and_says_what_it_leaves_out(tmp_path, model_folder, capsys):
    options = [{"label": label, "text": text} for label, text in zip("ABC", ("a lake", "a hat", "a road"), strict=True)]
    question = {"id": "q1", "question": {"stem": "Where do fish live?", "choices": options}, "answerKey": "A"}
    explanation = {"id": "q1", "explanation": {"open-ended": "fish need water.", "selected": "fish"}}
    (tmp_path / "data/cos_e").mkdir(parents=True)
    (tmp_path / "data/cos_e/dev_rand_split.jsonl").write_text(json.dumps(question) + "\n")
    (tmp_path / "data/cos_e/cose_dev_v1.0.jsonl").write_text(json.dumps(explanation) + "\n")
    words = ["evaluate", model_folder, "--task", "all", "--source", str(tmp_path / "data"), *FEW]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert printed.count("left out: ") == len(tasks.names()) - 1
    assert f"left out: mbpp ({tmp_path / 'data'} has no folder mbpp)" in printed
    row = next(line for line in printed.splitlines() if line.split()[:1] == [model_folder])
    assert row.split()[1] == "cos_e"
    assert "/1)" in row
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


# -- what is measured and compared ------------------------------------------------------------------------------------


def test_base_likelihood_and_retention_of_an_adapter(adapter_folder, model_folder, capsys):
    words = [adapter_folder, *COS_E, *FEW]
    both = found(capsys, *words, "--base")
    assert [result["model"] for result in both["results"]] == [f"{adapter_folder} (base)", adapter_folder]
    assert both["comparisons"][adapter_folder]["cos_e"]["against"] == f"{adapter_folder} (base)"
    assert not {"retention", "ppl_fit", "calibration"} & both["results"][1].keys()
    base, adapted = found(capsys, *words, "--likelihood", "--retention", "--instructions", "2")["results"]
    assert base["ppl_fit"]["value"] > 1
    assert base["ppl_fit"] == found(capsys, model_folder, *COS_E, *FEW, "--likelihood")["ppl_fit"]
    assert adapted["ppl_fit"] != base["ppl_fit"]
    assert adapted["calibration"]["n"] == 3
    assert adapted["retention"]["on_adapted_text"]["jsd"] > 0
    assert "retention" not in base
    assert adapted["retention"]["instructions"]["all"]["base"]["of"] == 2


def test_instructions_are_a_task_that_needs_no_source(model_folder, adapter_folder, capsys):
    asked = found(capsys, model_folder, "--task", "instructions", *FEW)
    assert (asked["label"], asked["n"], asked["metric"]) == ("instructions", 3, "all constraints followed")
    assert main(["evaluate", adapter_folder, *COS_E, *FEW, "--retention", "--instructions", "2"]) == 0
    assert "instructions followed, of 2 prompts" in " ".join(capsys.readouterr().out.split())


def test_two_models_are_compared_and_written_apart(tmp_path, model_folder, capsys):
    other = tmp_path / "elsewhere" / "model"
    shutil.copytree(model_folder, other)
    assert main(["evaluate", model_folder, str(other), *COS_E, *FEW, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "Compared item by item" in printed
    written = sorted(p.relative_to(tmp_path / "out").parts[-1] for p in (tmp_path / "out").rglob("*.json"))
    assert written == ["cos_e.json", "cos_e.json", "report.json"]
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["comparisons"][str(other)]["cos_e"]["against"] == model_folder


def test_models_of_different_names_are_written_under_them(tmp_path, model_folder, adapter_folder, capsys):
    report = found(capsys, model_folder, adapter_folder, *COS_E, *FEW, "--base", "--output", tmp_path / "out")
    names = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.json"))
    assert names == ["adapter/cos_e-base.json", "adapter/cos_e.json", "model/cos_e.json", "report.json"]
    assert json.loads((tmp_path / "out/report.json").read_text()) | {"left_out": {}} == report
    assert report["notes"] == [f"{model_folder}: no base is known, so neither --base nor --retention was done for it"]


# -- where answers lie ------------------------------------------------------------------------------------------------


def test_a_runs_answers_lie_in_the_run(run_folder, capsys):
    words = ["evaluate", str(run_folder), "--task", "cos_e", "--task", "cos_e", "--source", "sample", *FEW]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f"answers in {run_folder / 'evaluation/cos_e.jsonl'}"
    assert sorted(path.name for path in (run_folder / "evaluation").iterdir()) == ["cos_e.json", "cos_e.jsonl"]
    assert main([*words, "--base", "--quiet"]) == 0
    names = ["cos_e-base.json", "cos_e-base.jsonl", "cos_e.json", "cos_e.jsonl", "report.json"]
    assert sorted(path.name for path in (run_folder / "evaluation").iterdir()) == names
    assert capsys.readouterr().out == ""


def test_a_models_answers_are_written_only_where_it_is_said(
    tmp_path, model_folder, adapter_folder, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found(capsys, model_folder, *COS_E, *FEW)
    assert not list(tmp_path.iterdir())
    summary = found(capsys, model_folder, *COS_E, *FEW, "--output", "one.json")
    assert summary == json.loads((tmp_path / "one.json").read_text())
    assert len((tmp_path / "one.jsonl").read_text().splitlines()) == 3
    found(capsys, adapter_folder, *COS_E, *FEW, "--base", "--output", "two.json")
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["cos_e-base.json", "one.json", "two.json"]


# -- grading again ----------------------------------------------------------------------------------------------------


def test_kept_answers_are_graded_again_without_a_model(tmp_path, model_folder, capsys, written):
    output = str(tmp_path / "one.json")
    words = [model_folder, *COS_E, *FEW]
    first = found(capsys, *words, "--samples", "2", "--temperature", "1", "--output", output)
    assert first["n"] == 6
    assert set(first["pass_at_k"]) == {"1", "2"}
    asked = len(written)
    again = found(capsys, model_folder, *COS_E, "--regrade", "--output", output)
    assert again["n"] == 6
    assert again == {key: first[key] for key in again}
    assert json.loads((tmp_path / "one.json").read_text()) == first
    assert len(written) == asked


def test_grading_again_counts_an_answer_that_is_right_now(run_folder, capsys):
    words = ["evaluate", str(run_folder), *COS_E, *FEW]
    assert main([*words, "--base", "--quiet"]) == 0
    path = run_folder / "evaluation/cos_e.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert not rows[0]["correct"]
    rows[0] |= {"output": rows[0]["demonstration"], "finished": True}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["evaluate", str(run_folder), "--task", "cos_e", "--regrade"]) == 0
    printed = capsys.readouterr().out
    assert "report.json holds the former grades; evaluate again to renew it" in printed
    assert "Graded again" in printed
    row = next(line for line in printed.splitlines() if line.split()[:2] == [f"{run_folder},", "cos_e"])
    assert "(1/3)" in row
    assert f"{run_folder} (base), cos_e" in printed
    assert json.loads(path.with_suffix(".json").read_text())["accuracy"]["count"] == 1
    both = found(capsys, run_folder, "--task", "cos_e", "--regrade")
    assert [(each["model"], each["label"]) for each in both["results"]] == [
        (str(run_folder), "cos_e"), (f"{run_folder} (base)", "cos_e"),
    ]  # fmt: skip
    assert main(["evaluate", str(run_folder), "--task", "cos_e", "--regrade", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "named", "remedy"),
    [
        (["--limit", "0"], "--limit: 0", "use 1 or more"),
        (["--max-new-tokens", "0"], "--max-new-tokens: 0", "use 1 or more"),
        (["--batch-size", "-1"], "--batch-size: -1", "use 1 or more"),
        (["--samples", "0"], "--samples: 0", "use 1 or more"),
        (["--temperature", "-1"], "--temperature", "0 or more"),
        (["--temperature", "nan"], "--temperature", "0 or more"),
        (["--temperature", "inf"], "--temperature", "0 or more"),
        (["--top-p", "0"], "--top-p", "in (0, 1]"),
        (["--top-p", "1.5"], "--top-p", "in (0, 1]"),
        (["--top-k", "-1"], "--top-k must be 0 or more", "--repetition-penalty above 0"),
        (["--min-p", "1.1"], "--min-p in [0, 1]", "--repetition-penalty above 0"),
        (["--repetition-penalty", "0"], "--repetition-penalty above 0", "--top-k must be 0 or more"),
        (["--repetition-penalty", "nan"], "--repetition-penalty above 0", "--top-k must be 0 or more"),
        (["--top-k", "5"], "--top-k: greedy answers take the likeliest token", "add --temperature 0.7"),
        (["--top-p", "0.5"], "--top-p: greedy answers take the likeliest token", "add --temperature 0.7"),
        (["--min-p", "0.5"], "--min-p: greedy answers take the likeliest token", "add --temperature 0.7"),
        (["--samples", "2"], "--samples 2: greedy answers would be equal", "add --temperature 0.7"),
        (["--base"], "not known what it was adapted from", "leave out --base and --retention"),
        (["--retention"], "not known what it was adapted from", "leave out --base and --retention"),
        (["--instructions", "9"], "--instructions 9: it belongs to --retention", "add that"),
        (["--retention", "--instructions", "-1"], "--instructions -1", "use 0 or more"),
        (["--task", "instructions", "--split", "train"], "instructions has no split 'train'", "choose one of test"),
        (["--max-new-tokens", "99999"], "no prompt leaves room", "use --max-new-tokens "),
        (["--split", "exam"], "no split 'exam'", "choose one of train, validation"),
        (["--task", "cose"], "no task 'cose'", "did you mean 'cos_e'?"),
        (["--task", "all", "--output", "x.json"], "--output x.json", "name a folder for several models or tasks"),
        (["--task", "mbpp", "--output", "x.json"], "--output x.json", "name a folder for several models or tasks"),
        (["--regrade"], "is no run", "say with --output where its answers lie"),
        (["--regrade", "--output", "nothing"], "no summary of an evaluation", "name what unisd evaluate wrote"),
    ],
)
def test_something_wrong_was_asked(wrong, named, remedy, tmp_path, monkeypatch, model_folder, refused):
    monkeypatch.chdir(tmp_path)
    line = refused("evaluate", model_folder, *COS_E, *FEW, *wrong)
    assert named in line
    assert remedy in line
    assert not list(tmp_path.iterdir())


def test_one_file_for_two_models(tmp_path, model_folder, adapter_folder, refused):
    line = refused("evaluate", model_folder, adapter_folder, *COS_E, "--output", tmp_path / "x.json")
    assert line.endswith("name a folder for several models or tasks")


@pytest.mark.parametrize(
    ("output", "said"),
    [("file", "a file of that name exists"), ("file/x", "is a file"), ("f.json", "a folder of that name")],
)
def test_an_output_that_cannot_be_written(output, said, tmp_path, model_folder, refused):
    (tmp_path / "file").write_text("x")
    (tmp_path / "f.json").mkdir()
    line = refused("evaluate", model_folder, *COS_E, *FEW, "--output", tmp_path / output)
    assert said in line
    assert line.endswith("choose another name")


def test_a_model_that_is_none_is_found_out_before_any_work(tmp_path, model_folder, refused, written):
    (tmp_path / "empty").mkdir()
    assert "neither a run" in refused("evaluate", model_folder, tmp_path / "empty", *COS_E, *FEW, "--quiet")
    (tmp_path / "empty/config.yaml").write_text("model: {name: x, dtype: float32}\n")
    line = refused("evaluate", model_folder, tmp_path / "empty", *COS_E, *FEW, "--quiet")
    assert line.endswith(f"finish it with unisd train --output {tmp_path / 'empty'} --resume")
    assert not written


def test_a_folder_with_no_task_in_it(tmp_path, model_folder, refused):
    line = refused("evaluate", model_folder, "--task", "all", "--source", tmp_path, "--quiet")
    assert "no task can be evaluated" in line
    assert all(f"{tmp_path} has no folder {name}" in line for name in tasks.names())


# -- somebody's files, and everything at once ------------------------------------------------------------------------


def test_a_file_that_no_evaluation_wrote_is_left_alone(model_folder, refused, tmp_path):
    mine = tmp_path / "config.json"
    mine.write_text('{"metric": "mine"}', encoding="utf-8")
    line = refused("evaluate", model_folder, *COS_E, *FEW, "--output", mine)
    assert "a file that is no evaluation lies there; choose another name" in line
    assert mine.read_text(encoding="utf-8") == '{"metric": "mine"}'


def test_an_evaluation_may_be_written_again(model_folder, capsys, tmp_path):
    first = found(capsys, model_folder, *COS_E, *FEW, "--output", tmp_path / "e.json")
    assert found(capsys, model_folder, *COS_E, *FEW, "--output", tmp_path / "e.json")["n"] == first["n"]


def test_regrading_all_means_all_that_were_answered(model_folder, capsys, refused, tmp_path):
    found(capsys, model_folder, *COS_E, *FEW, "--output", tmp_path / "answers")
    again = found(capsys, model_folder, "--task", "all", "--regrade", "--output", tmp_path / "answers")
    assert again["n"] == 3
    (tmp_path / "empty").mkdir()
    line = refused("evaluate", model_folder, "--task", "all", "--regrade", "--output", tmp_path / "empty")
    assert "no answers of any task lie there" in line


# -- what a run says by itself ----------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path, adapter_folder, model_folder):
    """Makes what finished runs look like, which learned what is given."""

    def make(name, **settings):
        folder = tmp_path / name
        shutil.copytree(adapter_folder, folder / "adapter")
        values = {
            "model": {"name": model_folder, "dtype": "float32"},
            "task": {"name": "cos_e", "source": "sample", "split": None},
            "rollout": {"max_completion_length": 5, "thoughts": "cut"},
        } | settings
        (folder / "config.yaml").write_text(json.dumps(values), encoding="utf-8")
        return folder

    return make


def test_a_run_says_what_it_learned_from_where_and_how_long_answers_are(runs, capsys, written):
    run = runs("a run", contexts={"template_kwargs": {"enable_thinking": False}})
    asked = found(capsys, run, "--limit", "2", "--fresh")["asked"]
    assert (asked["source"], asked["split"], asked["max_new_tokens"]) == ("sample", "validation", 5)
    assert asked["template_kwargs"] == {"enable_thinking": False}
    assert written[-1][1].max_new_tokens == 5
    assert main(["evaluate", str(run), "--limit", "2"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    words = "--task cos_e --source sample --max-new-tokens 5 --thoughts cut --template-kwargs"
    assert first == f"as {run} was trained: {words} '{{\"enable_thinking\": false}}'"


def test_what_is_given_overrides_what_a_run_says(runs, capsys, written):
    run = runs("run")
    asked = found(capsys, run, "--limit", "1", "--max-new-tokens", "3", "--split", "train", "--fresh")["asked"]
    assert (asked["split"], asked["max_new_tokens"]) == ("train", 3)
    other = found(capsys, run, "--task", str(SUMS / "task.yaml"), "--limit", "1", "--fresh")
    assert other["asked"]["max_new_tokens"] == tasks.get(str(SUMS / "task.yaml")).max_new_tokens
    assert main(["evaluate", str(run), "--task", "cos_e", "--source", "sample", *FEW, "--thoughts", "keep"]) == 0
    assert "was trained" not in capsys.readouterr().out


def test_a_base_beside_its_run_is_asked_in_the_same_way(runs, model_folder, capsys, written):
    both = found(capsys, model_folder, runs("run"), "--limit", "1", "--fresh")["results"]
    assert [result["asked"]["max_new_tokens"] for result in both] == [5, 5]
    assert [result["asked"]["source"] for result in both] == ["sample", "sample"]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"task": {"name": "mbpp"}}, "--task: {a} was trained with cos_e, {b} with mbpp; say which is meant"),
        ({"task": {"name": "cos_e", "source": "hub"}}, "--source: {a} was trained with sample, {b} with hub"),
        ({"rollout": {"max_completion_length": 9}}, "--max-new-tokens: {a} was trained with 5, {b} with 9"),
        ({"rollout": {"max_completion_length": 5, "thoughts": "keep"}}, "--thoughts: {a} was trained with cut, {b}"),
        ({"contexts": {"template_kwargs": {"x": 1}}}, "--template-kwargs: {a} was trained with None, {b} with"),
    ],
)
def test_runs_that_say_different_things_are_not_guessed_at(other, named, runs, refused, capsys, written):
    a, b = runs("a"), runs("b", **other)
    assert named.format(a=a, b=b) in refused("evaluate", a, b)
    words = [*COS_E, *FEW, "--thoughts", "cut", "--template-kwargs", "{}"]
    assert len(found(capsys, a, b, *words)["results"]) == 2


def test_without_a_run_a_task_must_be_named(model_folder, refused, runs):
    line = refused("evaluate", model_folder)
    assert line == f"unisd: --task: {model_folder} does not say what it learned, as a run does; name a task " \
        "(unisd list tasks)"  # fmt: skip
    assert "does not say what it learned" in refused("evaluate", runs("odd", task={}))
    assert "nowhere is no folder here" in refused("evaluate", "nowhere")


def test_a_runs_own_task_is_known_by_any_path_to_it(runs, monkeypatch, written, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"q": "1?", "a": "1"}\n{"q": "2?", "a": "2"}\n', encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(
        'name: mine\ndata: {all: rows.jsonl}\nprompt: "{q}"\nanswer: {type: number, column: a}\n', encoding="utf-8"
    )
    run = runs("run", task={"name": str(tmp_path / "mine.yaml")})
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(run), "--task", "mine.yaml", "--quiet"]) == 0
    assert written[-1][1].max_new_tokens == 5


def test_a_run_that_is_asked_its_own_training_items_says_so(runs, capsys, written):
    assert main(["evaluate", str(runs("run", task={"name": "cos_e", "source": "sample", "split": "validation"})),
                 "--limit", "1", "--quiet"]) == 0  # fmt: skip
    assert "was trained on the split 'validation' of cos_e, which it is asked now" in capsys.readouterr().err
    assert main(["evaluate", str(runs("other")), "--limit", "1", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
