from types import SimpleNamespace

from unisd.studies.page import curve, page, side_by_side, table


def test_model_text_is_escaped():
    item = SimpleNamespace(prompt="<b>q</b>", gold="A", output="<script>alert(1)</script>", parsed="A", correct=True)
    text = page("t & t", ["<i>lead</i>"], [("h", side_by_side([(item, item)]) + table(["<c>"], [["<d>"]]))])
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "<b>q" not in text
    assert "<i>lead" not in text
    assert "<c>" not in text
    assert "t &amp; t" in text


def test_curve_spans_its_points():
    drawn = curve([(1, 2.0), (2, 1.0), (3, 0.5)], "step", "loss")
    assert drawn.count("<svg") == 1
    assert len(drawn.split('points="')[1].split('"')[0].split()) == 3
    assert "Too few" in curve([(1, 2.0)], "step", "loss")
