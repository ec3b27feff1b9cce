"""Formulas count as the same where they are, with math-verify; without it, answers are compared as they are written."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd.tasks import formulas
from unisd.tasks.exact import exact_example, grade_exact, negative, negative_requests
from unisd.tasks.exact_reading import formula_in, read_formula

needs_library = pytest.mark.skipif(not formulas.installed(), reason="the extra math is not installed")


def graded(kind, answer, output):
    return grade_exact(exact_example("m1", "How much is it?", answer, kind=kind), f"So it is.\nAnswer: {output}")


# kind, right answer, what is said, whether that is right with the library, and without
PAIRS = [
    ("text", "0.5", "1/2", True, False),
    ("number", "0.5", "1/2", True, True),
    ("text", r"\frac{1}{2}", "0.5", True, False),
    ("text", r"2\sqrt{3}", r"$\sqrt{12}$", True, False),
    ("text", "2√3", r"\(\sqrt{12}\).", True, False),
    ("text", r"$2\sqrt{3}$", r"$\sqrt{13}$", False, False),
    ("text", r"2\sqrt{3}", r"$2\sqrt{3} \approx 3.46$", True, False),
    ("text", r"2\sqrt{3}", "3.4641016", True, False),
    ("text", r"2\sqrt{3}", "3.46", False, False),
    ("text", r"\frac{\sqrt{2}}{2}", r"$\frac{1}{\sqrt 2}$", True, False),
    ("text", r"\sqrt{\frac12}", r"\sqrt\frac{1}{2}", True, True),
    ("text", "1", r"2^\frac12", False, False),
    ("text", "x+1", "1+x", True, False),
    ("text", "x+1", "$y = 1 + x$", True, False),
    ("text", "x+1", "x+2", False, False),
    ("text", "x^2+2x+1", "(x+1)^2. It is a square.", True, False),
    ("text", "e^x", "$e^{-x}$", False, False),
    ("text", r"\pi/4", r"$\frac{\pi}{4}$", True, False),
    ("number", "12", r"$2\sqrt{36}$", True, False),
    ("number", "12", r"$\sqrt{143}$", False, False),
    ("number", "1,024", "2^10", True, False),
    ("number", "0.8660254", r"$\frac{\sqrt{3}}{2}$", True, False),
    # a percent sign is part of a number, not of a text
    ("number", "50%", "0.5", True, True),
    ("number", "0.5", r"50\%", True, True),
    ("text", r"50\%", "0.5", False, False),
    # what only looks like a formula
    ("text", "3", "4", False, False),
    ("text", "12", "12 apples", False, False),
    ("number", "12", "12 apples", True, True),
    ("number", "12", "13 apples", False, False),
    ("number", "7", "12 - 5", False, False),
    ("text", "3-2", "4-3", False, False),
    ("text", "007", "7", False, False),
    ("text", "4B", "B4", False, False),
    ("text", "1A", "A", False, False),
    ("text", "0A", "0B", False, False),
    ("text", "a/a", "b/b", False, False),
    ("text", "R+r", "2r+0", False, False),
    ("text", "on", "no", False, False),
    ("text", "eat", "tea", False, False),
    ("text", "A-B-C", "A-C-B", False, False),
    ("text", "2020/1/5", "2020/5/1", False, False),
    ("text", "10:30", "1/3", False, False),
    ("text", "5 km", "5 m", False, False),
    ("text", "5 m", "5 s", False, False),
    ("text", "5", "5 m", False, False),
    ("text", "(1,2)", "(2,1)", False, False),
    ("text", "1, 2", "2, 1", False, False),
    ("text", "x = 5", "y = 5", False, False),
    ("text", "not 3", "3", False, False),
]


@needs_library
@pytest.mark.parametrize(("kind", "answer", "output", "with_library", "_"), PAIRS)
def test_with_the_library(kind, answer, output, with_library, _):
    grade = graded(kind, answer, output)
    assert grade.correct is with_library
    assert grade.parsed is not None or not grade.correct


@pytest.mark.parametrize(("kind", "answer", "output", "_", "without"), PAIRS)
def test_without_the_library(monkeypatch, kind, answer, output, _, without):
    monkeypatch.setattr(formulas, "installed", lambda: False)
    monkeypatch.setattr(formulas.subprocess, "Popen", lambda *_, **__: pytest.fail("nothing may be started"))
    assert graded(kind, answer, output).correct is without


def test_the_library_is_looked_for_and_not_imported(monkeypatch):
    monkeypatch.setattr(formulas.importlib.util, "find_spec", lambda name: None)
    assert not formulas.installed()
    assert not formulas.same("1/2", "0.5", 1e-6)


@needs_library
def test_the_tolerance_is_the_items_own():
    assert formulas.same("0.33", r"\frac{1}{3}", 0.02)
    assert not formulas.same("0.33", r"\frac{1}{3}", 1e-6)
    assert not formulas.same("0.0000002", "0.0000003", 1e-6)
    assert not formulas.same("10^{400}", "10^{401}", 1e-6)
    assert formulas.same("10^{400}", "100^{200}", 1e-6)


@needs_library
def test_a_formula_of_the_right_value_is_no_wrong_answer():
    example = exact_example("m1", "How long is it?", r"2\sqrt{3}")
    request = negative_requests(example)[0]
    assert negative(example, request, "It is rather long, I say.\nAnswer: $\\sqrt{12}$") is None
    assert negative(example, request, "It is rather long, I say.\nAnswer: $\\sqrt{15}$") is not None


@pytest.fixture
def _impatient(monkeypatch):
    """A process of this test's own, which gives up soon."""
    monkeypatch.setattr(formulas, "_CPU_SECONDS", 1.5)
    monkeypatch.setattr(formulas, "_running", None)
    yield
    formulas._end()


@needs_library
@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("bomb", ["9^{9^{9^9}}", "(a+b+c)^{99}(a+2b+c)^{98}"])
def test_no_formula_hangs_the_grader(bomb):
    start = time.perf_counter()
    assert not formulas.same(bomb, "3x+4", 1e-6)
    assert time.perf_counter() - start < 60
    assert formulas.same("1/2", "0.5", 1e-6)  # a new process answers


@needs_library
def test_threads_may_ask_at_once():
    results = {}

    def ask(number):
        results[number] = formulas.same(str(number), f"{2 * number}/2", 1e-6), formulas.same(str(number), "0.5", 1e-6)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(1, 9), (True, False))


@needs_library
def test_odd_formulas_are_different():
    for odd in ("", "}{", "1/0", "(", r"\frac{1}", "\ud800", "$", "1\n1"):
        assert not formulas.same(odd, "1", 1e-6)
        assert not formulas.same("1", odd, 1e-6)
    assert formulas.same("1", "1", 1e-6)


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("Answer: x² + 1", "x^{2} + 1"),
        ("Answer: $x = \\frac{y}{3}$", "\\frac{y}{3}"),
        ("so \\boxed{\\dfrac{\\sqrt{3}}{2}}", "\\dfrac{\\sqrt{3}}{2}"),
        ("x+1", "x+1"),
        ("Answer: 3x/2\nCorrection: 4x/2", "4x/2"),
        ("Answer: " + "x+" * 60 + "x", None),
        ("Answer: 3 or 4", None),
        ("Answer:", None),
        ("", None),
    ],
)
def test_formulas_are_read(text, formula):
    assert read_formula(text) == formula


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=120) | st.text("0123456789.xyz+-*/^(){}√ \\fracsqrt$=Answer:\n", max_size=120))
def test_no_text_makes_the_reader_raise(text):
    found = read_formula(text)
    assert found is None or (found and len(found) <= 100)
    assert formula_in(text) is None or len(text) >= 1
