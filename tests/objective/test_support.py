import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd.objective import Head, Problem, Support

from . import reference
from .reference import fused
from .test_fused import HEADS, apart, double, make, make_contrast, with_gradients

KINDS = ["forward_kl", "reverse_kl", "jsd"]
SUPPORTS = [Support(4), Support(4, tail=False), Support(4, of="student"), Support(4, tail=False, of="student")]
NAMES = ["tail", "no tail", "tail, student's", "no tail, student's"]


@pytest.mark.parametrize("support", SUPPORTS, ids=NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind, support):
    batch = make(n=5, vocabulary=11, width=3, head="all")
    head = batch["student_head"]

    def loss(student, weight, bias):
        inputs = {**batch, "student": student, "student_head": Head(weight, bias, head.softcap, head.scale)}
        return fused(**inputs, kind=kind, alpha=0.3, support=support, chunk_tokens=2).loss

    leaves = [tensor.clone().requires_grad_() for tensor in (batch["student"], head.weight, head.bias)]
    assert torch.autograd.gradcheck(loss, leaves)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(KINDS),
    k=st.integers(1, 45),
    tail=st.booleans(),
    of=st.sampled_from(["teacher", "student"]),
    head=st.sampled_from(sorted(HEADS)),
    n=st.integers(1, 9),
    vocabulary=st.integers(1, 40),
    alpha=st.floats(0.02, 0.98),
    temperature=st.floats(0.2, 3.0),
    cap=st.one_of(st.none(), st.floats(0.01, 3.0)),
    chunk=st.integers(1, 10),
    contrasted=st.booleans(),
)
def test_everything_equals_the_reference(
    seed, kind, k, tail, of, head, n, vocabulary, alpha, temperature, cap, chunk, contrasted
):
    """Value and gradient, of plain sums over the support in double precision with autograd."""
    batch = {**make(n=n, vocabulary=vocabulary, width=4, seed=seed, head=head), "temperature": temperature}
    contrast = make_contrast(batch, seed) if contrasted else None
    options = {"kind": kind, "alpha": alpha, "cap": cap, "contrast": contrast, "support": Support(k, tail, of)}
    ours, gradients = with_gradients(fused, batch, True, **options, chunk_tokens=chunk)
    truth, exact = with_gradients(reference.objective, batch, True, **options)
    for name, expected in truth.items():
        torch.testing.assert_close(ours[name], expected.detach(), rtol=1e-8, atol=1e-10, msg=name)
    for got, expected in zip(gradients, exact, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("support", SUPPORTS, ids=NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_is_within_1e_5_of_exact(kind, support):
    batch = make(n=96, vocabulary=3001, width=48, dtype=torch.float32, head="biased", spread=2.0)
    support = Support(50, support.tail, support.of)
    result, gradients = with_gradients(fused, batch, True, kind=kind, support=support)
    truth, exact = with_gradients(reference.objective, double(batch), True, kind=kind, support=support)
    assert apart(result["divergence"], truth["divergence"]) < 1e-5
    for ours, theirs in zip(gradients, exact, strict=True):
        assert apart(ours, theirs) < 1e-5


@pytest.mark.parametrize("support", SUPPORTS, ids=NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_student_equal_to_teacher_gives_zero(kind, support):
    batch = make(n=64, vocabulary=5003, width=32, dtype=torch.float32, spread=4.0)
    batch |= {"teacher": batch["student"], "teacher_head": batch["student_head"]}
    result, (gradient,) = with_gradients(fused, batch, kind=kind, support=support)
    assert float(result["divergence"].max()) < 3e-7
    assert float(gradient.abs().max()) < 1e-7


@pytest.mark.parametrize("support", SUPPORTS, ids=NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_distributions_without_common_tokens(kind, support):
    """Probabilities that vanish in single precision, in the bucket too, make neither NaN nor infinity."""
    batch = make(n=8, vocabulary=50, width=8, dtype=torch.float32, seed=3, spread=1.0, closeness=3.0)
    batch |= {"student": 60 * batch["student"], "teacher": 60 * batch["teacher"]}
    result, (gradient,) = with_gradients(fused, batch, kind=kind, support=support)
    truth, (exact,) = with_gradients(reference.objective, double(batch), kind=kind, support=support)
    torch.testing.assert_close(result["divergence"].double(), truth["divergence"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-3, atol=1e-4)


def test_a_tail_never_exceeds_the_whole_and_approaches_it():
    """Joining tokens to a bucket loses what they differ in among each other; the rest of the value is there."""
    batch = make(n=32, vocabulary=200, width=8, seed=2)
    for kind in KINDS:
        whole = fused(**batch, kind=kind).values["divergence"]
        parts = [fused(**batch, kind=kind, support=Support(k)).values["divergence"] for k in (5, 50, 150)]
        assert all(bool((part <= whole + 1e-12).all()) for part in parts)
        missing = [float((whole - part).mean() / whole.mean()) for part in parts]
        assert missing[0] > missing[1] > missing[2] > 0
        assert missing[2] < 0.2
        everything = fused(**batch, kind=kind, support=Support(200))
        assert torch.equal(everything.values["divergence"], whole)


def test_what_does_not_fit():
    batch = make()
    with pytest.raises(ValueError, match="at least one token"):
        Support(0)
    with pytest.raises(ValueError, match="no support to choose"):
        Problem(**batch, kind="sampled_reverse_kl", support=Support(3))
