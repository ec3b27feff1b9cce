"""One sequence a row: grouped within the budget, and read as alone."""

import torch
from hypothesis import given
from hypothesis import strategies as st

import families
from unisd.models.packed import PackedSequence
from unisd.models.padded import batches, padded_states, right_padded


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200), st.booleans())
def test_batches_keep_every_sequence_and_the_budget(lengths, budget, together):
    groups = batches(lengths, budget, together)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or (together and len(group) * max(lengths[i] for i in group) <= budget)


def test_a_shorter_row_ends_with_its_last_token():
    assert right_padded([[1, 2, 3], [7]], torch.device("cpu")).tolist() == [[1, 2, 3], [7, 7, 7]]


@torch.no_grad()
def test_states_are_those_of_each_sequence_alone():
    model = families.model("mamba")
    sequences = [PackedSequence([20, 21, 22], [30, 31]), PackedSequence([25], [40] * 9), PackedSequence([26, 27], [41])]
    expected = torch.cat([padded_states(model, [sequence]) for sequence in sequences])
    assert expected.shape[0] == 12
    torch.testing.assert_close(padded_states(model, sequences), expected, rtol=1e-5, atol=1e-5)
