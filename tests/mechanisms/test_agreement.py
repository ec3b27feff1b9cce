import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unisd.mechanisms.agreement import disagreement, disagreement_scale, sequence_weights, token_weights
from unisd.objective import effective_sample_size

STATISTICS = ["variance", "range"]
probes = st.integers(2, 5).flatmap(
    lambda k: st.integers(1, 8).flatmap(
        lambda n: st.lists(st.lists(st.floats(-40, 0), min_size=n, max_size=n), min_size=k, max_size=k)
    )
)


def delta_by_hand(column, statistic):
    return statistics.pvariance(column) if statistic == "variance" else max(column) - min(column)


@given(probes, st.sampled_from(STATISTICS))
def test_disagreement_by_hand(rows, statistic):
    ours = disagreement(torch.tensor(rows, dtype=torch.float64), statistic)
    expected = [delta_by_hand(column, statistic) for column in zip(*rows, strict=True)]
    assert ours.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(probes, st.sampled_from(STATISTICS), st.floats(0, 100), st.floats(1e-6, 50), st.floats(0.1, 20), st.floats(0, 1))
def test_token_weights_by_hand(rows, statistic, gamma, scale, cap, floor):
    ours = token_weights(torch.tensor(rows, dtype=torch.float64), gamma, statistic, scale, cap, floor)
    expected = [
        max(1 / (1 + gamma * min(delta_by_hand(column, statistic) / scale, cap)), floor)
        for column in zip(*rows, strict=True)
    ]
    assert ours.tolist() == pytest.approx(expected, rel=1e-6)
    assert all(floor <= w <= 1 for w in ours.tolist())


def test_defaults_of_cap_and_floor():
    far = torch.tensor([[0.0], [-1000.0]])
    assert float(token_weights(far, 1.0, "range", 1.0)) == pytest.approx(1 / 11)
    assert float(token_weights(far, 1e6, "range", 1.0)) == pytest.approx(0.01)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_sequence_weights_compare_means_over_tokens(statistic):
    a = torch.tensor([[-1.0, -3.0, -0.5], [-2.0, -6.0, -0.5], [-1.5, -1.5, -0.5]], dtype=torch.float64)
    sequence = torch.tensor([0, 0, 2])
    w = sequence_weights(a, sequence, 3, 0.5, statistic)
    expected = math.exp(-0.5 * delta_by_hand([-2.0, -4.0, -1.5], statistic))
    assert w.tolist() == pytest.approx([expected, 1.0, 1.0])


def test_sequence_weight_floor():
    w = sequence_weights(torch.tensor([[0.0], [-1000.0]]), torch.tensor([0]), 1, 1.0, "range")
    assert float(w) == pytest.approx(1e-6)


def test_tokens_may_lie_in_any_order():
    a, sequence, order = torch.randn(3, 12), torch.randint(4, (12,)), torch.randperm(12)
    torch.testing.assert_close(
        sequence_weights(a, sequence, 4, 1.0, "variance"),
        sequence_weights(a[:, order], sequence[order], 4, 1.0, "variance"),
    )


def test_weights_carry_no_gradient_and_half_precision_is_widened():
    a = torch.randn(3, 5, dtype=torch.bfloat16, requires_grad=True)
    token, whole = token_weights(a, 1.0, "range", 1.0), sequence_weights(a, torch.zeros(5).long(), 1, 1.0, "range")
    assert token.dtype == whole.dtype == torch.float32
    assert not token.requires_grad
    assert not whole.requires_grad


def test_scale():
    delta = torch.linspace(0, 1, 101)
    assert float(disagreement_scale(delta)) == pytest.approx(0.95)
    assert float(disagreement_scale(delta, quantile_level=0.5)) == pytest.approx(0.5)
    assert float(disagreement_scale(torch.zeros(4))) == pytest.approx(1e-6)


def test_effective_sample_size():
    assert effective_sample_size(torch.full((7,), 0.3)) == pytest.approx(1.0)
    assert effective_sample_size(torch.tensor([0.0, 0.0, 5.0, 0.0])) == pytest.approx(0.25)
    assert effective_sample_size(torch.tensor([1.0, 3.0])) == pytest.approx(16 / 20)
    for weights in (torch.zeros(3), torch.ones(0)):
        with pytest.raises(ValueError, match="not zero"):
            effective_sample_size(weights)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_single_context_is_refused(statistic):
    one, sequence = torch.randn(1, 4), torch.zeros(4).long()
    for call in (
        lambda: disagreement(one, statistic),
        lambda: token_weights(one, 1.0, statistic, 1.0),
        lambda: sequence_weights(one, sequence, 1, 1.0, statistic),
    ):
        with pytest.raises(ValueError, match="at least two"):
            call()


def test_other_refusals():
    a, sequence = torch.randn(2, 4), torch.zeros(4).long()
    with pytest.raises(ValueError, match="contexts, tokens"):
        disagreement(torch.randn(4), "range")
    with pytest.raises(ValueError, match="unknown statistic"):
        disagreement(a, "median")
    for gamma in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="gamma"):
            token_weights(a, gamma, "range", 1.0)
    with pytest.raises(ValueError, match="floor"):
        sequence_weights(a, sequence, 1, 1.0, "range", floor=2.0)
    with pytest.raises(ValueError, match="cap"):
        token_weights(a, 1.0, "range", 1.0, cap=0.0)
    with pytest.raises(ValueError, match="do not fit"):
        sequence_weights(a, sequence[:2], 1, 1.0, "range")
    with pytest.raises(ValueError, match="minimum"):
        disagreement_scale(torch.ones(3), minimum=0.0)
