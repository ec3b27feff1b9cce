"""A study's claims: which arm differs from which, what a component gives, how two of them work together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from unisd.studies.analysis.crossed import Effect, crossed_mean
from unisd.studies.jobs import BASE
from unisd.studies.results import Place, Results

LEVEL = 0.05


@dataclass(frozen=True)
class Claim:
    """A contrast of arms, with what the results say of it."""

    kind: str
    """against ARM, adding, removing, or together (the interaction of two components)."""
    name: str
    task: str
    model: str
    parts: tuple[str, ...]
    """The components that it is about; none where it compares whole arms."""
    weights: tuple[tuple[str, float], ...]
    """Arms with their signs."""
    effect: Effect
    """On the share of right answers."""
    format: Effect
    """The part of it that comes from more readable answers, at what the best constant answer gets right of them."""
    content: Effect
    """The rest."""
    adjusted_p: float = 1.0
    """Holm's, over all claims of the study."""

    @property
    def verdict(self) -> str:
        """What may be said."""
        if self.adjusted_p < LEVEL:
            return "higher" if self.effect.estimate > 0 else "lower"
        return "not distinguishable"

    def in_words(self) -> str:
        """Return the claim in a sentence; one that is not distinguishable says what could have been seen."""
        effect = self.effect
        line = f"{self.name}: {effect}, {self.verdict}"
        if self.verdict == "not distinguishable":
            seen = f"{100 * effect.detectable:.1f} points would have been seen in 80 of 100 studies"
            line += f" (a true difference of {seen})"
        return line + ("; one seed: nothing is said of others" if effect.seeds == 1 else "")


def claims(results: Results) -> list[Claim]:
    """Return every claim of a study, p-values adjusted over all of them (Holm, 1979): at most 5 % of studies in which
    nothing differs say that something does."""
    from statsmodels.stats.multitest import multipletests

    found = [claim for place in results.places for claim in _of_place(place, results)]
    if not found:
        return []
    adjusted = multipletests([claim.effect.p for claim in found], method="holm")[1]
    return [replace(claim, adjusted_p=float(p)) for claim, p in zip(found, adjusted, strict=True)]


def contrast(place: Place, weights: Mapping[str, float], what: str = "correct") -> Effect | None:
    """Return a weighted sum of arms over the seeds that all of them have; None where there is no such seed."""
    shared: set[int] | None = None
    for arm in weights:
        if arm != BASE:
            shared = set(place.seeds(arm)) if shared is None else shared & set(place.seeds(arm))
    if not shared or (BASE in weights and place.base is None):
        return None
    seeds = sorted(shared)
    total = sum(weight * place.table(arm, seeds, what) for arm, weight in weights.items())
    trained = sum(weight**2 for arm, weight in weights.items() if arm != BASE)
    return crossed_mean(np.asarray(total), place.items["groups"], place.spread(what), trained)


def _of_place(place: Place, results: Results) -> Iterator[Claim]:
    seen: set[tuple[tuple[str, float], ...]] = set()
    for kind, name, parts, weights in _contrasts(place, results):
        key = tuple(sorted(weights.items()))
        if key in seen:
            continue
        seen.add(key)
        effects = [contrast(place, weights, what) for what in ("correct", "readable", "content")]
        if effects[0] is None or effects[1] is None or effects[2] is None:
            continue
        form = _scaled(effects[1], place.constant)
        signs = tuple(weights.items())
        yield Claim(kind, name, place.task, place.model, parts, signs, effects[0], form, effects[2])


def _contrasts(place: Place, results: Results) -> Iterator[tuple[str, str, tuple[str, ...], dict[str, float]]]:
    by_parts = {runs[0].components: arm for arm, runs in place.arms.items() if runs[0].components is not None}
    parts = sorted(set().union(*by_parts)) if by_parts else []
    everything = frozenset(parts)
    for part in parts:
        for rest in (frozenset[str](), everything - {part}):
            if rest in by_parts and rest | {part} in by_parts:
                kind = "removing" if rest else "adding"
                high, low = by_parts[rest | {part}], by_parts[rest]
                sign = 1.0 if kind == "adding" else -1.0
                what = f"{kind} {part} {'to' if kind == 'adding' else 'from'} {low if kind == 'adding' else high}"
                yield kind, what, (part,), {high: sign, low: -sign}
    for first in parts:
        for second in parts[parts.index(first) + 1 :]:
            four = [frozenset({first, second}), frozenset({first}), frozenset({second}), frozenset[str]()]
            if all(each in by_parts for each in four):
                both, one, other, none = (by_parts[each] for each in four)
                weights = {both: 1.0, one: -1.0, other: -1.0, none: 1.0}
                yield "together", f"{first} and {second} together", (first, second), weights
    for reference in results.about.get("reference") or []:
        for arm in place.arms:
            if arm != reference and (reference in place.arms or reference == BASE):
                yield f"against {reference}", f"{arm} against {reference}", (), {arm: 1.0, reference: -1.0}


def _scaled(effect: Effect, factor: float) -> Effect:
    return replace(
        effect,
        **{name: factor * getattr(effect, name) for name in ("estimate", "low", "high", "standard_error")},
    )
