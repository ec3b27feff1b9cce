import csv
import json
import re
from html.parser import HTMLParser

import pytest

from studies.made import HOSTILE, answers, demo_folder, hostile_folder, metrics, run_folder
from unisd.cli.main import main
from unisd.errors import UsageError
from unisd.evaluation.audit import Audit, Distance
from unisd.files import write_json, write_jsonl
from unisd.studies.report import page_of, write, write_report
from unisd.studies.report.charts import can_draw
from unisd.studies.report.folder import read_folder
from unisd.studies.report.items import MOST, ROOM


class Tags(HTMLParser):
    """The elements, attributes and texts of a page, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.ids, self.attributes, self.said = [], [], set(), ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.said += data


@pytest.fixture(autouse=True)
def _tables_alone(monkeypatch):
    """No charts, unless a test asks for them: each takes a tenth of a second."""
    monkeypatch.setattr(write, "can_draw", lambda: False)


@pytest.fixture(params=[True, False], ids=["charts", "tables"])
def drawing(request, monkeypatch):
    """With matplotlib, where it is there, and without."""
    if request.param:
        pytest.importorskip("matplotlib")
        monkeypatch.setattr(write, "can_draw", can_draw)
    return request.param


def test_a_run_is_one_page_outcome_first(tmp_path, drawing):
    folder = run_folder(tmp_path / "first", count=30)
    text = write_report(folder).read_text()
    page = Tags(text)
    said = " ".join(Tags(text[text.index("<main") :]).said.split())
    assert page.tags.count("figure") == page.tags.count("figcaption") == 15
    assert page.tags.count("svg") == (15 if drawing else 0)
    assert ("pip install 'unisd[report]'" in said) is not drawing
    order = [
        "Correct, base → after training",
        "Results: choices",
        "Questions and answers",
        "Loss",
        "Mechanisms",
        "seed",
    ]
    assert sorted(order, key=said.index) == order
    assert "Switched on, and did not act: contrast." in said
    assert "Mine: strange thing" in said  # a metric that nobody knows
    assert "unisd train" in said
    again = "--task choices --max-new-tokens 64 --split test --retention --instructions 60"
    assert f"unisd evaluate {folder} {again}" in said
    assert len(page.ids) == len(set(page.ids))
    assert "http:" not in text
    assert "https:" not in text


def test_instructions_that_are_still_followed_are_a_table_and_damage_leaves_it_out(tmp_path):
    folder = run_folder(tmp_path / "run", count=30)

    def tables():
        found = page_of(read_folder(folder)).sections[0].blocks
        return {block.title: block for block in found if hasattr(block, "rows")}

    rows = [[getattr(cell, "text", cell) for cell in row] for row in tables()["Instructions followed"].rows]
    assert [row[1] for row in rows] == ["all of a prompt's", "bullets"]
    assert rows[0][2].endswith("(40/60)")
    assert rows[0][4].startswith("-16.7 [-")
    assert rows[1][3:] == ["28.6% [8.2, 64.1] (2/7)", rows[1][4], "0", "1"]
    file = folder / "evaluation" / "choices.json"
    whole = json.loads(file.read_text())
    for damage in (None, [], 7, {"all": {}, "kinds": []}, {"all": {"base": 1}, "kinds": {}}):
        whole["retention"]["instructions"] = damage
        file.write_text(json.dumps(whole))
        assert "Instructions followed" not in tables()
        assert "What was kept of the base" in tables()


def test_a_demo_shows_gain_beside_drift_of_every_method(tmp_path):
    page = page_of(read_folder(demo_folder(tmp_path / "demo")))
    assert page.title == "Demo: demo"
    shown = {figure.label: (figure.value, figure.note) for figure in page.figures}
    assert shown["Correct, before"] == ("0", "of 100")
    assert "drift 0.360" in shown["Correct, self-distillation"][1]
    assert "drift 1.56" in shown["Correct, sft"][1]
    assert [s.name for s in page.sections] == [
        "house-1", "house-1-answers", "curves", "mechanisms", "house-2", "house-2-answers", "written", "about",
    ]  # fmt: skip
    assert [a.name for a in read_folder(tmp_path / "demo").exams[1].answers] == [
        "student", "student shown the form", "teacher, turn",
    ]  # fmt: skip
    assert page.verdict[0].lines == ["0 of 100 right before, 64 after."]
    charts = {chart.title for chart in page.sections[0].blocks if hasattr(chart, "draw")}
    assert {"Gain against drift", "Functions called, beside the keys", "Content"} <= charts


def test_evaluations_of_several_models_are_compared_with_the_first(tmp_path):
    for name, read in (("zeta", "ABC"), ("alpha", "AAA"), ("beta", "CAB")):
        found = answers(lambda i, read=read: read[i % 3], 30)
        found.write(tmp_path / name / "choices.json", {"model": f"runs/{name}", "label": "choices"})
    write_json(tmp_path / "report.json", {"results": [{"model": f"runs/{n}"} for n in ("zeta", "alpha", "beta")]})
    page = page_of(read_folder(tmp_path))
    assert page.title.startswith("Evaluation")
    assert [figure.value for figure in page.figures] == ["30", "10", "0"]
    assert page.verdict[0].kind == "warning"
    assert page.verdict[0].lines[0].startswith("choices, alpha: Collapse: 30 of 30 readable answers are 'A'")


def test_an_audit_is_a_page(tmp_path):
    teacher = {layout: answers(lambda i: "ABC"[i % 3]) for layout in ("paper", "turn")}
    found = Audit("choices", answers(lambda i: None), teacher, {"turn": Distance(1.0, 0.5, 3.0, 0.0, 9)}, "turn")
    for name, evaluation in found.rows():
        evaluation.write(tmp_path / "answers" / f"{name.replace(', ', '-')}.json")
    write_json(tmp_path / "audit.json", found.summary())
    page = page_of(read_folder(tmp_path))
    assert page.title.startswith("Audit")
    assert [(figure.label, figure.note) for figure in page.figures[:2]] == [
        ("Correct, student", "of 30"),
        ("Correct, teacher, gold, paper", "+100.0 points, content +66.7"),
    ]
    assert page.verdict[0].lines[0].startswith("Layout to use: turn")
    assert any(section.name == "audit" for section in page.sections)


def test_what_models_wrote_is_never_markup(tmp_path, drawing):
    folder = hostile_folder(tmp_path / "run")
    formats = ("html", "md", "csv", "tex", "svg") if drawing else ("html", "md", "csv", "tex")
    text = write_report(folder, formats).read_text(encoding="utf-8")
    page = Tags(text)
    assert page.tags.count("script") == 3  # two sets of items, and ours
    assert "img" not in page.tags
    assert not {name for name in page.attributes if name.startswith("on")}
    data = re.findall(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', text, re.DOTALL)
    assert [name for name, _ in data] == ["items-img-src-x-onerror-document-title-taken-1", "items-written"]
    items = json.loads(data[0][1])["items"]
    assert {HOSTILE[0], HOSTILE[1], HOSTILE[2]} <= {item["q"] for item in items}
    assert all("<" not in found and "&" not in found for _, found in data)
    assert "\x00" not in text
    assert "\u202e" not in text
    assert "{{ 7 * 7 }}{% raw %}" in page.said  # no template
    for file in (folder / "report").glob("*.csv"):
        for row in csv.reader(file.read_text(encoding="utf-8").splitlines()):
            assert not [cell for cell in row if re.match(r"[=@\t]|[+-][^\d]", cell)]
    lines = (folder / "report.md").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if re.search(r"(?<!\\)<", line) and not line.startswith("    ")]


def test_damage_is_said_and_the_rest_is_shown(tmp_path):
    folder = run_folder(tmp_path / "run", count=30)
    (folder / "evaluation" / "choices.jsonl").write_text('{"id": 1}\n')
    (folder / "summary.json").write_text("{")
    (folder / "metrics.jsonl").write_text((folder / "metrics.jsonl").read_text() + "nonsense\n")
    (folder / "evaluation" / "other.json").write_text("[1]")
    (folder / "evaluation" / "other.jsonl").write_text("")
    found = read_folder(folder)
    assert sorted(line.split(" could")[0].split(":")[0].split("/")[-1] for line in found.damaged) == [
        "choices.jsonl, item 1", "metrics.jsonl", "other.json", "summary.json",
    ]  # fmt: skip
    said = Tags(write_report(folder).read_text()).said
    assert "summary.json could not be read" in said
    assert "Loss" in said


@pytest.mark.parametrize("kind", ["nothing", "empty", "file"])
def test_where_nothing_lies_there_is_one_line(tmp_path, kind):
    place = tmp_path / "x"
    if kind == "empty":
        place.mkdir()
        (place / "notes.json").write_text("{}")
    if kind == "file":
        place.write_text("")
    with pytest.raises(UsageError, match=r"report .*x: "):
        write_report(place)


def test_a_run_without_evaluation_says_what_is_next(tmp_path):
    folder = run_folder(tmp_path / "run", steps=1)
    for file in (folder / "evaluation").iterdir():
        file.unlink()
    (folder / "completions.jsonl").unlink()
    page = page_of(read_folder(folder))
    assert f"unisd evaluate {folder} --base --retention" in [line for text in page.verdict for line in text.lines]
    assert [section.name for section in page.sections] == ["curves", "mechanisms", "about"]


def test_large_folders_make_pages_of_bounded_size(tmp_path):
    folder = run_folder(tmp_path / "run", steps=3000, count=2500)
    file = write_report(folder)
    assert file.stat().st_size < 3_000_000
    text = file.read_text()
    assert f"{MOST:,} of 2,500 items are on this page" in text
    items = json.loads(re.search(r'id="items-choices-1">(.*?)</script>', text, re.DOTALL)[1])["items"]
    kinds = {(item["a"][0][2], item["a"][1][2]) for item in items}
    assert kinds == {(0, 0), (0, 1), (1, 0)}
    assert (
        text.count('<td role="cell" class="n" data-sort="3000.0">3,000</td>') >= 10
    )  # the last step, in tables of curves
    assert text.count("<tr") < 200 * 25


def test_items_of_many_tasks_share_the_room_of_a_page(tmp_path):
    for task in range(6):
        found = answers(lambda i: "<" * 6000, 200, f"task{task}")
        found.write(tmp_path / f"task{task}.json", {"model": "m", "label": f"task{task}"})
    file = write_report(tmp_path)
    assert 500_000 < file.stat().st_size < 2 * ROOM
    assert file.read_text().count("of 200 items are on this page") == 6


def test_the_same_folder_gives_the_same_bytes(tmp_path):
    folder = run_folder(tmp_path / "run", steps=5, count=12)
    assert write_report(folder).read_bytes() == write_report(folder, output=tmp_path / "again").read_bytes()


def test_the_command_writes_what_is_asked_for(tmp_path, capsys):
    folder = run_folder(tmp_path / "run", steps=3, count=30)
    assert main(["report", str(folder), "--format", "md,csv,tex"]) == 0
    assert capsys.readouterr().out == f"report: {folder / 'report.md'}\n"
    rows = list(csv.DictReader((folder / "report" / "choices-1-change.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == ["after training"]
    assert float(rows[0]["change low"]) < float(rows[0]["change"]) < float(rows[0]["change high"])
    total = float(rows[0]["content"]) + float(rows[0]["format"])
    assert total == pytest.approx(float(rows[0]["change"]))
    assert r"\begin{tabular}{lllllll}" in (folder / "report" / "choices-1-change.tex").read_text()
    assert "| after training | " in (folder / "report.md").read_text()
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "pdf"], "--format pdf: choose from html, md, csv, tex, svg"),
        (["--format", ","], "--format : choose from"),
        (["elsewhere", "--output", "out"], "--output: for one folder"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, capsys, words, said):
    assert main(["report", str(tmp_path), *words]) == 2
    assert said in capsys.readouterr().err


def test_svg_needs_matplotlib(tmp_path):
    with pytest.raises(UsageError, match=r"pip install 'unisd\[report\]'"):
        write_report(run_folder(tmp_path / "run"), ("svg",))


def test_metrics_that_are_no_numbers_are_left_out(tmp_path):
    folder = run_folder(tmp_path / "run", steps=4)
    rows = metrics(4)
    rows[1] |= {"loss": float("nan"), "grad_norm": None, "note": "text", "flag": True, "deep": {"a": 1}}
    write_jsonl(folder / "metrics.jsonl", rows)
    section = next(s for s in page_of(read_folder(folder)).sections if s.name == "curves")
    loss = next(chart for chart in section.blocks if chart.title == "Loss")
    assert [x for x, _ in loss.series["loss"]] == [1, 3, 4]
    assert not [block for block in section.blocks if block.title in ("Note", "Flag", "Deep")]
