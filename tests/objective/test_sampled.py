"""The sampled-token estimate of the reverse KL, on vocabularies small enough to enumerate."""

import pytest
import torch

from unisd.objective import Head, Target

from .reference import fused
from .test_fused import make, with_gradients


@pytest.mark.parametrize("head", ["plain", "all"])
def test_value_and_gradient_are_right_on_average(head):
    """The exact mean over all tokens that can be drawn is the full reverse KL's value and gradient, token by token."""
    vocabulary, batch = 11, make(n=1, vocabulary=11, width=4, head=head)
    batch["coefficients"] = torch.ones(1, dtype=torch.float64)
    full, full_gradients = with_gradients(fused, batch, True, kind="reverse_kl")
    value, mean = 0.0, [torch.zeros_like(gradient) for gradient in full_gradients]
    spread = []
    for token in range(vocabulary):
        drawn = {**batch, "targets": torch.tensor([token])}
        seen, gradients = with_gradients(fused, drawn, True, kind="sampled_reverse_kl")
        share = seen["student_logprobs"].exp()
        value = value + share * seen["divergence"]
        mean = [total + share * part for total, part in zip(mean, gradients, strict=True)]
        spread.append(gradients[0])
    torch.testing.assert_close(value, full["divergence"], rtol=1e-10, atol=1e-12)
    for ours, exact in zip(mean, full_gradients, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-12)
    assert torch.stack(spread).std(0).max() > 0.01  # each draw by itself is far from the mean


def test_the_gradient_is_not_the_values():
    """Without the score function it would have the mean zero: the gradient of log p alone."""
    batch = make(n=4, vocabulary=9, width=4)
    result, (gradient,) = with_gradients(fused, batch, kind="sampled_reverse_kl")
    weight = batch["student_head"].weight
    p = (batch["student"] @ weight.t() / 0.7).softmax(-1)
    one_hot = torch.nn.functional.one_hot(batch["targets"], 9).to(p.dtype)
    ratio = result["student_logprobs"] - result["teacher_logprobs"]
    torch.testing.assert_close(result["divergence"], ratio)
    assert bool((ratio < 0).any())
    expected = (batch["coefficients"] * ratio)[:, None] * ((one_hot - p) @ weight) / 0.7
    torch.testing.assert_close(gradient, expected)


def test_a_target_of_its_own_is_what_is_compared_with():
    batch = make(n=6, vocabulary=9, width=4)
    other = make(n=6, vocabulary=9, width=4, seed=7)

    def replaced(teacher, reading):
        teacher.copy_(reading)
        return torch.ones_like(teacher[:, 0])

    present = torch.tensor([True] * 4 + [False] * 2)
    target = Target("replaced", replaced, (other["teacher"],), (other["teacher_head"],), present)
    ours = fused(**batch, kind="sampled_reverse_kl", target=target).values["divergence"]
    states = {"teacher": other["teacher"], "teacher_head": Head(other["teacher_head"].weight)}
    plain = fused(**batch, kind="sampled_reverse_kl").values["divergence"]
    theirs = fused(**{**batch, **states}, kind="sampled_reverse_kl").values["divergence"]
    torch.testing.assert_close(ours, torch.where(present, theirs, plain))
