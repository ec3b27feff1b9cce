"""Attention by segment: the same values and gradients as with a mask, and the model is as it was."""

import pytest
import torch

import tiny
from unisd.fast import segments
from unisd.fast.segments import (
    NAME,
    Segment,
    attention_by_segment,
    segmented_attention,
    segments_of_checkpoints,
    segments_suit,
)
from unisd.models import reading
from unisd.models.packed import PackedSequence
from unisd.models.reading import completion_states

# The last is longer than Gemma's sliding window of 8.
SEQUENCES = [PackedSequence([1, 5, 9], [7, 8]), PackedSequence([4], [11, 12]), PackedSequence([6] * 9, list(range(9)))]


def learned(model, by_segment, monkeypatch):
    """States and gradients of one packed row."""
    with monkeypatch.context() as patched:
        if not by_segment:
            patched.setattr(reading, "segments_suit", lambda decoder: False)
        model.zero_grad()
        with segments_of_checkpoints():
            states = completion_states(model, SEQUENCES)
            weights = torch.linspace(-1, 1, states.numel()).view_as(states)
            (states * weights).sum().backward()
    return states.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_values_and_gradients_equal_those_with_a_mask(family, monkeypatch):
    model = tiny.lora(tiny.model(family), trained=True).train()
    states, gradients = learned(model, True, monkeypatch)
    masked, masked_gradients = learned(model, False, monkeypatch)
    torch.testing.assert_close(states, masked, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients, masked_gradients, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradient_checkpointing_gives_the_same_gradients(dropout, reentrant, monkeypatch):
    """By segment, too: no mask of the whole row comes back in the backward pass."""
    model = tiny.lora(tiny.model(), trained=True).train()
    _, gradients = learned(model, True, monkeypatch)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    seen = []
    plain = segments.segmented_attention

    def attended(*args, **more):
        seen.append(args[4])
        return plain(*args, **more)

    monkeypatch.setattr(segments, "segmented_attention", attended)
    torch.manual_seed(0)
    _, again = learned(model, True, monkeypatch)
    assert seen == [None, None]  # both layers, once more
    if dropout:
        torch.manual_seed(0)
        torch.testing.assert_close(learned(model, True, monkeypatch)[1], again)
    else:
        torch.testing.assert_close(again, gradients, rtol=1e-3, atol=1e-4)


def test_it_is_used_with_sdpa_alone_and_leaves_the_model_as_it_was():
    decoder = tiny.model().get_decoder()
    for implementation, used in (("sdpa", True), ("eager", False)):
        decoder.set_attn_implementation(implementation)
        assert segments_suit(decoder) is used
    decoder.set_attn_implementation("sdpa")
    with attention_by_segment(decoder, []):
        assert decoder.config._attn_implementation == NAME
    assert decoder.config._attn_implementation == "sdpa"
    decoder.config.model_type = "phimoe"  # its window is in the mask alone
    assert not segments_suit(decoder)
    with pytest.raises(KeyError), attention_by_segment(decoder, []):
        raise KeyError
    assert decoder.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("own", [3, 20])
def test_a_segment_attends_to_what_it_continues(own, window):
    """Whether it is shorter or longer than that; values and gradients against one dense mask."""
    torch.manual_seed(0)
    depth = 9
    segments = [Segment(0, depth), Segment(depth, depth + own, ((0, depth),)), Segment(depth + own, depth + own + 4)]
    length = segments[-1].stop
    inputs = [torch.randn(1, heads, length, 8, requires_grad=True) for heads in (4, 2, 2)]
    module = torch.nn.Module()
    module.num_key_value_groups = 2
    weights = torch.randn(1, length, 4, 8)

    def outcome(values):
        return values, torch.autograd.grad((values * weights).sum(), inputs)

    masks = {}
    made = segmented_attention(module, *inputs, None, segments=segments, segment_masks=masks, sliding_window=window)[0]
    assert bool(masks) is (own < depth or window is not None)
    place = torch.arange(length)
    position = torch.where(place < depth + own, place, place - depth - own)
    together = (place < depth + own)[:, None] == (place < depth + own)
    distance = position[:, None] - position
    seen = together & (distance >= 0) & (distance < (window or length))
    q, k, v = inputs
    k, v = (t.repeat_interleave(2, dim=1) for t in (k, v))
    dense = torch.nn.functional.scaled_dot_product_attention(q, k, v, seen).transpose(1, 2)
    torch.testing.assert_close(outcome(made), outcome(dense), rtol=1e-4, atol=1e-5)
