from dataclasses import replace

import pytest

from evaluation.asked import Choices
from unisd.cli.evaluation_tables import show_report
from unisd.evaluation.answers import TOO_LONG, Evaluation, Item
from unisd.evaluation.compare import compare
from unisd.evaluation.session import Exam, Report, Result


def items(right, samples=1, **more):
    """An item for each of ``right``, with as many answers as ``samples``, all graded alike."""
    return [
        Item(str(i), k, "p", "A", "o", "A" if ok else None, ok, True, [1, 2, 3], **more)
        for i, ok in enumerate(right)
        for k in range(samples)
    ]


def result(model, answers, metric="accuracy", label="choices", **measures):
    return Result(model, Exam(label, Choices(), []), Evaluation("choices", metric, answers), measures)


@pytest.fixture
def shown(capsys):
    """Print a report; return its lines with single spaces, without rules and empty ones."""

    def show(*results, comparisons=(), forgetting=(), notes=()):
        show_report(Report(list(results), dict(comparisons), dict(forgetting), list(notes)))
        found = capsys.readouterr().out.splitlines()
        return [" ".join(line.split()) for line in found if line.strip(" ─") and line[:3] != "  ("]

    return show


def test_a_row_a_model_and_task_and_no_more_than_was_measured(shown):
    found = shown(result("runs/a", items([True, False])), result("runs/b", items([True, True])))
    assert found[:2] == ["Evaluation, 95 % intervals", "model task correct parsable tokens also"]
    assert [line.split("%")[0] for line in found[2:]] == ["runs/a choices 50.0", "runs/b choices 100.0"]
    assert "(1/2)" in found[2]
    assert found[2].endswith(" 3")


def test_further_scores_samples_and_items_that_were_not_asked(shown):
    scores = shown(result("m", items([True, False], scores={"action": 0.5, "argument": 0.25})))[2]
    assert scores.endswith("action 50.0%, argument 25.0%")
    several = shown(result("m", items([True, False, False, False], samples=2)))[2]
    assert several.endswith("pass@1 25.0%, pass@2 25.0%")
    long = shown(result("m", [*items([True]), *items([False], note=TOO_LONG)]))[2]
    assert long.endswith("1 too long")


def test_a_metric_that_is_not_accuracy_is_named(shown):
    found = shown(result("m", items([True]), metric="pass@1", label="mbpp:tests=hidden"))
    assert found[2].startswith("m mbpp:tests=hidden (pass@1) 100.0%")


def test_results_by_subject_where_there_are_several(shown):
    several = [*items([True, True], group="art"), *items([False], group="law")]
    found = shown(result("m", several))
    assert found[3:5] == ["choices, m, by subject", "subject correct"]
    assert [line.split(" [")[0] for line in found[5:]] == ["art 100.0%", "law 0.0%"]
    assert len(shown(result("m", items([True], group="art")))) == 3


def test_likelihood_and_calibration(shown):
    calibration = {"ece": 0.125, "brier": 0.5, "confidence": 0.75, "accuracy": 0.5}
    found = shown(result("m", items([True]), ppl_fit={"value": 3.14159, "of": 9}, calibration=calibration))
    assert found[3:] == [
        "Likelihood and retention",
        "model task measure value",
        "m choices perplexity of gold answers 3.14 (9 items)",
        "m choices calibration of the immediate answer ECE 0.125, Brier 0.500, confidence 75.0%, right 50.0%",
    ]


def test_a_perplexity_that_is_no_number_and_a_calibration_that_there_is_not(shown):
    found = shown(result("m", items([True]), ppl_fit={"value": None, "of": 9}, calibration=None))
    assert found[-1] == "m choices perplexity of gold answers beyond any number (9 items)"


def test_retention(shown):
    retention = {
        "ppl_ret": None,
        "on_adapted_text": {"jsd": 0.01, "kl_adapted_base": 0.02, "entropy_adapted": 1.5},
        "on_base_text": {"jsd": 0.03, "kl_adapted_base": 0.04, "entropy_base": 2.5},
        "drift": {
            "base": {"mean_tokens": 40.4, "distinct_2": 0.9},
            "adapted": {"mean_tokens": 20.0, "distinct_2": 0.8},
        },
    }
    found = shown(result("m", items([True]), retention=retention))
    assert found[5:] == [
        "m choices PPL_ret (the base reads its answers) beyond any number",
        "m choices JSD to the base, nats a token 0.0100 own text, 0.0300 base's",
        "m choices KL(adapted ‖ base), nats a token 0.0200 own text, 0.0400 base's",
        "m choices drift from the base entropy 2.50 → 1.50 nats, 40 → 20 tokens, distinct-2 0.900 → 0.800",
    ]


def test_instructions_are_shown_once_a_model(shown):
    share = {"value": 0.5, "low": 0.1, "high": 0.9, "count": 1, "of": 2}
    part = {"base": share, "adapted": share | {"count": 0}, "gained": 0, "lost": 1}
    part["change"] = {"estimate": -0.5, "low": -0.9, "high": 0.25, "confidence": 0.95}
    measured = {"instructions": {"asked": None, "prompts": 2, "all": part, "kinds": {"bullets": part}}}
    found = shown(
        result("m", items([True]), retention=measured), result("m", items([True]), label="other", retention=measured)
    )
    assert found[4:] == [
        "m: instructions followed, of 2 prompts; change with 95 % intervals",
        "constraints base adapted change in points; gained and lost",
        "all of a prompt's 1 of 2 0 of 2 -50.0 [-90.0, +25.0], +0 −1",
        "bullets 1 of 2 0 of 2 -50.0 [-90.0, +25.0], +0 −1",
    ]


def test_comparisons_forgetting_and_notes_close_the_report(shown):
    before, after = items([False, False, True]), items([True, True, False])
    found = compare(Evaluation("choices", "accuracy", before), Evaluation("choices", "accuracy", after), "runs/a")
    lost = {"tasks": ["gpqa", "mbpp"], "change": -0.025, "worst": "mbpp"}
    lines = shown(
        result("runs/a", before),
        result("runs/b", after),
        comparisons={"runs/b": {"choices": found}},
        forgetting={"runs/b": lost},
        notes=["runs/a: no base is known"],
    )
    assert lines[4:6] == [
        "Compared item by item, 95 % intervals",
        "model task against change of accuracy; questions gained and lost",
    ]
    assert lines[6] == f"runs/b choices runs/a {found.in_words()}"
    assert "+2 −1" in lines[6]
    assert lines[7:] == [
        "runs/b: -2.5 points on average over tasks not trained on (gpqa, mbpp; worst mbpp)",
        f"runs/b, choices: of the change {found.split_in_words()}",
        "runs/a: no base is known",
    ]


def test_answers_that_are_all_the_same_are_called_a_collapse(shown):
    same = [replace(item, id=f"{i}", parsed="A", gold="ABC"[i % 3]) for i, item in enumerate(items([False] * 12))]
    assert shown(result("runs/a", same))[-1] == (
        "runs/a, choices: Collapse: 12 of 12 readable answers are 'A'; it is the key of 33%."
    )


def test_names_are_printed_as_they_are(shown):
    assert shown(result("runs/[red]a", items([True])))[2].startswith("runs/[red]a choices")
