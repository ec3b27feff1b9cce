import pytest
import torch

import tiny
from unisd.fast.merged import merged_weights

IDS = torch.tensor([[1, 5, 9, 30, 77, 4], [1, 8, 9, 31, 70, 4]])


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_equal_to_the_plain_pass(family, adapter, head):
    model = tiny.model(family)
    model = tiny.lora(model, trained=True).eval() if adapter else model
    plain = logits(model)
    with merged_weights(model, head=head):
        merged = logits(model)
        assert any("forward" in vars(module) for module in model.modules())
    torch.testing.assert_close(merged, plain, rtol=1e-4, atol=1e-4)


def test_adapter_switched_off_is_left_out():
    model = tiny.lora(tiny.model(), trained=True).eval()
    with model.disable_adapter():
        plain = logits(model)
        with merged_weights(model):
            torch.testing.assert_close(logits(model), plain, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(model), plain, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_model_is_as_it_was_bit_for_bit_even_after_an_error(dtype):
    model = tiny.lora(tiny.model().to(dtype), trained=True).eval()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    plain = logits(model)
    for _ in range(20):
        with pytest.raises(ZeroDivisionError), merged_weights(model):
            raise ZeroDivisionError
    assert all(torch.equal(before[n], p) for n, p in model.named_parameters())
    assert torch.equal(logits(model), plain)
    assert not any("forward" in vars(module) for module in model.modules() if isinstance(module, torch.nn.Linear))


def test_layers_with_a_bias():
    model = tiny.model("qwen2")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    plain = logits(model)
    with merged_weights(model):
        torch.testing.assert_close(logits(model), plain, rtol=1e-4, atol=1e-4)


def test_under_autocast_layers_compute_as_they_do_alone():
    model = tiny.lora(tiny.model(), trained=True).eval()
    with torch.autocast("cpu", torch.bfloat16):
        plain = logits(model)
    with merged_weights(model), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(logits(model), plain)
    assert plain.dtype == torch.bfloat16


def test_an_adapter_is_not_rounded_into_a_weight_of_half_precision():
    """A small update would be lost: the sum has the resolution of the weight."""
    model = tiny.lora(tiny.model().bfloat16(), trained=True).eval()
    plain = logits(model)
    with merged_weights(model):
        assert not any("forward" in vars(module) for module in model.modules())
        assert torch.equal(logits(model), plain)
