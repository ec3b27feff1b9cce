import contextlib
import math

import pytest
import torch

import tiny
from evaluation.asked import Choices, examples
from unisd.contexts import PromptBuilder
from unisd.evaluation.evaluate import evaluate
from unisd.evaluation.retention import retention, text_distance
from unisd.models.packed import PackedSequence
from unisd.objective import divergence
from unisd.rollout import make_sampler

SEQUENCES = [PackedSequence([5, 6, 7], [8, 9, 10, 11]), PackedSequence([40, 41], [42] * 200)]


def opened(model):
    return lambda: contextlib.nullcontext(model)


def plain(model, sequence):
    with torch.no_grad():
        logits = model(torch.tensor([[*sequence.prompt_ids, *sequence.completion_ids]])).logits[0].double()
    return logits[len(sequence.prompt_ids) - 1 : -1]


def test_distances_equal_the_plain_formulas():
    base, adapted = tiny.model(seed=0), tiny.model(seed=3)
    found = text_distance(opened(base), opened(adapted), SEQUENCES)
    p = torch.cat([plain(base, s) for s in SEQUENCES])
    q = torch.cat([plain(adapted, s) for s in SEQUENCES])
    targets = torch.tensor([t for s in SEQUENCES for t in s.completion_ids])
    assert found.tokens == len(targets)
    assert found.jsd == pytest.approx(float(divergence(p, q, "jsd").mean()), rel=1e-4)
    kl = (q.softmax(-1) * (q.log_softmax(-1) - p.log_softmax(-1))).sum(-1).mean()
    assert found.kl_adapted_base == pytest.approx(float(kl), rel=1e-4)
    kl = (p.softmax(-1) * (p.log_softmax(-1) - q.log_softmax(-1))).sum(-1).mean()
    assert found.kl_base_adapted == pytest.approx(float(kl), rel=1e-4)
    entropy = -(p.softmax(-1) * p.log_softmax(-1)).sum(-1).mean()
    assert found.entropy_base == pytest.approx(float(entropy), rel=1e-4)
    nll = -q.log_softmax(-1).gather(-1, targets[:, None]).mean()
    assert math.log(found.perplexity_adapted) == pytest.approx(float(nll), rel=1e-4)


def test_a_model_is_at_no_distance_from_itself():
    model = tiny.model()
    found = text_distance(opened(model), opened(model), SEQUENCES)
    assert found.jsd == pytest.approx(0, abs=1e-6)
    assert found.kl_adapted_base == pytest.approx(0, abs=1e-5)
    assert found.perplexity_base == found.perplexity_adapted


def test_an_adapter_and_its_base_share_one_copy(tokenizer):
    model = tiny.lora(tiny.model(), trained=True)
    builder, task = PromptBuilder(tokenizer, "paper"), Choices()
    sampler = make_sampler(model, tokenizer)
    with model.disable_adapter():
        before = evaluate(task, examples(4), sampler, builder, 6, progress=None)
    after = evaluate(task, examples(4), sampler, builder, 6, progress=None)

    @contextlib.contextmanager
    def base():
        with model.disable_adapter():
            yield model

    found = retention(base, opened(model), builder, before, after)
    assert found["on_adapted_text"]["jsd"] > 1e-4
    assert found["on_base_text"]["jsd"] > 1e-4
    assert found["ppl_ret"] == found["on_adapted_text"]["perplexity_base"] > 1
    assert found["drift"]["base"]["mean_tokens"] == sum(len(i.ids) for i in before.items) / 4
    again = retention(opened(model), opened(model), builder, after, after)
    assert again["on_base_text"]["jsd"] == pytest.approx(0, abs=1e-6)
