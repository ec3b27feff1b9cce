import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unisd.objective.contrast import Contrast, contrast_loss, contrast_slope, live

# Small integers make ties frequent.
logprob = st.one_of(st.floats(-20, 0), st.integers(-3, 0).map(float))
margins = st.sampled_from([0.0, 0.1, 0.5, 2.0])


def tensors(*numbers):
    return [torch.tensor([x], dtype=torch.float64) for x in numbers]


@given(logprob, logprob, logprob, margins)
def test_value_and_gradient_by_hand(s, g, b, margin):
    ts, tg, tb = tensors(s, g, b)
    ts.requires_grad_(), tg.requires_grad_(), tb.requires_grad_()
    value = contrast_loss(ts, tg, tb, margin)
    raw = margin + abs(s - g) - abs(s - b)
    assert value.item() == pytest.approx(max(0.0, raw))
    value.sum().backward()
    between = min(g, b) < s < max(g, b)
    expected = 0.0 if not between or raw <= 0 else (2.0 if s > g else -2.0)
    assert float(ts.grad) == expected
    assert tg.grad is None
    assert tb.grad is None
    assert float(contrast_slope(ts, tg, tb, margin)) == expected
    assert bool(live(ts, tg, tb, margin)) == (expected != 0.0)


def test_a_step_along_the_gradient_goes_toward_gold():
    s, g, b = tensors(-2.0, -1.0, -4.0)
    s.requires_grad_()
    contrast_loss(s, g, b, 2.0).sum().backward()
    assert float(s.grad) == -2.0  # descending raises s, toward g


def test_refusals():
    one, two, mask = torch.zeros(1), torch.zeros(2), torch.ones(2, dtype=torch.bool)
    with pytest.raises(ValueError, match="equal shapes"):
        contrast_loss(one, one, two, 0.1)
    for margin in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="margin"):
            live(one, one, one, margin)
        with pytest.raises(ValueError, match="margin"):
            Contrast(two, mask, two, margin)
    with pytest.raises(ValueError, match="one shape"):
        Contrast(two, mask[:1], two, 0.1)
    with pytest.raises(ValueError, match="bool"):
        Contrast(two, two, two, 0.1)
