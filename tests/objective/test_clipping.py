import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unisd.objective.clipping import clip, quantile

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


def test_clipped_tokens_keep_the_cap_and_lose_their_gradient():
    values = torch.tensor([0.5, 2.0, 3.0, 2.0001], requires_grad=True)
    clipped, is_clipped = clip(values, 2.0)
    assert clipped.tolist() == [0.5, 2.0, 2.0, 2.0]
    assert is_clipped.tolist() == [False, False, True, True]
    (clipped * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert values.grad.tolist() == [1.0, 2.0, 0.0, 0.0]


def test_the_cap_may_be_a_tensor_and_passes_no_gradient():
    values = torch.tensor([1.0, 5.0], requires_grad=True)
    cap = torch.tensor([3.0], requires_grad=True)
    clip(values, cap)[0].sum().backward()
    assert values.grad.tolist() == [1.0, 0.0]
    assert cap.grad is None


def test_each_token_may_have_a_cap_of_its_own():
    clipped, is_clipped = clip(torch.tensor([1.0, 5.0, 2.0]), torch.tensor([0.5, 9.0, 2.0]))
    assert clipped.tolist() == [0.5, 5.0, 2.0]
    assert is_clipped.tolist() == [True, False, False]


@given(numbers, st.floats(0.0, 1.0))
def test_quantile_is_numpys(values, q):
    ours = quantile(torch.tensor(values, dtype=torch.float64), q)
    assert float(ours) == pytest.approx(np.quantile(values, q), rel=1e-9, abs=1e-9)


def test_quantile_of_more_values_than_torch_takes():
    count = 2**24 + 3
    values = torch.arange(count, dtype=torch.float64).flip(0)
    with pytest.raises(RuntimeError):
        torch.quantile(values, 0.95)
    assert float(quantile(values, 0.95)) == pytest.approx(0.95 * (count - 1), rel=1e-12)


def test_a_quantile_clips_the_share_that_it_names():
    values = torch.rand(1000, requires_grad=True)
    cap = quantile(values, 0.9)
    assert not cap.requires_grad
    assert int(clip(values, cap)[1].sum()) == 100
    assert not bool(clip(values, quantile(values, 1.0))[1].any())


def test_a_nan_shows():
    assert bool(quantile(torch.tensor([1.0, float("nan"), 2.0]), 0.1).isnan())
    assert bool(clip(torch.tensor([float("nan")]), 1.0)[0].isnan())


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan")])
def test_quantile_refuses(q):
    with pytest.raises(ValueError, match="quantile"):
        quantile(torch.ones(3), q)


def test_refusals():
    with pytest.raises(ValueError, match="no values"):
        quantile(torch.ones(0), 0.5)
    with pytest.raises(ValueError, match="must be in"):
        quantile(torch.ones(3), 1.5)
    for cap in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="positive"):
            clip(torch.ones(3), cap)
    with pytest.raises(ValueError, match="one number, or one a token"):
        clip(torch.ones(3), torch.ones(2))
