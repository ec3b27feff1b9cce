import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluation.asked import Choices, examples
from unisd.contexts import PromptBuilder
from unisd.evaluation.likelihood import calibration, choice_calibration, gold_perplexity, option_probabilities
from unisd.tasks import Example
from unisd.tasks.toolalpaca import ToolAlpaca


@pytest.fixture
def builder(tokenizer):
    return PromptBuilder(tokenizer, "paper")


def plain_logprob(model, prompt, completion):
    """The reference: one sequence, one forward pass, all logits."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + completion])).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(prompt) + i - 1, token]) for i, token in enumerate(completion))


def test_gold_perplexity_equals_plain_forward_passes(any_model, builder):
    asked = examples(3)
    total = tokens = 0
    for example in asked:
        completion = builder.completion_ids(example.demonstration, example.prompt)
        total += plain_logprob(any_model, builder.student_ids(example.prompt), completion)
        tokens += len(completion)
    found = gold_perplexity(any_model, builder, Choices(), asked)
    assert found["tokens"] == tokens
    assert found["of"] == 3
    assert math.log(found["value"]) == pytest.approx(-total / tokens, rel=1e-5)


def test_a_gold_kept_apart_counts_and_none_gives_none(model, builder):
    class Written(Choices):
        def gold(self, example):
            return example.answer

    asked = [Example("x", "Write it.", "Write it.", "written")]
    assert gold_perplexity(model, builder, Written(), asked)["of"] == 1
    assert gold_perplexity(model, builder, Choices(), asked) is None


def test_option_probabilities_equal_plain_forward_passes(any_model, builder):
    asked = examples(2)
    found = option_probabilities(any_model, builder, Choices(), asked)
    for example, row in zip(asked, found, strict=True):
        prompt, start = builder.student_ids(example.prompt), list(b"Answer: ")
        written = {letter: builder.completion_ids(f"Answer: {letter}", example.prompt) for letter in "ABC"}
        assert all(len(ids) == len(start) + 2 for ids in written.values())  # one token a byte, and the end of turn
        logs = [plain_logprob(any_model, prompt, ids[:-1]) for ids in written.values()]
        assert row == pytest.approx(torch.tensor(logs).softmax(0).tolist(), abs=1e-4)
        assert sum(row) == pytest.approx(1)


def test_calibration_by_hand():
    found = calibration([[0.9, 0.1], [0.8, 0.2], [0.35, 0.65]], [0, 1, 1])
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.confidence == pytest.approx((0.9 + 0.8 + 0.65) / 3)
    assert found.ece == pytest.approx((0.1 + 0.8 + 0.35) / 3)
    assert found.brier == pytest.approx((2 * 0.01 + 2 * 0.64 + 2 * 0.35**2) / 3)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_calibration_stays_in_its_bounds(rows):
    found = calibration([[p, 1 - p] for p, _ in rows], [key for _, key in rows])
    assert 0 <= found.ece <= 1
    assert 0 <= found.brier <= 2
    assert 0.5 <= found.confidence <= 1


def test_certain_and_right_is_perfect_certain_and_wrong_is_worst():
    assert calibration([[1.0, 0.0]] * 4, [0] * 4).ece == 0
    assert calibration([[1.0, 0.0]] * 4, [1] * 4).ece == 1


def test_only_choices_are_calibrated(model, builder):
    assert choice_calibration(model, builder, ToolAlpaca(), [Example("x", "p", "q", "a")]) is None
    assert choice_calibration(model, builder, Choices(), []) is None
    assert choice_calibration(model, builder, Choices(), examples(4)).n == 4
