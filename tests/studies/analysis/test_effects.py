"""Claims of a study: what is equal is not called different, what differs is found, and interactions are contrasts."""

from pathlib import Path

import numpy as np
import pytest

import made_up
from unisd.studies.analysis.claims import paper_claims
from unisd.studies.analysis.effects import claims, contrast
from unisd.studies.analysis.frontier import drift_at_equal_gain, gain_at_equal_drift, path
from unisd.studies.results import Place, Point, Results, Run, read_results


def place(tables: dict[str, np.ndarray], components: dict[str, list[str] | None], base=None) -> Place:
    """A place whose arms answered as the tables (seeds, items) say."""
    items = next(iter(tables.values())).shape[1]
    about = {"ids": [str(i) for i in range(items)], "gold": [str(i) for i in range(items)], "groups": [""] * items,
             "chance": [0.0] * items}  # fmt: skip

    def run(arm, seed, right):
        point = Point(1, right.astype(float), np.ones(items), ("a",) * items, None, None, about)
        parts = components.get(arm)
        return Run(arm, seed, (point,), None if parts is None else frozenset(parts), (), {}, 1.0, None)

    arms = {arm: [run(arm, seed, row) for seed, row in enumerate(table)] for arm, table in tables.items()}
    return Place("t", "m", run("base", -1, np.zeros(items) if base is None else base), arms)


def equal_study(rng) -> Results:
    parts = {"core": [], "core+a": ["a"], "core+b": ["b"], "unisd": ["a", "b"]}
    parts |= {f"further {number}": None for number in range(6)}
    item = rng.normal(0, 1, 100)
    tables = {arm: item + rng.normal(0, 0.1, (3, 1)) + rng.normal(0, 0.5, (3, 100)) > 0 for arm in parts}
    return Results("s", {"reference": ["core"], "full": "unisd"}, [place(tables, parts)], {})


def test_where_all_arms_are_equal_hardly_a_study_says_otherwise():
    rng = np.random.default_rng(0)
    wrong = sum(any(c.verdict != "not distinguishable" for c in claims(equal_study(rng))) for _ in range(200))
    assert wrong / 200 <= 0.05


def test_an_effect_is_found_and_named(tmp_path):
    results = read_results(made_up.write(tmp_path, effects={"teacher": 0.9}, items=200))
    found = {claim.name: claim for claim in claims(results)}
    assert found["adding teacher to core"].verdict == "higher"
    assert found["removing teacher from unisd"].verdict == "lower"
    assert found["adding clipping to core"].verdict == "not distinguishable"
    assert "would have been seen" in found["adding clipping to core"].in_words()
    said = {judged.text: judged.verdict for judged in paper_claims(list(found.values()), results)}
    assert said["teacher helps by itself"] == "supports"
    assert said["clipping helps by itself"] == "cannot see"


def test_an_interaction_is_what_two_give_beyond_their_sum():
    rng = np.random.default_rng(1)
    tables = {arm: rng.random((2, 50)) < share for arm, share in
              {"core": 0.2, "core+a": 0.3, "core+b": 0.4, "unisd": 0.9}.items()}  # fmt: skip
    where = place(tables, {"core": [], "core+a": ["a"], "core+b": ["b"], "unisd": ["a", "b"]})
    found = [c for c in claims(Results("s", {}, [where], {})) if c.kind == "together"]
    means = {arm: table.mean() for arm, table in tables.items()}
    assert len(found) == 1
    assert found[0].effect.estimate == pytest.approx(means["unisd"] - means["core+a"] - means["core+b"] + means["core"])


def test_format_and_content_add_up(tmp_path):
    results = read_results(made_up.write(tmp_path, items=100))
    for claim in claims(results):
        assert claim.format.estimate + claim.content.estimate == pytest.approx(claim.effect.estimate)


def test_arms_are_compared_on_the_seeds_that_both_have():
    tables = {"core": np.array([[0, 0], [1, 1], [0, 1]]), "other": np.array([[1, 1], [1, 1]])}
    found = contrast(place(tables, {}), {"other": 1.0, "core": -1.0})
    assert found.estimate == pytest.approx(0.5)
    assert found.seeds == 2


def test_paths_meet_where_they_are_said_to(tmp_path):
    results = read_results(made_up.write(tmp_path, items=200, of_seeds=0.0))
    where = results.places[0]
    core, sft = path(where, "core"), path(where, "sft")
    assert core.steps == (0, 10, 20, 40)
    assert core.drift[0] == core.gain[0] == 0
    at = gain_at_equal_drift(where, "core", "sft", resamples=100)
    assert at.level == pytest.approx(max(core.drift))
    assert at.effect.estimate == pytest.approx(core.gain[-1] - np.interp(at.level, sft.drift, sft.gain))
    assert at.effect.low > 0  # sft drifts four times as far for as much
    other = drift_at_equal_gain(where, "core", "sft", resamples=100)
    assert other.effect.high < 0


def test_results_that_are_missing_or_damaged_are_named(tmp_path: Path):
    made_up.write(tmp_path, items=20)
    (tmp_path / "jobs" / "house-0-1" / "result.json").write_text("{")
    (tmp_path / "jobs" / "house-1-0" / "result.json").unlink()
    (tmp_path / "jobs" / "house-1-1" / "result.json").write_text('{"points": [{"step": 1}]}')
    results = read_results(tmp_path)
    assert results.notes == [
        "core, house, tiny, seed 1: its result is damaged",
        "core+clipping, house, tiny, seed 0: not finished",
        "core+clipping, house, tiny, seed 1: its result is damaged",
    ]
    assert results.places[0].seeds("core") == [0, 2]
