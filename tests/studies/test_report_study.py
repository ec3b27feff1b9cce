"""The page of a study."""

import json
import re
import shutil
import time

import pytest

import made_up
from studies.test_report import Tags
from unisd.cli.main import main
from unisd.errors import UniSDError, UsageError
from unisd.studies import analysis
from unisd.studies.report import write, write_report

HOSTILE = "</script><img src=x onerror=alert(1)> & “arm” | a\\nb"


@pytest.fixture
def tables(monkeypatch):
    """No charts."""
    monkeypatch.setattr(write, "can_draw", lambda: False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study's folder; nobody writes into it but reports."""
    return made_up.write(tmp_path_factory.mktemp("made") / "study", items=60, effects={"teacher": 1.5})


def said(page):
    text = page.read_text()
    return " ".join(Tags(text[text.index("<main") :]).said.split())


def test_unisd_report_makes_the_page_of_a_study(made, tables, capsys):
    assert main(["report", str(made)]) == 0
    assert capsys.readouterr().out == f"report: {made / 'report.html'}\n"
    text = said(made / "report.html")
    order = [
        "adding teacher to core: +", "Gain and drift: house, tiny", "Gain against drift", "After the last step",
        "Gain at equal drift", "Drift at equal gain", "Components: house, tiny", "Arms against each other",
        "Training: house, tiny", "What each mechanism did", "Cost of a run", "The paper's claims", "The study's file",
    ]  # fmt: skip
    places = [text.find(part) for part in order]
    assert -1 not in places
    assert places == sorted(places)
    assert "not distinguishable" in text
    for part in made_up.PARTS:
        assert f"removing {part} from unisd" in text
        assert f"{part} is needed in the whole" in text


def test_beside_the_page_lie_markdown_and_a_file_a_table(made, tables):
    write_report(made, ("html", "md", "csv", "tex"))
    names = {path.name for path in (made / "report").iterdir()}
    assert {"p-arms.csv", "p-adding-table.csv", "p-cost.csv", "p-arms.tex"} <= names
    assert "removing teacher from unisd" in (made / "report.md").read_text()
    rows = (made / "report" / "p-arms.csv").read_text().splitlines()
    assert len(rows) == 16  # a head, the base, and fourteen arms


def test_charts_are_drawn_once_each(made):
    pytest.importorskip("matplotlib")
    page = Tags(write_report(made).read_text())
    assert page.tags.count("svg") == page.tags.count("figure") > 8
    assert len(page.ids) == len(set(page.ids))


def test_pairs_are_shown_as_a_square(tmp_path, tables):
    folder = made_up.write(tmp_path / "study", items=40, seeds=2, pairs=True)
    text = said(write_report(folder))
    assert "Interactions of pairs" in text
    assert "clipping and teacher together" in text


def test_names_are_text_whatever_they_hold(made, tmp_path, tables):
    folder = tmp_path / "study"
    shutil.copytree(made, folder)
    index = json.loads((folder / "index.json").read_text())
    for entry in index:
        for name in ("arm", "task", "model"):
            if entry[name] in ("core+clipping", "house", "tiny"):
                entry[name] = HOSTILE + entry[name]
    (folder / "index.json").write_text(json.dumps(index))
    for file in folder.glob("jobs/*/result.json"):
        result = json.loads(file.read_text())
        for point in result["points"]:
            point["parsed"] = [None if answer is None else HOSTILE + answer for answer in point["parsed"]]
        file.write_text(json.dumps(result))
    (folder / "study.yaml").write_text(f"name: {json.dumps(HOSTILE)}\nreference: [base, sft, core]\n")
    page = Tags(write_report(folder, ("html", "md", "csv", "tex")).read_text())
    plain = Tags(write_report(made).read_text())
    assert "img" not in page.tags
    assert page.tags.count("script") == plain.tags.count("script")
    assert page.attributes <= plain.attributes
    assert HOSTILE + "core+clipping" in page.said


def test_what_is_not_finished_is_named_and_the_rest_is_shown(made, tmp_path, tables):
    folder = tmp_path / "study"
    shutil.copytree(made, folder)
    shutil.rmtree(folder / "jobs" / "house-0-1")
    (folder / "jobs" / "house-1-0" / "result.json").write_text('{"points": ')
    text = said(write_report(folder))
    assert "core, house, tiny, seed 1: not finished" in text
    assert "seed 0: its result is damaged" in text
    for job in (folder / "jobs").iterdir():
        shutil.rmtree(job)
    with pytest.raises(UsageError, match="no run of the study is finished"):
        write_report(folder)
    (folder / "index.json").write_text("{")
    with pytest.raises(UsageError, match="no list of a study's jobs"):
        write_report(folder)


def test_a_missing_package_is_one_line(made, monkeypatch, tables):
    monkeypatch.setattr(analysis.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UniSDError, match=r"needs scipy, which is not installed; pip install 'unisd\[study\]'"):
        write_report(made)


@pytest.mark.slow
def test_two_hundred_runs_are_a_page_within_half_a_minute_and_ten_megabytes(tmp_path):
    folder = made_up.write(tmp_path / "study", arms=20, seeds=5, tasks=("house", "cos_e"))
    started = time.process_time()
    page = write_report(folder)
    assert time.process_time() - started < 30
    assert page.stat().st_size < 10 * 2**20
    assert re.search(r"200 runs", page.read_text())
