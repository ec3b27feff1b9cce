import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unisd import fast
from unisd.objective import Head, divergence, quantile, sampled_logprobs, token_logprobs

from . import reference
from .reference import Contrast, fused

KINDS = ["forward_kl", "reverse_kl", "jsd", "cross_entropy", "sampled_reverse_kl"]
HEADS = {
    "plain": {},
    "scaled": {"scale": 0.37},
    "capped": {"softcap": 1.7},
    "biased": {"bias": True},
    "all": {"bias": True, "softcap": 2.3, "scale": 1.9},
}


def make_head(vocabulary, width, generator, dtype, bias=False, softcap=None, scale=1.0, spread=1.0):
    weight = spread * torch.randn(vocabulary, width, generator=generator, dtype=torch.float64) / width**0.5
    offset = torch.randn(vocabulary, generator=generator, dtype=torch.float64) if bias else None
    return Head(weight.to(dtype), None if offset is None else offset.to(dtype), softcap, scale)


def make(n=13, vocabulary=29, width=6, dtype=torch.float64, seed=0, closeness=1.0, head="plain", spread=1.0):
    """Hidden states, heads, targets and coefficients; the teacher has a head of its own."""
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(n, width, generator=generator, dtype=torch.float64)
    teacher = student + closeness * torch.randn(n, width, generator=generator, dtype=torch.float64)
    options = {**HEADS[head], "spread": spread}
    return {
        "student": student.to(dtype),
        "student_head": make_head(vocabulary, width, generator, dtype, **options),
        "targets": torch.randint(vocabulary, (n,), generator=generator),
        "coefficients": torch.rand(n, generator=generator, dtype=torch.float64).to(dtype) / n,
        "teacher": teacher.to(dtype),
        "teacher_head": make_head(vocabulary, width, generator, dtype, **options),
        "temperature": 0.7,
    }


def make_contrast(batch, seed=1, margin=0.5):
    """Negatives on about two thirds of the tokens, spread so that live and dead tokens both occur."""
    generator = torch.Generator().manual_seed(seed)
    n, dtype = len(batch["targets"]), batch["student"].dtype
    s = torch.log_softmax(reference.logits(batch["student"], batch["student_head"], batch["temperature"]), -1)
    near = s.gather(1, batch["targets"][:, None])[:, 0] + torch.randn(n, generator=generator, dtype=dtype)
    present = torch.rand(n, generator=generator) < 0.67
    return Contrast(near, present, 0.1 * torch.rand(n, generator=generator, dtype=dtype), margin)


def with_gradients(function, batch, trained=False, **options):
    """Run, and return (result as a dict, gradients of hidden states and, if trained, head weight and bias)."""
    batch = dict(batch)
    leaves = [batch["student"].clone().requires_grad_()]
    batch["student"] = leaves[0]
    if trained:
        head = batch["student_head"]
        tensors = {k: v.clone().requires_grad_() for k in ("weight", "bias") if (v := getattr(head, k)) is not None}
        batch["student_head"] = dataclasses.replace(head, **tensors)
        leaves += tensors.values()
    result = function(**batch, **options)
    result = result if isinstance(result, dict) else {"loss": result.loss, **result.values}
    gradients = torch.autograd.grad(result["loss"], leaves)
    return {k: v if v is None else v.detach() for k, v in result.items()}, gradients


def double(batch):
    """The same numbers in float64."""

    def lift(x):
        if isinstance(x, torch.Tensor):
            return x.double() if x.is_floating_point() else x
        if isinstance(x, Head | Contrast):
            return type(x)(**{f.name: lift(getattr(x, f.name)) for f in dataclasses.fields(x)})
        return x

    return {k: lift(v) for k, v in batch.items()}


def apart(ours, exact):
    ours, exact = ours.detach().double(), exact.detach().double()
    return float((ours - exact).norm() / exact.norm())


def middle_cap(batch, kind, alpha):
    """A cap halfway between two neighbours in the middle, above zero: log-ratios are on both sides of it."""
    ordered = reference.objective(**batch, kind=kind, alpha=alpha)["divergence"].detach().sort().values
    middle = len(ordered) // 2
    return max(0.01, float(ordered[middle - 1 : middle + 1].mean()))


# --- the formulas -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", KINDS[:4])  # a score function's gradient is not the value's
def test_gradcheck(kind, head, trained):
    batch = make(n=5, vocabulary=11, width=3, head=head)
    contrast, cap = make_contrast(batch), middle_cap(batch, kind, 0.3)
    start = batch["student_head"]

    def loss(student, weight, bias):
        inputs = {**batch, "student": student, "student_head": dataclasses.replace(start, weight=weight, bias=bias)}
        result = fused(**inputs, kind=kind, alpha=0.3, cap=cap, contrast=contrast, chunk_tokens=2)
        assert bool(result.values["clipped"].any())
        assert not bool(result.values["clipped"].all())
        return result.loss

    weight, bias = start.weight.clone(), None if start.bias is None else start.bias.clone()
    if trained:
        weight.requires_grad_()
        bias = bias if bias is None else bias.requires_grad_()
    assert torch.autograd.gradcheck(loss, (batch["student"].requires_grad_(), weight, bias))


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("contrasted", [False, True], ids=["", "contrast"])
@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_is_within_1e_5_of_exact(kind, contrasted, trained):
    batch = make(n=96, vocabulary=3001, width=48, dtype=torch.float32, head="biased", spread=2.0)
    exact = double(batch)
    cap = middle_cap(exact, kind, 0.5)
    contrast = make_contrast(batch) if contrasted else None
    result, gradients = with_gradients(fused, batch, trained, kind=kind, cap=cap, contrast=contrast)
    truth, exact_gradients = with_gradients(
        reference.objective, exact, trained, kind=kind, cap=cap, contrast=double({"c": contrast})["c"]
    )
    assert int(result["clipped"].sum()) == 48
    assert apart(result["loss"], truth["loss"]) < 1e-5
    for ours, theirs in zip(gradients, exact_gradients, strict=True):
        assert ours.dtype == torch.float32
        assert apart(ours, theirs) < 1e-5
    assert gradients[0].count_nonzero() > 0
    if contrasted:
        torch.testing.assert_close(result["contrast"].double(), truth["contrast"], rtol=1e-5, atol=1e-5)
        share = float((result["contrast/slope"] != 0).sum() / contrast.present.sum())
        assert 0.05 < share < 0.95


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(KINDS),
    head=st.sampled_from(sorted(HEADS)),
    n=st.integers(1, 9),
    vocabulary=st.integers(1, 40),
    alpha=st.floats(0.02, 0.98),
    temperature=st.floats(0.2, 3.0),
    cap=st.one_of(st.none(), st.floats(0.01, 3.0)),
    chunk=st.integers(1, 10),
    contrasted=st.booleans(),
)
def test_everything_equals_the_reference(seed, kind, head, n, vocabulary, alpha, temperature, cap, chunk, contrasted):
    batch = {**make(n=n, vocabulary=vocabulary, width=4, seed=seed, head=head), "temperature": temperature}
    contrast = make_contrast(batch, seed) if contrasted else None
    options = {"kind": kind, "alpha": alpha, "cap": cap, "contrast": contrast}
    ours, gradients = with_gradients(fused, batch, True, **options, chunk_tokens=chunk)
    truth, exact = with_gradients(reference.objective, batch, True, **options)
    for name, expected in truth.items():
        torch.testing.assert_close(ours[name], expected.detach(), rtol=1e-8, atol=1e-10, msg=name)
    for got, expected in zip(gradients, exact, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_values_equal_the_plain_module(kind):
    batch = make(dtype=torch.float32)
    result = fused(**batch, kind=kind, alpha=0.3)
    s, t = (reference.logits(batch[w], batch[f"{w}_head"], 1.0) for w in ("student", "teacher"))
    torch.testing.assert_close(result.values["divergence"], divergence(s, t, kind, 0.3, 0.7), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        result.values["student_logprobs"], token_logprobs(s, batch["targets"], 0.7), rtol=1e-5, atol=1e-5
    )


# --- numbers at the edge ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS[:3])
@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_student_equal_to_teacher_gives_zero(kind, alpha):
    batch = make(n=64, vocabulary=5003, width=32, dtype=torch.float32, spread=4.0)
    batch |= {"teacher": batch["student"], "teacher_head": batch["student_head"]}
    result, (gradient,) = with_gradients(fused, batch, kind=kind, alpha=alpha)
    assert float(result["divergence"].min()) >= 0.0
    assert float(result["divergence"].max()) < 3e-7
    assert float(gradient.abs().max()) < 1e-7


@pytest.mark.parametrize("closeness", [5e-4, 5e-2])
@pytest.mark.parametrize("kind", KINDS[:3])
def test_close_distributions_are_no_worse_than_in_plain_single_precision(kind, closeness):
    """What is left is the rounding of the logits themselves."""
    batch = make(n=64, vocabulary=3001, width=32, dtype=torch.float32, closeness=closeness, spread=3.0)
    batch |= {"teacher_head": batch["student_head"], "coefficients": torch.full((64,), 1 / 64)}
    result, (gradient,) = with_gradients(fused, batch, kind=kind)
    plain, (plain_gradient,) = with_gradients(reference.objective, batch, kind=kind)
    truth, (exact,) = with_gradients(reference.objective, double(batch), kind=kind)
    assert apart(gradient, exact) < 1.2 * apart(plain_gradient, exact) + 1e-6
    assert apart(result["divergence"], truth["divergence"]) < apart(plain["divergence"], truth["divergence"])


@pytest.mark.parametrize("kind", KINDS[:3])
@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_distributions_without_common_tokens(kind, alpha):
    """Probabilities that vanish in single precision make neither NaN nor infinity."""
    batch = make(n=8, vocabulary=50, width=8, dtype=torch.float32, seed=3, spread=1.0, closeness=3.0)
    batch |= {"student": 60 * batch["student"], "teacher": 60 * batch["teacher"]}
    result, (gradient,) = with_gradients(fused, batch, kind=kind, alpha=alpha)
    truth, (exact,) = with_gradients(reference.objective, double(batch), kind=kind, alpha=alpha)
    assert float(truth["divergence"].max()) > (0.3 if kind == "jsd" else 100)
    torch.testing.assert_close(result["divergence"].double(), truth["divergence"], rtol=1e-5, atol=1e-5)
    # Rounding is relative to d, whose size is in the hundreds; the exact gradient of a saturated jsd is near zero.
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_within_half_a_percent(kind, trained):
    batch = make(n=48, vocabulary=2600, width=64, dtype=torch.bfloat16, closeness=0.05, head="biased", spread=3.0)
    batch["teacher_head"] = batch["student_head"]
    wide = {k: v.float() if k in ("student", "teacher", "coefficients") else v for k, v in batch.items()}
    wide["student_head"] = wide["teacher_head"] = Head(
        batch["student_head"].weight.float(), batch["student_head"].bias.float()
    )
    ours, gradients = with_gradients(fused, batch, trained, kind=kind)
    single, expected = with_gradients(fused, wide, trained, kind=kind)
    assert ours["loss"].dtype == torch.float32
    assert apart(ours["loss"], single["loss"]) < 5e-3
    assert apart(ours["divergence"], single["divergence"]) < 1e-3
    for got, want in zip(gradients, expected, strict=True):
        assert got.dtype == torch.bfloat16
        assert apart(got, want) < 5e-3


@pytest.mark.parametrize("kind", KINDS[:3])
def test_never_negative(kind):
    """Students that differ from their teacher by less than rounding can resolve."""
    batch = make(n=256, vocabulary=3001, width=32, dtype=torch.float32, closeness=1e-6, spread=3.0)
    batch["teacher_head"] = batch["student_head"]
    values = fused(**batch, kind=kind).values["divergence"]
    assert float(values.min()) >= 0.0
    assert float(values.max()) < 1e-6


# --- how the work is cut ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [1, 3, 7, 13, 100])
def test_chunks_do_not_matter(kind, chunk):
    batch = make(head="all")
    options = {"kind": kind, "cap": middle_cap(batch, kind, 0.5), "contrast": make_contrast(batch)}
    one, exact = with_gradients(fused, batch, True, **options)
    many, gradients = with_gradients(fused, batch, True, **options, chunk_tokens=chunk)
    for name, value in one.items():
        torch.testing.assert_close(many[name], value, msg=name)
    torch.testing.assert_close(gradients, exact)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_and_tiles_do_not_matter(kind, monkeypatch):
    batch = make(vocabulary=53, dtype=torch.bfloat16)
    one, exact = with_gradients(fused, batch, True, kind=kind)
    monkeypatch.setattr("unisd.objective._sweep._BLOCK_BYTES", 2 * 53 * 4)
    monkeypatch.setattr("unisd.objective.head._TILE_BYTES", 1)
    monkeypatch.setattr("unisd.objective.head._MIN_TILE", 10)
    many, gradients = with_gradients(fused, batch, True, kind=kind)
    torch.testing.assert_close(many["loss"], one["loss"])
    torch.testing.assert_close(gradients, exact)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_add_up_to_the_whole(kind):
    batch = make(n=12)
    contrast, cap = make_contrast(batch), middle_cap(batch, kind, 0.5)
    whole, exact = with_gradients(fused, batch, True, kind=kind, cap=cap, contrast=contrast)
    loss, hidden, weight = 0.0, [], 0.0
    for part in (slice(0, 5), slice(5, 6), slice(6, 12)):
        cut = {k: v[part] if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        piece = Contrast(
            contrast.negative_logprobs[part], contrast.present[part], contrast.coefficients[part], contrast.margin
        )
        result, gradients = with_gradients(fused, cut, True, kind=kind, cap=cap, contrast=piece)
        loss, weight = loss + result["loss"], weight + gradients[1]
        hidden.append(gradients[0])
    torch.testing.assert_close(loss, whole["loss"])
    torch.testing.assert_close(torch.cat(hidden), exact[0])
    torch.testing.assert_close(weight, exact[1])


def test_no_tokens():
    result, gradients = with_gradients(fused, make(n=0), True, kind="jsd", cap=1.0)
    assert float(result["loss"]) == 0.0
    assert gradients[0].shape == (0, 6)
    assert not gradients[1].any()


@pytest.mark.parametrize("kind", KINDS)
def test_without_onednn(kind):
    batch = make(n=9, vocabulary=1500, width=33, dtype=torch.float32)
    onednn, exact = with_gradients(fused, batch, kind=kind)
    with fast.use("off"):
        plain, gradients = with_gradients(fused, batch, kind=kind)
    torch.testing.assert_close(plain["divergence"], onednn["divergence"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients, exact, rtol=1e-4, atol=1e-7)


# --- clipping and contrast ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_clipped_tokens_get_exactly_no_gradient(kind):
    batch = make(dtype=torch.float32)
    values = fused(**batch, kind=kind).values["divergence"]
    cap = quantile(values, 0.5)
    result, (gradient,) = with_gradients(fused, batch, kind=kind, cap=cap)
    _, (free,) = with_gradients(fused, batch, kind=kind)
    assert torch.equal(result["clipped"], values > cap)
    assert torch.equal(result["divergence"], values)
    assert not gradient[result["clipped"]].any()
    torch.testing.assert_close(gradient[~result["clipped"]], free[~result["clipped"]])
    assert bool((gradient[~result["clipped"]].abs().sum(1) > 0).all())
    assert not bool(fused(**batch, kind=kind, cap=values.max()).values["clipped"].any())


@pytest.mark.parametrize("kind", KINDS)
def test_contrast_acts_where_it_is_live_and_nowhere_else(kind):
    batch = make(n=40)
    contrast = make_contrast(batch, margin=0.2)
    result, (gradient,) = with_gradients(fused, batch, kind=kind, contrast=contrast)
    _, (alone,) = with_gradients(fused, batch, kind=kind)
    moved = (gradient - alone).abs().amax(1) > 1e-12
    s, g, b = result["student_logprobs"], result["teacher_logprobs"], contrast.negative_logprobs
    between = ((g < s) & (s < b)) | ((b < s) & (s < g))
    expected = between & (0.2 + (s - g).abs() > (s - b).abs()) & contrast.present
    assert torch.equal(moved, expected)
    assert torch.equal((result["contrast/slope"] != 0), expected)
    assert 0 < int(expected.sum()) < int(contrast.present.sum())
    assert not result["contrast"][~contrast.present].any()


def test_a_clipped_token_still_contrasts():
    batch = make(n=40)
    contrast = make_contrast(batch)
    result, (gradient,) = with_gradients(fused, batch, kind="forward_kl", cap=1e-9, contrast=contrast)
    assert bool(result["clipped"].all())
    assert torch.equal(gradient.abs().sum(1) > 0, (result["contrast/slope"] != 0))


def test_an_absent_negative_may_hold_anything():
    batch = make()
    contrast = make_contrast(batch)
    broken = Contrast(
        torch.where(contrast.present, contrast.negative_logprobs, torch.nan),
        contrast.present,
        torch.where(contrast.present, contrast.coefficients, torch.nan),
        contrast.margin,
    )
    ours, gradients = with_gradients(fused, batch, kind="jsd", contrast=broken)
    clean, exact = with_gradients(fused, batch, kind="jsd", contrast=contrast)
    torch.testing.assert_close(ours["loss"], clean["loss"])
    torch.testing.assert_close(gradients, exact)


# --- autograd -----------------------------------------------------------------------------------------------------


def test_backward_scales_and_repeats():
    batch = make()
    batch["student"].requires_grad_()
    loss = fused(**batch, kind="jsd").loss
    (once,) = torch.autograd.grad(loss, batch["student"], retain_graph=True)
    (again,) = torch.autograd.grad(3.0 * loss, batch["student"])
    torch.testing.assert_close(again, 3.0 * once)


def test_only_student_and_trained_head_get_gradients():
    batch = make(head="biased")
    floats = [v for v in batch.values() if isinstance(v, torch.Tensor) and v.is_floating_point()]
    heads = [t for name in ("student_head", "teacher_head") for t in (batch[name].weight, batch[name].bias)]
    for tensor in (*floats, *heads):
        tensor.requires_grad_()
    result = fused(**batch, kind="forward_kl", contrast=make_contrast(batch), cap=2.0)
    result.loss.backward()
    got = {id(t) for t in (*floats, *heads) if t.grad is not None}
    head = batch["student_head"]
    assert got == {id(batch["student"]), id(head.weight), id(head.bias)}
    assert not any(value.requires_grad for value in result.values.values())


@pytest.mark.parametrize("which", ["weight", "bias"])
def test_a_part_of_the_head_alone(which):
    batch = make(head="biased")
    _, exact = with_gradients(reference.objective, batch, True, kind="jsd")
    leaf = getattr(batch["student_head"], which).requires_grad_()
    (got,) = torch.autograd.grad(fused(**batch, kind="jsd").loss, leaf)
    torch.testing.assert_close(got, exact[1 if which == "weight" else 2])


def test_cross_entropy_needs_no_teacher():
    batch = make()
    alone = {k: v for k, v in batch.items() if not k.startswith("teacher")}
    result, gradients = with_gradients(fused, alone, kind="cross_entropy")
    _, exact = with_gradients(fused, batch, kind="cross_entropy")
    assert not {"teacher_logprobs", "contrast"} & set(result)
    torch.testing.assert_close(gradients, exact)


def test_mixed_precision_does_not_reach_inside():
    batch = make(n=6, dtype=torch.float32)
    outside, exact = with_gradients(fused, batch, True, kind="jsd")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, gradients = with_gradients(fused, batch, True, kind="jsd")
        scored = sampled_logprobs(batch["student"], batch["student_head"], batch["targets"], 0.7)
    assert torch.equal(inside["loss"], outside["loss"])
    assert torch.equal(scored, outside["student_logprobs"])
    for got, want in itertools.zip_longest(gradients, exact):
        assert torch.equal(got, want)


# --- log-probabilities of samples ---------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_sampled_logprobs(head, chunk):
    batch = make(head=head)
    batch["student"].requires_grad_()
    got = sampled_logprobs(batch["student"], batch["student_head"], batch["targets"], 1.3, chunk)
    logits = reference.logits(batch["student"], batch["student_head"], 1.0)
    torch.testing.assert_close(got, token_logprobs(logits, batch["targets"], 1.3).detach())
    assert not got.requires_grad


def test_sampled_logprobs_of_half_precision_are_single():
    batch = make(n=40, vocabulary=2600, width=64, dtype=torch.bfloat16, spread=4.0)
    got = sampled_logprobs(batch["student"], batch["student_head"], batch["targets"])
    wide = double(batch)
    logits = reference.logits(wide["student"], wide["student_head"], 1.0)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), token_logprobs(logits, batch["targets"]), rtol=1e-5, atol=1e-5)
    assert sampled_logprobs(batch["student"][:0], batch["student_head"], batch["targets"][:0]).shape == (0,)


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": None}, "belong together"),
        ({"teacher": None, "teacher_head": None}, "needs a teacher"),
        ({"teacher": torch.zeros(3, 6)}, "teacher states"),
        ({"teacher_head": Head(torch.zeros(5, 6))}, "differ in vocabulary"),
        ({"student": torch.zeros(13, 7)}, "do not fit head"),
        ({"student": torch.zeros(13)}, "do not fit head"),
        ({"targets": torch.zeros(12).long()}, "targets must be"),
        ({"targets": torch.zeros(13).int()}, "targets must be"),
        ({"coefficients": torch.ones(13, 1)}, "coefficients"),
        ({"temperature": 0.0}, "temperature"),
        ({"cap": 0.0}, "cap must be positive"),
        ({"cap": torch.ones(2)}, "one number, or one a token"),
        ({"chunk_tokens": 0}, "chunk_tokens"),
        ({"kind": "jsd", "alpha": 1.0}, "0 < alpha < 1"),
        ({"kind": "kl"}, "unknown divergence"),
        ({"contrast": Contrast(torch.zeros(2), torch.ones(2).bool(), torch.zeros(2), 0.1)}, "contrast of 2"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(ValueError, match=message):
        fused(**{"kind": "forward_kl", **make(), **change})


def test_contrast_needs_a_teacher():
    batch = make()
    contrast = make_contrast(batch)
    alone = {k: v for k, v in batch.items() if not k.startswith("teacher")}
    with pytest.raises(ValueError, match="contrast needs a teacher"):
        fused(**alone, kind="cross_entropy", contrast=contrast)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": torch.zeros(3)}, "vocabulary, hidden"),
        ({"bias": torch.zeros(4)}, "does not fit"),
        ({"softcap": 0.0}, "softcap"),
        ({"softcap": float("nan")}, "softcap"),
        ({"scale": 0.0}, "scale"),
    ],
)
def test_head_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        Head(**{"weight": torch.zeros(3, 2), **options})
