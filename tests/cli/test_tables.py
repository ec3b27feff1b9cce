import pytest

from unisd.cli.tables import EVALUATION_COLUMNS, evaluation_rows, mechanisms_table, show, table, tell
from unisd.evaluation.answers import Evaluation, Item
from unisd.mechanisms import Acting


def printed(capsys, made):
    show(made)
    return capsys.readouterr().out


def lines(capsys, made):
    return [" ".join(line.split()) for line in printed(capsys, made).splitlines() if line.strip(" ─")]


def test_title_columns_and_rows_in_their_order(capsys):
    made = table("Figures", ("", "count"), [("b", "2"), ("a", "1")])
    assert lines(capsys, made) == ["Figures", "count", "b 2", "a 1"]


def test_what_looks_like_markup_is_printed_as_it_is(capsys):
    made = table("Names", ("name", "value"), [("[red]model[/red]", "[1.0, 2.0]"), ("runs/[a]", "[bold]")])
    assert lines(capsys, made)[2:] == ["[red]model[/red] [1.0, 2.0]", "runs/[a] [bold]"]


ROWS = [("teacher, gold, turn", "25.0% [10.1, 45.2] (6/24)", "7 of 24 were left out, because their texts were cut")]


def test_what_is_no_terminal_has_no_edge(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = printed(capsys, table("Figures", ("", "correct", "remarks"), ROWS, ["remarks"]))
    assert any(all(cell in line for cell in ROWS[0]) for line in text.splitlines())
    assert "\x1b" not in text


@pytest.mark.parametrize("columns", [60, 70, 80, 200])
def test_in_a_terminal_names_and_figures_stay_whole_and_notes_are_folded(columns, capsys, terminal):
    terminal(columns)
    text = printed(capsys, table("Figures", ("", "correct", "remarks"), ROWS, ["remarks"]))
    name, figures, note = ROWS[0]
    assert name in text
    assert figures in text
    assert all(len(line) <= columns for line in text.splitlines())
    assert all(word in text for word in note.split())
    assert note in text or columns < 200
    assert "…" not in text


@pytest.mark.parametrize("columns", [60, 80])
def test_a_table_that_is_too_wide_is_told_row_by_row(columns, capsys, terminal):
    terminal(columns)
    figures = "25.0% [10.1, 45.2] (6/24)"
    rows = [(name, figures, figures, figures) for name in ("student", "runs/" + "x" * 90)]
    text = printed(capsys, table("Evaluation", EVALUATION_COLUMNS, rows)).splitlines()
    assert text[:5] == [
        "Evaluation", "student", f"    correct: {figures}", f"    parsable: {figures}",
        f"    correct among parsable: {figures}",
    ]  # fmt: skip
    assert rows[1][0] in text


def test_words_are_explained_once_where_they_are_printed(capsys, terminal):
    made = table("Headroom", ("", "parsable"), [("negative: the text is not surely wrong", "5")])
    text = printed(capsys, made)
    assert [line.split(":")[0] for line in text.splitlines() if line.startswith("  (")] == [
        "  (headroom", "  (not surely wrong", "  (parsable",
    ]  # fmt: skip
    assert "(" not in printed(capsys, made)
    tell(["Two probes agree."])
    assert capsys.readouterr().out.splitlines()[1].startswith("  (probe: ")


def test_mechanisms_that_do_not_act_stand_out(capsys):
    acting = [
        Acting("ema teacher", "moved by 0.1", True, "lower it"),
        Acting("clipping", "0 % clipped", False, "lower the cap"),
    ]
    rows = lines(capsys, mechanisms_table(acting))
    assert rows[1:] == [
        "mechanism acts measured",
        "ema teacher yes moved by 0.1",
        "clipping NO 0 % clipped; lower the cap",
    ]


def test_without_mechanisms_the_table_says_so(capsys):
    assert lines(capsys, mechanisms_table([]))[-1] == "none is switched on"


def test_a_row_an_evaluation_with_counts_and_intervals():
    items = [
        Item(str(i), 0, "p", "A", "o", parsed, correct, True, [1])
        for i, (parsed, correct) in enumerate([("A", True), ("B", False), (None, False), (None, False)])
    ]
    ((name, correct, parsable, among),) = evaluation_rows({"mine": Evaluation("t", "accuracy", items).summary()})
    assert name == "mine"
    assert correct.startswith("25.0% [")
    assert correct.endswith("(1/4)")
    assert parsable.startswith("50.0% [")
    assert parsable.endswith("(2/4)")
    assert among.startswith("50.0% [")
    assert among.endswith("(1/2)")
    assert len(EVALUATION_COLUMNS) == 4
