"""Each filter, and all in their order, against transformers' own logits processors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig
from transformers.generation import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from unisd.rollout import SamplingParams
from unisd.rollout.filters import filtered, seen_tokens


def theirs(logits, prompts, params):
    """Row by row, since rows differ in length and there they are not padded."""
    steps = LogitsProcessorList()
    if params.repetition_penalty != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    if params.temperature > 0:
        steps.append(TemperatureLogitsWarper(params.temperature))
        steps += [TopKLogitsWarper(params.top_k)] if params.top_k else []
        steps += [TopPLogitsWarper(params.top_p)] if params.top_p < 1 else []
        steps += [MinPLogitsWarper(params.min_p)] if params.min_p > 0 else []
    rows = [steps(torch.tensor([prompt]), row[None].clone()) for prompt, row in zip(prompts, logits, strict=True)]
    return torch.cat(rows)


def ours(logits, prompts, params):
    seen = seen_tokens(prompts, logits) if params.repetition_penalty != 1 else None
    return filtered(logits, params, seen)


def drawn(seed, vocabulary, rows=3):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, vocabulary, dtype=torch.float64, generator=generator)
    prompts = [torch.randint(vocabulary, (1 + 4 * row,), generator=generator).tolist() for row in range(rows)]
    return logits, prompts


@given(
    seed=st.integers(0, 2**31),
    vocabulary=st.integers(1, 80),
    temperature=st.floats(0.2, 3.0),
    top_k=st.integers(0, 100),
    top_p=st.one_of(st.just(1.0), st.floats(0.05, 0.95)),
    min_p=st.one_of(st.just(0.0), st.floats(0.01, 1.0)),
    penalty=st.one_of(st.just(1.0), st.floats(0.5, 2.0)),
)
def test_the_distribution_is_that_of_transformers(seed, vocabulary, temperature, top_k, top_p, min_p, penalty):
    logits, prompts = drawn(seed, vocabulary)
    params = SamplingParams(1, temperature, top_p, top_k=top_k, min_p=min_p, repetition_penalty=penalty)
    expected = theirs(logits, prompts, params).softmax(-1)
    torch.testing.assert_close(ours(logits, prompts, params).softmax(-1), expected, rtol=1e-12, atol=1e-15)
    assert (expected > 0).any(-1).all()


@pytest.mark.parametrize(
    "changes", [{"top_k": 4}, {"top_p": 0.6}, {"min_p": 0.3}, {"repetition_penalty": 1.7}, {"repetition_penalty": 0.6}]
)
def test_each_changes_the_distribution_by_itself(changes):
    logits, prompts = drawn(0, 40)
    plain, changed = (ours(logits, prompts, SamplingParams(1, 0.8, **more)).softmax(-1) for more in ({}, changes))
    torch.testing.assert_close(changed, theirs(logits, prompts, SamplingParams(1, 0.8, **changes)).softmax(-1))
    assert (plain - changed).abs().max() > 0.01


def test_the_order_is_the_one_that_generate_takes(model):
    """The penalty and the temperature come first; top_p reads what top_k left. Another order would give another set."""
    config = GenerationConfig(do_sample=True, repetition_penalty=1.5, temperature=0.5, top_k=6, top_p=0.7, min_p=0.05)
    names = [type(each).__name__ for each in model._get_logits_processor(config, input_ids_seq_length=1)]
    order = ["RepetitionPenalty", "Temperature", "TopK", "TopP", "MinP"]
    assert [next(one for one in order if name.startswith(one)) for name in names] == order
    logits = torch.tensor([[0.40, 0.20, 0.15, 0.10, 0.10, 0.05]]).log()
    kept = ours(logits, [[0]], SamplingParams(1, 1.0, top_p=0.55, top_k=2)).isfinite()
    assert kept.tolist() == [[True] + 5 * [False]]  # of the two that are left, the first alone has 2/3
    kept = ours(logits, [[0]], SamplingParams(1, 1.0, top_p=0.55)).isfinite()
    assert kept.sum() == 2


def test_greedy_answers_know_the_penalty_alone():
    logits, prompts = drawn(1, 30)
    params = SamplingParams(1, 0.0, top_p=0.1, top_k=1, min_p=0.9, repetition_penalty=2.0)
    torch.testing.assert_close(ours(logits, prompts, params), theirs(logits, prompts, params))


def test_values_that_change_nothing_leave_every_bit():
    logits, prompts = drawn(2, 50)
    for params in (SamplingParams(1, 0.7), SamplingParams(1, 0.7, top_k=50), SamplingParams(1, 0.7, top_k=1000)):
        assert torch.equal(ours(logits, prompts, params), logits / 0.7)


def test_tokens_beyond_the_head_are_not_penalised():
    """Some models read more tokens than they can write."""
    logits = torch.zeros(2, 5)
    seen = seen_tokens([[1, 7, 1], [900]], logits)
    assert seen.tolist() == [[False, True, False, False, False], [False] * 5]


def test_tokens_as_likely_as_the_kth_stay():
    logits = torch.tensor([[1.0, 2.0, 2.0, 0.0]])
    params = SamplingParams(1, 1.0, top_k=1)
    assert ours(logits, [[0]], params).isfinite().tolist() == [[False, True, True, False]]
    torch.testing.assert_close(ours(logits, [[0]], params), theirs(logits, [[0]], params))
