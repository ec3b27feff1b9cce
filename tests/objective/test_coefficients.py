import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unisd.mechanisms.agreement import sequence_weights
from unisd.objective import Head, Problem, fused_objective
from unisd.objective.coefficients import local_total, token_coefficients

AGGREGATIONS = ["token", "sequence"]


def batch(seed, n=23, sequences=5):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(n, generator=generator, dtype=torch.float64) + 0.01
    sequence = torch.randint(sequences, (n,), generator=generator)
    whole = torch.rand(sequences, generator=generator, dtype=torch.float64) + 0.01
    return weights, sequence, whole


def by_hand(values, weights, sequence, whole, aggregation):
    """The weighted mean as METHOD writes it, with loops."""
    if aggregation == "token":
        pairs = [(float(w * whole[i]), float(v)) for w, i, v in zip(weights, sequence, values, strict=True)]
        return sum(w * v for w, v in pairs) / sum(w for w, _ in pairs)
    top = bottom = 0.0
    for i in sorted(set(sequence.tolist())):
        here = sequence == i
        top += float(whole[i] * (weights[here] * values[here]).sum() / weights[here].sum())
        bottom += float(whole[i])
    return top / bottom


@given(st.integers(0, 10**6), st.sampled_from(AGGREGATIONS), st.booleans())
def test_coefficients_give_the_weighted_mean(seed, aggregation, weighted):
    weights, sequence, whole = batch(seed)
    given_whole = whole if weighted else None
    values = torch.linspace(-1, 3, len(weights), dtype=torch.float64)
    total = local_total(weights, sequence, given_whole, aggregation)
    c = token_coefficients(weights, sequence, given_whole, aggregation, total)
    expected = by_hand(values, weights, sequence, whole if weighted else torch.ones_like(whole), aggregation)
    assert float((c * values).sum()) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert float(c.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_two_ranks_make_one_step(aggregation):
    weights, sequence, whole = batch(3)
    total = local_total(weights, sequence, whole, aggregation)
    at_once = token_coefficients(weights, sequence, whole, aggregation, total)
    mine = sequence < 2
    parts = [(weights[m], sequence[m]) for m in (mine, ~mine)]
    sums = [local_total(w, i, whole, aggregation) for w, i in parts]
    torch.testing.assert_close(sums[0] + sums[1], total)
    for (w, i), here in zip(parts, (mine, ~mine), strict=True):
        torch.testing.assert_close(token_coefficients(w, i, whole, aggregation, sums[0] + sums[1]), at_once[here])


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_sequence_agreement_changes_the_gradient(aggregation):
    """A weight that is constant within a sequence must not cancel."""
    torch.manual_seed(0)
    hidden, teacher, head = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4), Head(torch.randn(9, 4))
    sequence = torch.tensor([0, 0, 0, 1, 1, 1])
    agreed = torch.full((2, 6), -1.0)
    agreed[1, 3:] = -3.0
    whole = sequence_weights(agreed, sequence, 2, 1.0, "range")
    assert whole.tolist() == pytest.approx([1.0, 0.1353353], rel=1e-5)

    def gradient(sequence_weight):
        ones = torch.ones(6)
        total = local_total(ones, sequence, sequence_weight, aggregation)
        c = token_coefficients(ones, sequence, sequence_weight, aggregation, total)
        targets = torch.zeros(6).long()
        problem = Problem(hidden, head, targets, c, kind="forward_kl", teacher=teacher, teacher_head=head)
        result = fused_objective(problem)
        return torch.autograd.grad(result.loss, hidden)[0].norm(dim=1)

    ratio = gradient(whole) / gradient(None)
    shares = 2 * whole / whole.sum()
    torch.testing.assert_close(ratio, shares[sequence], rtol=1e-4, atol=0)


def test_aggregations_differ_by_length():
    weights, sequence = torch.ones(4), torch.tensor([0, 0, 0, 1])
    assert token_coefficients(weights, sequence, None, "token", 4.0).tolist() == [0.25] * 4
    c = token_coefficients(weights, sequence, None, "sequence", 2.0)
    assert c.tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_a_sequence_without_tokens_or_weight_is_absent():
    whole = torch.tensor([1.0, 1.0, 1.0])
    weights, sequence = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0, 2, 2])
    total = local_total(weights, sequence, whole, "sequence")
    assert float(total) == 1.0
    assert token_coefficients(weights, sequence, whole, "sequence", total).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_rank_without_tokens(aggregation):
    nothing, nowhere = torch.ones(0), torch.zeros(0).long()
    assert float(local_total(nothing, nowhere, None, aggregation)) == 0.0
    assert token_coefficients(nothing, nowhere, None, aggregation, 0.0).shape == (0,)


def test_no_gradient_through_weights():
    weights = torch.ones(2, requires_grad=True)
    assert not token_coefficients(weights, torch.tensor([0, 1]), None, "token", 2.0).requires_grad
    assert not local_total(weights, torch.tensor([0, 1]), None, "token").requires_grad


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_step_without_any_weight_learns_nothing(aggregation):
    nothing, sequence = torch.zeros(3), torch.tensor([0, 0, 1])
    total = local_total(nothing, sequence, None, aggregation)
    assert token_coefficients(nothing, sequence, None, aggregation, total).tolist() == [0.0, 0.0, 0.0]


def test_a_broken_weight_shows():
    weights = torch.tensor([1.0, float("nan")])
    assert token_coefficients(weights, torch.tensor([0, 1]), None, "token", weights.sum()).isnan().all()


def test_refusals():
    ones, sequence = torch.ones(2), torch.zeros(2).long()
    with pytest.raises(ValueError, match="unknown aggregation"):
        local_total(ones, sequence, None, "mean")
    with pytest.raises(ValueError, match="must both be"):
        token_coefficients(ones, sequence[:1], None, "token", 1.0)
