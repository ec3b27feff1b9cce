"""What each normaliser makes alike, and what it leaves apart."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisd.errors import UsageError
from unisd.tasks.exact import exact_example, grade_exact, negative, negative_requests
from unisd.tasks.normalisers import NORMALISERS, normalised

ALIKE = {
    "latex": [
        (r"\frac{1}{2}", "1/2"),
        (r"\dfrac12", "1/2"),
        (r"$\frac{x+1}{2}$", "(x+1)/2"),
        (r"\frac{\frac{a}{b}}{c}", "(a/b)/c"),
        (r"\sqrt{3}", "sqrt(3)"),
        (r"x^{2}", "x^2"),
        (r"x^{n+1}", "x^(n+1)"),
        (r"90^{\circ}", "90°"),
        (r"90^\circ", "90°"),
        (r"5\,\text{cm}", "5 cm"),
        (r"\left(1, 2\right)", "(1, 2)"),
        (r"\(\mathrm{H}_2\mathrm{O}\)", "H_2O"),
        (r"50\%", "50%"),
        (r"\$5", "$5"),
        (r"2 \times 3", "2 * 3"),
        (r"2\cdot3", "2 * 3"),
        ("1{,}000", "1,000"),
        (r"\boxed{\frac{a}{b}}", r"\boxed{a/b}"),
    ],
    "unicode": [("“a” – b", '"a" - b'), ("ﬁve", "five"), ("a\u00adb\u200b", "ab"), ("½", "1⁄2"), ("Ａ", "A")],
    "accents": [("café", "cafe"), ("Ångström", "Angstrom"), ("naïve", "naive"), ("e\u0301", "e")],
    "case": [("Paris", "PARIS"), ("straße", "STRASSE")],
    "number_words": [
        ("twenty-one", "21"),
        ("Two hundred and five", "205"),
        ("three thousand two hundred", "3200"),
        ("five million", "5000000"),
        ("forty two apples", "42 apples"),
        ("zero", "0"),
        ("nineteen", "19"),
    ],
    "numbers": [
        ("1,000", "1000"),
        ("1,000,000.50", "1000000.5"),
        ("5.0", "5"),
        ("-5.00", "-5"),
        (".5", "0.5"),
        ("+5", "5"),
    ],
    "units": [
        ("5 kilometres", "5 km"),
        ("5km", "5 km"),
        ("5 meters per second", "5 m/s"),
        ("20 degrees Celsius", "20°C"),
        ("$5", "5 dollars"),
        ("$1,000.50", "1,000.50 dollars"),
        ("10 percent", "10%"),
        ("12 square metres", "12 m^2"),
        ("2 hours", "2 hrs"),
    ],
    "articles": [("The Eiffel Tower", "Eiffel Tower"), ("an apple", "apple"), ("man on the moon", "man on moon")],
    "punctuation": [
        ("U.S.A.", "USA"),
        ("well-known", "well known"),
        ("don't", "dont"),
        ("St. Louis", "St Louis"),
        ("a, b; c!", "a b c"),
        ("5.", "5"),
        ("(Paris)", "Paris"),
    ],
    "whitespace": [(" a \n\t b\u00a0", "a b")],
}
APART = {
    "latex": [(r"\frac{1}{2}", "12"), (r"\frac{a+b}{c}", "a+b/c"), (r"x^{12}", "x^1"), ("$5 and $6", "5 and 6")],
    "unicode": [("a", "b"), ("é", "e"), ("x²", "x3")],
    "accents": [("o", "e"), ("ø", "o")],
    "number_words": [("two three", "5"), ("one and two", "3"), ("nineteen eighty four", "103"), ("twenty ten", "30")],
    "numbers": [("007", "7"), ("1.2.3", "1.2.30"), ("5.01", "5"), ("10,5", "105"), ("2 + 3", "2 3"), ("-5", "5")],
    "units": [("5 m", "5 km"), ("5", "5 m"), ("5 min", "5 m"), ("5 $", "5 €"), ("5 m", "5 m/s")],
    "articles": [("Vitamin A", "Vitamin"), ("a", ""), ("theory", "ory"), ("A", "the")],
    "punctuation": [
        ("3.5", "35"),
        ("-2", "2"),
        ("50%", "50"),
        ("C++", "C"),
        ("C#", "C"),
        ("1/2", "12"),
        ("10:30", "1030"),
        ("x-1", "x 1"),
        ("$5", "5"),
    ],
    "case": [("a", "b")],
    "whitespace": [("a b", "ab")],
}


def test_every_normaliser_is_tried():
    assert ALIKE.keys() == APART.keys() == NORMALISERS.keys()
    assert all((function.__doc__ or "").strip() for function in NORMALISERS.values())


@pytest.mark.parametrize(("name", "a", "b"), [(name, *pair) for name, pairs in ALIKE.items() for pair in pairs])
def test_what_is_made_alike(name, a, b):
    assert normalised(a, [name]) == normalised(b, [name])
    assert a != b


@pytest.mark.parametrize(("name", "a", "b"), [(name, *pair) for name, pairs in APART.items() for pair in pairs])
def test_what_stays_apart(name, a, b):
    assert normalised(a, [name]) != normalised(b, [name])
    every = [other for other in NORMALISERS if other != "accents"]
    if name not in ("articles", "latex"):
        assert normalised(a, every) != normalised(b, every)


SIGNS = st.text(alphabet="aThe theA \\{}$^_frac12.,-+%°'\"()éß½km two-hundred\n", max_size=60) | st.text(max_size=60)


@given(SIGNS)
def test_none_fails_and_spaces_are_single(text):
    for name in NORMALISERS:
        made = normalised(text, [name])
        assert made == " ".join(made.split())
    assert normalised(text, list(NORMALISERS)) == normalised(text, list(reversed(NORMALISERS)))


@given(
    st.sampled_from([side for pairs in ALIKE.values() for pair in pairs for side in pair]),
    st.sampled_from([*NORMALISERS]),
)
def test_what_is_normalised_stays_as_it_is(text, name):
    once = normalised(text, [name])
    assert normalised(once, [name]) == once


@pytest.mark.parametrize(
    "text",
    ["{" * 30_000, r"\frac{" * 5_000, "one " * 10_000, "1," * 20_000, "a." * 20_000, "$" * 30_000, "the " * 9_000],
)
def test_no_text_makes_them_slow(text):
    start = time.process_time()
    normalised(text, list(NORMALISERS))
    assert time.process_time() - start < 2


# In a task


def graded(answer, said, *names):
    return grade_exact(exact_example("e", "What?", answer, normalise=names), said).correct


def test_answers_are_compared_as_the_names_say():
    assert graded("the Eiffel Tower", "Answer: eiffel tower", "case", "articles")
    assert not graded("the Eiffel Tower", "Answer: eiffel tower", "case")
    assert graded("Paris", "Answer: Paris")
    assert not graded("Paris", "Answer: paris")
    assert not graded("paris", "I love Paris.\nAnswer: Paris")
    assert not graded("Paris", "I love Paris.\nAnswer: paris")
    assert graded("Paris", "Answer: paris", "case")
    assert graded("twenty-one days", "Answer: 21 days.", "case", "number_words")
    assert graded(r"\frac{x}{2}", r"So \boxed{\frac{x}{2}}", "case", "latex")
    assert graded("x/2", r"Answer: $\frac{x}{2}$", "case", "latex")
    assert not graded("x/3", r"Answer: $\frac{x}{2}$", "case", "latex")
    assert graded(r"\frac{X}{2}", "Answer: X/2", "latex")
    assert not graded(r"\frac{X}{2}", "Answer: x/2", "latex")
    assert not graded("5 km", "Answer: 5 m", *NORMALISERS)
    assert not graded("Paris", "", *NORMALISERS)


def test_names_that_do_not_fit_and_answers_of_which_nothing_is_left():
    with pytest.raises(UsageError, match="there is no normaliser 'cases'; choose from latex, unicode"):
        exact_example("e", "What?", "a", normalise=["cases"])
    with pytest.raises(UsageError, match="numbers are compared by value; leave out the normalisers"):
        exact_example("e", "What?", "1", kind="number", normalise=["case"])
    with pytest.raises(UsageError, match="of the answer '-!-' the normalisers leave nothing"):
        exact_example("e", "What?", "-!-", normalise=["punctuation"])


def test_a_negative_is_not_what_the_normalisers_take_for_right():
    example = exact_example("e", "How far?", "5 km", normalise=["case", "units"])
    request = negative_requests(example)[0]
    assert negative(example, request, "It is quite far away from here.\nAnswer: 5 kilometres") is None
    assert negative(example, request, "It is quite near to this place.\nAnswer: nine miles") is not None
