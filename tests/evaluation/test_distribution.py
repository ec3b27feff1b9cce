import pytest

from unisd.evaluation.distribution import COLLAPSE, LEAST, collapse_of, distribution


def given(answers, keys):
    return [(key, answer, answer == key) for key, answer in zip(keys, answers, strict=True)]


def test_one_letter_to_nearly_everything_is_a_collapse():
    found = distribution(given("A" * 97 + "BCB", "ABCDE" * 20))
    assert found.collapsed
    assert found.in_words() == "Collapse: 97 of 100 readable answers are 'A'; it is the key of 20%."
    assert found.summary()["collapse"]
    assert collapse_of({"answers": found.summary()}) == found.in_words()
    assert found.summary()["keys"] == dict.fromkeys("ABCDE", 20)


@pytest.mark.parametrize(
    ("answers", "keys", "collapsed"),
    [
        ("A" * 8 + "BC", "ABCDE" * 2, False),  # 80 % are not over 80 %
        ("A" * 9 + "B", "ABCDE" * 2, True),
        ("A" * (LEAST - 1), "ABC" * 3, False),  # too few to say so
        ("A" * 10, "A" * 9 + "B", False),  # the keys ask for it
        ("B" * 10, "A" * 9 + "B", True),
        ([None] * 90 + ["A"] * 10, "AB" * 50, True),  # of the readable ones
        ([None] * 20, "AB" * 10, False),
    ],
)
def test_what_counts_as_a_collapse(answers, keys, collapsed):
    found = distribution(given(answers, keys))
    assert found.collapsed is collapsed
    assert (collapse_of({"answers": found.summary()}) is not None) is collapsed
    assert 0 < COLLAPSE < 1


def test_of_calls_the_functions_are_counted():
    keys = [f'[{{"name": "f{i % 3}", "arguments": {{"n": {i}}}}}]' for i in range(12)]
    found = distribution(
        [(key, f'[{{"name": "f0", "arguments": {{"n": {i + 5}}}}}]', False) for i, key in enumerate(keys)]
    )
    assert found.function
    assert found.answers == {"f0": 12}
    assert found.keys == {"f0": 4, "f1": 4, "f2": 4}
    assert found.in_words() == "Collapse: 12 of 12 readable answers call 'f0'; it is the key of 33%."
    same = distribution([(key, keys[0], key == keys[0]) for key in keys])
    assert not same.function
    assert same.collapsed
    assert same.most_frequent == keys[0]


def test_right_answers_are_counted_as_their_key_is_written():
    found = distribution([("1/2", "0.5", True), ("1/2", "1/2", True), ("3", "4", False)])
    assert found.answers == {"1/2": 2, "4": 1}


def test_nothing_to_count():
    assert distribution([]).in_words() == "No answer could be read."
    assert not distribution([]).collapsed
    assert collapse_of({}) is None
    assert collapse_of({"answers": 3}) is None


def test_long_answers_are_shown_in_part():
    text = "x" * 500
    assert len(distribution([(text, text, True)] * 3).in_words()) < 160
