import dataclasses
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from unisd.fast.segments import Segment
from unisd.models.load import base_model
from unisd.models.packed import (
    MIN_SHARED,
    PackedSequence,
    flat_row,
    hidden_states,
    pack,
    pack_sequences,
    predicting_states,
    shared_row,
)
from unisd.models.reading import completion_states

SEQUENCES = [
    PackedSequence([1, 5, 9, 30], [7, 8, 2]),
    PackedSequence([1, 40], [11]),
    PackedSequence(list(range(3, 33)), list(range(60, 80))),
]


def alone(model, sequence):
    ids = torch.tensor([[*sequence.prompt_ids, *sequence.completion_ids]])
    with torch.no_grad():
        hidden = base_model(model).get_decoder()(ids).last_hidden_state[0]
    start = len(sequence.prompt_ids) - 1
    return hidden[start : start + len(sequence.completion_ids)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_packed_row_equals_separate_forwards(family, attention):
    model = tiny.model(family)
    model.set_attn_implementation(attention)
    with torch.no_grad():
        packed = completion_states(model, SEQUENCES)
    separate = torch.cat([alone(model, sequence) for sequence in SEQUENCES])
    assert packed.shape == separate.shape
    torch.testing.assert_close(packed, separate, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(os.environ.get("UNISD_SLOW_TESTS") != "1", reason="compiles for a minute; UNISD_SLOW_TESTS=1")
@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_packed_row_equals_separate_forwards_with_flex_attention(family):
    model = tiny.model(family)
    separate = torch.cat([alone(model, sequence) for sequence in SEQUENCES])
    model.set_attn_implementation("flex_attention")
    with torch.no_grad():
        torch.testing.assert_close(completion_states(model, SEQUENCES), separate, rtol=1e-4, atol=1e-4)


def test_a_row_without_restarting_positions_would_differ():
    """The check above can fail: with running positions, sequences see each other."""
    model = tiny.model("llama")
    row = flat_row(SEQUENCES)
    running = dataclasses.replace(row, positions=list(range(len(row.ids))), segments=[Segment(0, len(row.ids))])
    with torch.no_grad():
        joined = hidden_states(model, running, by_segment=True)[0]
    first = len(SEQUENCES[0])
    assert not torch.allclose(joined[first + 1 : first + 2], alone(model, SEQUENCES[1]), atol=1e-3)


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_the_last_layer_computes_what_is_asked_for(family):
    """Its feed-forward block, the largest part of a layer, sees the predicting tokens alone; gradients stay equal."""
    model = tiny.lora(tiny.model(family), trained=True)
    row, seen = flat_row(SEQUENCES), []
    block = base_model(model).get_decoder().layers[-1].mlp
    handle = block.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))

    def gradients(states):
        model.zero_grad()
        states.square().sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    all_tokens = hidden_states(model, row, by_segment=True)[0, torch.tensor(row.predicting)]
    few = predicting_states(model, row, by_segment=True)
    handle.remove()
    assert seen == [len(row.ids), len(row.predicting)]
    torch.testing.assert_close(few, all_tokens)
    torch.testing.assert_close(gradients(few), gradients(all_tokens), rtol=1e-4, atol=1e-5)


def test_lora_wrapped_model_gives_the_adapted_states():
    model = tiny.lora(tiny.model(), trained=True)
    with torch.no_grad():
        adapted = completion_states(model, SEQUENCES)
        with model.disable_adapter():
            plain = completion_states(model, SEQUENCES)
    assert not torch.allclose(adapted, plain, atol=1e-3)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 60))
def test_pack_keeps_every_sequence_and_the_budget(lengths, budget):
    packed = pack(lengths, budget)
    assert sorted(i for row in packed for i in row) == list(range(len(lengths)))
    for row in packed:
        assert sum(lengths[i] for i in row) <= budget or len(row) == 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(0, 20), st.integers(1, 90), st.booleans())
def test_rows_of_sequences_keep_the_budget(lengths, common, budget, share):
    system = list(range(100, 100 + common))
    family = [PackedSequence([*system, 10 + i, *[5] * length], [1, 2]) for i, length in enumerate(lengths)]
    rows = pack_sequences(family, budget, share)
    assert sorted(i for row in rows for i in row) == list(range(len(family)))
    for row in rows:
        make = shared_row if share else flat_row
        assert len(row) == 1 or len(make([family[i] for i in row]).ids) <= budget


def test_more_sequences_fit_where_they_share():
    family = [PackedSequence([*SYSTEM, 60 + i, 61], [7]) for i in range(8)]
    assert len(pack_sequences(family, 40, share=True)) == 1
    assert len(pack_sequences(family, 40, share=False)) == 8


# Sequences that share their beginning

SYSTEM, QUESTION = list(range(3, 23)), list(range(30, 50))
FAMILY = [
    PackedSequence([*SYSTEM, *QUESTION, 61, 62], [7, 8, 9]),
    PackedSequence([*SYSTEM, *QUESTION, 63], [7, 8, 9]),
    PackedSequence([*SYSTEM, 70, 71, 72], [10]),
    PackedSequence(SYSTEM, [11, 12]),  # all of its prompt is shared, but for the token that predicts
    PackedSequence([80, 81], [13]),
]


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_a_row_that_shares_beginnings_equals_separate_forwards(family):
    """Gemma-3's sliding window of 8 tokens is shorter than what is shared."""
    model = tiny.model(family)
    with torch.no_grad():
        shared = completion_states(model, FAMILY, share=True)
    separate = torch.cat([alone(model, sequence) for sequence in FAMILY])
    torch.testing.assert_close(shared, separate, rtol=1e-5, atol=1e-5)


def test_what_is_shared_stands_once():
    row = shared_row(FAMILY)
    assert len(row.ids) == len(flat_row(FAMILY).ids) - 3 * 19 - 20 - 1
    assert [len(segment.before) for segment in row.segments].count(0) == 2
    assert max(len(segment.before) for segment in row.segments) == 2


tokens = st.integers(0, 2)
sequences = st.lists(
    st.builds(
        lambda head, prompt, completion: PackedSequence([1] * head + prompt, completion),
        st.integers(0, 2 * MIN_SHARED),
        st.lists(tokens, min_size=1, max_size=12),
        st.lists(tokens, min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=7,
)


@given(sequences)
def test_every_sequence_can_be_read_back_from_a_shared_row(family):
    row = shared_row(family)
    places = iter(row.predicting)
    of = {place: segment for segment in row.segments for place in range(segment.start, segment.stop)}
    assert sorted(of) == list(range(len(row.ids)))
    for sequence in family:
        inputs = [*sequence.prompt_ids, *sequence.completion_ids[:-1]]
        own = [next(places) for _ in sequence.completion_ids]
        segment = of[own[0]]
        runs = [*segment.before, (segment.start, segment.stop)]
        assert [row.ids[i] for start, stop in runs for i in range(start, stop)] == inputs
        assert [row.positions[i] for start, stop in runs for i in range(start, stop)] == list(range(len(inputs)))
        assert own == list(range(segment.stop - len(own), segment.stop))
    assert next(places, None) is None
    assert len(row.ids) <= len(flat_row(family).ids)
