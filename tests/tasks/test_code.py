"""The code family: prompts, demonstrations, grading by running, and negatives that are surely wrong."""

import ast
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd.errors import UsageError
from unisd.sandbox import Outcome
from unisd.tasks import code
from unisd.tasks.code import ASK, BUGS, CodeTask, code_example, demonstration, prompt, shape
from unisd.tasks.python_source import called, renamed, same, signatures, stacked, tidied, without_comments

REFERENCE = "def total(numbers, start=0):\n    for n in numbers:\n        start += n\n    return start\n"
TESTS = ["assert total([1, 2, 3]) == 6", "assert total([]) == 0", "assert total([1], 4) == 5"]


class Plain(CodeTask):
    def load(self, split, source=None):
        return []


TASK = Plain()


def example(**changes):
    given = {"item_id": "t/1", "text": "Add the numbers of a list.", "reference": REFERENCE, "tests": TESTS, **changes}
    return code_example(given.pop("item_id"), given.pop("text"), given.pop("reference"), given.pop("tests"), **given)


def fenced(program: str) -> str:
    return f"```python\n{program}\n```"


@pytest.fixture
def sandbox(monkeypatch):
    """A stand-in for the sandbox that says for each run what it is told to say."""
    runs: list = []

    def install(*reasons: str) -> list:
        answers = iter(reasons)

        def run_tests(program: str, tests: list, setup: str = "") -> Outcome:
            runs.append((program, list(tests), setup))
            reason = next(answers)
            return Outcome(passed=not reason, reason=reason)

        monkeypatch.setattr(code, "run_tests", run_tests)
        return runs

    return install


# Examples


def test_the_prompt_holds_the_task_the_signature_and_the_tests():
    asked = example()
    parts = ["Add the numbers of a list.", "The program must define:", "def total(numbers, start=0):"]
    parts += ["It must pass these tests:", "\n".join(TESTS)]
    assert asked.question == "\n\n".join(parts)
    assert asked.prompt == f"{asked.question}\n\n{ASK}" == prompt(asked.question)
    assert (asked.id, asked.answer, asked.fields["name"]) == ("t/1", REFERENCE, "total")
    assert asked.demonstration == fenced(REFERENCE.strip())


def test_hidden_tests_are_not_in_the_prompt_and_grade_all_the_same():
    asked = example(show_tests=False, setup="X = 1")
    assert asked.prompt.count("total") == 1
    assert "X = 1" not in asked.prompt
    assert asked.fields["tests"] == TESTS


def test_an_example_survives_being_written_to_a_file():
    fields = example(setup="import math").fields
    assert json.loads(json.dumps(fields)) == fields


def test_the_signature_is_the_one_that_the_tests_call():
    reference = "class Pair:\n    def __init__(self, a, b=2):\n        self.a = a\n\ndef helper(x):\n    return x\n"
    reference += "\ndef best(pairs: list, *, key=None) -> int:\n    return helper(pairs[0].a)\n"
    asked = example(reference=reference, tests=["assert set([best([Pair(1)])]) == {1}"])
    assert asked.fields["name"] == "best"
    assert "class Pair:\n    def __init__(self, a, b=2):\n\ndef best(pairs: list, *, key=None) -> int:" in asked.prompt
    assert "helper" not in asked.prompt


def test_a_class_that_the_setup_makes_is_shown():
    reference = (
        "class Node:\n    def __init__(self, value):\n        self.value = value\n\ndef read(n):\n    return n.value\n"
    )
    asked = example(reference=reference, setup="root = Node(7)", tests=["assert read(root) == 7"])
    assert asked.fields["name"] == "read"
    assert "class Node:\n    def __init__(self, value):" in asked.prompt
    assert "root = Node(7)\n\nassert read(root) == 7" in asked.prompt
    assert TASK.grade(asked, asked.demonstration).correct


def test_a_function_called_like_one_of_pythons_own_is_found():
    asked = example(reference="def sum(a, b):\n    return a + b", tests=["assert sum(1, 2) == 3"])
    assert asked.fields["name"] == "sum"


def test_a_reference_of_another_name_is_renamed_throughout():
    reference = (
        "def helper(n):\n    return n\n\ndef fact(n):\n    # fact\n    return 1 if n < 2 else helper(n) * fact(n - 1)\n"
    )
    asked = example(reference=reference, tests=["assert math.isclose(factorial(4), 24)"], setup="import math")
    assert asked.fields["name"] == "factorial"
    assert "def factorial(n):" in asked.prompt
    assert "fact(" not in asked.demonstration
    assert TASK.grade(asked, asked.demonstration).correct


CHECK = "def check(candidate):\n    assert candidate([1, 2]) == 3"


@pytest.mark.parametrize(
    ("tests", "setup"),
    [
        ([f"{CHECK}\ncheck(total)"], ""),
        (["check(total)"], CHECK),
        (["def test():\n    assert total([1, 2]) == 3\ntest()"], ""),
        (["def test():\n    assert list(map(total, [[1, 2]])) == [3]\ntest()"], ""),
        (["wanted = total", "assert wanted([1, 2]) == 3"], ""),
        (["if total([1, 2]) != 3:\n    raise ValueError"], ""),
        (["assert total(numbers) == 3"], "numbers = [1, 2]"),
    ],
)
def test_names_of_the_tests_themselves_are_not_the_wanted_one(tests, setup):
    asked = example(tests=tests, setup=setup)
    assert asked.fields["name"] == "total"
    assert "The program must define:\n\ndef total(numbers, start=0):\n\n" in asked.prompt
    assert TASK.grade(asked, asked.demonstration).correct
    assert not TASK.grade(asked, asked.demonstration.replace("+=", "-=")).correct


def test_an_argument_of_a_test_may_be_called_like_the_wanted_function():
    tests = ["def check(total):\n    assert total([1, 2]) == 3\ncheck(total)"]
    assert example(tests=tests).fields["name"] == "total"


def test_line_ends_and_tabs_of_a_reference_are_normalised():
    asked = example(reference="def total(n, s=0):\r\n\tfor i in n: \r\n\t\ts += i\r\n\treturn s\r\n")
    assert asked.answer == "def total(n, s=0):\n    for i in n:\n        s += i\n    return s\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "def total(x) return x"}, "its reference is not Python: def total"),
        ({"tests": ["assert total(1) = 2"]}, "its test is not Python"),
        ({"setup": "import"}, "its setup is not Python"),
        ({"text": " "}, "no text"),
        ({"tests": []}, "no tests"),
        ({"tests": ["assert True"]}, "call no function"),
        ({"tests": ["total([1]) == 1", "total([]) == 0"]}, "hold no assertion, so any program passes"),
        ({"tests": ["print(total([1]))"], "setup": "import math"}, "hold no assertion"),
        ({"tests": ["def check(add):\n    assert add([1]) == 1\ncheck(other)"]}, "call no function"),
        ({"tests": ["assert len([]) == 0"]}, "call no function"),
        ({"reference": "X = 1"}, "call no function"),
        ({"setup": "from math import floor", "tests": ["assert floor(1.5) == 1"]}, "call no function"),
    ],
)
def test_an_item_that_cannot_be_graded_is_named(changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        example(**changes)
    assert str(caught.value).startswith("item t/1: ")
    assert "\n" not in str(caught.value)


def test_a_demonstration_has_no_comments():
    program = 'def f(x):  # add\n    """Add."""\n    # one\n    return "#" + x  # here\n'
    assert demonstration(program) == '```python\ndef f(x):\n    return "#" + x\n```'


# Grading


@pytest.mark.parametrize(
    ("text", "correct", "note"),
    [
        (fenced(REFERENCE), True, ""),
        (f"Here it is:\n{REFERENCE}\nDone.", True, ""),
        (fenced("total = lambda n, s=0: sum(n, s)"), True, ""),
        (fenced(REFERENCE + "\nprint(total([int(input())]))"), True, ""),
        (fenced(REFERENCE.replace("+=", "-=")), False, "assertion 1 of 3 failed"),
        (fenced("def total(n):\n    return sum(n)"), False, "test 3 of 3: TypeError"),
        (fenced("def add(n, s=0):\n    return sum(n, s)"), False, "NameError"),
        (fenced("class Solution:\n    def total(self, n, s=0):\n        return sum(n, s)"), False, "NameError"),
        (fenced("def total(n, s=0):\n    raise SystemExit"), False, "ended"),
        ("def total(n, s=0)", False, "no Python program in the output"),
        ("I cannot.", False, "no Python program in the output"),
        ("", False, "no Python program in the output"),
    ],
)
def test_a_program_is_graded_by_its_tests(text, correct, note):
    grade = TASK.grade(example(), text)
    assert grade.correct is correct
    assert note in grade.note
    assert (grade.note == "") is correct
    assert (grade.parsed is None) is (note == "no Python program in the output")


def test_the_setup_comes_behind_the_program_with_every_test(sandbox):
    runs = sandbox("")
    TASK.grade(example(setup="base = 1"), fenced(REFERENCE))
    assert runs == [(REFERENCE, [f"base = 1\n{test}" for test in TESTS], "")]


def test_a_note_can_be_written_to_a_file(sandbox):
    sandbox("ValueError: \ud800")
    TASK.grade(example(), fenced(REFERENCE)).note.encode("utf-8")


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.text(), st.text().map(fenced), st.text().map(lambda text: fenced(REFERENCE) + text)))
def test_no_text_makes_a_grader_raise(text):
    real, code.run_tests = code.run_tests, lambda program, tests: Outcome(False, "not run")
    try:
        grade = TASK.grade(example(), text)
        TASK.negative(example(), TASK.negative_requests(example())[0], text)
    finally:
        code.run_tests = real
    assert not grade.correct
    assert grade.parsed is None or ast.parse(grade.parsed)


@pytest.mark.parametrize(
    "text", ["\ud800", "\0", fenced("def total(n):\n    return '\ud800'"), "(" * 9999, "```" * 999]
)
def test_odd_texts_are_wrong_and_do_not_raise(text):
    grade = TASK.grade(example(), text)
    assert (grade.correct, grade.parsed) == (False, None)


# Negatives


def test_four_requests_ask_for_the_four_kinds_of_bugs_in_the_gold_format():
    requests = TASK.negative_requests(example())
    assert [request.target for request in requests] == list(BUGS)
    assert list(BUGS) == ["off-by-one", "wrong operator", "missing edge case", "wrong return value"]
    for request in requests:
        assert request.prompt.startswith(example().question)
        assert request.prompt.endswith(ASK)
        assert BUGS[request.target] in request.prompt


def negative(program: str, **changes: object) -> str | None:
    asked = example(**changes)
    return TASK.negative(asked, TASK.negative_requests(asked)[0], fenced(program))


def test_a_wrong_result_becomes_a_demonstration_in_the_gold_format():
    wrong = REFERENCE.replace("+=", "-=")
    assert negative(wrong) == fenced(wrong.strip())
    assert negative(wrong.replace("-= n", "-= n  # bug: the wrong operator")) == fenced(wrong.strip())
    assert negative(wrong.replace("    for", '    """This is wrong."""\n    for')) == fenced(wrong.strip())
    assert negative(wrong + "\nprint(total([1]))") == fenced(wrong.strip())


def test_an_error_in_the_function_is_wrong_too():
    wrong = "def total(numbers, start=0):\n    return numbers[0] + total(numbers[1:], start)"
    assert negative(wrong) == fenced(wrong)


@pytest.mark.parametrize(
    "program",
    [
        REFERENCE,
        REFERENCE + "# another comment",
        "def total(n, s=0):\n    return sum(n, s)",  # another solution, but right
        "def add(n, s=0):\n    return 0",
        "def total(n, s=0):\n    pass",
        "def total(n, s=0)\n    return 0",
        "X = [][0]\ndef total(n, s=0):\n    return X",
        "class N(int):\n    def __eq__(self, o):\n        return o == 6\ndef total(n, s=0):\n    return N()",
        "def total(n, s=0):\n    return total(n, s)",
        "def total(n, s=0):\n    return nothing(n)",
        "def total(n, s=0):\n    import nowhere\n    return nowhere.total(n)",
        "def total():\n    return 0",
        "def total(n, s=0):\n    return int(input())",
        "def total(n, s=0):\n    exit()",
        "def total(n, s=0):\n    buggy_sum = 0\n    return buggy_sum",
        "def total(n, s=0):\n    return 'off by one'",
        "x = 1",
    ],
)
def test_what_is_not_surely_wrong_or_betrays_itself_is_no_negative(program):
    assert negative(program) is None


def test_words_that_the_task_itself_uses_betray_nothing():
    program = "def check(x):\n    return 'incorrect'"
    changes = {"reference": "def check(x):\n    return x or 'incorrect'", "tests": ["assert check(1) == 1"]}
    assert negative(program, **changes) == fenced(program)


@pytest.mark.parametrize(
    ("reason", "wrong"),
    [
        ("assertion 2 of 3 failed: total([]) == 'NameError'", True),
        ("assertion 2 of 3 failed (a type of the program's own decides it): total([]) == 0", False),
        ("a type of the program's own decides a comparison", False),
        ("test 1 of 3: RecursionError: maximum recursion depth exceeded", False),
        ("test 1 of 3: IndexError: list index out of range", True),
        ("test 1 of 3: UnboundLocalError: x", True),
        ("test 1 of 3: TypeError: unsupported operand", True),
        ("test 1 of 3: TypeError: total() takes 1 positional argument but 2 were given", False),
        ("test 1 of 3: TypeError: total() got an unexpected keyword argument 'x'", False),
        ("test 1 of 3: NameError: name 'x' is not defined", False),
        ("test 1 of 3: ModuleNotFoundError: No module named 'x'", False),
        ("test 1 of 3: EOFError: EOF when reading a line", False),
        ("SyntaxError: line 1: invalid syntax", False),
        ("took longer than 10 s", False),
        ("out of memory", False),
        ("ended before its assertions ran", False),
        ("ended before its assertions ran (SIGKILL)", False),
        ("test 1 of 3: none of its assertions ran", False),
    ],
)
def test_the_sandbox_reason_decides_whether_a_program_is_wrong_or_unfinished(sandbox, reason, wrong):
    runs = sandbox("", reason)
    built = negative("def total(n, s=0):\n    return 1")
    assert (built is not None) is wrong
    assert runs[0][1] == ["assert callable(total)"]
    assert runs[1][1] == TESTS


def test_a_program_that_does_not_load_is_not_run_further(sandbox):
    runs = sandbox("IndexError: list index out of range")
    assert negative("X = [][0]\ndef total(n, s=0):\n    return X") is None
    assert len(runs) == 1


def test_an_item_without_a_demonstration_has_no_negatives():
    asked = example()
    bare = type(asked)(asked.id, asked.prompt, asked.question, asked.answer, None, asked.fields)
    assert TASK.negative_requests(bare) == []
    assert TASK.negative(bare, TASK.negative_requests(asked)[0], fenced("def total(n, s=0):\n    return 1")) is None


# Sources


def test_comments_go_and_everything_else_stays():
    source = (
        "# a\nimport math  # b\n\n\ndef f(x):\n    '''Doc\n    # not a comment'''\n    s = '#'\n    # c\n    return s\n"
    )
    assert without_comments(source) == "import math\n\n\ndef f(x):\n    s = '#'\n    return s\n"
    assert without_comments("def f():\n    'doc'\n") == "def f():\n    'doc'\n"
    assert without_comments("def f(: # x") is None


def test_a_name_is_replaced_but_not_in_attributes_texts_or_longer_names():
    source = "def ab(x):\n    x.ab = 'ab'\n    abc = ab(x); return ab\n"
    assert renamed(source, "ab", "cde") == "def cde(x):\n    x.ab = 'ab'\n    abc = cde(x); return cde\n"


def test_layout_is_tidied_only_where_it_means_nothing():
    assert tidied("x = 1 \r\nif x:\r\n\ty = 2\r\n") == "x = 1\nif x:\n    y = 2\n"
    assert tidied("if x:\n        y = 1\n\tz = 2\n") == "if x:\n        y = 1\n        z = 2\n"
    assert tidied("x = '''a \nb'''\n") == "x = '''a \nb'''\n"
    assert tidied("x = '\t'\n") == "x = '\t'\n"


def test_calls_are_listed_outermost_first_and_signatures_in_order():
    assert called(["assert f(g(1)) == h(2)", "assert math.isclose(k(1), 2)", "x"]) == ["f", "h", "g", "k"]
    source = "async def a(x, /, *y): pass\nclass B(int): pass\ndef c(): pass\n"
    assert signatures(source, ["c", "B", "a"]) == ["async def a(x, /, *y):", "class B:", "def c():"]


def test_sources_are_the_same_if_they_mean_the_same():
    assert same("f( 1 ) # x", "f(1)")
    assert not same("f(1)", "f(2)")
    assert not same("f(", "f(")


def test_future_imports_come_first_when_sources_are_stacked():
    future = "from __future__ import annotations"
    assert (
        stacked(["import math", f"{future}\nx = 1", "", f"{future}\ny = 2"])
        == f"{future}\n\nimport math\n\nx = 1\n\ny = 2"
    )
    assert stacked(["x = 1", f"{future}; import os\ny = 2"]) == f"{future}\n\nx = 1\n\nimport os\ny = 2"
    long = "'Doc.'\nfrom __future__ import (\n    annotations,\n    division,\n)\ny = 2"
    assert stacked(["x = 1", long]) == f"{future}, division\n\nx = 1\n\n'Doc.'\ny = 2"
    assert stacked(["x = 1", "y = ("]) == "x = 1\n\ny = ("


# Shapes


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x):\n    'Doc.'\n    return sum(x)  # why", "def g(nums):\n    return sum(nums)"),
        ("def f(sum):\n    return sum", "def g(n):\n    return n"),
        ("def f(x):\n    return g(x)\ndef g(x): return sum(x)", "def a(x):\n    return b(x)\ndef b(y): return sum(y)"),
        ("def f(x, key):\n    return sorted(x, key=key)", "def f(x, k):\n    return sorted(x, key=k)"),
        ("def f(x):\n    return g(y=x)\ndef g(y): return y", "def f(x):\n    return h(z=x)\ndef h(z): return z"),
        ("def f(x):\n    return [x for x in x]", "def f(x):\n    return [y for y in x]"),
        ("def f(x, n=lambda a: a):\n    return n(x)", "def f(b, c=lambda d: d):\n    return c(b)"),
        ("import re\ndef f(x): return re.sub('', '', x)", "import re as r\ndef f(x): return r.sub('', '', x)"),
        ("def f():\n    global c\n    c = 1", "def f():\n    global d\n    d = 1"),
        ("class A:\n    v = 1\n    def m(self): return self.v", "class B:\n    v = 1\n    def m(s): return s.v"),
        ("try:\n    x = 1\nexcept OSError as e:\n    x = e", "try:\n    y = 1\nexcept OSError as f:\n    y = f"),
    ],
)
def test_programs_that_differ_in_names_and_comments_have_one_shape(one, other):
    assert shape(one) == shape(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x): return sum(x)", "def f(x): return max(x)"),
        ("def f(x, y): return x - y", "def f(x, y): return y - x"),
        ("def f(x, n=1): return x", "def f(x, n=2): return x"),
        ("from math import sqrt\ndef f(x): return sqrt(x)", "from math import floor\ndef f(x): return floor(x)"),
        ("def f(x): return x.lower()", "def f(x): return x.upper()"),
        ("def f(x):\n    y = x\n    return y", "def f(x):\n    y = x\n    return x"),
        ("def f(", "def g("),
    ],
)
def test_programs_that_do_something_else_have_another_shape(one, other):
    assert shape(one) != shape(other)


def test_a_shape_of_any_program_is_a_short_text_in_the_fields():
    assert example().shape == shape(REFERENCE) == shape(REFERENCE.replace("numbers", "xs"))
    assert len(shape("x = 1" + " + 1" * 3000)) == len(shape("\ud800")) == 64
