"""Signs of collapse, from metrics that are made up; and repetition, against counting by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisd.training.collapse import SIGNS, STEPS, CollapseWatch, repeated


def told(metric, values):
    watch = CollapseWatch()
    return [line for value in values for line in watch.look({metric: value})]


@pytest.mark.parametrize(
    ("metric", "first", "latest", "part"),
    [
        ("student/entropy", 1.5, 0.01, "entropy fell from 1.5 to 0.01"),
        ("completions/mean_length", 48.0, 5.0, "shrank from 48 to 5 tokens"),
        ("completions/unfinished", 0.1, 1.0, "rose from 10% to 100%"),
        ("completions/repetition", 0.05, 0.8, "80% of what they say they said before, 5% at the start"),
        ("divergence/mean", 0.5, 4.0, "0.5 nats a token at the start, 4 now"),
    ],
)
def test_each_sign_is_told_once_and_only_when_it_lasts(metric, first, latest, part):
    lines = told(metric, [first] * STEPS + [latest] * 12)
    assert len(lines) == 1
    assert part in lines[0]
    assert told(metric, [first] * STEPS + [latest] * (STEPS - 1)) == []
    assert told(metric, [first] * 3 * STEPS) == []
    assert told(metric, [latest] * 3 * STEPS) == []  # it was so from the start
    assert told(metric, [first] * STEPS + [latest, *[first] * 12]) == []


def test_a_resumed_run_says_what_a_whole_one_says():
    rows = [{"student/entropy": value} for value in [1.0] * STEPS + [0.01] * 9]
    whole = CollapseWatch()
    lines = [whole.look(row) for row in rows]
    for cut in range(len(rows)):
        again = CollapseWatch(rows[:cut])
        assert [again.look(row) for row in rows[cut:]] == lines[cut:]


def test_every_metric_is_one_that_runs_have():
    assert len({sign.metric for sign in SIGNS}) == len(SIGNS)
    assert told("loss", [1.0, 9.0] * 20) == []


@given(st.lists(st.lists(st.integers(0, 2), max_size=20), max_size=4))
def test_repetition_against_counting(texts):
    again = count = 0
    for text in texts:
        seen = []
        for start in range(len(text) - 3):
            gram = text[start : start + 4]
            again, count = again + (gram in seen), count + 1
            seen.append(gram)
    assert repeated(texts) == (again, count)
