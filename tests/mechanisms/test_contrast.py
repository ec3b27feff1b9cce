import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unisd.mechanisms.contrast import hinge

# Small integers make ties frequent.
logprob = st.one_of(st.floats(-20, 0), st.integers(-3, 0).map(float))
margins = st.sampled_from([0.0, 0.1, 0.5, 2.0])


def tensors(*numbers):
    return [torch.tensor([x], dtype=torch.float64) for x in numbers]


@given(logprob, logprob, logprob, margins)
def test_value_and_slope_by_hand(s, g, b, margin):
    value, slope = hinge(*tensors(s, g, b), margin)
    raw = margin + abs(s - g) - abs(s - b)
    assert value.item() == pytest.approx(max(0.0, raw))
    between = min(g, b) < s < max(g, b)
    assert float(slope) == (0.0 if not between or raw <= 0 else (2.0 if s > g else -2.0))


@given(logprob, logprob, logprob, margins)
def test_the_slope_is_the_derivative(s, g, b, margin):
    """Beside the corners, where the loss has none."""
    step = 1e-6
    corners = [s - g, s - b, margin + abs(s - g) - abs(s - b)]
    if min(abs(corner) for corner in corners) < 10 * step:
        return
    (up, _), (down, _) = (hinge(*tensors(s + sign * step, g, b), margin) for sign in (1, -1))
    assert float(hinge(*tensors(s, g, b), margin)[1]) == pytest.approx(float(up - down) / (2 * step), abs=1e-4)


def test_a_step_along_the_gradient_goes_toward_gold():
    assert float(hinge(*tensors(-2.0, -1.0, -4.0), 2.0)[1]) == -2.0  # descending raises s, toward g


def test_refusals():
    one, two = torch.zeros(1), torch.zeros(2)
    with pytest.raises(ValueError, match="equal shapes"):
        hinge(one, one, two, 0.1)
    for margin in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="margin"):
            hinge(one, one, one, margin)
