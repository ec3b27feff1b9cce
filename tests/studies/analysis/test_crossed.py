"""Intervals over seeds and items cover what they say, on simulated studies whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from unisd.errors import UsageError
from unisd.studies.analysis.crossed import crossed_mean, crossed_statistic, detectable, spread_of

WIDTH = np.sqrt(1.0 + 0.25 + 0.25)


def simulated(rng, seeds, items, shift, of_seeds=0.1, groups=None):
    """Differences of two arms' answers (seeds, items), and the true difference of their shares."""
    item = rng.normal(0, 1.0, items)
    arms = []
    for mean in (0.0, shift):
        own = rng.normal(0, 0.5, items)
        if groups is not None:
            own = own + rng.normal(0, 0.5, groups.max() + 1)[groups]
        arms.append(mean + item + own + rng.normal(0, of_seeds, (seeds, 1)) + rng.normal(0, 0.5, (seeds, items)) > 0)
    width = np.sqrt(WIDTH**2 + of_seeds**2 + (0.25 if groups is not None else 0.0))
    return arms[1].astype(float) - arms[0], stats.norm.cdf(shift / width) - 0.5


@pytest.mark.parametrize(("seeds", "items", "of_seeds"), [(3, 300, 0.0), (3, 300, 0.1), (5, 100, 0.3), (3, 60, 0.1)])
def test_intervals_cover(seeds, items, of_seeds):
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(600):
        values, truth = simulated(rng, seeds, items, 0.3, of_seeds)
        found = crossed_mean(values)
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / 600 <= 0.98


def test_intervals_cover_where_items_come_in_groups_and_would_not_without_saying_so():
    rng, groups = np.random.default_rng(2), np.repeat(np.arange(20), 15)
    names = [str(group) for group in groups]
    with_groups = without = 0
    for _ in range(400):
        values, truth = simulated(rng, 3, 300, 0.3, 0.05, groups)
        covers = [found.low <= truth <= found.high for found in (crossed_mean(values, names), crossed_mean(values))]
        with_groups += covers[0]
        without += covers[1]
    assert 0.92 <= with_groups / 400 <= 0.98
    assert without / 400 < 0.8


def study(rng, shift, of_seeds=(0.1,) * 14, seeds=3, items=300):
    """Answers of 14 arms (seeds, items), of which the last is better by ``shift``, and the true difference."""
    item = rng.normal(0, 1.0, items)
    tables = []
    for arm, spread in enumerate(of_seeds):
        own = item + rng.normal(0, 0.5, items) + (shift if arm == len(of_seeds) - 1 else 0.0)
        noise = rng.normal(0, spread, (seeds, 1)) + rng.normal(0, 0.5, (seeds, items))
        tables.append((own + noise > 0).astype(float))
    widths = [np.sqrt(WIDTH**2 + spread**2) for spread in (of_seeds[0], of_seeds[-1])]
    return tables, stats.norm.cdf(shift / widths[1]) - 0.5


def test_the_stated_effect_is_found_in_eight_of_ten_studies():
    """Each simulated study states what it could have seen; at the median of that, 77 to 83 % find something."""
    rng = np.random.default_rng(3)

    def found(shift):
        tables, _ = study(rng, shift)
        return crossed_mean(tables[-1] - tables[0], spread=spread_of(tables))

    stated = float(np.median([found(0.15).detectable for _ in range(100)]))
    shift = float(stats.norm.ppf(0.5 + stated)) * np.sqrt(WIDTH**2 + 0.01)
    assert 0.77 <= np.mean([found(shift).p < 0.05 for _ in range(1500)]) <= 0.83


@pytest.mark.parametrize(("seeds", "of_seeds"), [(2, 0.1), (3, 0.0), (3, 0.1), (3, 0.3)])
def test_intervals_cover_with_few_seeds_and_many_arms(seeds, of_seeds):
    rng, covered = np.random.default_rng(6), 0
    for _ in range(500):
        tables, truth = study(rng, 0.3, (of_seeds,) * 14, seeds)
        found = crossed_mean(tables[-1] - tables[0], spread=spread_of(tables))
        covered += found.low <= truth <= found.high
    assert 0.925 <= covered / 500 <= 0.975


def test_an_arm_that_is_twice_as_wild_as_the_others_costs_some_coverage():
    """The price of taking one spread for all arms: intervals of this arm cover less, by not more than ten points."""
    rng, covered = np.random.default_rng(7), 0
    for _ in range(400):
        tables, truth = study(rng, 0.3, (0.1,) * 13 + (0.2,))
        found = crossed_mean(tables[-1] - tables[0], spread=spread_of(tables))
        covered += found.low <= truth <= found.high
    assert covered / 400 >= 0.85


def test_two_components_of_variance_are_told_apart():
    """Against plain formulas: without noise of its own, the variance is that between seeds plus that between items."""
    rows, columns = np.array([0.1, 0.3, 0.8]), np.linspace(-1, 1, 50)
    found = crossed_mean(rows[:, None] + columns[None])
    assert found.estimate == pytest.approx(rows.mean())
    assert found.standard_error**2 == pytest.approx(rows.var(ddof=1) / 3 + columns.var(ddof=1) / 50)


def test_one_seed_is_a_t_interval_over_items():
    values = np.random.default_rng(4).normal(0.2, 1, 40)
    found, test = crossed_mean(values[None]), stats.ttest_1samp(values, 0.0)
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found.p == pytest.approx(test.pvalue)
    assert found.seeds == 1


def test_the_bootstrap_agrees_with_the_closed_form_on_a_mean():
    values, _ = simulated(np.random.default_rng(5), 3, 200, 0.3, 0.1)

    def mean(seeds, items):
        return np.einsum("ds,di,si->d", seeds, items, values, optimize=True) / (seeds.sum(1) * items.sum(1))

    drawn, closed = crossed_statistic(mean, 3, 200, resamples=2000), crossed_mean(values)
    assert drawn.estimate == pytest.approx(closed.estimate)
    assert drawn.standard_error == pytest.approx(closed.standard_error, rel=0.15)


def test_items_that_never_differ_leave_doubt():
    found = crossed_mean(np.zeros((3, 100)))
    assert found.estimate == 0
    assert found.low < 0 < found.high
    assert found.p > 0.9


def test_detectable_is_the_power_of_the_t_test():
    assert detectable(1.0, 1e6) == pytest.approx(1.959964 + 0.841621, rel=1e-3)
    assert detectable(1.0, 2.0) > 5


@pytest.mark.parametrize("values", [np.zeros((0, 3)), np.array([[np.nan, 1.0]])])
def test_values_that_are_none(values):
    with pytest.raises(UsageError, match="finite"):
        crossed_mean(values)
