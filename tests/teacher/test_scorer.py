import pytest
import torch

import tiny
from unisd.models.load import base_model
from unisd.models.packed import PackedSequence
from unisd.teacher import ReadRequest, score, scorer

SEQUENCES = [
    PackedSequence([1, 5, 9, 30], [7, 8, 2]),
    PackedSequence([1, 40], [11]),
    PackedSequence(list(range(3, 33)), list(range(60, 80))),
    PackedSequence([1, 2, 3, 4, 5, 6], [9, 9]),
]


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
@pytest.mark.parametrize("budget", [1, 20, 1000])
def test_packed_scores_equal_separate_forwards(family, budget):
    model = tiny.model(family)
    requests = (
        [ReadRequest(s) for s in SEQUENCES]
        + [ReadRequest(s, 1.0) for s in SEQUENCES]
        + [ReadRequest(s, 0.7) for s in SEQUENCES]
    )
    scored = score(model, requests, budget)
    for request, result in zip(requests, scored, strict=True):
        prompt, completion = request.sequence.prompt_ids, request.sequence.completion_ids
        ids = torch.tensor([[*prompt, *completion]])
        with torch.no_grad():
            hidden = base_model(model).get_decoder()(ids).last_hidden_state[0, len(prompt) - 1 : -1]
            logits = model(ids).logits[0, len(prompt) - 1 : -1]
        if request.temperature is None:
            torch.testing.assert_close(result, hidden, rtol=1e-5, atol=1e-5)
        else:
            expected = (logits / request.temperature).log_softmax(-1)
            expected = expected.gather(1, torch.tensor(completion)[:, None])[:, 0]
            torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("budget", [1, 60, 1000])
def test_requests_of_one_item_share_their_beginning_and_score_the_same(budget, monkeypatch):
    model, question = tiny.model(), list(range(3, 40))
    prompts = [[*question, 50 + i % 3, *range(60, 60 + i)] for i in range(6)]
    requests = [ReadRequest(PackedSequence(prompt, [7, 8, 9]), 0.7, item=i % 2) for i, prompt in enumerate(prompts)]
    rows = []
    read = scorer.completion_states
    monkeypatch.setattr(scorer, "completion_states", lambda *a, **k: rows.append(a[1]) or read(*a, **k))
    together = score(model, requests, budget)
    assert [len(row) for row in rows] == ([3, 3] if budget < 1000 else [6])
    alone = [score(model, [ReadRequest(request.sequence, 0.7)], budget)[0] for request in requests]
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
