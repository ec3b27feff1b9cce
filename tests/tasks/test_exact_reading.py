"""Numbers and texts are read as a person would; nothing makes a reader raise or slow."""

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd.tasks.exact_reading import Number, normal, number_in, read_number, read_texts

PROMPT = (
    "How many?\n\nReason in a few short sentences, then end with a last line "
    '"Answer: ...", where ... is the number alone.'
)

NUMBERS = [
    # the line that is asked for, and its neighbours
    ("Answer: 12", "12"),
    ("5 and 7 are 12.\nAnswer: 12", "12"),
    ("Answer: 12 apples", "12"),
    ("Answer: 12 apples in 3 boxes", "12"),
    ("Answer: 12.", "12"),
    ("Answer: 12!", "12"),
    ("answer: 12", "12"),
    ("ANSWER = 12", "12"),
    ("**Answer:** 12", "12"),
    ("**Answer: 12**", "12"),
    ("Answer:\n12", "12"),
    ("Answer:\n\n**12** cups", "12"),
    ("Answer: `12`", "12"),
    ("Answer: [12]", "12"),
    ("Answer: (12)", "12"),
    ("Answer (number): 12", "12"),
    ("Final answer: 12", "12"),
    ("The answer is 12 apples.", "12"),
    ("The final answer is: 12", "12"),
    ("The answer to the question is 12.", "12"),
    ("The correct answer would be 12, since 5 + 7 = 12.", "12"),
    ("答案：12", "12"),
    ("Die Antwort ist 12.", "12"),
    ("5 + 7 = 12\n#### 12", "12"),
    ("#### 1,234", "1234"),
    ("<answer>12</answer>", "12"),
    ('{"answer": 12}', "12"),
    ('{"answer": "12 km", "unit": "3"}', "12"),
    ("Answer: 12 (since 5 + 7)", "12"),
    ("Answer: 12. This is because 5 and 7 are 12.", "12"),
    ("Answer: about 12", "12"),
    ("Answer: ≈ 12.5", "12.5"),
    ("Answer: x = 7", "7"),
    ("Answer: 3 + 4 = 7", "7"),
    ("Answer: 12 = 3 * 4", "12"),
    ("Answer: 7, not 8", "7"),
    ("## Final Answer\n\nThe total is 12 apples.", "12"),
    ("Answer: The total is 12 apples.\nI hope that this helps!", "12"),
    ("Answer: 12\nThis is 5 plus 7.", "12"),
    ("The answer is 9 * 2 = $18.", "18"),
    ("Answer: minus three\nThat is 4 less than 1.", "-3"),
    # several declarations: the last that says something
    ("Answer: 12\nWait, I forgot one.\nAnswer: 13", "13"),
    ("Answer: 12\nThe answer is correct.", "12"),
    ("Answer: 12\n\nActually, it should be 13.", "13"),
    ("Answer: 12... no, 13", "13"),
    ("Answer: 12\nCorrection: 13", "13"),
    ("Answer: 12. Wait, no. It's 13.", "13"),
    ("Answer: 12\n\nHmm, actually it's 13 apples, since one was lost.", "13"),
    ("Answer: 12\nOops, I meant -13.", "-13"),
    ("Answer: 12\nNo, twelve and one. Make that 13.", "13"),
    ("Answer: 12\n\nI apologize for the confusion. The correct number is 13.", "13"),
    ("Answer: 12\nNo, wait, it's 13.\nAnswer: 14", "14"),
    # what follows an answer and corrects nothing
    ("Answer: 12, no doubt", "12"),
    ("Answer: 12, actually", "12"),
    ("Answer: 12\nNo, 3 is not right.", "12"),
    ("Answer: 12\nNo 5 apples are left.", "12"),
    ("Answer: 12\nActually, 3 of them are red.", "12"),
    ("Answer: 12\nActually, it took her 3 days.", "12"),
    ("Answer: 12\nWait, let me check: 5 + 7 = 12.", "12"),
    ("Answer: 12. Wait, 13?", "12"),
    ("Answer: 12 (room no. 5)", "12"),
    ("Wait, 5 apples.\nAnswer: 12", "12"),
    ("The answer is not 3 but 4.", "4"),
    ("A wrong answer is 3.\nAnswer: 4", "4"),
    ("<think>Answer: 3</think>Answer: 4", "4"),
    ("<think>Answer: 3</think>", None),
    ("Answer: 4\n\nQuestion: And of pears?\nAnswer: 9", "4"),
    ("Answer: 4<|im_end|>\n<|im_start|>user\nAnswer: 9", "4"),
    # how a number is written
    ("Answer: 1,234.50", "1234.5"),
    ("Answer: $1,234.50", "1234.5"),
    ("Answer: USD 12", "12"),
    ("Answer: US$12", "12"),
    ("Answer: -$12", "-12"),
    ("Answer: 12 €", "12"),
    ("Answer: -12", "-12"),
    ("Answer: − 12", "-12"),
    ("Answer: minus 12", "-12"),
    ("Answer: negative twelve", "-12"),
    ("Answer: +3", "3"),
    ("Answer: 007", "7"),
    ("Answer: .5", "0.5"),
    ("Answer: 12.0", "12"),
    ("Answer: 1.234,50 €", "1234.5"),
    ("Answer: 1.234.567", "1234567"),
    ("Answer: 3,5", "3.5"),
    ("Answer: 1 234 567", "1234567"),
    ("Answer: 1'234", "1234"),
    ("Answer: 1/2", "0.5"),
    ("Answer: 1/3", "1/3"),
    ("Answer: 1 1/2", "1.5"),
    ("Answer: 1½ cups", "1.5"),
    ("Answer: ¾", "0.75"),
    ("Answer: 50%", "50%"),
    ("Answer: 12.5 percent", "12.5%"),
    ("Answer: 1.5e3", "1500"),
    ("Answer: 2E-2", "0.02"),
    ("Answer: 1.5 × 10^3", "1500"),
    ("Answer: 1.5·10³", "1500"),
    ("Answer: 10^5", "100000"),
    ("Answer: 10²", "100"),
    ("Answer: 5 million", "5000000"),
    ("Answer: 5k", "5000"),
    ("Answer: 5 km", "5"),
    ("Answer: 60 km/h", "60"),
    ("Answer: 12 m²", "12"),
    ("Answer: 12cm^2", "12"),
    ("Answer: 90°", "90"),
    ("Answer: twelve", "12"),
    ("Answer: twenty-one apples", "21"),
    ("Answer: two thousand one hundred and five", "2105"),
    # LaTeX
    ("so we get $\\boxed{12}$", "12"),
    ("\\boxed{\\text{12 apples}}", "12"),
    ("\\[ \\boxed{\\dfrac{3}{4}} \\]", "0.75"),
    ("Answer: $1.5 \\times 10^{3}$", "1500"),
    ("Answer: $-\\frac12$", "-0.5"),
    ("Answer: 1\\frac{1}{2}", "1.5"),
    ("Answer: \\(1{,}234\\)", "1234"),
    ("Answer: 12\\%", "12%"),
    ("Answer: $90^{\\circ}$", "90"),
    # nothing declared
    ("12", "12"),
    ("12 apples", "12"),
    ("Let me count.\nSo she has 12 apples.", "12"),
    ("5 + 7 = 12", "12"),
    ("Answer: She has 5 apples. She gets 7 more. So she has 12.", "12"),
    ("Answer: She has 5 apples.\nShe gets 7 more.\nSo she has 12.", "12"),
    ("Answer:\nAt first she has only 5 apples.\nShe gets 7 more.\nSo she has 12.", "12"),
    ("Solution: She has 5 apples.\nShe gets 7 more.\nSo she has 12.", "12"),
    ("#### Step 3: the sum\nSo she has 12.", "12"),
    # where a person could not say
    ("#### 3. Conclusion", None),
    ("Answer: 1,2,3", None),
    ("Answer: 2024-05-01", None),
    ("Answer: 12 - 5", None),
    ("", None),
    ("I do not know.", None),
    ("Answer:", None),
    ("Answer: ...", None),
    ("Answer: unknown", None),
    (PROMPT, None),
    ("She has 5 and gets 7, so 12.", None),
    ("First, 12 apples are bought.\nThen", None),
    ("Answer: 3 or 4", None),
    ("Answer: 3, 4", None),
    ("Answer: 3-5", None),
    ("Answer: between 3 and 5", None),
    ("Answer: 3 out of 4", None),
    ("Answer: 2 hours 30 minutes", None),
    ("Answer: each of the 4 children gets 12", None),
    ("Answer: 3:30", None),
    ("Answer: 12/05/2020", None),
    ("Answer: 3 + 4", None),
    ("Answer: 2π", None),
    ("Answer: $2\\pi$", None),
    ("Answer: $\\frac{\\sqrt{3}}{2}$", None),
    ("Answer: √2", None),
    ("Answer: 2^10", None),
    ("Answer: 1/0", None),
    ("Answer: 1e999999", None),
]


@pytest.mark.parametrize(("text", "read"), NUMBERS)
def test_numbers_are_read_as_a_person_would(text, read):
    number = read_number(text)
    assert (None if number is None else str(number)) == read


TEXTS = [
    ("Answer: Paris", "paris"),
    ("Answer: Paris.", "paris"),
    ("answer:  PARIS ", "paris"),
    ("Answer: “Paris”", "paris"),
    ("**Answer:** *Paris*", "paris"),
    ("Answer:\nParis", "paris"),
    ("It is in France.\nAnswer: St. Petersburg", "st. petersburg"),
    ("The answer is Paris.", "paris"),
    ("The answer is 'Paris'. It lies on the Seine.", "paris"),
    ("The answer to the riddle is a towel.", "a towel"),
    ("#### Paris in spring", "paris in spring"),
    ("## Answer\n\nParis", "paris"),
    ("The answer is not Rome but Paris.", "paris"),
    ("\\boxed{\\text{Paris}}", "paris"),
    ('{"answer": "Paris", "why": "it is"}', "paris"),
    ("<answer>Paris</answer>", "paris"),
    ("Answer: Rome\nNo, that is Italy.\nAnswer: Paris", "paris"),
    ("Answer: Paris\nThe answer is correct.", "paris"),
    ("The answer is correct.", None),
    ("Answer: Not given", "not given"),
    ("Answer: correct", "correct"),
    ("The answer is: unknown", "unknown"),
    ("Answer: Rome. Wait, no. It's Paris.", "paris"),
    ("Answer: Rome\n\nActually, it should be Paris.", "paris"),
    ("Answer: Rome... no, Paris", "paris"),
    ("Answer: Rome\nCorrection: Paris", "paris"),
    ("Answer: Rome\nI mean Paris.", "paris"),
    ("Answer: Paris\nActually, it is a lovely city.", "paris"),
    ("Answer: Yes, no doubt", "yes, no doubt"),
    ("Answer: Paris\nSorry, I cannot say more.", "paris"),
    ("Answer: No", "no"),
    ("Answer: Dr. No", "dr. no"),
    ("Answer:\nWait", "wait"),
    ("Answer: Paris\nQuestion: And of Italy?\nAnswer: Rome", "paris"),
    ("<think>Answer: Rome</think>\nAnswer: Paris", "paris"),
    ("Paris", "paris"),
    ("Let me think.\nParis", "paris"),
    ("", None),
    ("Answer:", None),
    ("Answer: ...", None),
    ("I think about many cities and cannot decide which of them it is", None),
    ("It could be one of these:", None),
]


@pytest.mark.parametrize(("text", "read"), TEXTS)
def test_texts_are_read_as_a_person_would(text, read):
    assert next(iter(read_texts(text)), None) == read


def test_shorter_readings_of_a_text_follow_the_whole():
    assert read_texts("Answer: Paris. It is big.") == ["paris. it is big", "paris"]
    assert read_texts("Answer: Paris, because it is big.") == ["paris, because it is big", "paris"]
    assert read_texts("Answer: It is Paris.") == ["it is paris", "paris"]
    assert read_texts("Answer: Paris (France)") == ["paris (france)", "paris"]


def test_the_table_is_large_enough():
    assert len(NUMBERS) + len(TEXTS) >= 60
    assert len({text for text, _ in [*NUMBERS, *TEXTS]}) >= len(NUMBERS) + len(TEXTS) - 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1,234.50", "1234.5", True),
        ("1/2", "0.5", True),
        ("0.3333333", "1/3", True),
        ("0.33", "1/3", False),
        ("50%", "50", True),
        ("50%", "0.5", True),
        ("0.5", "50%", True),
        ("50%", "0.5%", False),
        ("0", "-0", True),
        ("0", "0.0000001", False),
        ("12", "-12", False),
        ("1e400", "1e400", True),
    ],
)
def test_equality_of_numbers(one, other, same):
    a, b = number_in(one), number_in(other)
    assert a is not None
    assert b is not None
    assert a.equals(b, 1e-6) is b.equals(a, 1e-6) is same


def test_a_number_is_shown_plainly():
    assert str(Number(Fraction(5, 2))) == "2.5"
    assert str(Number(Fraction(1, 3))) == "1/3"
    assert str(Number(Fraction(50), percent=True)) == "50%"
    assert str(number_in("1e400")) == "1" + "0" * 400
    assert "/" in str(number_in("1e-400"))
    assert str(number_in("1" * 300 + "." + "1" * 300 + "e400"))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200) | st.text("0123456789.,/%-+^e$ ×½²\n{}\\answer:is#()=", max_size=200))
def test_no_text_makes_a_reader_raise(text):
    number = read_number(text)
    assert number is None or str(number)
    texts = read_texts(text)
    assert all(texts)
    assert len(set(texts)) == len(texts)
    assert all(normal(one) == one for one in texts[:1] if one.isalnum())


@settings(max_examples=150, deadline=None)
@given(st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_every_decimal_is_read_back(digits, places):
    value = Fraction(digits, 10**places)
    written = f"{digits / 10**places:,.{places}f}" if abs(digits) < 10**9 else str(digits)
    number = read_number(f"So it goes.\nAnswer: {written}")
    assert number is not None
    assert number.value == (value if abs(digits) < 10**9 else digits)


PIECES = ["\\boxed{", "Answer: ", "1", "1,234", "1/2 ", "the answer to ", "$", "Answer:\n", "- ", "**", "\\frac{", "1 "]
PIECES += [
    "no, ",
    "\nactually, it's ",
    "Answer: 1, no, ",
    "{",
    "twenty ",
    "Q:",
    "\n",
    "~~",
    "<",
    "²",
    "½",
    "answer is not ",
    "####",
    "<think>",
    "</think>",
    "10^",
    "(",
    "-",
]


@pytest.mark.parametrize("piece", PIECES)
def test_time_grows_with_the_length_of_the_text(piece):
    text = piece * (40_000 // len(piece))
    start = time.perf_counter()
    read_number(text)
    read_texts(text)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("text", ["\ud800", "Answer: \ud800", "\x00", "Answer: " + "9" * 10_000])
def test_odd_texts_hold_no_number(text):
    assert read_number(text) is None
    assert len(read_texts(text)) <= 1
