"""Every family is read as each of its texts alone: scored, learned from and continued; see docs/compatibility.md."""

import pytest
import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import families
from compatibility import observed, recorded
from unisd.errors import UsageError
from unisd.models.head import output_head
from unisd.models.packed import PackedSequence
from unisd.models.reading import completion_states, rows_of
from unisd.models.trust import trusted, trusted_reader
from unisd.objective import Problem, fused_objective
from unisd.rollout import Request, SamplingParams
from unisd.rollout.torch_sampler import TorchSampler
from unisd.teacher import ReadRequest, score

SYSTEM = list(range(30, 50))
SEQUENCES = [
    PackedSequence([*SYSTEM, 60, 61, 62], [70, 71, 72]),
    PackedSequence([25], [81]),
    PackedSequence([*SYSTEM, 63], [*range(100, 111)]),
    PackedSequence([64, 65], [90, 91]),
]
"""Ragged; two share a beginning that is longer than the windows and chunks of 8 tokens."""
BUDGET = 48
ROWS = {
    "packed": "packed",
    "padded": "one sequence a row, in batches",
    "alone": "one sequence a row, one row at a time",
}
CONTINUED = {
    "SlotReader": "by position, unpadded",
    "PaddedReader": "cache, padded batches",
    "EqualReader": "cache, batches of equal length",
    "SingleReader": "cache, one at a time",
    "WholeReader": "read again for each token",
}
OFTEN = ["falcon", "gemma3", "gpt2", "gpt_oss", "lfm2", "llama", "llama4_text", "mamba", "opt", "phi3", "qwen2_vl"]
OFTEN += ["recurrent_gemma", "rwkv", "roberta", "xlnet"]


def logits_alone(model, ids):
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def predicting_alone(model, sequence):
    """The logits that predict the completion, from a plain forward pass over one sequence."""
    return logits_alone(model, [*sequence.prompt_ids, *sequence.completion_ids[:-1]])[len(sequence.prompt_ids) - 1 :]


def logprobs(logits, sequence, temperature=1.0):
    tokens = torch.tensor(list(sequence.completion_ids))
    return (logits / temperature).log_softmax(-1)[torch.arange(len(tokens)), tokens]


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def learned(model):
    """The cross-entropy of all completions, as a step learns it."""
    losses = []
    for row in rows_of(model, SEQUENCES, BUDGET):
        targets = torch.tensor([token for i in row for token in SEQUENCES[i].completion_ids])
        states = completion_states(model, [SEQUENCES[i] for i in row], share=True)
        ones = torch.ones(len(targets))
        losses.append(fused_objective(Problem(states, output_head(model), targets, ones, kind="cross_entropy")).loss)
    return torch.stack(losses).sum()


def check_samples(model, tokenizer):
    """Each greedy token is the likeliest after what stands before it, read alone."""
    requests = [Request(s.prompt_ids, ("x", i)) for i, s in enumerate(SEQUENCES)]
    for sequence, done in zip(
        SEQUENCES, TorchSampler(model, tokenizer).sample(requests, SamplingParams(3, temperature=0.0)), strict=True
    ):
        seen = predicting_alone(model, PackedSequence(sequence.prompt_ids, done.ids))
        chosen = seen[torch.arange(len(seen)), torch.tensor(done.ids)]
        torch.testing.assert_close(chosen, seen.amax(-1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "family", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in families.tried()]
)
def test_a_family_reads_each_text_as_alone(family, tokenizer):
    model = families.model(family)
    try:
        trust = trusted(model)
    except UsageError as error:
        observed(
            "families", family, rows="refused", continued="refused", seen=str(error).split(" ", 2)[2].split(";")[0]
        )
        return
    reader = trusted_reader(model)
    alone = [predicting_alone(model, sequence) for sequence in SEQUENCES]
    with torch.no_grad():
        expected = [logprobs(logits, sequence, 0.7) for logits, sequence in zip(alone, SEQUENCES, strict=True)]
        read = score(model, [ReadRequest(s, 0.7, item=i // 2) for i, s in enumerate(SEQUENCES)], BUDGET)
        torch.testing.assert_close(read, expected, rtol=1e-3, atol=1e-3)
        if family in OFTEN:
            check_samples(model, tokenizer)
    loss = learned(model)
    plain = -torch.cat([logprobs(logits, sequence) for logits, sequence in zip(alone, SEQUENCES, strict=True)]).sum()
    torch.testing.assert_close(loss, plain, rtol=1e-4, atol=1e-4)
    found, wanted = gradients(model, loss), gradients(model, plain)
    assert found.keys() == wanted.keys()
    largest = max(float(g.abs().max()) for g in wanted.values())
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * largest)
    if family in OFTEN or family in families.WITH_IMAGES:
        model.train()
        assert learned(model).isfinite()
    observed("families", family, rows=ROWS[trust.rows], continued=CONTINUED[reader.__name__], seen="")


@pytest.mark.parametrize("family", sorted(families.NOT_BUILT))
def test_what_is_not_tried_is_said(family):
    observed("families", family, rows="not tried", continued="not tried", seen=families.NOT_BUILT[family])


def test_the_table_holds_the_families_of_the_tests_and_nothing_else():
    classes = {MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(name, name) for name in families.tried()}
    assert {
        kind for name, kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items() if name not in families.NOT_BUILT
    } <= classes
    assert set(recorded("families")) == {*families.tried(), *families.NOT_BUILT}
