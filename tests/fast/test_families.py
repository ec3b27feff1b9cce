"""Fast and plain paths give the same, family by family: what is sampled, scored and learned.

In double precision the norms of these models still round to single precision, which bounds how close two paths can be.
Single precision is there for the kernels that know no other.
"""

import contextlib
import functools

import pytest
import torch
from transformers import AttentionInterface

import tiny
from unisd import fast
from unisd.fast import lean, merged, products, segments, slots
from unisd.fast.merged import merged_weights
from unisd.models.packed import PackedSequence
from unisd.models.readers import PaddedReader, SlotReader
from unisd.models.trust import trusted_reader
from unisd.rollout import Request, SamplingParams
from unisd.rollout.torch_sampler import TorchSampler
from unisd.teacher import ReadRequest, score
from unisd.training.trainer import UniSDTrainer

DTYPES = {"float64": torch.float64, "float32": torch.float32}
CLOSE = {torch.float64: {"rtol": 1e-6, "atol": 1e-7}, torch.float32: {"rtol": 1e-4, "atol": 1e-4}}
SYSTEM = list(range(3, 23))
# Ragged; two share a beginning that is longer than Gemma-3's sliding window of 8 tokens.
PROMPTS = [[*SYSTEM, 40, 41, 42], [1], [*SYSTEM, 50], [60, 61], list(range(70, 82))]
MECHANISMS = {
    "agreement": {"granularity": "token", "gamma": 2.0},
    "clipping": {"cap": 0.5},
    "contrast": {"weight": 0.1},
    "features": {"weight": 0.1},
}

pytestmark = pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
each_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)


def adapted(family, dtype=torch.float64):
    return tiny.lora(tiny.model(family), trained=True).to(dtype).eval()


def both(outcome):
    """What a function returns with fast paths and without."""
    results = []
    for mode in ("auto", "off"):
        with fast.use(mode):
            results.append(outcome())
    return results


# Sampling


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize(
    "params",
    [SamplingParams(14, temperature=0.0), SamplingParams(14, 1.0, seed=3), SamplingParams(14, 0.9, top_p=0.8)],
    ids=["greedy", "sampled", "nucleus"],
)
def test_the_same_tokens_are_sampled(family, params, adapter, tokenizer):
    model = adapted(family) if adapter else tiny.model(family).double()
    requests = [Request(prompt, ("step", i)) for i, prompt in enumerate(PROMPTS)]
    free = TorchSampler(model, tokenizer).sample(requests, params)
    model.generation_config.eos_token_id = [free[0].ids[0], free[3].ids[:5][-1]]  # rows end at different steps
    quick, plain = both(lambda: TorchSampler(model, tokenizer, batch_size=4).sample(requests, params))
    assert quick == plain
    assert len({len(done.ids) for done in plain}) > 1


@each_dtype
def test_what_is_read_gives_the_same_logits(family, dtype):
    """Prompts, then the same continuation token by token, while rows leave."""

    @torch.no_grad()
    def outcome():
        model = adapted(family, dtype)
        with merged_weights(model):
            reader = trusted_reader(model)(model)
            assert isinstance(reader, SlotReader if fast.enabled() else PaddedReader)
            seen = [reader.begin(PROMPTS).float()]
            for step in range(12):
                rows = [4, 0, 2] if step >= 5 else range(len(PROMPTS))
                if step == 5:
                    reader.keep(rows)
                positions = torch.tensor([[len(PROMPTS[row]) + step] for row in rows])
                seen.append(reader.read(positions * 7 % tiny.VOCABULARY, positions))
        return seen

    quick, plain = both(outcome)
    torch.testing.assert_close(quick, plain, **CLOSE[dtype])


# Scoring


@each_dtype
@pytest.mark.parametrize("budget", [30, 1000])
@pytest.mark.parametrize("shared", [True, False])
def test_the_same_is_scored(family, shared, budget, dtype):
    """Hidden states and log-probabilities, of rows that only stand together and of rows that share beginnings."""
    model = adapted(family, dtype)
    completions = [[7, 8, 2], [11], list(range(100, 111))]
    sequences = [PackedSequence(prompt, completions[i % 3]) for i, prompt in enumerate(PROMPTS)]
    requests = [
        ReadRequest(sequence, temperature, item=i % 2 if shared else None)
        for temperature in (None, 0.7)
        for i, sequence in enumerate(sequences)
    ]
    quick, plain = both(lambda: score(model, requests, budget))
    torch.testing.assert_close(quick, plain, **CLOSE[dtype])
    assert [len(one) for one in quick] == [len(request.sequence.completion_ids) for request in requests]


@each_dtype
@pytest.mark.parametrize("adapter", [True, False])
def test_merged_weights_give_the_same(family, adapter, dtype):
    model = adapted(family, dtype) if adapter else tiny.model(family).to(dtype)
    ids = torch.tensor([PROMPTS[0], [*reversed(PROMPTS[0])]])

    @torch.no_grad()
    def outcome():
        with merged_weights(model):
            changed = any("forward" in vars(module) for module in model.modules())
            assert changed is (fast.enabled() and (adapter or dtype == torch.float32))
            return model(ids).logits

    quick, plain = both(outcome)
    torch.testing.assert_close(quick, plain, **CLOSE[dtype])


# Learning


def trainer_of(folder, tokenizer, family, dtype, targets="all-linear", **changes):
    """A trainer; without ``targets`` it trains all weights, else an adapter on them that is off its start."""
    config = tiny.lora_config()
    config.target_modules = targets
    values = {"tokens_per_row": 700, "rollout": {"max_completion_length": 10}}
    trainer = UniSDTrainer(
        tiny.model(family),
        tiny.arguments(folder, **(values | changes)),
        train_dataset=tiny.rows(4),
        processing_class=tokenizer,
        peft_config=config if targets else None,
    )
    trainer.model.to(dtype)
    torch.manual_seed(5)
    tiny.move(trainer.model, 0.1)
    return trainer


def learned(trainer, plan):
    """The loss of a plan, what was seen of its tokens, and the gradient."""
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.learner.learn(trainer.model, plan)
    gradient = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    return loss, dict(plan.step.values), gradient


@each_dtype
@pytest.mark.parametrize("targets", [["q_proj", "v_proj", "up_proj"], "all-linear", None], ids=["some", "all", "full"])
def test_the_same_is_learned(family, targets, dtype, tmp_path, tokenizer):
    """Loss and gradient of one step under all five ideas, of an adapter without dropout and of all weights."""
    trainer = trainer_of(tmp_path, tokenizer, family, dtype, targets, **MECHANISMS)
    with fast.use("off"):
        plan = trainer.planner.plan(trainer.train_dataset, 0)
    (loss, values, gradient), (plain_loss, plain_values, plain_gradient) = both(lambda: learned(trainer, plan))
    torch.testing.assert_close(loss, plain_loss, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(values, plain_values, **CLOSE[dtype])
    trained = {name for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert gradient.keys() == plain_gradient.keys() == trained
    largest = max(float(g.abs().max()) for g in plain_gradient.values())
    close = {torch.float64: 1e-6, torch.float32: 1e-4}[dtype]
    torch.testing.assert_close(gradient, plain_gradient, rtol=close, atol=close * largest)
    assert largest > 0


def test_whole_steps_are_planned_alike(family, tmp_path, tokenizer):
    """Completions, readings and coefficients of a step."""
    trainer = trainer_of(tmp_path, tokenizer, family, torch.float64, **MECHANISMS)
    quick, plain = both(lambda: trainer.planner.plan(trainer.train_dataset, 0))
    assert [list(s.completion_ids) for s in quick.sequences] == [list(s.completion_ids) for s in plain.sequences]
    readings = [{name: reading.values for name, reading in plan.step.readings.items()} for plan in (quick, plain)]
    torch.testing.assert_close(*readings, **CLOSE[torch.float64])
    torch.testing.assert_close(quick.coefficients, plain.coefficients, rtol=1e-5, atol=1e-7)


# The switch


def watched(monkeypatch, allowed):
    """The set of the fast kernels that ran so far; where they are not allowed, they raise."""
    ran = set()

    def watching(kernel, real):
        @functools.wraps(real)
        def call(*args, **kwargs):
            assert allowed, f"{kernel} ran"
            ran.add(kernel)
            return real(*args, **kwargs)

        return call

    for module, name in (
        (lean._LoraStep, "apply"),
        (lean._GatedStep, "apply"),
        (lean, "_lean_forward"),
        (lean, "_gated_forward"),
        (merged, "_fast_forward"),
        (merged, "_packed"),
        (products, "_onednn_product"),
    ):
        kernel = f"{module.__name__}.{name}"
        monkeypatch.setattr(module, name, watching(kernel, getattr(module, name)))
    for name in (segments.NAME, slots.NAME):
        known = AttentionInterface._global_mapping
        monkeypatch.setitem(known, name, watching(name, known[name]))
    return ran


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_off_takes_no_fast_path_and_auto_takes_them_all(family, mode, monkeypatch, tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, family, torch.float32, **MECHANISMS)
    with fast.use(mode), contextlib.ExitStack() as stack:
        ran = watched(stack.enter_context(monkeypatch.context()), allowed=mode == "auto")
        learned(trainer, trainer.planner.plan(trainer.train_dataset, 0))
    missing = (not products._has_onednn_product()) + (not torch.backends.mkldnn.is_available())  # on this machine
    assert len(ran) == (9 - missing if mode == "auto" else 0)
