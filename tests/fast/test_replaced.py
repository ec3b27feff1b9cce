"""What runs another way for a while, runs as it did afterwards; and which layers and families that is for."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

import tiny
from unisd.fast.replaced import (
    active_adapters,
    attends_plainly,
    is_lora,
    linear_layers,
    replaced_attention,
    replaced_forwards,
)


@pytest.fixture
def adapted():
    return tiny.lora(tiny.model(), trained=True)


def adapter_of(**kind):
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", **kind)
    return get_peft_model(tiny.model(), config).base_model.model.model.layers[0].self_attn.q_proj


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_known_families_attend_plainly_with_their_usual_kernel(family):
    decoder = tiny.model(family).get_decoder()
    assert attends_plainly(decoder)
    decoder.set_attn_implementation("eager")
    assert not attends_plainly(decoder)
    decoder.set_attn_implementation("sdpa")
    decoder.config.model_type = "a newcomer"
    assert not attends_plainly(decoder)


def test_layers_that_ask_a_copy_of_the_configuration_attend_by_themselves():
    """PEFT repeats layers as deep copies, which another attention function would not reach."""
    config = LoraConfig(r=2, target_modules=["q_proj"], layer_replication=[(0, 2), (1, 2)], task_type="CAUSAL_LM")
    repeated = get_peft_model(tiny.model("llama"), config)
    assert len(repeated.get_base_model().get_decoder().layers) == 3
    assert not attends_plainly(repeated.get_base_model().get_decoder())


@pytest.mark.parametrize("part", ["lora_A", "lora_B", "base_layer"])
def test_a_layer_whose_parts_are_hooked_keeps_its_own_forward_pass(part):
    layer = adapter_of()
    assert is_lora(layer)
    inner = layer.base_layer if part == "base_layer" else getattr(layer, part)["default"]
    handle = inner.register_forward_hook(lambda module, inputs, out: out * 2)
    assert not is_lora(layer)
    handle.remove()
    inner.forward = inner.forward  # as libraries do that move weights between devices
    assert not is_lora(layer)


def test_another_method_that_has_the_same_names_is_no_lora():
    from peft import AdaLoraConfig

    config = AdaLoraConfig(target_modules=["q_proj"], total_step=10, task_type="CAUSAL_LM")
    assert not is_lora(get_peft_model(tiny.model(), config).base_model.model.model.layers[0].self_attn.q_proj)


def test_what_somebody_else_replaced_stays_and_a_shared_module_is_replaced_once():
    theirs, shared = nn.Linear(2, 2), nn.Linear(2, 2)
    before = theirs.forward = lambda value: value + 1
    with replaced_forwards([theirs, shared, shared], lambda layer: lambda value: value * 0):
        assert theirs.forward is before
        assert float(shared(torch.ones(2)).sum()) == 0
    assert theirs.forward is before
    assert "forward" not in vars(shared)


def test_attention_comes_back_even_after_an_error():
    decoder = tiny.model().get_decoder()
    with replaced_attention(decoder, "another"):
        assert decoder.config._attn_implementation == "another"
    assert decoder.config._attn_implementation == "sdpa"
    with pytest.raises(ZeroDivisionError), replaced_attention(decoder, "another"):
        raise ZeroDivisionError
    assert decoder.config._attn_implementation == "sdpa"


def test_forward_passes_come_back_even_where_making_one_fails():
    layers = [nn.Linear(2, 2) for _ in range(3)]
    x = torch.ones(1, 2)

    def other(layer):
        return None if layer is layers[1] else (lambda value: value * 0)

    with replaced_forwards(layers, other):
        assert not layers[0](x).any()
        assert "forward" not in vars(layers[1])
    assert all(layer(x).any() and "forward" not in vars(layer) for layer in layers)

    def failing(layer):
        if layer is layers[2]:
            raise ZeroDivisionError
        return other(layer)

    with pytest.raises(ZeroDivisionError), replaced_forwards(layers, failing):
        pytest.fail("the context must not open")
    assert not any("forward" in vars(layer) for layer in layers)


def test_a_lora_layer_stands_for_what_it_is_made_of(adapted):
    layers = list(linear_layers(adapted))
    inside = [part for layer in layers if is_lora(layer) for part in layer.modules() if part is not layer]
    assert sum(map(is_lora, layers)) == 6  # q, v and up of two layers
    assert len(layers) == 2 * 7 + 1  # the head, too
    assert not any(layer is part for layer in layers for part in inside)


def test_other_kinds_of_layers_are_no_plain_lora():
    assert is_lora(adapter_of())
    assert not is_lora(adapter_of(use_dora=True))
    assert not is_lora(adapter_of(lora_bias=True))
    assert not is_lora(nn.Linear(2, 2))
    merged = adapter_of()
    merged.merge()
    assert not is_lora(merged)
    assert is_lora(adapter_of(use_rslora=True))


def test_active_adapters_follow_what_is_switched_on(adapted):
    layer = next(filter(is_lora, adapted.modules()))
    assert active_adapters(layer) == ["default"]
    with adapted.disable_adapter():
        assert active_adapters(layer) == []
    adapted.add_adapter("second", LoraConfig(r=2, target_modules=["v_proj"], task_type="CAUSAL_LM"))
    adapted.set_adapter("second")
    assert active_adapters(adapted.base_model.model.model.layers[0].self_attn.q_proj) == []
    assert active_adapters(adapted.base_model.model.model.layers[0].self_attn.v_proj) == ["second"]
