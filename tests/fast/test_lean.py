"""The lean LoRA step gives PEFT's values and gradients, and keeps less for the backward pass."""

import contextlib

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers.activations import ACT2FN

import tiny
from unisd.fast import lean as lean_module
from unisd.fast.lean import lean_adapters
from unisd.models.packed import PackedSequence, flat_row, hidden_states

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])


def run(model, lean, ids=IDS):
    """Loss and gradients of one step, with the same dropout each time."""
    model.zero_grad()
    torch.manual_seed(7)
    with lean_adapters(model) if lean else contextlib.nullcontext():
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(params=sorted(tiny.FAMILIES))
def student(request):
    return tiny.lora(tiny.model(request.param), trained=True).train()


def test_equals_peft_without_dropout(student):
    loss, gradients = run(student, lean=False)
    lean_loss, lean_gradients = run(student, lean=True)
    torch.testing.assert_close(lean_loss, loss)
    assert lean_gradients.keys() == gradients.keys()
    torch.testing.assert_close(lean_gradients, gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_gated_blocks_equal_peft(family):
    config = LoraConfig(
        r=4, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
    )
    torch.manual_seed(1)
    model = get_peft_model(tiny.model(family), config).train()
    with lean_adapters(model):
        blocks = [m for m in model.modules() if "forward" in vars(m) and hasattr(m, "act_fn")]
    assert len(blocks) == model.config.num_hidden_layers
    loss, gradients = run(model, lean=False)
    lean_loss, lean_gradients = run(model, lean=True)
    torch.testing.assert_close(lean_loss, loss)
    assert lean_gradients.keys() == gradients.keys()
    torch.testing.assert_close(lean_gradients, gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_an_adapter_in_single_precision_on_a_base_of_half(family):
    """As PEFT makes it. Both round to bfloat16 in between; neither may be further from the exact values."""
    config = LoraConfig(
        r=4, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
    )
    torch.manual_seed(1)
    model = get_peft_model(tiny.model(family).bfloat16(), config).train()
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    with lean_adapters(model):
        assert sum("forward" in vars(m) for m in model.modules()) > 7
    loss, gradients = run(model, lean=False)
    lean_loss, lean_gradients = run(model, lean=True)
    _, exact = run(model.float(), lean=False)
    assert lean_loss == pytest.approx(float(loss), rel=1e-2)

    def error(found):
        return torch.tensor([float((found[n] - exact[n]).norm() / exact[n].norm()) for n in exact]).median()

    assert {g.dtype for g in lean_gradients.values()} == {torch.float32}
    assert error(lean_gradients) < 1.2 * error(gradients) < 0.2


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_one_layer_on_a_base_of_half_equals_peft(rate):
    torch.manual_seed(0)
    x = torch.randn(3, 4, 32, dtype=torch.bfloat16, requires_grad=True)
    weight, bias = torch.randn(48, 32).bfloat16(), torch.randn(48).bfloat16()
    down, up = (torch.randn(*s, requires_grad=True) for s in ((4, 32), (48, 4)))
    torch.manual_seed(3)
    made = lean_module._LoraStep.apply(x, weight, bias, down, up, 2.0, rate)
    torch.manual_seed(3)
    mask = lean_module._kept(x.reshape(-1, 32), rate).view(x.shape) if rate else torch.ones_like(x)
    dropped = (x * mask).float() / (1.0 - rate)
    plain = (torch.nn.functional.linear(x, weight, bias) + 2.0 * dropped @ down.t() @ up.t()).bfloat16()
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made, plain, rtol=2e-2, atol=0.3)
    toward = torch.randn_like(plain)
    found, expected = (torch.autograd.grad(y, (x, down, up), toward) for y in (made, plain))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).norm() < (1e-2 if one.dtype == torch.bfloat16 else 1e-5) * other.norm()


@pytest.mark.parametrize("kind", [{"use_dora": True}, {"lora_bias": True}, {}])
def test_a_block_with_another_kind_of_adapter_keeps_its_own_forward(kind):
    """DoRA, a LoRA bias, and a delta that is merged already: what comes out must not change."""
    config = LoraConfig(r=4, target_modules=["down_proj"], task_type="CAUSAL_LM", init_lora_weights=False, **kind)
    torch.manual_seed(1)
    model = get_peft_model(tiny.model(), config).eval()
    if not kind:
        model.merge_adapter()
    with torch.no_grad():
        expected = model(IDS).logits
        with lean_adapters(model):
            torch.testing.assert_close(model(IDS).logits, expected)


def test_a_block_with_another_activation_keeps_its_own_forward():
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(tiny.model(), config)
    for module in model.modules():
        if hasattr(module, "act_fn"):
            module.act_fn = torch.nn.ReLU()
    with lean_adapters(model):
        assert not [m for m in model.modules() if "forward" in vars(m) and hasattr(m, "act_fn")]


@pytest.mark.parametrize("activation", ["silu", "gelu_pytorch_tanh"])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_gated_gradients_in_double_precision(activation, rate):
    torch.manual_seed(0)
    shapes = ((3, 4, 5), (3, 4, 5), (2, 5), (6, 2))
    gate, up, down, rise = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in shapes)
    weight, bias = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    act = ACT2FN[activation]

    def step(gate, up, down, rise):
        torch.manual_seed(3)  # the same mask at each evaluation
        slope = lean_module._slope(act)
        return lean_module._GatedStep.apply(gate, up, act, slope, weight, bias, down, rise, 2.0, rate)

    assert torch.autograd.gradcheck(step, (gate, up, down, rise))
    torch.manual_seed(3)
    plain = lean_module._LoraStep.apply(act(gate) * up, weight, bias, down, rise, 2.0, rate)
    torch.testing.assert_close(step(gate, up, down, rise), plain)


def test_gradients_in_double_precision():
    torch.manual_seed(0)
    x, down, up = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((3, 4, 5), (2, 5), (6, 2)))
    weight, bias = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, dtype=torch.float64)

    def step(rate, *tensors):
        torch.manual_seed(3)  # the same mask at each evaluation
        return lean_module._LoraStep.apply(tensors[0], weight, bias, tensors[1], tensors[2], 2.0, rate)

    for rate in (0.0, 0.5):
        assert torch.autograd.gradcheck(lambda *t, rate=rate: step(rate, *t), (x, down, up))


def test_dropout_drops_the_adapters_input_alone_and_keeps_its_mean():
    torch.manual_seed(0)
    x, weight = torch.ones(20_000, 1), torch.full((1, 1), 3.0)
    down, up = torch.ones(1, 1), torch.ones(1, 1)
    y = lean_module._LoraStep.apply(x, weight, None, down, up, 1.0, 0.25)
    values = set(y.unique().tolist())
    assert len(values) == 2
    assert min(values) == 3.0
    assert max(values) == pytest.approx(3 + 1 / 0.75)
    assert float(y.mean()) == pytest.approx(4.0, abs=0.02)


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("count", [1, 7, 40_000])
def test_values_stay_with_the_probability_that_is_asked_for(rate, count):
    torch.manual_seed(count)
    kept = lean_module._kept(torch.empty(3, count), rate)
    assert kept.shape == (3, count)
    deviation = (rate * (1 - rate) / kept.numel()) ** 0.5
    assert abs(float(kept.float().mean()) - (1 - rate)) < 4 * deviation + 2**-16
    if count > 1000:  # neighbours, which share a random number, are independent
        a, b = kept[:, :-1].float(), kept[:, 1:].float()
        together = float((a * b).mean())
        assert together == pytest.approx((1 - rate) ** 2, abs=0.01)


def test_dropout_is_off_in_evaluation_and_repeats_with_the_seed():
    model = tiny.lora(tiny.model(), dropout=0.5, trained=True).train()
    first, second = run(model, lean=True), run(model, lean=True)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert float(first[0]) != float(run(model.eval(), lean=True)[0])
    torch.testing.assert_close(run(model, lean=True), run(model, lean=False), rtol=1e-4, atol=1e-5)


def test_less_is_kept_for_the_backward_pass():
    def kept(lean):
        config = LoraConfig(r=4, lora_dropout=0.1, target_modules="all-linear", task_type="CAUSAL_LM")
        model, seen, holding = get_peft_model(tiny.model(), config).train(), {}, []

        def note(tensor):
            if not isinstance(tensor, torch.nn.Parameter):
                holding.append(tensor)  # so that no address is used twice
                seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        ids = IDS.repeat(1, 8)
        way = lean_adapters(model) if lean else contextlib.nullcontext()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t), way:
            hidden_states(model, flat_row([PackedSequence(ids[0, :9].tolist(), ids[0, 9:].tolist())]), by_segment=True)
        return sum(seen.values())

    assert kept(lean=True) < 0.6 * kept(lean=False)


def test_the_model_is_as_it_was_afterwards(student):
    with lean_adapters(student):
        changed = [m for m in student.modules() if "forward" in vars(m)]
    assert len(changed) == 6
    assert not [m for m in student.modules() if "forward" in vars(m)]


def test_layers_of_other_kinds_keep_their_own_step():
    model = tiny.lora(tiny.model(), trained=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    with lean_adapters(model):
        assert not [m for m in model.modules() if "forward" in vars(m)]
    model = tiny.lora(tiny.model(), trained=True)
    with model.disable_adapter(), lean_adapters(model):
        assert not [m for m in model.modules() if "forward" in vars(m)]


def test_gradient_checkpointing_draws_the_same_mask_again():
    model = tiny.lora(tiny.model(), dropout=0.5, trained=True).train()
    _, gradients = run(model, lean=True)
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    _, again = run(model, lean=True)
    torch.testing.assert_close(again, gradients, rtol=1e-4, atol=1e-6)
