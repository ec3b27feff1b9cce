"""Dry tensors beside real ones: the same bytes live, whichever step of learning runs."""

import pytest
import torch
from torch import nn

import tiny
from unisd.fast.lean import lean_adapters
from unisd.models import LoraSettings, attach
from unisd.models.packed import PackedSequence
from unisd.models.reading import completion_states
from unisd.training.dry import FOUR_BITS, Tally, dry, dry_copy, kept_bytes, packed_weights

ROWS = [PackedSequence(list(range(3, 43)), list(range(3, 33))) for _ in range(2)]


def learned(model: nn.Module) -> tuple[int, int, int]:
    """Bytes that live before and after a backward pass over a packed row, and their peak."""
    with Tally() as tally, lean_adapters(model):
        states = completion_states(model, ROWS, share=True)
        before = tally.bytes
        states.sum().backward()
        del states
    return before, tally.bytes, tally.peak


def test_a_storage_counts_once_and_as_long_as_something_holds_it():
    with Tally() as tally:
        a = torch.zeros(1000)
        view = a[10:].view(-1, 5)
        assert tally.bytes == 4000
        b = torch.ones(500, dtype=torch.bfloat16)
        assert tally.bytes == 5000
        del a, b
        assert (tally.bytes, tally.peak) == (4000, 5000), "the view holds the first"
        assert tally.restart() == 4000
        assert tally.peak == 4000
        del view
        assert tally.bytes == 0


def test_a_view_of_what_was_there_before_does_not_count():
    before = torch.ones(50, 50)
    with Tally() as tally:
        result = before.t() @ before.detach()
        assert tally.bytes == result.nbytes


def test_what_autograd_keeps_counts():
    weight = torch.ones(100, 100, requires_grad=True)
    with Tally() as tally:
        result = (weight.exp() * 2).sum()
        assert tally.bytes == 40_000 + 4, "exp keeps its result; the product's is gone"
        result.backward()
        del result
        assert tally.bytes == 40_000, "the gradient"


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_a_dry_row_keeps_what_a_real_one_does(family):
    lora = LoraSettings(r=4, alpha=8, dropout=0.1)
    real = tiny.model(family)
    config = real.config
    real = attach(real, lora.peft_config(real)).train()
    completion_states(real, ROWS)  # whether rows may be packed is tried out once, before
    with dry("cpu"):
        imagined = learned(dry_copy(config, torch.float32, lora))
    for found, expected in zip(imagined, learned(real), strict=True):
        assert found == pytest.approx(expected, rel=0.02)


def test_meta_tensors_report_the_device_that_is_meant():
    tensor = torch.empty(2, 3, device="meta")
    with dry("cuda"):
        assert tensor.device.type == "cuda"
        assert tensor.is_cuda
        made = torch.zeros(4, device=tensor.device)
        assert made.device.type == "cuda"
        assert torch.zeros(3).device.type == "cpu"
        assert made.to("cuda", torch.bfloat16).dtype == torch.bfloat16
    assert made.is_meta
    with dry("cpu"):
        assert tensor.device.type == "cpu"
        assert not tensor.is_cuda
    assert tensor.device.type == "meta"


def test_numbers_from_python_are_remembered_and_others_read_as_one():
    with dry("cuda"):
        known = torch.tensor([3, 7, 5], device="cuda")
        assert known.tolist() == [3, 7, 5]
        assert int(known.max()) == 7
        known += 1
        assert known.tolist() == [1, 1, 1]
        assert float(torch.empty((), device="cuda")) == 1.0


@pytest.mark.parametrize("masked", [False, True])
def test_attention_keeps_no_row_by_row_matrix_unless_a_mask_asks_for_one(masked):
    length, wide = 2048, 64
    with dry("cuda"), Tally(("meta",)) as tally:
        q, k = (torch.empty(1, heads, length, wide, dtype=torch.bfloat16, device="cuda") for heads in (4, 2))
        mask = torch.ones(1, 1, length, length, dtype=torch.bool, device="cuda") if masked else None
        q.requires_grad_()
        start = tally.restart()
        result = nn.functional.scaled_dot_product_attention(q, k, k, mask, is_causal=not masked, enable_gqa=True)
        result.sum().backward()
    matrix = length * length * 2
    assert (tally.peak - start > matrix) == masked


def test_checkpointed_layers_keep_their_inputs_alone():
    config, lora = tiny.model().config, LoraSettings(r=4, dropout=0.0)
    kept = {}
    with dry("cuda"):
        for checkpointing in (False, True):
            model = dry_copy(config, torch.bfloat16, lora, checkpointing=checkpointing)
            kept[checkpointing] = kept_bytes(model, lambda m=model: completion_states(m, ROWS))
    assert kept[True] < 0.3 * kept[False]


def test_weights_in_four_bits_are_counted_so():
    config, lora = tiny.model().config, LoraSettings(r=4)
    sizes, linear = {}, 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)
    with dry("cuda"):
        for kind in ("none", "4bit"):
            with Tally(("meta",)) as tally:
                model = dry_copy(config, torch.bfloat16, lora, kind)
                sizes[kind] = tally.bytes
                completion_states(model, ROWS).sum().backward()
                assert packed_weights(model) == (linear if kind == "4bit" else 0)
                assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
                del model
    assert sizes["none"] - sizes["4bit"] == pytest.approx(linear * (2 - FOUR_BITS), rel=0.01)
