"""Pages in a real browser: nothing cut off, no error, usable by keyboard, and what a checker of accessibility finds."""

import os
import time
from pathlib import Path

import pytest

from studies.browser import CHROMIUM, Browser
from studies.made import demo_folder, hostile_folder, run_folder
from unisd.studies.report import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]

OPENED = """
(async () => {
  for (const closed of document.querySelectorAll("details")) closed.open = true;
  for (const place of document.querySelectorAll(".browser")) {
    place.scrollIntoView();
    while (!place.querySelector("article")) await new Promise((done) => setTimeout(done, 20));
  }
})()"""
"""Open whatever is closed, and have every browser of items filled."""
BEYOND = """
[...document.querySelectorAll("body *")].filter((element) => {
  const box = element.getBoundingClientRect();
  if (!box.width || !box.height || (box.right <= innerWidth + 1 && box.left >= -1)) return false;
  for (let above = element.parentElement; above; above = above.parentElement)
    if (["auto", "scroll"].includes(getComputedStyle(above).overflowX)) return false;
  return !element.closest(".skip, .hidden");
}).map((element) => `${element.tagName} ${element.className} ${element.textContent.slice(0, 60)}`)"""
"""What reaches beyond the window, and is in no part that scrolls by itself."""
CUT = """
[...document.querySelectorAll("svg")].flatMap((chart) => {
  const box = chart.getBoundingClientRect();
  return [...chart.querySelectorAll("text")].filter((text) => {
    const own = text.getBoundingClientRect();
    return own.right > box.right + 2 || own.left < box.left - 2 || own.top < box.top - 2 || own.bottom > box.bottom + 2;
  }).map((text) => `${chart.getAttribute("aria-label")}: ${text.textContent}`);
}).concat([...document.querySelectorAll("p, dt, dd, h1, h2, h3, figcaption, button, td, th")].filter((element) => {
  const style = getComputedStyle(element);
  return element.scrollWidth > element.clientWidth + 1 && style.display !== "inline" && !element.closest(".hidden");
}).map((element) => `${element.tagName}: ${element.textContent.slice(0, 60)}`))"""
"""Text that a chart, or an element, cuts off."""
SMALL = """
Math.min(...[...document.querySelectorAll("svg")].map((chart) =>
  parseFloat(getComputedStyle(chart.querySelector("text")).fontSize) * chart.getBoundingClientRect().width
  / chart.viewBox.baseVal.width))"""
"""The size of the smallest letters of charts, in pixels."""
ACCESSIBLE = """
(() => {
  const found = [], all = (names) => [...document.querySelectorAll(names)];
  const name = (element) => (element.getAttribute("aria-label") || element.textContent).trim();
  for (const each of all("button, a, summary, th")) if (!name(each)) found.push("no name: " + each.outerHTML);
  for (const each of all("input, select")) if (!each.labels.length) found.push("no label: " + each.outerHTML);
  for (const each of all("svg")) if (each.getAttribute("role") !== "img" || !name(each)) found.push("chart");
  const levels = all("h1, h2, h3").map((each) => Number(each.tagName[1]));
  levels.forEach((level, place) => { if (place && level > levels[place - 1] + 1) found.push("heading " + place); });
  if (levels.filter((level) => level === 1).length !== 1) found.push("one h1");
  const ids = all("[id]").map((each) => each.id);
  ids.forEach((id, place) => { if (ids.indexOf(id) !== place) found.push("id twice: " + id); });
  const linear = (part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => linear(part / 255));
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = "p, dt, dd, h1, h2, h3, td, th, button, a, summary, strong, span, svg text, .answer";
  for (const each of all(texts)) {
    if (!each.textContent.trim() || each.closest(".hidden, .skip")) continue;
    const style = getComputedStyle(each), colour = each.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(colour), light(ground(each))].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    const said = `${each.tagName} ${each.className} ${each.textContent.slice(0, 30)}`;
    if (ratio < 4.5) found.push(`contrast ${ratio.toFixed(2)}: ${said}`);
  }
  return [...new Set(found)];
})()"""
"""Names, labels, order of headings, ids, and contrast of all text (WCAG AA: 4.5 to 1)."""

BAD = """<!doctype html><title>x</title><h1>a</h1><h3>b</h3><input><button></button>
<p id=a style="color:#aaa">pale</p><p id=a style="width:9999px">wide</p>
<p style="width:3em;overflow:hidden;white-space:nowrap">much too long for it</p>
<svg viewBox="0 0 10 10" style="width:40px" role=img aria-label=c><text x=8 y=5>out of it</text></svg>
<script>undefined_name()</script>"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    place = tmp_path_factory.mktemp("pages")
    made = {"demo": demo_folder, "run": run_folder, "hostile": hostile_folder}
    return {name: write_report(make(place / name)) for name, make in made.items()}


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("name", ["demo", "run", "hostile"])
def test_nothing_is_cut_off(browser, pages, name, width):
    seconds = browser.open(pages[name], width)
    browser.run(OPENED)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run(BEYOND) == []
    assert browser.run(CUT) == []
    assert browser.run("document.querySelectorAll('.browser .item').length") >= 8
    assert browser.run(SMALL) >= 9 or not browser.run("document.querySelectorAll('svg').length")
    assert browser.console == []
    assert [url for url in browser.requests if not url.startswith("file:")] == []
    assert browser.run("document.title").endswith(f": {name}")  # no script of an answer ran
    assert (
        browser.run("[...document.scripts].length") == browser.run("document.querySelectorAll('.browser').length") + 1
    )
    assert seconds < 10


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_accessible(browser, pages, dark):
    browser.open(pages["demo"], dark=dark)
    browser.run(OPENED)
    assert browser.run(ACCESSIBLE) == []
    if axe := os.environ.get("UNISD_AXE"):  # the path of axe.min.js, where somebody has it
        browser.run(Path(axe).read_text(encoding="utf-8") + ";0")
        found = browser.run(
            "axe.run().then((r) => r.violations.map((v) => `${v.id}: ${v.nodes[0].html.slice(0, 200)}`))"
        )
        assert found == []


def test_the_checks_see_faults(browser, tmp_path):
    (tmp_path / "bad.html").write_text(BAD)
    browser.open(tmp_path / "bad.html", 360)
    faults = " ".join(browser.run(ACCESSIBLE))
    assert all(part in faults for part in ("contrast", "no label", "no name", "heading 1", "id twice: a"))
    assert "P  wide" in " ".join(browser.run(BEYOND))
    assert {part.split(":")[0] for part in browser.run(CUT)} >= {"c", "P"}
    assert not browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.console


def test_tables_are_sorted_by_keyboard(browser, pages):
    browser.open(pages["demo"])
    column = (
        "[...document.querySelectorAll('#house-1 table')[0].tBodies[0].rows].map((row) => row.cells[0].textContent)"
    )
    assert browser.run(column) == ["before", "self-distillation", "sft"]
    head = "document.querySelectorAll('#house-1 table')[0].tHead.rows[0].cells[1]"
    browser.run(f"{head}.querySelector('button').focus()")
    for order, names in (
        ("ascending", ["before", "self-distillation", "sft"]),
        ("descending", ["sft", "self-distillation", "before"]),
    ):
        browser.press("Enter", 13, "\r")
        assert browser.run(f"{head}.getAttribute('aria-sort')") == order
        assert browser.run(column) == names
    browser.press("Enter", 13, "\r")
    assert browser.run(column) == ["before", "self-distillation", "sft"]


def test_items_are_filtered_and_searched_by_keyboard(browser, pages):
    browser.open(pages["demo"])
    browser.run(OPENED)
    place = "document.querySelector('[data-items=items-house-1]')"
    shown = f"[...{place}.querySelectorAll('.item h3')].map((head) => head.textContent)"
    texts = browser.run(f"[...{place}.querySelectorAll('.choices button')].map((button) => button.textContent)")
    counts = {text.split(" ")[0]: int(text.split("(")[1][:-1]) for text in texts}
    assert counts["all"] == 100 == counts["gained"] + counts["lost"] + counts["unchanged"]
    assert counts["gained"] == 64
    browser.run(f"{place}.querySelectorAll('.choices button')[1].focus()")
    browser.press(" ", 32, " ")
    assert all("gained" in head for head in browser.run(shown))
    assert len(browser.run(shown)) == 10
    wanted = browser.run(shown)[3].split(" ")[0]
    browser.run(f"{place}.querySelector('input').focus()")
    for letter in wanted:
        browser.press(letter, ord(letter.upper()), letter)
    time.sleep(0.4)
    assert wanted in {head.split(" ")[0] for head in browser.run(shown)}
    assert len(browser.run(shown)) < 10
    assert browser.run(f"document.activeElement === {place}.querySelector('input')")
    assert browser.run(f"{place}.querySelector('[role=status]').textContent").endswith("items shown")


def test_prints_on_paper(browser, pages, tmp_path):
    browser.open(pages["run"])
    browser.print(tmp_path / "page.pdf")
    data = (tmp_path / "page.pdf").read_bytes()
    assert data.startswith(b"%PDF")
    assert 2 <= data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") + data.count(b"/Type/Page") <= 15
