"""Whatever a cell holds: it is made plain, or refused in one line."""

import datetime
import json
import math
from collections import UserDict
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd.errors import UsageError
from unisd.tasks.cells import plain


@pytest.mark.parametrize("nothing", [None, math.nan, np.nan, np.float32("nan"), pd.NA, pd.NaT, np.array(math.nan)])
def test_what_tables_write_for_nothing_is_none(nothing):
    assert plain(nothing) is None
    assert plain({"a": [nothing]}) == {"a": [None]}


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (np.int64(7), 7),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([{"role": "user"}], dtype=object), [{"role": "user"}]),
        (torch.tensor([1, 2]), [1, 2]),
        (pd.array([1, None], dtype="Int64"), [1, None]),
        (("a", 1), ["a", 1]),
        (UserDict(a=UserDict(b=1)), {"a": {"b": 1}}),
    ],
)
def test_arrays_and_their_numbers_are_lists_and_numbers(given, made):
    found = plain(given)
    assert found == made
    assert json.loads(json.dumps(found)) == made


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ab\ud83d", r"character 2 \(counted from 0\) is U\+D83D, half of a pair .* repair it"),
        ({"a": ["\udc00"]}, r"U\+DC00"),
        ({"\udc00": 1}, r"U\+DC00"),
        (math.inf, "it is inf; give a finite number"),
        (-math.inf, "it is -inf"),
        ([10**5000], "thousands of digits; write it as text"),
        (b"a", r"it is bytes; turn them into text with \.decode\(\)"),
        ({1: 2}, "a key of a mapping is of type int; keys are texts"),
        (datetime.date(2024, 1, 1), "type date; give text"),
        (Decimal("NaN"), "type Decimal"),
        ({"a"}, "type set"),
        (len, "type builtin_function_or_method"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_text_number_or_list_is_refused(given, said):
    with pytest.raises(UsageError, match=said) as caught:
        plain(given)
    assert "\n" not in str(caught.value)


def test_depth_has_an_end():
    deep = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(UsageError, match="nested too deep"):
        plain(deep)
    round_and_round = {}
    round_and_round["self"] = round_and_round
    with pytest.raises(UsageError, match="nested too deep"):
        plain(round_and_round)


def test_the_named_repair_of_text_repairs_it():
    pair = "\ud83d\ude00 and \udc00"
    assert plain(pair.encode("utf-16", "surrogatepass").decode("utf-16", "replace")) == "\U0001f600 and \ufffd"


TEXTS = st.text(st.characters(categories=["Cs", "L", "Cc"]), max_size=4)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=2) | st.dates()
VALUES = st.recursive(
    LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXTS | st.integers(), v, max_size=3), max_leaves=5
)


@given(VALUES)
@settings(max_examples=50)
def test_any_value_is_plain_or_refused_in_a_line(value):
    try:
        found = plain(value)
    except UsageError as error:
        found = str(error)
        value = None
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    assert plain(found) == found
    assert value is not None or found is None or "\n" not in found
