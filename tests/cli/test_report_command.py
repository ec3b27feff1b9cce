import json

import pytest

from unisd.cli.main import main

COS_E = ["--task", "cos_e", "--source", "sample", "--limit", "2", "--max-new-tokens", "3"]


@pytest.fixture
def answers(tmp_path, model_folder):
    """What an evaluation left."""
    assert main(["evaluate", model_folder, *COS_E, "--output", str(tmp_path / "answers"), "--quiet"]) == 0
    return tmp_path / "answers"


def test_the_report_lies_beside_its_run_or_where_it_is_said(answers, tmp_path, capsys):
    assert main(["report", str(answers)]) == 0
    assert capsys.readouterr().out == f"report: {answers / 'report.html'}\n"
    assert main(["report", str(answers), "--output", str(tmp_path / "other"), "--format", "md", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert [path.suffix for path in (tmp_path / "other").iterdir() if path.is_file()] == [".md"]
    assert main(["report", str(answers), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["result"] == {"pages": answer["files"]} == {"pages": [str(answers / "report.html")]}


def test_something_wrong_was_asked(answers, tmp_path, refused):
    assert refused("report", answers, "--format", "pdf").startswith("unisd: --format pdf: choose from ")
    assert "for one folder" in refused("report", answers, answers, "--output", tmp_path / "x")
