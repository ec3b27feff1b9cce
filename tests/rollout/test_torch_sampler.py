import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

import tiny
from unisd.errors import UniSDError, UsageError
from unisd.rollout import Request, SamplingParams, torch_sampler
from unisd.rollout.torch_sampler import TorchSampler

PROMPTS = [[1, 5, 9], [1, 40, 41, 42, 43, 44, 60], [1, 7], [1, 100, 101, 102]]


def greedy_alone(model, prompt, n, ends):
    ids = list(prompt)
    for _ in range(n):
        with torch.no_grad():
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)
        if token in ends:
            break
    return ids[len(prompt) :]


def test_every_declared_end_token_counts(model, tokenizer):
    model.generation_config.eos_token_id = [2, 77]
    for student in (model, get_peft_model(model, LoraConfig(target_modules=["q_proj"]))):
        assert torch_sampler.end_tokens(student, tokenizer) >= {2, 77}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_greedy_equals_token_by_token_decoding(any_model, tokenizer, attention):
    any_model.set_attn_implementation(attention)
    sampler = TorchSampler(any_model, tokenizer, batch_size=3)
    done = sampler.sample([Request(p) for p in PROMPTS], SamplingParams(12, temperature=0.0))
    for prompt, completion in zip(PROMPTS, done, strict=True):
        assert completion.ids == greedy_alone(any_model, prompt, 12, sampler.end_tokens)


def test_a_completion_does_not_depend_on_its_neighbours(any_model, tokenizer):
    params = SamplingParams(10, temperature=1.0, seed=3)
    requests = [Request(p, ("step", i)) for i, p in enumerate(PROMPTS)]
    together = TorchSampler(any_model, tokenizer, 4).sample(requests, params)
    one_by_one = TorchSampler(any_model, tokenizer, 1).sample(requests, params)
    backwards = TorchSampler(any_model, tokenizer, 4).sample(requests[::-1], params)[::-1]
    assert [c.ids for c in together] == [c.ids for c in one_by_one] == [c.ids for c in backwards]


def test_samples_of_one_prompt_differ_and_equal_keys_agree(model, tokenizer):
    sampler = TorchSampler(model, tokenizer)
    params = SamplingParams(10, temperature=1.0)
    a, b, c = sampler.sample([Request(PROMPTS[0], (0, "x", n)) for n in (0, 1, 0)], params)
    assert a.ids != b.ids
    assert a.ids == c.ids


def test_sampling_follows_the_softmax(model, tokenizer):
    """Frequencies of the first token match softmax(logits / τ)."""
    n, temperature = 3000, 0.7
    with torch.no_grad():
        expected = (model(torch.tensor([PROMPTS[0]])).logits[0, -1] / temperature).softmax(-1)
    sampler = TorchSampler(model, tokenizer, batch_size=500)
    done = sampler.sample([Request(PROMPTS[0], (i,)) for i in range(n)], SamplingParams(1, temperature))
    counts = torch.bincount(torch.tensor([c.ids[0] for c in done]), minlength=len(expected)) / n
    assert (counts - expected).abs().max() < 0.03
    assert (counts - expected).abs().sum() < 0.25


def test_top_p_keeps_to_the_nucleus(model, tokenizer):
    with torch.no_grad():
        probability = model(torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1)
    ordered, index = probability.sort(descending=True)
    keep = int((ordered.cumsum(0) < 0.3).sum()) + 1
    allowed = set(index[:keep].tolist())
    done = TorchSampler(model, tokenizer, 200).sample(
        [Request(PROMPTS[0], (i,)) for i in range(400)], SamplingParams(1, 1.0, top_p=0.3)
    )
    assert {c.ids[0] for c in done} <= allowed


FILTERS = SamplingParams(10, 0.9, 0.9, seed=3, top_k=20, min_p=0.02, repetition_penalty=1.4)


def test_with_filters_a_completion_does_not_depend_on_its_neighbours(any_model, tokenizer):
    any_model.generation_config.eos_token_id = list(range(0, tiny.VOCABULARY, 9))  # rows leave the batch early
    requests = [Request(p, ("step", i)) for i, p in enumerate(PROMPTS)]
    together = TorchSampler(any_model, tokenizer, 4).sample(requests, FILTERS)
    one_by_one = TorchSampler(any_model, tokenizer, 1).sample(requests, FILTERS)
    assert together == one_by_one
    assert len({len(done.ids) for done in together}) > 1


def test_filters_at_the_values_that_change_nothing_leave_every_token(model, tokenizer):
    requests = [Request(p, ("step", i)) for i, p in enumerate(PROMPTS)]
    plain = TorchSampler(model, tokenizer).sample(requests, SamplingParams(10, 0.9, seed=3))
    params = SamplingParams(10, 0.9, 1.0, 3, tiny.VOCABULARY, 0.0, 1.0)
    assert TorchSampler(model, tokenizer).sample(requests, params) == plain
    assert TorchSampler(model, tokenizer).sample(requests, FILTERS) != plain


@pytest.mark.parametrize("penalty", [1.3, 0.7])
def test_greedy_with_a_penalty_is_what_transformers_writes(any_model, tokenizer, penalty):
    sampler = TorchSampler(any_model, tokenizer, batch_size=3)
    done = sampler.sample(
        [Request(p) for p in PROMPTS], SamplingParams(12, temperature=0.0, repetition_penalty=penalty)
    )
    for prompt, completion in zip(PROMPTS, done, strict=True):
        ids = torch.tensor([prompt])
        written = any_model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=12,
            repetition_penalty=penalty,
            eos_token_id=sorted(sampler.end_tokens),
            pad_token_id=0,
        )
        assert completion.ids == written[0, len(prompt) :].tolist()


def test_every_end_token_ends_and_is_kept(model, tokenizer):
    sampler = TorchSampler(model, tokenizer)
    free = sampler.sample([Request(PROMPTS[1])], SamplingParams(8, temperature=0.0))[0]
    model.generation_config.eos_token_id = [2, free.ids[3]]
    stopped = TorchSampler(model, tokenizer).sample([Request(PROMPTS[1])], SamplingParams(8, temperature=0.0))[0]
    first = free.ids.index(free.ids[3])
    assert stopped.ids == free.ids[: first + 1]
    assert stopped.finished
    assert not free.finished


def test_rows_leave_the_batch_without_changing_the_others(model, tokenizer):
    """Rows end at different steps, so the batch shrinks while the others go on."""
    sampler = TorchSampler(model, tokenizer, 4)
    free = sampler.sample([Request(p) for p in PROMPTS], SamplingParams(9, temperature=0.0))
    model.generation_config.eos_token_id = [2, free[0].ids[1], free[2].ids[4]]
    sampler = TorchSampler(model, tokenizer, 4)
    done = sampler.sample([Request(p) for p in PROMPTS], SamplingParams(9, temperature=0.0))
    assert len({len(c.ids) for c in done}) > 1
    for prompt, completion in zip(PROMPTS, done, strict=True):
        assert completion.ids == greedy_alone(model, prompt, 9, sampler.end_tokens)


def test_training_mode_is_left_as_it_was(model, tokenizer):
    model.train()
    TorchSampler(model, tokenizer).sample([Request(PROMPTS[0])], SamplingParams(2))
    assert model.training


def test_decode_leaves_special_tokens_out(model, tokenizer):
    from unisd.rollout import Completion

    ids = [*tokenizer.encode("Answer: B", add_special_tokens=False), 2]
    assert TorchSampler(model, tokenizer).decode(Completion(ids, True)) == "Answer: B"


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_lora_model(tokenizer, temperature):
    model = tiny.lora(tiny.model(), dropout=0.5, trained=True)
    params = SamplingParams(6, temperature)
    first = TorchSampler(model, tokenizer).sample([Request(PROMPTS[0], (1,))], params)
    assert first == TorchSampler(model, tokenizer).sample([Request(PROMPTS[0], (1,))], params)


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_any_number_in_the_unit_interval_picks_a_token_of_the_distribution(model, tokenizer, monkeypatch, top_p):
    """The ends count: the number 0 must not pick an impossible token, the largest below 1 must not miss them all."""
    params = SamplingParams(1, 1.0, top_p)
    batch = torch_sampler._Batch(model, frozenset(), [Request(PROMPTS[0])] * 3, params)
    batch.draws = torch.tensor([[0.0], [0.5], [1.0 - 2.0**-53]], dtype=torch.float64)
    logits = torch.full((3, 9), float("-inf"))
    logits[:, 3:6] = torch.tensor([0.0, 1.0, 0.5])
    picked = batch._choose(logits, 0).tolist()
    assert set(picked) <= ({3, 4, 5} if top_p == 1.0 else {4, 5})
    assert picked == sorted(picked)
    assert picked[0] == (3 if top_p == 1.0 else 4)
    assert picked[2] == 5


@given(st.integers(1, 700), st.floats(0, 1, exclude_max=True), st.integers(0, 2**31))
def test_the_token_is_where_the_running_sum_passes_the_number(vocabulary, draw, seed):
    """Against one plain running sum in double precision, for vocabularies that blocks do and do not divide."""
    generator = torch.Generator().manual_seed(seed)
    scores = 4 * torch.randn(1, vocabulary, generator=generator)
    scores[0, torch.rand(vocabulary, generator=generator) < 0.3] = float("-inf")
    scores[0, int(torch.randint(vocabulary, (1,), generator=generator))] = 0.0
    token = int(torch_sampler._token_at(scores, torch.tensor([draw], dtype=torch.float64)))
    probability = scores[0].double().softmax(-1)
    assert probability[token] > 0
    sums = probability.cumsum(-1)
    assert sums[token] - probability[token] - 1e-6 <= draw <= sums[token] + 1e-6


def test_an_empty_prompt_is_named(model, tokenizer):
    with pytest.raises(UsageError, match=r"without tokens.*'item'"):
        TorchSampler(model, tokenizer).sample([Request([1]), Request([], (0, "item"))], SamplingParams(2))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_named(value, temperature, model, tokenizer):
    with torch.no_grad():
        model.lm_head.weight[7] = value
    with pytest.raises(UniSDError, match="not finite"):
        TorchSampler(model, tokenizer).sample([Request([1])], SamplingParams(2, temperature=temperature))


def test_an_adapted_head_is_sampled_from(model, tokenizer):
    config = LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = get_peft_model(model, config)
    done = TorchSampler(adapted, tokenizer).sample([Request(PROMPTS[1])], SamplingParams(6, temperature=0.0))[0]
    assert done.ids == greedy_alone(adapted, PROMPTS[1], 6, TorchSampler(adapted, tokenizer).end_tokens)
