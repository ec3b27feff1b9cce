"""The demo from end to end on a tiny random model, and what it leaves."""

import json
from types import SimpleNamespace

import pytest

import tiny
from unisd.cli.main import main
from unisd.errors import UsageError
from unisd.evaluation.answers import Evaluation, Item, read_evaluation
from unisd.files import read_jsonl
from unisd.studies.everyday import REQUESTS, Everyday
from unisd.studies.quickstart import _Until, another, imitation, steps_for
from unisd.tasks import get
from unisd.training.runfile import assemble


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of a demo, and what it printed as JSON."""
    folder, written = tmp_path_factory.mktemp("demo"), []
    tiny.model().save_pretrained(folder / "model")
    tiny.tokenizer().save_pretrained(folder / "model")
    changes = {
        "model.name": folder / "model", "training.max_steps": 5, "training.per_device_train_batch_size": 2,
        "training.use_cpu": "true", "task.limit": 8, "rollout.max_completion_length": 80, "rollout.mix_steps": 2,
        "lora.r": 2,
    }  # fmt: skip
    words = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unisd.studies.report.write.can_draw", lambda: False)
        patch.setattr("builtins.print", lambda *parts, **_: written.append(" ".join(map(str, parts))))
        code = main(
            ["demo", "--output", str(folder / "run"), "--items", "7", "--headroom-items", "3", "--json", *words]
        )
    assert code == 0
    return folder / "run", json.loads(written[0])["result"]


def test_measures_trains_and_measures_again(demo):
    folder, found = demo
    assert list(found["evaluations"]) == [
        "training questions: student",
        "training questions: student, shown the form",
        "training questions: teacher (paper)",
        "held-out questions: before",
        "held-out questions: self-distillation",
        "held-out questions: sft",
    ]
    assert found["evaluations"]["held-out questions: before"]["n"] == 7
    assert len(found["evaluations"]["held-out questions: before"]["subjects"]) > 2
    assert found["chance"] == 0
    assert found["mechanisms"] == []
    assert found["seconds"] == pytest.approx(sum(found["parts"].values()), abs=1)
    assert list(found["parts"]) == ["load", "headroom", "before", "train", "after", "sft"]
    assert json.loads((folder / "evaluation/summary.json").read_text()) == found


def test_each_method_says_what_it_gained_and_what_was_forgotten(demo):
    folder, found = demo
    for name, method in found["methods"].items():
        kept, change = method["kept"], method["change"]
        assert kept["drift"] == kept["retention"]["on_base_text"]["kl_base_adapted"] > 0
        assert kept["entropy"][0] > 0
        assert (kept["taken"], kept["requests"]) == ([0, 0], len(REQUESTS))
        whole = change["format"]["estimate"] + change["content"]["estimate"]
        assert whole == pytest.approx(change["difference"]["estimate"])
        lies = folder / f"evaluation/house-{'sft' if name == 'sft' else 'after'}.json"
        assert json.loads(lies.read_text())["retention"] == kept["retention"]
        assert read_evaluation(lies).correct == method["correct"]
    assert [point["steps"] for point in found["methods"]["sft"]["points"]] == [5]
    assert any(line.startswith("Content: ") for line in found["verdict"])
    assert any(line.startswith("Forgotten, self-distillation, 5 steps") for line in found["verdict"])


def test_demonstrations_come_first_and_the_students_words_later(demo):
    shares = [row["mix/share"] for row in read_jsonl(demo[0] / "metrics.jsonl")]
    last = assemble("quickstart").groups["rollout"]["mix"]
    assert shares == pytest.approx([0, last / 2, last, last, last])


def test_the_card_speaks_of_the_adapter_alone(demo):
    card = (demo[0] / "adapter/README.md").read_text()
    assert "| `house` | 7 items | after |" in card
    assert "sft" not in card


def test_the_page_shows_both_methods(demo):
    text = (demo[0] / "report.html").read_text()
    assert "<title>Demo: run</title>" in text
    assert "self-distillation" in text
    assert "sft" in text
    assert "http:" not in text
    assert "https:" not in text


def test_imitation_has_the_same_items_adapter_rate_and_batch():
    settings = assemble("quickstart", overrides=["training.seed=7", "lora.r=4"])
    other = imitation(settings, steps=9)
    assert (other.task, other.model, other.lora) == (settings.task, settings.model, settings.lora)
    differ = {"max_steps": 9, "save_strategy": "no"}
    assert other.training == settings.training | differ
    assert other.groups["divergence"]["kind"] == "cross_entropy"
    assert other.groups["rollout"]["source"] == "gold"


def answers(*correct):
    items = [Item(str(n), 0, "q", "k", "o", "k", right, True, [1]) for n, right in enumerate(correct)]
    return Evaluation("house", "accuracy", items)


def test_imitation_ends_when_it_has_gained_as_much():
    given = iter([answers(False, True), answers(True, True)])
    until = _Until(lambda: next(given), goal=2)
    model, ended = SimpleNamespace(eval=lambda: None), []
    for step in range(1, 11):
        control = SimpleNamespace(should_training_stop=False)
        until.on_step_end(None, SimpleNamespace(global_step=step, max_steps=100), control, model=model)
        ended.append(control.should_training_stop)
    assert ended == [False] * 9 + [True]
    assert until.points == [{"steps": 5, "correct": 1, "readable": 2}, {"steps": 10, "correct": 2, "readable": 2}]
    assert until.latest.correct == 2


def test_the_form_is_shown_by_an_item_of_another_kind():
    task = get("house")
    items = task.load("train")[:14]
    for number, example in enumerate(items):
        other = another(task, items, number)
        assert task.group(other) != task.group(example)
        assert other is items[(number + 1) % 14]
    questions = get("cos_e").load("train", "sample")[:2]
    assert another(get("cos_e"), questions, 1) is questions[0]


def test_an_everyday_reply_is_read_as_the_task_reads_it():
    task = get("house")
    everyday = Everyday(task, task.load("test")[0])
    asked = everyday.load()
    assert len({example.prompt for example in asked}) == len(asked) == 24
    call = '{"name": "lock", "arguments": {"door": "front door"}}'
    assert everyday.grade(asked[0], call).parsed is not None
    assert everyday.grade(asked[0], "Apples, cherries and plums.").parsed is None
    assert not everyday.grade(asked[0], call).correct


def test_steps_for_a_time():
    assert steps_for(None, 30) == steps_for(5, 30) == 30
    assert steps_for(3.5, 30) == 15
    assert steps_for(11, 30) == 90
    for minutes in (2, 0, -1, float("inf"), float("nan")):
        with pytest.raises(UsageError, match=r"--minutes .*: use more than 2"):
            steps_for(minutes, 30)
