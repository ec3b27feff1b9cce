"""How sure a difference is that was measured on several seeds and many items, both of which could have been others.

Seeds and items are crossed: every seed's model answers the same items. The variance of a mean over both is put
together from that between seeds, between items and the rest (two-way analysis of variance with random effects, Searle
et al., Variance Components, 1992), and its t distribution gets the degrees of freedom of Satterthwaite (1946). Two or
three seeds say little of how far seeds lie apart, and percentiles of a bootstrap over them would cover far less than
they say; so the spread between seeds is taken to be that of all arms of a study on a task together (`Spread`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unisd.errors import UsageError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Effect:
    """A difference with its uncertainty, in the unit of the values."""

    estimate: float
    low: float
    """95 % interval."""
    high: float
    p: float
    """Two-sided, that it is 0."""
    standard_error: float
    freedom: float
    """Degrees of freedom of the t distribution."""
    seeds: int
    """1: the interval says nothing of other seeds."""
    items: int

    @property
    def detectable(self) -> float:
        """The true difference that 80 of 100 studies like this one would find (p < 0.05)."""
        return detectable(self.standard_error, self.freedom)

    def __str__(self) -> str:
        return f"{100 * self.estimate:+.1f} points [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


@dataclass(frozen=True)
class Spread:
    """How far the runs of one arm lie apart, over all arms of a study on a task."""

    rows: float
    """Variance of a run's mean around its arm's."""
    rest: float
    """What of it is the noise of single answers."""
    freedom: float
    """Degrees of freedom: seeds less one, over all arms."""


def spread_of(tables: Sequence[Array]) -> Spread | None:
    """Return the spread between seeds of arms' answers, each (seeds, items); None where no arm has two seeds."""
    rows = rest = freedom = 0.0
    for table in tables:
        seeds, items = table.shape
        if seeds > 1 and items > 1:
            left = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
            rows += (seeds - 1) * float(table.mean(1).var(ddof=1))
            rest += float((left**2).sum()) / (items - 1) / items
            freedom += seeds - 1
    return Spread(rows / freedom, rest / freedom, freedom) if freedom else None


def crossed_mean(
    values: Array,
    groups: Sequence[str] | None = None,
    spread: Spread | None = None,
    arms: float = 2.0,
    confidence: float = 0.95,
) -> Effect:
    """Return the mean of differences over seeds and items.

    Args:
        values: (seeds, items), a difference for each item under each seed, of the same items in the same order.
        groups: what each item belongs to, where items come in groups that were drawn together; None or all equal: they
            do not.
        spread: of seeds, from all arms; None: from these values alone.
        arms: the sum of the squared weights of the trained arms in the difference, for ``spread``.
        confidence: of the interval.

    Raises:
        UsageError: no values, or values that are not finite.
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    seeds, items = values.shape
    if not values.size or not np.isfinite(values).all():
        raise UsageError("an effect needs at least one finite value for every seed and item")
    estimate = float(values.mean())
    table = _by_group(values - estimate, groups)
    variance, freedom = _variance(table) if spread is None else _with_spread(table, spread, arms)
    # As if one item differed: where none does, more items could have shown one that does.
    variance = max(variance, (1.0 / items) ** 2 if np.abs(values).max() <= 1 else 0.0)
    return _effect(estimate, variance, freedom, seeds, items, confidence)


def crossed_statistic(
    statistic: Callable[[Array, Array], Array],
    seeds: int,
    items: int,
    seed: int = 0,
    resamples: int = 400,
    confidence: float = 0.95,
) -> Effect:
    """Return any statistic of seeds and items with its uncertainty, by bootstrap over both.

    Resampling seeds alone, items alone and both together gives three variances, each with its share of what belongs to
    neither; twice the first two less the third holds it once (Owen, The pigeonhole bootstrap, 2007). Weights of seeds
    are stretched so that few of them do not make the variance small.

    Args:
        statistic: called with weights of seeds, (draws, seeds), and of items, (draws, items), each row with mean 1;
            returns (draws,), NaN where a row leaves nothing to compute.
        seeds: their number.
        items: their number.
        seed: of the resampling.
        resamples: of each kind.
        confidence: of the interval.

    Raises:
        UsageError: the statistic cannot be computed even with all weights 1.
    """
    estimate = float(statistic(np.ones((1, seeds)), np.ones((1, items)))[0])
    if not np.isfinite(estimate):
        raise UsageError("the statistic cannot be computed from these results")
    generator = np.random.default_rng(seed)

    def drawn(number: int) -> Array:
        counts = generator.multinomial(number, np.full(number, 1 / number), resamples).astype(np.float64)
        return 1 + (counts - 1) * np.sqrt(number / (number - 1)) if number > 1 else counts

    def spread(over_seeds: bool, over_items: bool) -> float:
        of_seeds = drawn(seeds) if over_seeds else np.ones((resamples, seeds))
        found = statistic(of_seeds, drawn(items) if over_items else np.ones((resamples, items)))
        found = found[np.isfinite(found)]
        return float(found.var(ddof=1)) if len(found) > 1 else 0.0

    of_items = spread(False, True)
    if seeds == 1:
        return _effect(estimate, of_items, items - 1, seeds, items, confidence)
    of_seeds, both = spread(True, False), spread(True, True)
    rest = max(both - of_seeds - of_items, 0.0)
    variance = max(of_seeds + of_items - rest, of_seeds, of_items)
    parts = of_seeds**2 / (seeds - 1) + of_items**2 / max(items - 1, 1)
    freedom = variance**2 / parts if parts > 0 else float(items - 1)
    return _effect(estimate, variance, freedom, seeds, items, confidence)


def detectable(standard_error: float, freedom: float, level: float = 0.05, power: float = 0.8) -> float:
    """Return the true difference that a two-sided t test finds with a certain power.

    Args:
        standard_error: of the estimate.
        freedom: degrees of freedom.
        level: p-values below it count as found.
        power: the chance to find it.
    """
    from scipy import optimize, stats

    if standard_error <= 0:
        return 0.0
    limit = stats.t.ppf(1 - level / 2, freedom)

    def found(shift: float) -> float:
        # Far from 0, the distribution function of large shifts loses digits; the other side counts nothing there.
        other = stats.nct.cdf(-limit, freedom, shift) if shift < 5 else 0.0
        return float(stats.nct.sf(limit, freedom, shift) + other - power)

    return float(optimize.brentq(found, 0.0, 10 * limit + 10) * standard_error)


def _effect(estimate: float, variance: float, freedom: float, seeds: int, items: int, confidence: float) -> Effect:
    from scipy import stats

    freedom = max(float(freedom), 1.0)
    error = float(np.sqrt(variance))
    reach = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    p = 1.0 if error == 0 else float(2 * stats.t.sf(abs(estimate) / error, freedom))
    return Effect(estimate, estimate - reach, estimate + reach, p, error, freedom, seeds, items)


def _by_group(centred: Array, groups: Sequence[str] | None) -> Array:
    """Return sums over the items of each group, scaled so that their mean stays that of the items."""
    names = [] if groups is None else list(groups)
    if len(set(names)) < 2 or len(set(names)) == centred.shape[1]:
        return centred
    order = {name: number for number, name in enumerate(dict.fromkeys(names))}
    belongs = np.zeros((len(names), len(order)))
    belongs[np.arange(len(names)), np.array([order[name] for name in names])] = 1.0
    return np.asarray(centred @ belongs * (len(order) / centred.shape[1]))


def _with_spread(table: Array, spread: Spread, arms: float) -> tuple[float, float]:
    """Return variance and degrees of freedom where the spread between seeds is known better than from this table."""
    seeds, items = table.shape
    of_items = float(table.mean(0).var(ddof=1)) / items if items > 1 else 0.0
    rows, rest = arms * spread.rows / seeds, arms * spread.rest / seeds
    variance = of_items + max(rows - rest, 0.0)
    parts = of_items**2 / max(items - 1, 1)
    if rows > rest:
        parts += (rows**2 + rest**2 / max(items - 1, 1)) / spread.freedom
    return variance, variance**2 / parts if parts > 0 else max(items - 1.0, 1.0)


def _variance(table: Array) -> tuple[float, float]:
    """Return the variance of the mean of a table (seeds, items) and its degrees of freedom."""
    seeds, items = table.shape
    if items == 1:
        return (0.0, 1.0) if seeds == 1 else (float(table.var(ddof=1)) / seeds, seeds - 1.0)
    mean, rows, columns = table.mean(), table.mean(1), table.mean(0)
    of_items = float(((columns - mean) ** 2).sum()) / (items - 1) / items
    if seeds == 1:
        return of_items, items - 1.0
    of_seeds = float(((rows - mean) ** 2).sum()) / (seeds - 1) / seeds
    rest = table - rows[:, None] - columns[None] + mean
    of_rest = float((rest**2).sum()) / ((seeds - 1) * (items - 1)) / (seeds * items)
    variance = max(of_seeds + of_items - of_rest, of_seeds, of_items)
    parts = (of_seeds**2 + of_rest**2 / (items - 1)) / (seeds - 1) + of_items**2 / (items - 1)
    return variance, variance**2 / parts if parts > 0 else items - 1.0
