"""Words for metrics: every mechanism's own, and no name that nothing measures."""

import json
from pathlib import Path

import pytest

from studies.made import metrics
from unisd.mechanisms import Curve, known
from unisd.studies.report.curves import curves_section, described

RECORDED = Path(__file__).parents[1] / "golden/runs.json"


@pytest.mark.parametrize("name", [name for name, mechanism in known().items() if mechanism.curves])
def test_what_a_mechanism_describes_was_measured_in_a_recorded_run(name):
    recorded = RECORDED.read_text(encoding="utf-8")
    for curve in known()[name].curves:
        for metric in curve.lines:
            assert json.dumps(metric) in recorded, metric


def test_no_metric_is_described_twice():
    names = [name for curve in described() for name in curve.lines]
    assert len(names) == len(set(names))


def test_a_mechanism_of_ones_own_has_its_words_on_the_page(monkeypatch):
    mine = type("Mine", (), {"curves": (Curve("Strangeness", "oddity", {"mine/strange_thing": "how strange"}),)})
    assert "Strangeness" not in titles()
    monkeypatch.setattr("unisd.studies.report.curves.known", lambda: {"mine": mine})
    assert "Strangeness" in titles()


def titles():
    section = curves_section(metrics(20))
    return [block.title for block in section.blocks]
