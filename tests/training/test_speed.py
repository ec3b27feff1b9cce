import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import tiny
from unisd.models.packed import PackedSequence, flat_row, hidden_states
from unisd.training.speed import Work, product_peak


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_a_forward_pass_costs_what_is_counted(family):
    model = tiny.model(family)
    sequence = PackedSequence(list(range(5, 25)), list(range(30, 50)))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        hidden_states(model, flat_row([sequence]), by_segment=False)
    counted = counter.get_flop_counts()["Global"]
    products = sum(n for op, n in counted.items() if "attention" not in str(op) and "bmm" not in str(op))
    head = Work(model).per_logits  # one position's logits are computed
    assert products - head == Work(model).operations({"read": len(sequence)})


def test_learning_costs_two_passes_with_an_adapter_and_three_with_all_weights():
    whole, adapted = Work(tiny.model()), Work(tiny.lora(tiny.model()))
    assert whole.per_token == adapted.per_token
    assert whole.operations({"learned": 7}) == 3 * 7 * whole.per_token
    assert adapted.operations({"learned": 7}) == 2 * 7 * whole.per_token
    assert whole.operations({"logits": 2}) == 2 * 2 * 259 * 32


def test_measuring_the_machine_leaves_the_random_streams_alone():
    product_peak.cache_clear()
    before = torch.random.get_rng_state()
    product_peak("cpu", torch.float32)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_speed_is_work_by_time():
    work = Work(tiny.model())
    found = work.measures({"read": 100}, 50, 2.0)
    assert found["speed/tokens_per_second"] == 25
    assert found["speed/tflops"] == pytest.approx(100 * work.per_token / 2 / 1e12)
    assert found["speed/utilisation"] == pytest.approx(
        found["speed/tflops"] * 1e12 / product_peak("cpu", torch.float32)
    )
    assert product_peak("cpu", torch.float32) == product_peak("cpu", torch.float32) > 1e8
