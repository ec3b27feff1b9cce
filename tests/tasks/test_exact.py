"""Exact answers: demonstrations grade correct, negatives are surely wrong, and grading never raises."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd.errors import UsageError
from unisd.tasks.exact import ExactTask, exact_example, grade_exact, negative, negative_requests, prompt


class Plain(ExactTask):
    def load(self, split, source=None):
        return []


def number(answer: str = "12", **changes):
    settings = {"kind": "number", "rationale": "Five and seven are twelve"} | changes
    return exact_example("n1", "Ann has 5 apples and gets 7. How many has she?", answer, **settings)


def text(answer="Paris", **changes):
    return exact_example("t1", "What is the capital of France?", answer, **changes)


def test_an_example_of_each_kind():
    example = number()
    assert example.prompt == prompt(example.question, "number")
    assert example.prompt.endswith('"Answer: ...", where ... is the number alone.')
    assert example.demonstration == "Five and seven are twelve.\nAnswer: 12"
    assert example.answer == "12"
    assert text().demonstration == "Answer: Paris"
    assert text(rationale=None).demonstration is None
    assert text(topic="cities").fields["topic"] == "cities"
    assert "in as few words as possible" in text().prompt


def test_repeating_the_prompt_is_no_answer():
    for example in (number(), text()):
        assert grade_exact(example, example.prompt).parsed is None
        assert grade_exact(example, example.prompt + "\nAnswer: " + example.answer).correct


@pytest.mark.parametrize(
    ("answer", "output", "correct", "parsed"),
    [
        ("12", "Answer: 12 apples", True, "12"),
        ("1,234.5", "Answer: $1234.50", True, "1234.5"),
        ("1/3", "Answer: 0.33333333", True, "0.33333333"),
        ("1/3", "Answer: 0.33", False, "0.33"),
        ("50%", "Answer: 0.5", True, "0.5"),
        ("12", "Answer: 13", False, "13"),
        ("12", "Answer: -12", False, "-12"),
        ("12", "Answer: 12 or 13", False, None),
        ("12", "", False, None),
    ],
)
def test_numbers_are_graded_by_value(answer, output, correct, parsed):
    grade = Plain().grade(number(answer), output)
    assert (grade.correct, grade.parsed) == (correct, parsed)


def test_the_tolerance_is_the_items_own():
    assert grade_exact(number("1/3", tolerance=0.02), "Answer: 0.33").correct
    assert not grade_exact(number("0.3333333", tolerance=0), "Answer: 1/3").correct
    assert grade_exact(number("0.1", tolerance=0), "Answer: 1/10").correct


@pytest.mark.parametrize(
    ("output", "correct"),
    [
        ("Answer: paris.", True),
        ('Answer: "Paris"', True),
        ("The answer is Paris, because it is the capital.", True),
        ("Answer: Paris. It lies on the Seine.", True),
        ("Answer: City of Light", True),
        ("Answer: Parish", False),
        ("Answer: Rome, not Paris", False),
        ("Paris is lovely.\nAnswer: Rome", False),
        ("", False),
    ],
)
def test_texts_are_graded_by_what_they_say(output, correct):
    assert Plain().grade(text(["Paris", "the City of Light", "City of Light"]), output).correct is correct


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: text(""), "is empty"),
        (lambda: text([]), "the question or the answer is empty"),
        (lambda: text("..."), "is empty"),
        (lambda: text("Rome, no, Paris"), "cannot be read back"),
        (lambda: number("twelvish"), "is no number"),
        (lambda: number("3 or 4"), "is no number"),
        (lambda: number(kind="date"), "choose one of text, number"),
        (lambda: number(tolerance=1), "tolerance=1"),
        (lambda: exact_example("e", " ", "12"), "the question or the answer is empty"),
    ],
)
def test_what_cannot_be_graded_is_named(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("answer", ["Not given", "correct", "incorrect", "unknown", "True", "given", "above", "Clear"])
def test_short_answers_of_any_meaning_can_be_asked_for(answer):
    example = text(answer, rationale="The text does not say it")
    assert grade_exact(example, example.demonstration).correct
    assert grade_exact(example, f"The answer is: {answer.upper()}.").correct
    assert not grade_exact(example, "Answer: Paris").correct
    assert not grade_exact(text(), f"Answer: {answer}").correct


# Negatives


def test_four_requests_name_four_mistakes_and_not_the_answer():
    for example in (number("4711"), text()):
        requests = negative_requests(example)
        assert len({request.target for request in requests}) == len({request.prompt for request in requests}) == 4
        assert all(example.answer not in request.prompt for request in requests)


@pytest.mark.parametrize(
    ("output", "built"),
    [
        ("Five and seven are thirteen.\nAnswer: 13", "Five and seven are thirteen.\nAnswer: 13"),
        ("She gets 7 more apples. This is a mistake. So she has 13.\nAnswer: 13 apples", "*13"),
        (
            "One is. Two is. Three is. Four is.\nAnswer: 13",
            "One is. Two is. Three is.\nAnswer: 13",
        ),
        ("Five and seven are twelve.\nAnswer: 12", None),
        ("Five and seven are about twelve.\nAnswer: 12.1", None),
        ("Answer: 13", None),
        ("Five and seven are many.", None),
        ("The slip is here.\nAnswer: 13", None),
        ("", None),
    ],
)
def test_a_negative_number_is_built_or_refused(output, built):
    example = number()
    found = negative(example, negative_requests(example)[0], output)
    if built is None or not built.startswith("*"):
        assert found == built
    else:
        assert found is not None
        assert found.endswith(f"Answer: {built[1:]}")
        assert "mistake" not in found


def test_a_negative_text_shares_no_word_with_the_answer():
    example = text("the Eiffel tower")
    request = negative_requests(example)[0]
    built = negative(example, request, "It is very old and tall.\nAnswer: Big Ben")
    assert built == "It is very old and tall.\nAnswer: Big Ben"
    assert negative(example, request, "It is very old and tall.\nAnswer: Tower of London") is None
    assert negative(example, request, "It is very old and tall.\nAnswer:") is None
    assert negative(example, request, "It is very old and tall.\nAnswer: unknown") is None
    built = negative(text("Not given"), request, "It is in the last line.\nAnswer: unknown")
    assert built == "It is in the last line.\nAnswer: unknown"


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=120) | st.text("Answer: 0123456789.,/%\n", max_size=80))
def test_no_output_makes_the_grader_or_the_negatives_raise(output):
    for example in (number(), text()):
        grade = grade_exact(example, output)
        assert grade.parsed is not None or not grade.correct
        for request in negative_requests(example)[:1]:
            built = negative(example, request, output)
            assert built is None or not grade_exact(example, built).correct


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=40), st.text(max_size=80))
def test_every_answer_is_refused_or_read_back_from_its_demonstration(answer, rationale):
    try:
        example = text(answer, rationale=rationale)
    except UsageError:
        return
    assert example.demonstration is not None
    assert grade_exact(example, example.demonstration).correct


def test_a_wrong_answer_below_the_right_rationale_is_wrong():
    assert not grade_exact(number(), "Five and seven are twelve.\nAnswer: 11").correct
