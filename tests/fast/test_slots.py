"""Keys and values by position: room grows, rows leave, and attention sees what a dense causal mask lets it see."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

import tiny
from unisd.fast import slots as slots_module
from unisd.fast.slots import NAME, Slots, attention_by_slot, slot_attention

HEADS, SHARED, WIDTH = 4, 2, 8


def fresh(rows, count, seed=0):
    """Queries, keys and values of a batch."""
    torch.manual_seed(seed)
    return [torch.randn(rows, heads, count, WIDTH) for heads in (HEADS, SHARED, SHARED)]


def attend(slots, positions, tensors, window=None):
    module = nn.Module()
    module.layer_idx = 0
    step = slots_module._Step(slots, positions, int(positions.max()) + 1)
    return slot_attention(module, *tensors, None, slot_step=step, sliding_window=window)[0]


def dense(tensors, window=None):
    """Causal attention over a whole sequence, ``[B, L, heads, D]``."""
    q, k, v = tensors
    k, v = (tensor.repeat_interleave(HEADS // SHARED, dim=1) for tensor in (k, v))
    length = q.shape[2]
    distance = torch.arange(length)[:, None] - torch.arange(length)
    seen = (distance >= 0) & (distance < (window or length))
    return scaled_dot_product_attention(q, k, v, seen).transpose(1, 2)


def test_room_grows_and_keeps_what_it_holds():
    slots, like = Slots(2), (torch.ones(1, 3, 1, 5), torch.ones(1, 3, 1, 5, dtype=torch.float64))
    keys, values = slots.room(0, like, 4)
    assert keys.shape == values.shape == (2, 4 + 1 + 16, 3, 5)
    assert (keys.dtype, values.dtype) == (torch.float32, torch.float64)
    keys[1, 3] = 7.0
    assert slots.room(0, like, 20)[0] is keys
    grown = slots.room(0, like, 40)[0]
    assert grown.shape[1] >= 40
    assert (grown[1, 3] == 7).all()
    assert slots.room(1, like, 4)[0] is not keys


@pytest.mark.parametrize("window", [None, 3])
def test_attention_equals_a_dense_mask_however_tokens_arrive(window):
    """At once, one by one, or with wrong tokens that are written over; rows of different lengths."""
    rows, length = 2, 9
    whole = fresh(rows, length)
    expected = dense(whole, window)
    at = torch.arange(length).expand(rows, -1)
    torch.testing.assert_close(attend(Slots(rows), at, whole, window), expected)
    slots = Slots(rows)
    attend(slots, torch.arange(2).expand(rows, -1), [tensor[:, :, :2] for tensor in whole], window)
    attend(slots, 2 + torch.arange(4).expand(rows, -1), fresh(rows, 4, seed=9), window)  # wrong ones
    attend(slots, 2 + torch.arange(2).expand(rows, -1), [tensor[:, :, 2:4] for tensor in whole], window)
    for step in range(2, 5):
        positions = torch.tensor([[step], [step + 2]])  # the first row goes back by two tokens
        newest = [torch.stack([tensor[row, :, positions[row]] for row in range(rows)]) for tensor in whole]
        made = attend(slots, positions, newest, window)
        for row in range(rows):
            torch.testing.assert_close(made[row], expected[row, positions[row]])


def test_rows_leave_and_change_places():
    whole = fresh(3, 6)
    slots = Slots(3)
    attend(slots, torch.arange(5).expand(3, -1), [tensor[:, :, :5] for tensor in whole])
    slots.keep(torch.tensor([2, 0]))
    made = attend(slots, torch.full((2, 1), 5), [tensor[[2, 0], :, 5:] for tensor in whole])
    torch.testing.assert_close(made, dense(whole)[[2, 0], 5:])


def test_layers_of_a_pass_share_their_masks():
    step = slots_module._Step(Slots(1), torch.tensor([[4]]), 5)
    first = step.mask(None, 2, torch.float32)
    assert first.shape == (1, 1, 2, 5)
    assert step.mask(None, 2, torch.float32) is first
    sliding = step.mask(2, 2, torch.float32)
    assert (sliding[0, 0, 0] == 0).tolist() == [False, False, False, True, True]


def test_the_model_attends_so_only_inside_the_context():
    decoder = tiny.model().get_decoder()
    with attention_by_slot(decoder, Slots(1), torch.tensor([[0, 1]]), 2) as more:
        assert decoder.config._attn_implementation == NAME
        assert more["slot_step"].length == 2
    assert decoder.config._attn_implementation == "sdpa"
