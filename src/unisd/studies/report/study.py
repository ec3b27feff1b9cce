"""The page of a study: the frontier of gain and drift, effects with intervals, interactions, and what it cost."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from unisd.studies.analysis import need_statistics
from unisd.studies.analysis.claims import paper_claims
from unisd.studies.analysis.crossed import Effect
from unisd.studies.analysis.effects import Claim, claims, contrast
from unisd.studies.analysis.frontier import AtEqual, drift_at_equal_gain, gain_at_equal_drift, path
from unisd.studies.jobs import BASE
from unisd.studies.report.blocks import Block, Cell, Figure, Page, Row, Section, Table, Text, number
from unisd.studies.report.charts import Heat, Scatter, Whiskers
from unisd.studies.report.study_runs import DRAWN, acting, curves
from unisd.studies.results import Place, Results, Run

_KINDS = {
    "adding": "What a component gives, added to the control",
    "removing": "What is lost when it is taken from the whole",
    "together": "How two components work together, beyond the sum of both",
}


def study_page(results: Results) -> Page:
    """Return the page of a study."""
    need_statistics()
    found = claims(results)
    sections = []
    for number_, place in enumerate(results.places):
        own = [claim for claim in found if (claim.task, claim.model) == (place.task, place.model)]
        sections += list(_of_place(place, own, results, f"p{number_}" if number_ else "p"))
    if said := paper_claims(found, results):
        rows = [[c.text, c.where, c.verdict, c.evidence] for c in said]
        columns = ["the paper's claim", "task and model", "this study", "figures"]
        sections.append(Section("claims", "The paper's claims", [Table("claims", "", columns, rows)]))
    runs = sum(len(runs) for place in results.places for runs in place.arms.values())
    arms = {arm for place in results.places for arm in place.arms}
    about = f"{len(arms)} arms, {runs} runs, {len(results.places)} of task and model"
    notes = [Text(["Not in this report:", *results.notes], "warning")] if results.notes else []
    sections.append(_settings(results))
    return Page(
        f"Study: {results.name}", about, list(_figures(results, found)), [*notes, *_verdict(results, found)], sections
    )


def _where(results: Results, claim: Claim) -> str:
    return f" ({claim.task}, {claim.model})" if len(results.places) > 1 else ""


def _figures(results: Results, found: Sequence[Claim]) -> Iterator[Figure]:
    main = results.places[0]
    if main.base is not None:
        yield Figure(f"Correct before training, {main.task}", f"{main.base.last.correct.mean():.1%}", main.model)
    against = [claim for claim in found if claim.kind == f"against {BASE}" and claim.task == main.task]
    for claim in sorted(against, key=lambda claim: -claim.effect.estimate)[:4]:
        effect = claim.effect
        arm = claim.weights[0][0]
        note = f"95 %: {100 * effect.low:+.1f} to {100 * effect.high:+.1f}; {_seeds(effect)}"
        yield Figure(
            f"{arm}, points gained", f"{100 * effect.estimate:+.1f}", note, "good" if effect.low > 0 else "plain"
        )


def _seeds(effect: Effect) -> str:
    return "1 seed" if effect.seeds == 1 else f"{effect.seeds} seeds"


def _verdict(results: Results, found: Sequence[Claim]) -> Iterator[Text]:
    """Yield what may be said, components first; what is not distinguishable last, with what could have been seen."""
    own = [claim for claim in found if claim.kind in _KINDS]
    sure = [claim for claim in own if claim.verdict != "not distinguishable"]
    if sure:
        yield Text([claim.in_words() + _where(results, claim) for claim in sure], "good")
    if rest := [claim for claim in own if claim.verdict == "not distinguishable"]:
        yield Text([claim.in_words() + _where(results, claim) for claim in rest])
    others = [claim for claim in found if claim.kind not in _KINDS and claim.verdict != "not distinguishable"]
    if others:
        yield Text([f"{len(others)} further differences between arms are larger than chance (tables below)."])
    if not sure and not others:
        yield Text(
            ["No difference of this study is larger than chance, over all its claims together (Holm)."], "warning"
        )


def _of_place(place: Place, own: Sequence[Claim], results: Results, name: str) -> Iterator[Section]:
    title = f"{place.task}, {place.model}"
    blocks: list[Block] = [_main_table(place, name)]
    if (frontier := _frontier(place, name)) is not None:
        blocks = [frontier, *blocks]
        blocks += _equal_tables(place, results, name)
    yield Section(f"{name}-main", f"Gain and drift: {title}", blocks, _about(place))
    effects = list(_effect_blocks(place, own, name))
    if effects:
        yield Section(
            f"{name}-effects",
            f"Components: {title}",
            effects,
            "Change of the share of right answers, in points; item by item and seed by seed.",
        )
    against = [claim for claim in own if claim.kind not in _KINDS]
    if against:
        yield Section(
            f"{name}-against", f"Arms against each other: {title}", [_claims_table(against, f"{name}-against", "")]
        )
    yield Section(
        f"{name}-curves",
        f"Training: {title}",
        list(curves(place, _arms(place), name)),
        "Means over seeds; the bands hold all of them.",
    )
    yield Section(f"{name}-acting", f"Mechanisms and cost: {title}", list(acting(place, _arms(place), name)))


def _about(place: Place) -> str:
    base = place.base.last.correct.mean() if place.base is not None else float("nan")
    return (
        f"{len(place.items['ids']):,} items. Before training {base:.1%} are right; the best constant answer gets "
        f"{place.constant:.1%}. Intervals are 95 %, over seeds and items. Drift is KL(base ‖ model) on the base's own "
        "texts, in nats a token."
    )


def _effect_cell(effect: Effect | None) -> str | Cell:
    if effect is None:
        return ""
    text = f"{100 * effect.estimate:+.1f} [{100 * effect.low:+.1f}, {100 * effect.high:+.1f}]"
    return Cell(text, effect.estimate, effect.low, effect.high)


def _arms(place: Place) -> list[str]:
    """Return the arms, the one with most right answers first."""
    return sorted(place.arms, key=lambda arm: -float(place.table(arm).mean()))


def _main_table(place: Place, name: str) -> Table:
    rows: list[Row] = []
    if place.base is not None:
        last = place.base.last
        before = [place.base]
        shares = _share(last.correct.mean()), _share(last.readable.mean())
        rows.append([BASE, "", shares[0], "", "", shares[1], "", _entropy(before), _collapse(before)])
    for arm in _arms(place):
        runs = place.arms[arm]
        drifts = [run.last.drift for run in runs if run.last.drift is not None]
        gain, content = (contrast(place, {arm: 1.0, BASE: -1.0}, what) for what in ("correct", "content"))
        drift = Cell(number(float(np.mean(drifts))), float(np.mean(drifts))) if drifts else ""
        effects = _effect_cell(gain), _effect_cell(content)
        right, readable = (_share(place.table(arm, what=what).mean()) for what in ("correct", "readable"))
        seeds = Cell(str(len(runs)), len(runs))
        rows.append([arm, seeds, right, *effects, readable, drift, _entropy(runs), _collapse(runs)])
    columns = ["arm", "seeds", "right", "gain", "of it content", "readable", "drift", "entropy", "most frequent answer"]
    note = (
        "Gain and content in points. Content is what is right beyond what the best constant answer would get of the "
        "readable ones."
    )
    return Table(f"{name}-arms", "After the last step", columns, rows, note)


def _share(value: Any) -> Cell:
    return Cell(f"{float(value):.1%}", float(value))


def _entropy(runs: Sequence[Run]) -> str | Cell:
    values = [run.last.entropy for run in runs if run.last.entropy is not None]
    return Cell(number(float(np.mean(values))), float(np.mean(values))) if values else ""


def _collapse(runs: Sequence[Run]) -> Cell:
    given = [answer for run in runs for answer in run.last.answers if answer is not None]
    if not given:
        return Cell("none readable", 0.0)
    most = max(sorted(set(given)), key=given.count)
    share = given.count(most) / len(given)
    return Cell(f"{share:.0%} {most[:40]}" + (" (collapse)" if share > 0.8 else ""), share)


def _frontier(place: Place, name: str) -> Scatter | None:
    points: dict[str, list[tuple[float, float, float, float]]] = {}
    for arm in _arms(place):
        found = path(place, arm)
        if found is None:
            continue
        spread = [run.points for run in place.arms[arm]]
        line = [(0.0, 0.0, 0.0, 0.0)]
        for step, drift, gain in zip(found.steps[1:], found.drift[1:], found.gain[1:], strict=True):
            own = [p.correct.mean() for points_ in spread for p in points_ if p.step == step]
            shift = gain - float(np.mean(own))
            line.append((drift, gain, min(own) + shift, max(own) + shift))
        points[arm] = line
    if not points:
        return None
    first = [arm for arm in ("sft", "core", "unisd") if arm in points]
    chosen = [*first, *(arm for arm in points if arm not in first)][:DRAWN]
    about = (
        "Up is better, left is better: much gained, little forgotten. Each arm goes from the base through the steps at "
        "which it was asked; whiskers hold all its seeds."
    )
    if len(points) > DRAWN:
        about += f" {DRAWN} of {len(points)} arms; all stand in the table."
    drawn = {arm: points[arm] for arm in chosen}
    return Scatter(f"{name}-frontier", "Gain against drift", drawn, "drift, nats a token", "gain, points", about=about)


def _equal_tables(place: Place, results: Results, name: str) -> list[Block]:
    references = [arm for arm in results.about.get("reference") or [] if arm in place.arms]
    blocks: list[Block] = []
    for make, key, title, unit in (
        (gain_at_equal_drift, "equal-drift", "Gain at equal drift", "drift"),
        (drift_at_equal_gain, "equal-gain", "Drift at equal gain", "gain"),
    ):
        found = [
            each
            for reference in references
            for arm in _arms(place)
            if arm != reference and (each := make(place, arm, reference)) is not None
        ]
        if found:
            blocks.append(_equal_table(found, f"{name}-{key}", title, unit))
    return blocks


def _equal_table(found: Sequence[AtEqual], name: str, title: str, unit: str) -> Table:
    by_drift = unit == "drift"
    rows: list[Row] = []
    for each in found:
        level = Cell(number(each.level) if by_drift else f"{100 * each.level:+.1f}", each.level)
        e = each.effect
        cell = (
            _effect_cell(e)
            if by_drift
            else Cell(f"{e.estimate:+.3f} [{e.low:+.3f}, {e.high:+.3f}]", e.estimate, e.low, e.high)
        )
        rows.append([each.arm, each.other, level, cell])
    what = "difference of gain, points" if by_drift else "difference of drift, nats a token"
    note = f"At the largest {unit} that both arms reach, on straight lines between the steps at which they were asked."
    return Table(name, title, ["arm", "against", f"at {unit}", what], rows, note)


def _effect_blocks(place: Place, own: Sequence[Claim], name: str) -> Iterator[Block]:
    for kind, title in _KINDS.items():
        chosen = [claim for claim in own if claim.kind == kind]
        if not chosen:
            continue
        bars = [(" and ".join(c.parts), c.effect.estimate, c.effect.low, c.effect.high) for c in chosen]
        yield Whiskers(f"{name}-{kind}", title, bars, "points", [("no effect", 0.0)])
        if kind == "together":
            yield _heat(chosen, f"{name}-interactions")
        yield _claims_table(chosen, f"{name}-{kind}-table", title)


def _heat(chosen: Sequence[Claim], name: str) -> Heat:
    values: dict[tuple[str, str], float] = {}
    for claim in chosen:
        first, second = claim.parts
        values[first, second] = claim.effect.estimate
    labels = list(dict.fromkeys(label for pair in values for label in pair))
    return Heat(name, "Interactions of pairs", labels, values, "points")


def _claims_table(chosen: Sequence[Claim], name: str, title: str) -> Table:
    rows: list[Row] = []
    for claim in chosen:
        effects = [_effect_cell(each) for each in (claim.effect, claim.content, claim.format)]
        values = [Cell(f"{p:.2g}", p) for p in (claim.effect.p, claim.adjusted_p)]
        seen = Cell(f"{100 * claim.effect.detectable:.1f}", claim.effect.detectable)
        seeds = Cell(str(claim.effect.seeds), claim.effect.seeds)
        rows.append([claim.name, *effects, *values, claim.verdict, seen, seeds])
    columns = ["", "effect", "content", "format", "p", "p, Holm", "said", "detectable", "seeds"]
    note = (
        "In points. Holm's p counts all claims of the study. Detectable: the true difference that 80 of 100 such "
        "studies would see, by themselves."
    )
    return Table(name, title, columns, rows, note)


def _settings(results: Results) -> Section:
    from unisd.training.runfile import dumped

    blocks: list[Block] = [Text(dumped(results.about).splitlines(), "code")]
    if results.chosen:
        rows: list[Row] = [
            [arm, task, model, Cell(value, None), Cell(f"{share:.1%}", share)]
            for (arm, task, model), shares in results.chosen.items()
            for value, share in shares.items()
        ]
        columns = ["arm", "task", "model", "value", "right of the validation items"]
        blocks.append(
            Table(
                "chosen",
                "How a setting was chosen",
                columns,
                rows,
                "On items that no run is trained on or tested with.",
            )
        )
    return Section("about", "The study's file", blocks)
