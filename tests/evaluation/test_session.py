import json
import shutil
from pathlib import Path

import pytest

import tiny
from evaluation.asked import Choices
from unisd.errors import UniSDError, UsageError
from unisd.evaluation import session
from unisd.evaluation.models import Loaded, find_model
from unisd.evaluation.session import Exam, Options, load_exams, run_session, write_report, write_result
from unisd.models.load import weights_fingerprint


@pytest.fixture
def folders(tmp_path, tokenizer):
    """A base model and an adapter on it."""
    base = tiny.model()
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    base.config._name_or_path = base.name_or_path = str(tmp_path / "base")
    adapted = tiny.lora(base, trained=True)
    adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    return str(tmp_path / "base"), str(tmp_path / "adapter")


@pytest.fixture
def exam():
    return Exam("choices", Choices(), Choices().load("test")[:4])


def test_an_adapters_base_has_the_fingerprint_of_the_plain_model(folders):
    base, adapter = folders
    loaded = Loaded(adapter)
    assert loaded.fingerprint(base=True) == Loaded(base).fingerprint()
    assert loaded.fingerprint() != loaded.fingerprint(base=True)
    assert loaded.fingerprint() == weights_fingerprint(loaded.model)


def test_models_are_compared_with_the_first(folders, exam):
    base, adapter = folders
    report = run_session([base, adapter], [exam], Options(max_new_tokens=4), progress=False)
    assert [result.model for result in report.results] == [base, adapter]
    assert list(report.comparisons) == [adapter]
    assert report.comparisons[adapter]["choices"].n == 4


def test_base_retention_and_likelihood_of_an_adapter(folders, exam, tmp_path):
    kept = []
    options = Options(max_new_tokens=4, retention=True, likelihood=True, instructions=2)
    report = run_session([folders[1]], [exam], options, lambda loaded, result: kept.append(result), progress=False)
    assert [result.model for result in report.results] == [f"{folders[1]} (base)", folders[1]]
    assert kept == report.results
    measures = report.results[1].measures
    assert measures["retention"]["on_adapted_text"]["jsd"] > 0
    assert measures["retention"]["instructions"]["prompts"] == 2
    assert measures["ppl_fit"]["of"] == 4
    assert measures["calibration"]["n"] == 4
    plain = run_session([folders[0]], [exam], Options(max_new_tokens=4), progress=False)
    assert plain.results[0].evaluation == report.results[0].evaluation
    paths = [write_result(result, tmp_path / "out") for result in report.results]
    assert [path.name for path in paths] == ["choices-base.json", "choices.json"]
    assert json.loads(write_report(report, tmp_path / "out").read_text())["results"][1]["retention"]["ppl_ret"] > 1


def test_instructions_are_asked_once_a_model_and_none_where_none_are_wanted(folders, exam, monkeypatch):
    asked = []
    real = session.instruction_following
    monkeypatch.setattr(session, "instruction_following", lambda *a, **k: asked.append(a[2]) or real(*a, **k))
    exams = [exam, Exam("again", Choices(), exam.examples)]
    report = run_session([folders[1]], exams, Options(max_new_tokens=4, retention=True, instructions=1), progress=False)
    assert asked == [1, 1]  # the base, and the adapted model
    first, second = (result.measures["retention"]["instructions"] for result in report.results[1::2])
    assert first == second
    assert first["asked"] == 1
    report = run_session(
        [folders[1]], [exam], Options(max_new_tokens=4, retention=True, instructions=0), progress=False
    )
    run_session([folders[1]], [exam], Options(max_new_tokens=4, base=True), progress=False)
    assert len(asked) == 2
    assert "instructions" not in report.results[1].measures["retention"]


def test_a_model_without_a_base_is_told_so(folders, exam):
    with pytest.raises(UsageError, match="not known what it was adapted from"):
        run_session([folders[0]], [exam], Options(base=True), progress=False)
    with pytest.raises(UsageError, match="not known"), Loaded(folders[0]).weights(base=True):
        pass


def test_a_run_knows_its_base_and_its_task(folders, tmp_path):
    run = tmp_path / "run"
    (run / "adapter").mkdir(parents=True)
    (run / "config.yaml").write_text(
        f"model: {{name: '{folders[0]}', dtype: float32}}\ntask: {{name: 'cos_e'}}\n", encoding="utf-8"
    )
    found = find_model(str(run))
    assert (found.base, found.trained_on, found.weights) == (folders[0], "cos_e", str(run / "adapter"))
    assert found.template_kwargs is None
    with (run / "config.yaml").open("a", encoding="utf-8") as file:
        file.write("contexts: {template_kwargs: {enable_thinking: false}}\n")
    assert find_model(str(run)).template_kwargs == {"enable_thinking": False}
    whole = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(whole.replace("float32", "flo"))
    with pytest.raises(UsageError, match=r"config.yaml: model.dtype is 'flo'; is the file cut off"):
        find_model(str(run))
    (run / "config.yaml").write_text(whole)
    (run / "adapter").rmdir()
    with pytest.raises(UsageError, match="no adapter yet"):
        find_model(str(run))
    with pytest.raises(UsageError, match="neither a run"):
        find_model(str(tmp_path))


def test_all_takes_the_tasks_that_have_a_folder_and_names_the_rest(tmp_path, monkeypatch):
    (tmp_path / "cos_e").mkdir()
    monkeypatch.setattr(session, "names", lambda: ["cos_e", "mbpp"])
    with pytest.raises(UsageError, match="no cose_dev"):  # its folder is there, so its damage is an error
        load_exams(["all"], str(tmp_path), None, None)
    (tmp_path / "cos_e").rmdir()
    with pytest.raises(UsageError, match=r"no task can be evaluated: cos_e: .* has no folder cos_e; mbpp: "):
        load_exams(["all"], str(tmp_path), None, None)


def test_a_set_that_cannot_be_had_is_left_out_of_all_but_not_when_named(monkeypatch):
    class Gated(Choices):
        def load(self, split, source=None):
            raise UniSDError("accept its terms")

    def broken():
        raise UniSDError("repair the package it comes from")

    made = {"choices": Choices, "gated": Gated, "broken": broken}
    monkeypatch.setattr(session, "names", lambda: list(made))
    monkeypatch.setattr(session, "get", lambda name: made[name]())
    exams, skipped = load_exams(["all"], None, None, 3)
    assert [(e.label, len(e.examples)) for e in exams] == [("choices", 3)]
    assert skipped == {"gated": "accept its terms", "broken": "repair the package it comes from"}
    with pytest.raises(UniSDError, match="accept its terms"):
        load_exams(["gated"], None, None, 3)


def test_file_names_of_tasks_with_options_and_of_custom_tasks():
    names = [Exam(label, Choices(), []).file_name for label in ("mbpp:variant=full,tests=hidden", "tasks/mine.yaml")]
    assert names == ["mbpp-variant-full-tests-hidden", "choices"]


@pytest.mark.parametrize("name", ["report", "summary", "sums-base", "sums-after", "headroom"])
def test_a_tasks_name_is_never_that_of_another_file(name):
    task = Choices()
    task.name = name
    assert Exam("mine.yaml", task, []).file_name == Exam(name, task, []).file_name == f"{name}_"


def test_two_tasks_of_one_file_name_are_refused(monkeypatch):
    monkeypatch.setattr(session, "get", lambda label: Choices())
    with pytest.raises(UsageError, match="two tasks would both be written as 'choices'"):
        load_exams(["a/mine.yaml", "b/mine.yaml"], None, None, 3)


def test_a_wrong_later_model_is_named_before_the_first_is_asked(folders, exam, tmp_path):
    kept = []
    with pytest.raises(UniSDError, match="nowhere"):
        run_session([folders[0], str(tmp_path / "nowhere")], [exam], Options(), lambda *r: kept.append(r), False)
    assert kept == []


def test_what_decides_the_answers_decides_the_fingerprint(folders, tmp_path):
    """Equal tensors do not make equal models: the adapter's scale and the configuration count."""
    base, adapter = folders
    seen = {Loaded(base).fingerprint(), Loaded(adapter).fingerprint()}
    for source, file, key, value in (
        (adapter, "adapter_config.json", "lora_alpha", 64),
        (base, "config.json", "rms_norm_eps", 0.5),
        (base, "config.json", "eos_token_id", 9),
    ):
        changed = tmp_path / key
        shutil.copytree(source, changed)
        settings = json.loads((changed / file).read_text())
        (changed / file).write_text(json.dumps(settings | {key: value}))
        seen.add(Loaded(str(changed)).fingerprint())
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("adapter_config.json", "{"),
        ("adapter_model.safetensors", "torn"),
        ("adapter_config.json", '{"peft_type": "LORA"}'),
    ],
)
def test_broken_model_files_are_one_line(folders, file, text):
    (Path(folders[1]) / file).write_text(text)
    with pytest.raises(UniSDError, match="cannot load the adapter") as caught:
        Loaded(folders[1])
    assert "\n" not in str(caught.value)


def test_regrading_a_file_keeps_what_was_measured_beside_the_answers(folders, exam, tmp_path):
    report = run_session([folders[0]], [exam], Options(max_new_tokens=4, likelihood=True), progress=False)
    path = write_result(report.results[0], tmp_path)
    before = json.loads(path.read_text())
    assert before["asked"] == {
        "samples": 1, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
        "seed": 42, "max_new_tokens": 4,
    }  # fmt: skip
    session.regrade_file(Choices(), path)
    assert json.loads(path.read_text()) == before
    session.regrade_file(Choices(), path, "keep")
    assert json.loads(path.read_text())["asked"] == before["asked"] | {"thoughts": "keep"}
    session.regrade_file(Choices(), path)
    assert json.loads(path.read_text()) == before


def test_a_run_on_a_task_of_ones_own_has_not_forgotten_it():
    mine = Exam("tasks/mine.yaml", Choices(), [])
    assert session._same_task(mine, "tasks/mine.yaml")
    assert session._same_task(Exam("choices:a=b", Choices(), []), "choices:a=c")
    assert not session._same_task(mine, "other")
