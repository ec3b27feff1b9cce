import re
import xml.etree.ElementTree as ET

import pytest

from studies.made import HOSTILE
from unisd.studies.report.blocks import Cell, Page, Section
from unisd.studies.report.charts import Bars, Lines, Scatter, Whiskers, draw
from unisd.studies.report.write import write_page

CHARTS = [
    Lines(
        "a",
        "Lines",
        {"one": [(1, 0.001), (2, 0.0035)], HOSTILE[0]: [(2, 0.002)]},
        y="share",
        bands={"one": [(1, 0, 0.002)]},
    ),
    Whiskers("b", "Whiskers", [("one", 0.5, 0.4, 0.7), (HOSTILE[1], 0.1, 0.0, 0.2)], "% correct", [("guess", 0.3)]),
    Bars("c", "Bars", ["A", HOSTILE[5], "B"], {"keys": [0.5, 0.3, 0.2], HOSTILE[3]: [1.0, 0.0, 0.0]}, "% of answers"),
    Scatter(
        "d",
        "Scatter",
        {"core": [(0.1, 0.3, 0.2, 0.4), (0.3, 0.5, 0.4, 0.6)], "$x$": [(1.0, 0.6, 0.5, 0.7)]},
        "drift",
        "gain",
    ),
]


@pytest.fixture(params=CHARTS, ids=lambda chart: chart.title)
def chart(request):
    pytest.importorskip("matplotlib")
    return request.param


def test_a_chart_is_drawn_in_the_pages_colours_the_same_each_time(chart):
    svg = draw(chart)
    assert svg == draw(chart)
    ET.fromstring(svg)
    assert "var(--series-1)" in svg
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#ffffff", "#000000"}
    assert "http" not in svg
    assert f'aria-label="{chart.title}; the data stand in the table below"' in svg
    assert all(name.startswith(f"{chart.name}-") for name in re.findall(r'(?:id="|url\(#|href="#)([^")]+)', svg))
    assert len(svg) < 40_000


def test_labels_are_text_and_nothing_else(chart):
    texts = [element.text for element in ET.fromstring(draw(chart)).iter() if element.tag.endswith("text")]
    assert {element.tag for element in ET.fromstring(draw(chart)).iter()} <= {
        "svg", "g", "path", "text", "defs", "use", "clipPath", "rect", "tspan",
    }  # fmt: skip
    assert all(texts)


def test_ticks_are_not_rounded():
    pytest.importorskip("matplotlib")
    texts = [element.text for element in ET.fromstring(draw(CHARTS[0])).iter() if element.tag.endswith("text")]
    assert "0.0015" in texts or "0.001" in texts


def test_the_data_stand_below():
    rows = {chart.title: chart.table().rows for chart in CHARTS}
    assert [[cell.text for cell in row] for row in rows["Lines"]] == [
        ["1", "0.001000", ""],
        ["2", "0.003500", "0.002000"],
    ]
    assert rows["Whiskers"][0] == ["one", Cell("50", 50.0), Cell("40", 40.0), Cell("70", 70.0)]
    assert rows["Whiskers"][2] == ["guess", Cell("30", 30.0), "", ""]
    assert [cell.value for cell in rows["Bars"][0][1:]] == [50, 100]
    assert [row[0] for row in rows["Scatter"]] == ["core", "core", "$x$"]


def test_long_lines_are_listed_in_part():
    table = Lines("a", "t", {"one": [(x, 1.0) for x in range(1000)]}).table()
    assert len(table.rows) == 200
    assert table.rows[-1][0] == Cell("999", 999)
    assert table.note == "One of 5 of the chart's 1,000 points."


def test_a_chart_is_a_file_of_its_own(tmp_path):
    pytest.importorskip("matplotlib")
    page = Page("t", "", [], [], [Section("s", "S", [CHARTS[1]])])
    write_page(page, tmp_path, ("svg",))
    root = ET.parse(tmp_path / "report" / "b.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "--series-1:" in "".join(root.itertext())


def test_many_estimates_are_drawn_in_part():
    pytest.importorskip("matplotlib")
    many = Whiskers("a", "t", [(f"arm {i}", 0.5, 0.4, 0.6) for i in range(200)], "points")
    texts = [element.text for element in ET.fromstring(draw(many)).iter() if element.tag.endswith("text")]
    assert "points (the first 40 of 200)" in texts
    assert "arm 40" not in texts
    assert len(many.table().rows) == 200
    assert many.height() < 20
