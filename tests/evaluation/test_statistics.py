"""Intervals and tests against values known from elsewhere, and the properties that they must have."""

import itertools
import math
import random
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd.errors import UsageError
from unisd.evaluation.statistics import (
    mcnemar,
    mean_over_items,
    paired_bootstrap,
    paired_difference,
    pass_at_k,
    ratio_bootstrap,
    wilson,
)

quick = settings(deadline=None)
counts = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
scores = st.lists(st.floats(-10, 10), min_size=1, max_size=30)
answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


# Wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # From the closed formula with z = 1.959964; 81/263 and 15/148 are the examples of Newcombe (1998), table I.
    [
        (10, 100, 0.0552, 0.1744),
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (50, 100, 0.4038, 0.5962),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_known_values(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_at_the_ends_and_of_nothing():
    assert wilson(0, 7)[0] == 0.0
    assert wilson(7, 7)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)


@given(counts, st.floats(0.5, 0.999))
@quick
def test_wilson_solves_its_equation_and_is_symmetric(pair, confidence):
    successes, n = pair
    low, high = wilson(successes, n, confidence)
    share = successes / n
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    assert 0 <= low <= share <= high <= 1
    for bound in (low, high):
        # The score interval's bounds are the p with |share - p| = z √(p(1 - p)/n).
        assert abs(share - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / n), abs=1e-7)
    assert wilson(n - successes, n, confidence) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(counts)
@quick
def test_wilson_narrows_with_items_and_widens_with_confidence(pair):
    successes, n = pair
    low, high = wilson(successes, n)
    many = wilson(successes * 10, n * 10)
    sure = wilson(successes, n, 0.99)
    assert many[1] - many[0] < high - low < sure[1] - sure[0]


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, -1), (1, 0)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(UsageError, match="0 ≤ successes ≤ n"):
        wilson(successes, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, -0.5, math.nan])
def test_a_confidence_is_a_share(confidence):
    with pytest.raises(UsageError, match="between 0 and 1"):
        wilson(1, 2, confidence)


# Paired bootstrap


def test_the_bootstrap_agrees_with_the_normal_interval_where_that_is_good():
    draw = random.Random(1)
    before = [draw.gauss(0, 1) for _ in range(800)]
    after = [value + draw.gauss(0.2, 0.5) for value in before]
    differences = [b - a for a, b in zip(before, after, strict=True)]
    half = 1.959964 * statistics.stdev(differences) / math.sqrt(800)
    found = paired_bootstrap(before, after, seed=3)
    mean = statistics.fmean(differences)
    assert found.estimate == pytest.approx(mean)
    assert found.low == pytest.approx(mean - half, abs=0.1 * half)
    assert found.high == pytest.approx(mean + half, abs=0.1 * half)
    assert found.confidence == 0.95


def test_the_bootstrap_is_exact_where_it_can_be_enumerated():
    # Two items with differences 0 and 1: the mean is 0, ½, 1 with probability ¼, ½, ¼.
    wide = paired_bootstrap([0, 0], [0, 1], seed=0, confidence=0.6)
    narrow = paired_bootstrap([0, 0], [0, 1], seed=0, confidence=0.4)
    assert (wide.low, wide.high) == (0.0, 1.0)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_pairing_takes_out_what_both_sides_share():
    draw = random.Random(2)
    before = [draw.gauss(0, 100) for _ in range(200)]
    after = [value + 1 for value in before]
    found = paired_bootstrap(before, after, seed=0)
    assert (found.low, found.high) == pytest.approx((1, 1))
    shuffled = draw.sample(after, len(after))
    loose = paired_bootstrap(before, shuffled, seed=0)
    assert loose.high - loose.low > 10


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    draw, covered = random.Random(5), 0
    for trial in range(300):
        before = [float(draw.random() < 0.5) for _ in range(60)]
        after = [float(draw.random() < 0.6) for _ in range(60)]
        found = paired_bootstrap(before, after, seed=trial, resamples=1000)
        covered += found.low <= 0.1 <= found.high
    assert 0.90 <= covered / 300 <= 0.985


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=1, max_size=20), st.integers(0, 2**63 - 1))
@settings(deadline=None, max_examples=40)
def test_the_bootstrap_is_mirrored_by_swapping_and_holds_its_estimate(pairs, seed):
    before, after = [a for a, _ in pairs], [b for _, b in pairs]
    found = paired_bootstrap(before, after, seed, resamples=500)
    swapped = paired_bootstrap(after, before, seed, resamples=500)
    assert (found.low, found.high) == (-swapped.high, -swapped.low)
    assert found == paired_bootstrap(before, after, seed, resamples=500)
    differences = [b - a for a, b in pairs]
    assert min(differences) - 1e-9 <= found.low <= found.high <= max(differences) + 1e-9


def test_nothing_changed_is_an_interval_of_zero_width():
    found = paired_bootstrap([1, 0, 1], [1, 0, 1], seed=0)
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)


def test_the_bootstrap_depends_on_its_seed_and_not_on_how_it_is_cut(monkeypatch):
    draw = random.Random(7)
    before, after = ([draw.random() for _ in range(50)] for _ in range(2))
    whole = paired_bootstrap(before, after, seed=1, resamples=2000)
    assert whole != paired_bootstrap(before, after, seed=2, resamples=2000)
    monkeypatch.setattr("unisd.evaluation.statistics._BOOTSTRAP_CHUNK", 50 * 64)
    assert paired_bootstrap(before, after, seed=1, resamples=2000) == whole


@pytest.mark.parametrize("resamples", range(1, 8))
@pytest.mark.parametrize("confidence", [0.01, 0.5, 0.95])
def test_few_resamples_give_an_interval_still(resamples, confidence):
    found = paired_bootstrap([0, 0, 0], [0, 1, 5], seed=0, resamples=resamples, confidence=confidence)
    assert found.low <= found.high
    if resamples == 1 or (confidence == 0.01 and resamples % 2):
        assert found.low == found.high


def test_the_ranks_cut_off_are_the_same_share_at_both_ends(monkeypatch):
    # One item a resample, each drawn once, in order: the resampled means are 0 … 99.
    ordered = torch.arange(100).reshape(100, 1)
    monkeypatch.setattr(torch, "randint", lambda high, size, generator: ordered[:, :1].expand(size))
    found = paired_bootstrap([0.0] * 100, list(range(100)), seed=0, resamples=100, confidence=0.9)
    assert (found.low, found.high) == (5.0, 94.0)


@pytest.mark.parametrize(
    ("before", "after", "options", "message"),
    [
        ([1.0], [1.0, 2.0], {}, "same items"),
        ([], [], {}, "no items"),
        ([1.0], [math.nan], {}, "finite"),
        ([1.0], [math.inf], {}, "finite"),
        ([1.0], [1.0], {"resamples": 0}, "resample"),
        ([1.0], [1.0], {"confidence": 1.0}, "confidence"),
        ([1.0], [1.0], {"confidence": 0.0}, "confidence"),
    ],
)
def test_the_bootstrap_refuses_what_it_cannot_do(before, after, options, message):
    with pytest.raises(UsageError, match=message):
        paired_bootstrap(before, after, seed=0, **options)


# McNemar


def differing(gained: int, lost: int, same: int = 3) -> tuple[list[bool], list[bool]]:
    before = [False] * gained + [True] * lost + [True, False] * same
    after = [True] * gained + [False] * lost + [True, False] * same
    return before, after


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (10, 2, 2 * (1 + 12 + 66) / 2**12),
        (2, 10, 2 * (1 + 12 + 66) / 2**12),
        (6, 0, 2 / 2**6),
        (1, 0, 1.0),
        (3, 3, 1.0),
        (0, 0, 1.0),
        (121, 59, 4.434e-06),  # as published with R's exact2x2
        (86, 150, 3.716e-05),  # Agresti's approval ratings
    ],
)
def test_mcnemar_known_values(gained, lost, p):
    assert mcnemar(*differing(gained, lost)) == pytest.approx(p, rel=2e-3)


@given(answers)
@quick
def test_mcnemar_sums_the_binomial_tail_and_is_symmetric(pairs):
    before, after = [a for a, _ in pairs], [b for _, b in pairs]
    gained = sum(b and not a for a, b in pairs)
    n = sum(a != b for a, b in pairs)
    # By the definition: all outcomes at most as likely as the one seen.
    weights = [math.comb(n, i) for i in range(n + 1)]
    expected = sum(weight for weight in weights if weight <= weights[gained]) / 2**n
    assert mcnemar(before, after) == pytest.approx(expected)
    assert mcnemar(after, before) == mcnemar(before, after)
    assert 0 < mcnemar(before, after) <= 1


def test_mcnemar_of_thousands_does_not_underflow():
    assert 0 < mcnemar(*differing(2100, 1900)) < 0.01
    assert mcnemar(*differing(2000, 2000)) == 1.0


def test_mcnemar_refuses_other_items():
    with pytest.raises(UsageError, match="same items"):
        mcnemar([True], [True, False])
    with pytest.raises(UsageError, match="no items"):
        mcnemar([], [])


# pass@k


@pytest.mark.parametrize(
    ("n", "c", "k", "share"), [(5, 2, 1, 0.4), (5, 2, 2, 0.7), (5, 2, 4, 1.0), (10, 0, 10, 0.0), (10, 1, 10, 1.0)]
)
def test_pass_at_k_known_values(n, c, k, share):
    assert pass_at_k(n, c, k) == pytest.approx(share)


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
@quick
def test_pass_at_k_counts_the_subsets_that_hold_a_success(triple):
    n, c, k = triple
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_of_many_samples_is_finite_and_grows_with_k():
    values = [pass_at_k(2000, 3, k) for k in range(1, 2001)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(3 / 2000)
    assert values[-1] == 1.0


@pytest.mark.parametrize(("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (5, 1, 0), (5, 1, 6), (0, 0, 1)])
def test_pass_at_k_refuses_impossible_counts(n, c, k):
    with pytest.raises(UsageError, match="pass@k"):
        pass_at_k(n, c, k)


# Newcombe's paired interval, and means and ratios over items


def counted(both, gained, lost, none):
    before = [True] * both + [False] * gained + [True] * lost + [False] * none
    return paired_difference(before, [True] * both + [True] * gained + [False] * lost + [False] * none)


def test_newcombes_own_example():
    """Newcombe (1998), table II: 36, 12, 2, 0 gives 0.2 with 0.0569 to 0.3404 by his method 10."""
    found = counted(36, 12, 2, 0)
    assert found.estimate == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.0569, abs=1e-4), pytest.approx(0.3404, abs=1e-4))


@given(st.tuples(*[st.integers(0, 12)] * 4).filter(any))
def test_the_paired_interval_holds_its_estimate_and_mirrors(counts):
    both, gained, lost, none = counts
    found, mirrored = counted(both, gained, lost, none), counted(both, lost, gained, none)
    assert -1 <= found.low <= found.estimate <= found.high <= 1
    assert found.high > found.low
    assert (mirrored.low, mirrored.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


def test_few_items_are_never_certain():
    assert counted(0, 0, 0, 6).high > 0.3
    assert counted(0, 3, 0, 0).low < 0.5
    assert mean_over_items([0.0] * 6, seed=0).high > 0.3
    assert mean_over_items([0.5, 0.25], seed=0).high == 0.5


def test_a_ratio_is_drawn_by_items():
    right, read = [10.0] * 5 + [0.0] * 5, [10.0] * 10
    found = ratio_bootstrap(right, read, seed=0)
    assert found.estimate == 0.5
    assert found.low < 0.3  # ten questions, not a hundred answers
    with pytest.raises(UsageError, match="sum to 0"):
        ratio_bootstrap([0.0], [0.0], seed=0)
