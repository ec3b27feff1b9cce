import json

from unisd.evaluation.answers import Evaluation, Item
from unisd.evaluation.results import renew_card, results_of


def answers(right, n=10):
    items = [Item(f"i{k}", 0, "q", "a", "a", "a", k < right, True, [1]) for k in range(n)]
    return Evaluation("sums", "accuracy", items)


def test_before_and_after_stand_side_by_side_with_intervals(tmp_path):
    folder = tmp_path / "evaluation"
    asked = {"asked": {"source": "/home/someone/data", "split": "test"}}
    answers(2).write(folder / "sums-base.json", asked)
    answers(7).write(folder / "sums.json", asked)
    text = results_of(tmp_path)
    assert "| `sums` | 10 items (source …/data, split test) | before | 20.0% [5.7, 51.0] (2/10) |" in text
    assert "| after | 70.0% [39.7, 89.2] (7/10) |" in text
    assert "* `sums`: +50.0 points [" in text
    assert "+5 −0" in text
    assert "Collapse" not in text


def test_the_demos_files_and_a_collapse(tmp_path):
    folder = tmp_path / "evaluation"
    answers(1).write(folder / "sums-before.json")
    answers(9).write(folder / "sums-after.json", {"answers": {"collapse": True, "in_words": "9 of 10 answers are 'A'"}})
    answers(9).write(folder / "sums-headroom-student.json")
    text = results_of(tmp_path)
    assert text.count("| `sums` |") == 2
    assert "+80.0 points" in text
    assert "* `sums`, after: 9 of 10 answers are 'A'" in text


def test_what_cannot_be_compared_or_read_is_left_out(tmp_path):
    folder = tmp_path / "evaluation"
    answers(1, 4).write(folder / "sums-base.json")
    answers(9).write(folder / "sums.json")
    (folder / "other.json").write_text("{")
    (folder / "other.jsonl").write_text("")
    (folder / "summary.json").write_text(json.dumps({"n": 3}))
    text = results_of(tmp_path)
    assert "points" not in text
    assert "other" not in text
    assert results_of(tmp_path / "nowhere") == ""


def test_a_folder_that_is_no_finished_run_gets_no_card(tmp_path):
    (tmp_path / "adapter").mkdir()
    renew_card(tmp_path)
    assert list((tmp_path / "adapter").iterdir()) == []
