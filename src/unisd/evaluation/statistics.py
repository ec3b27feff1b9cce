"""How sure a number is: intervals and tests for scores of a few hundred items."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unisd.errors import UsageError

_BOOTSTRAP_CHUNK = 1 << 22
"""Draws held at once (32 MiB of indices): the resamples of a large benchmark do not fit in memory together."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval, in the unit of the values it was made from."""

    estimate: float
    low: float
    high: float
    confidence: float
    """The share of such intervals that cover the true value, 0.95 for example."""


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion, as two shares in [0, 1].

    Unlike the textbook interval it stays inside [0, 1] and keeps its coverage for few items and for scores near 0 or 1
    (E. B. Wilson, 1927). ``n = 0`` says nothing, hence (0, 1).

    Raises:
        UsageError: counts that are not 0 ≤ successes ≤ n, or a confidence outside (0, 1).
    """
    _check_confidence(confidence)
    if not 0 <= successes <= n:
        raise UsageError(f"wilson: 0 ≤ successes ≤ n was expected, not successes = {successes}, n = {n}")
    if n == 0:
        return 0.0, 1.0
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share, shrink = successes / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the bound is 0 or 1 exactly; rounding must not say otherwise.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def paired_bootstrap(
    before: Sequence[float], after: Sequence[float], seed: int, resamples: int = 10_000, confidence: float = 0.95
) -> Interval:
    """Return the percentile bootstrap interval of the mean of ``after - before`` over the same items.

    Items are drawn with replacement, each with both of its scores, so that what makes an item easy or hard for both
    cancels. The unit is that of the scores; the result depends on nothing but the arguments. Swapping the two sides
    mirrors the interval exactly.

    Raises:
        UsageError: different lengths, no items, values that are not finite, no resamples, or a confidence outside
            (0, 1).
    """
    _check_confidence(confidence)
    _check_pairs("paired_bootstrap", before, after)
    if resamples < 1:
        raise UsageError(f"paired_bootstrap: at least one resample is needed, not {resamples}")
    differences = [float(b) - float(a) for a, b in zip(before, after, strict=True)]
    _check_values("paired_bootstrap", differences)
    n = len(differences)
    values = torch.tensor(differences, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    means = []
    rows = max(1, _BOOTSTRAP_CHUNK // n)
    for start in range(0, resamples, rows):
        drawn = torch.randint(n, (min(rows, resamples - start), n), generator=generator)
        means.append(values[drawn].mean(dim=1))
    ordered = torch.cat(means).sort().values
    # The same rank from either end, so that the interval has no preferred side. Rounded first: 0.05 · 100 is 4.999….
    tail = min(int(round((1 - confidence) / 2 * resamples, 6)), (resamples - 1) // 2)
    return Interval(
        estimate=math.fsum(differences) / n,
        low=float(ordered[tail]),
        high=float(ordered[resamples - 1 - tail]),
        confidence=confidence,
    )


def paired_difference(before: Sequence[bool], after: Sequence[bool], confidence: float = 0.95) -> Interval:
    """Return the change of a share over the same items, with Newcombe's score interval for paired proportions.

    Built from Wilson's intervals of both shares and their correlation (R. G. Newcombe, 1998, method 10), it stays
    inside [-1, 1] and does not shrink to a point where few items, or none, differ.

    Raises:
        UsageError: different lengths, no items, or a confidence outside (0, 1).
    """
    _check_confidence(confidence)
    _check_pairs("paired_difference", before, after)
    pairs = [(bool(x), bool(y)) for x, y in zip(before, after, strict=True)]
    n = len(pairs)
    both, gained, lost, none = (pairs.count(p) for p in ((True, True), (False, True), (True, False), (False, False)))
    p_before, p_after = (both + lost) / n, (both + gained) / n
    (low_b, high_b), (low_a, high_a) = wilson(both + lost, n, confidence), wilson(both + gained, n, confidence)
    product = (both + lost) * (gained + none) * (both + gained) * (lost + none)
    agreement = float(both * none - gained * lost)
    agreement = max(agreement - n / 2, 0.0) if agreement > 0 else agreement
    phi = agreement / math.sqrt(product) if product else 0.0

    def reach(mine: float, other: float) -> float:
        return math.sqrt(max(mine**2 - 2 * phi * mine * other + other**2, 0.0))

    change = (gained - lost) / n
    low = change - reach(p_after - low_a, high_b - p_before)
    high = change + reach(high_a - p_after, p_before - low_b)
    return Interval(change, max(low, -1.0), min(high, 1.0), confidence)


def ratio_bootstrap(
    parts: Sequence[float], wholes: Sequence[float], seed: int, resamples: int = 10_000, confidence: float = 0.95
) -> Interval:
    """Return the sum of ``parts`` by the sum of ``wholes``, with a bootstrap interval over items.

    Raises:
        UsageError: different lengths, no items, wholes that sum to 0, or a confidence outside (0, 1).
    """
    _check_confidence(confidence)
    _check_pairs("ratio_bootstrap", parts, wholes)
    top, bottom = (torch.tensor([float(v) for v in values], dtype=torch.float64) for values in (parts, wholes))
    if float(bottom.sum()) == 0:
        raise UsageError("ratio_bootstrap: the wholes sum to 0")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(top), (resamples, len(top)), generator=generator)
    sums = bottom[drawn].sum(1)
    ratios = (top[drawn].sum(1)[sums > 0] / sums[sums > 0]).sort().values
    tail = min(int((1 - confidence) / 2 * len(ratios)), (len(ratios) - 1) // 2)
    estimate = float(top.sum() / bottom.sum())
    return Interval(estimate, float(ratios[tail]), float(ratios[len(ratios) - 1 - tail]), confidence)


def mean_over_items(values: Sequence[float], seed: int) -> Interval:
    """Return the mean of shares in [0, 1] with a 95 % interval: Wilson's where all are 0 or 1, else the bootstrap's.

    Raises:
        UsageError: no values, or values that are not finite.
    """
    _check_values("mean_over_items", values)
    if all(value in (0.0, 1.0) for value in values):
        low, high = wilson(int(sum(values)), len(values))
        return Interval(math.fsum(values) / len(values), low, high, 0.95)
    return paired_bootstrap([0.0] * len(values), values, seed)


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Return the exact two-sided p-value of McNemar's test: did as many items turn right as turned wrong?

    Only the items on which the two sides differ count; under the null hypothesis each of them is a fair coin. 1.0 where
    none differs.

    Raises:
        UsageError: different lengths, or no items.
    """
    _check_pairs("mcnemar", before, after)
    gained = sum(1 for a, b in zip(before, after, strict=True) if b and not a)
    lost = sum(1 for a, b in zip(before, after, strict=True) if a and not b)
    n = gained + lost
    term, tail = 1, 0
    for i in range(min(gained, lost) + 1):
        tail += term
        term = term * (n - i) // (i + 1)
    # Whole numbers until the last division: exact for thousands of items, where 2⁻ⁿ underflows.
    return min(1.0, 2 * tail / (1 << n))


def pass_at_k(n: int, c: int, k: int) -> float:
    """Return the unbiased estimate of the chance that at least one of k samples passes, given c of n passed.

    It equals 1 - C(n - c, k) / C(n, k) (Chen et al., 2021, arXiv 2107.03374).

    Raises:
        UsageError: not 0 ≤ c ≤ n, or not 1 ≤ k ≤ n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise UsageError(f"pass@k needs 0 ≤ c ≤ n and 1 ≤ k ≤ n, not n = {n}, c = {c}, k = {k}")
    if n - c < k:
        return 1.0
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence between 0 and 1 was expected (0.95, for example), not {confidence}")


def _check_pairs(who: str, before: Sequence[object], after: Sequence[object]) -> None:
    if len(before) != len(after):
        raise UsageError(
            f"{who}: the two sides must be the same items in the same order, not {len(before)} and {len(after)} values"
        )
    if len(before) == 0:
        raise UsageError(f"{who}: no items to compare")


def _check_values(who: str, values: Sequence[float]) -> None:
    if len(values) == 0:
        raise UsageError(f"{who}: at least one value is needed")
    if not all(math.isfinite(value) for value in values):
        raise UsageError(f"{who}: every value must be finite; remove or repair NaN and infinite scores")
