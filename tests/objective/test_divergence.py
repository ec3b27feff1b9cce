import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unisd.objective.divergence import divergence, divergence_bound, token_logprobs

from . import reference

KINDS = ["forward_kl", "reverse_kl", "jsd"]
alphas = st.floats(0.01, 0.99)


def pair(seed, scale, shape=(3, 17)):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2)]


@given(st.integers(0, 10**6), st.floats(0.0, 8.0), st.sampled_from(KINDS), alphas, st.floats(0.3, 3.0))
def test_equals_the_sums_over_the_vocabulary(seed, scale, kind, alpha, temperature):
    student, teacher = pair(seed, scale)
    expected = reference.divergence(
        torch.log_softmax(student / temperature, -1), torch.log_softmax(teacher / temperature, -1), kind, alpha
    )
    torch.testing.assert_close(divergence(student, teacher, kind, alpha, temperature), expected, atol=1e-12, rtol=1e-9)


def test_two_coins_by_hand():
    student, teacher = torch.tensor([0.75, 0.25]).log(), torch.tensor([0.5, 0.5]).log()
    forward = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    reverse = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    # With alpha = 0.2 the mixture is 0.8 student + 0.2 teacher = (0.7, 0.3).
    jsd = 0.2 * (0.5 * math.log(0.5 / 0.7) + 0.5 * math.log(0.5 / 0.3))
    jsd += 0.8 * (0.75 * math.log(0.75 / 0.7) + 0.25 * math.log(0.25 / 0.3))
    assert float(divergence(student, teacher, "forward_kl")) == pytest.approx(forward, rel=1e-5)
    assert float(divergence(student, teacher, "reverse_kl")) == pytest.approx(reverse, rel=1e-5)
    assert float(divergence(student, teacher, "jsd", alpha=0.2)) == pytest.approx(jsd, rel=1e-5)


@given(st.integers(0, 10**6), st.floats(0.0, 200.0), alphas)
def test_the_bound_holds_and_is_the_least(seed, scale, alpha):
    bound = divergence_bound("jsd", alpha)
    student, teacher = pair(seed, scale)
    assert float(divergence(student, teacher, "jsd", alpha).max()) <= bound + 1e-12
    disjoint = torch.tensor([0.0, -500.0], dtype=torch.float64)
    assert float(divergence(disjoint, disjoint.flip(0), "jsd", alpha)) == pytest.approx(bound, abs=1e-12)


def test_bounds():
    assert divergence_bound("jsd") == pytest.approx(math.log(2))
    assert divergence_bound("forward_kl") is None
    assert divergence_bound("reverse_kl") is None
    assert divergence_bound("cross_entropy") is None
    with pytest.raises(ValueError, match="0 < alpha < 1"):
        divergence_bound("jsd", 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_both_and_half_precision_is_widened(kind):
    student, teacher = (x.requires_grad_() for x in pair(1, 1.0))
    assert torch.autograd.gradcheck(lambda a, b: divergence(a, b, kind, 0.3, 0.7), (student, teacher))
    half = divergence(student.bfloat16(), teacher.bfloat16(), kind)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, divergence(student.bfloat16().float(), teacher.bfloat16().float(), kind))


def test_there_is_no_temperature_squared():
    student, teacher = pair(2, 1.0)
    torch.testing.assert_close(
        divergence(student, teacher, "forward_kl", temperature=2.0), divergence(student / 2, teacher / 2, "forward_kl")
    )


def test_token_logprobs():
    logits, targets = torch.randn(2, 5, 11), torch.randint(11, (2, 5))
    expected = torch.distributions.Categorical(logits=logits / 0.7).log_prob(targets)
    torch.testing.assert_close(token_logprobs(logits, targets, 0.7), expected)
    with pytest.raises(ValueError, match="do not fit"):
        token_logprobs(logits, targets[:1])


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("jsd", {"alpha": 0.0}, "0 < alpha < 1"),
        ("jsd", {"alpha": 1.0}, "0 < alpha < 1"),
        ("jsd", {"alpha": math.nan}, "0 < alpha < 1"),
        ("kl", {}, "unknown divergence"),
        ("cross_entropy", {}, "token_logprobs"),
        ("forward_kl", {"temperature": 0.0}, "temperature"),
        ("forward_kl", {"temperature": math.inf}, "temperature"),
    ],
)
def test_refusals(kind, options, message):
    with pytest.raises(ValueError, match=message):
        divergence(torch.zeros(2, 3), torch.zeros(2, 3), kind, **options)


def test_refuses_a_missing_or_different_teacher():
    with pytest.raises(ValueError, match="needs teacher_logits"):
        divergence(torch.zeros(2, 3), None, "forward_kl")
    with pytest.raises(ValueError, match="differ in shape"):
        divergence(torch.zeros(2, 3), torch.zeros(2, 4), "forward_kl")
