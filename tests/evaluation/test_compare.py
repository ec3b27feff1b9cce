import dataclasses
import random

import pytest

from evaluation.asked import Choices, Scripted, examples, letter
from unisd.contexts import PromptBuilder
from unisd.errors import UsageError
from unisd.evaluation.answers import Evaluation, Item
from unisd.evaluation.compare import _split, compare, forgetting
from unisd.evaluation.evaluate import evaluate
from unisd.evaluation.statistics import mcnemar, paired_bootstrap, paired_difference


def answers(tokenizer, write, count=12, **more):
    return evaluate(
        Choices(), examples(count), Scripted(write), PromptBuilder(tokenizer, "paper"), progress=None, **more
    )


def test_items_are_paired_whatever_their_order(tokenizer):
    before = answers(tokenizer, lambda request: "Answer: A")
    after = answers(tokenizer, letter)
    shuffled = dataclasses.replace(after, items=after.items[::-1])
    found = compare(before, after)
    a, b = [i.correct for i in before.items], [i.correct for i in after.items]
    assert found.difference == paired_difference(a, b)
    assert found.bootstrap == paired_bootstrap([float(x) for x in a], [float(x) for x in b], seed=0)
    assert found.mcnemar_p == mcnemar(a, b)
    assert (found.gained, found.lost) == (sum(y > x for x, y in zip(a, b, strict=True)), 1)
    assert compare(before, shuffled) == found
    assert found.in_words().startswith("+41.7 points [")


def test_format_and_content_add_up_to_the_change(tokenizer):
    """One letter for everything is format alone; the right letters are content, too."""
    nothing = answers(tokenizer, lambda request: "no idea")
    constant = compare(nothing, answers(tokenizer, lambda request: "Answer: A"))
    knows = compare(nothing, answers(tokenizer, letter))
    for found in (constant, knows):
        assert found.constant_share == pytest.approx(1 / 3)
        assert found.format.estimate + found.content.estimate == pytest.approx(found.difference.estimate)
        assert found.format.low <= found.format.estimate <= found.format.high
        assert found.content.low <= found.content.estimate <= found.content.high
    assert constant.readable == (0, 1)
    assert constant.content.estimate == pytest.approx(0)
    assert constant.collapse == (False, True)
    assert constant.verdict()[-1] == "Collapse: 12 of 12 readable answers are 'A'; it is the key of 33%."
    assert "could not give" in constant.verdict()[2]
    assert knows.format.estimate == pytest.approx(0.75 / 3)
    assert knows.content.estimate == pytest.approx(0.75 - 0.75 / 3)
    assert knows.content.low > 0
    assert "more than the form was learned" in knows.verdict()[2]
    assert knows.split_in_words().startswith("format +25.0 points [")
    worse = compare(answers(tokenizer, letter), answers(tokenizer, lambda r: f"Answer: {'BCA'[int(r.key[1]) % 3]}"))
    assert worse.content.high < 0
    assert "fewer are right" in worse.verdict()[2]


def test_content_is_not_sure_where_hardly_anything_happened(tokenizer):
    """Two answers became readable and none right: that tells little, whatever a bootstrap of two items says."""
    before = answers(tokenizer, lambda request: "no idea")
    after = answers(tokenizer, lambda r: "Answer: C" if int(r.key[1]) in (0, 1) else "no idea")
    found = compare(before, after)
    assert (found.difference.estimate, found.readable) == (0, (0, 2 / 12))
    assert found.content.low < -0.15
    assert found.content.high > 0.1


def test_intervals_of_content_cover_the_truth():
    """Of drawn models with a known content, 95 % intervals hold it in 90 to 99 % of the draws."""
    draw, held, draws, n = random.Random(3), 0, 300, 80
    truth = (0.9 * 0.55 - 0.9 / 3) - (0.4 * 0.4 - 0.4 / 3)

    def sampled(read: float, right: float) -> Evaluation:
        found = []
        for i in range(n):
            readable = draw.random() < read
            correct = readable and draw.random() < right
            parsed = "ABC"[i % 3] if correct else "wrong" if readable else None
            found.append(Item(f"{i}", 0, "", "ABC"[i % 3], "", parsed, correct, True, []))
        return Evaluation("t", "accuracy", found)

    for _ in range(draws):
        before, after = sampled(0.4, 0.4), sampled(0.9, 0.55)
        part = _split(before, after)[1]
        held += part.low <= truth <= part.high
    assert 0.90 <= held / draws <= 0.99


def test_several_samples_are_compared_by_their_shares(tokenizer):
    more = {"samples": 2, "temperature": 1.0}
    before = answers(tokenizer, lambda r: "Answer: A" if r.key[2] else "Answer: B", **more)
    after = answers(tokenizer, letter, **more)
    found = compare(before, after)
    assert found.mcnemar_p is None
    assert found.difference.estimate == pytest.approx(9 / 12 - (4 * 0.5 + 4 * 0.5) / 12)
    assert "McNemar" not in found.in_words()
    assert found.format.estimate + found.content.estimate == pytest.approx(found.difference.estimate)


def test_other_questions_cannot_be_compared(tokenizer):
    with pytest.raises(UsageError, match="the same questions"):
        compare(answers(tokenizer, letter, 8), answers(tokenizer, letter, 9))


def test_forgetting_is_the_mean_change_on_other_tasks(tokenizer):
    good, bad = answers(tokenizer, letter), answers(tokenizer, lambda request: "no idea")
    gained, lost, same = compare(bad, good), compare(good, bad), compare(good, good)
    found = forgetting({"mine": gained, "a": lost, "b": same}, ["mine"])
    assert found == {"tasks": ["a", "b"], "change": pytest.approx(-0.375), "worst": "a"}
    assert forgetting({"mine": gained}, ["mine"]) is None
