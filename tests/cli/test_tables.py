import pytest

from unisd.cli.tables import EVALUATION_COLUMNS, evaluation_rows, mechanisms_table, show, table
from unisd.evaluation.answers import Evaluation, Item
from unisd.mechanisms import Acting


def printed(capsys, made):
    show(made)
    return capsys.readouterr().out


def lines(capsys, made):
    return [" ".join(line.split()) for line in printed(capsys, made).splitlines() if line.strip(" ─")]


@pytest.mark.usefixtures("wide")
def test_title_columns_and_rows_in_their_order(capsys):
    made = table("Figures", ("", "count"), [("b", "2"), ("a", "1")])
    assert lines(capsys, made) == ["Figures", "count", "b 2", "a 1"]


@pytest.mark.usefixtures("wide")
def test_what_looks_like_markup_is_printed_as_it_is(capsys):
    made = table("Names", ("name", "value"), [("[red]model[/red]", "[1.0, 2.0]"), ("runs/[a]", "[bold]")])
    assert lines(capsys, made)[2:] == ["[red]model[/red] [1.0, 2.0]", "runs/[a] [bold]"]


def test_a_long_cell_is_folded_and_loses_nothing(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    name = "runs/" + "x" * 150
    text = printed(capsys, table("Names", ("name", "value"), [(name, "1")]))
    assert all(len(line) <= 60 for line in text.splitlines())
    assert text.count("x") == 150
    assert "…" not in text


@pytest.mark.usefixtures("wide")
def test_mechanisms_that_do_not_act_stand_out(capsys):
    acting = [Acting("ema teacher", "moved by 0.1", True), Acting("clipping", "0 % clipped", False, "lower the cap")]
    rows = lines(capsys, mechanisms_table(acting))
    assert rows[1:] == ["mechanism acts measured", "ema teacher yes moved by 0.1", "clipping NO 0 % clipped"]


@pytest.mark.usefixtures("wide")
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
