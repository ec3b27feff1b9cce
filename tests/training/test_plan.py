"""A step's completions: several a prompt, and those that were cut off left out, against steps that never had them."""

import json
import math
from collections import Counter

import pytest
import torch

import tiny
from unisd.errors import UniSDError
from unisd.training.trainer import UniSDTrainer

ALL = {
    "clipping": {"quantile": 0.9},
    "teacher": {"kind": "ema", "decay": 0.5, "every": 1},
    "agreement": {"granularity": "token", "gamma": 2.0},
    "contrast": {"weight": 0.5},
    "features": {"weight": 0.5},
    "hint_gap": {"alpha": 0.5},
    "entropy_gate": {"floor": 0.1},
}
ENDS = list(range(0, tiny.VOCABULARY, 6))


def trainer_of(folder, tokenizer, rows=None, grader=None, rollout=(), adapter=True, **changes):
    """A trainer whose model ends about half of its completions within eight tokens."""
    model = tiny.model()
    model.generation_config.eos_token_id = ENDS
    return UniSDTrainer(
        model,
        tiny.arguments(folder, rollout={"max_completion_length": 8, **dict(rollout)}, **changes),
        train_dataset=rows or tiny.rows(),
        processing_class=tokenizer,
        peft_config=tiny.lora_config() if adapter else None,
        grader=grader,
    )


def step_of(trainer, rows):
    """The loss, gradient and plan of the first step over some rows; the student is off its start."""
    torch.manual_seed(0)
    tiny.move(trainer.model, 0.1)
    trainer.model.zero_grad()
    plan = trainer.planner.plan(rows, 0)
    loss = trainer.learner.learn(trainer.model, plan)
    return loss, {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}, plan


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same(one, other):
    (loss, gradient, _), (expected, expected_gradient, _) = one, other
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    assert gradient.keys() == expected_gradient.keys()
    for name, value in expected_gradient.items():
        torch.testing.assert_close(gradient[name], value, rtol=1e-4, atol=1e-6)
    assert any(value.abs().max() > 1e-4 for value in expected_gradient.values())


# -- several completions a prompt -------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
def test_n_completions_of_a_prompt_are_n_sequences_of_the_step(tmp_path, tokenizer, aggregation):
    """Whole forwards, full logits, autograd: a mean over all tokens, or over the means of n times as many sequences."""
    trainer = trainer_of(tmp_path, tokenizer, rollout={"num_generations": 3}, divergence={"aggregation": aggregation})
    loss, gradient, plan = step_of(trainer, trainer.train_dataset[:2])
    assert plan.step.items == ["item-0"] * 3 + ["item-1"] * 3
    assert len({tuple(s.completion_ids) for s in plan.sequences}) == 6
    model = trainer.model
    model.zero_grad()
    values = []
    for row, sequence in zip([r for r in trainer.train_dataset[:2] for _ in range(3)], plan.sequences, strict=True):
        done, (gold,) = list(sequence.completion_ids), row.contexts["gold"]
        with torch.no_grad(), model.disable_adapter():
            p = model(torch.tensor([[*gold, *done]])).logits[0, len(gold) - 1 : -1].div(0.7).log_softmax(-1)
        own = model(torch.tensor([[*row.student_ids, *done]])).logits[0, len(row.student_ids) - 1 : -1]
        values.append((p.exp() * (p - own.div(0.7).log_softmax(-1))).sum(-1))
    assert len({len(value) for value in values}) > 1
    each = torch.cat(values) if aggregation == "token" else torch.stack([value.mean() for value in values])
    each.mean().backward()
    reference = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    same((loss, gradient, plan), (each.mean().detach(), reference, plan))


def test_each_sample_has_its_own_stream_and_the_first_is_the_one_there_was(tmp_path, tokenizer):
    one = trainer_of(tmp_path / "1", tokenizer).planner
    three = trainer_of(tmp_path / "3", tokenizer, rollout={"num_generations": 3}).planner
    rows = trainer_of(tmp_path / "r", tokenizer).train_dataset[:3]
    alone, together = one.plan(rows, 5).completions, three.plan(rows, 5).completions
    assert together[::3] == alone
    later = three.plan(rows, 6).completions
    assert all(a != b for a, b in zip(together, later, strict=True))


def test_samples_do_not_depend_on_how_the_step_is_cut(tmp_path, tokenizer):
    """Two prompts at once, or one at a time with accumulation; every mechanism on."""
    changes = {**ALL, "divergence": {"aggregation": "sequence"}, "max_steps": 2, "rollout": {"num_generations": 2}}
    del changes["hint_gap"]
    trainers = []
    for name, batch, cut in (("a", 2, 1), ("b", 1, 2)):
        more = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": cut}
        trainers.append(trainer_of(tmp_path / name, tokenizer, **changes, **more))
        trainers[-1].train()
    a, b = ({n: p for n, p in t.model.named_parameters() if p.requires_grad} for t in trainers)
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, rtol=1e-5, atol=1e-6)
    assert [row["completions/tokens"] for row in lines(tmp_path / "a")] == [
        row["completions/tokens"] for row in lines(tmp_path / "b")
    ]


def test_every_sample_is_graded_and_weighed_by_itself(tmp_path, tokenizer):
    asked = []

    def grades(ids, texts):
        asked.extend(zip(ids, texts, strict=True))
        return [float(len(text) % 2) for text in texts]

    trainer = trainer_of(
        tmp_path, tokenizer, grader=grades, rollout={"num_generations": 4}, success={"prefer": "correct"}
    )
    _, _, plan = step_of(trainer, trainer.train_dataset[:2])
    assert Counter(name for name, _ in asked) == {"item-0": 4, "item-1": 4}
    assert plan.weights.sequence.tolist() == [float(len(text) % 2) for _, text in asked]
    assert len(set(plan.weights.sequence.tolist())) == 2
    for i in range(8):
        weighed = bool((plan.coefficients[plan.offsets[i] : plan.offsets[i + 1]] > 0).all())
        assert weighed == bool(plan.weights.sequence[i])


# -- completions that were cut off ------------------------------------------------------------------------------------

MASKED = {"mask_truncated_completions": True}


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
@pytest.mark.parametrize(
    "left_out",
    [{"hint_gap"}, {"contrast", "features", "clipping"}, set(ALL)],
    ids=lambda names: "+".join(sorted(names)),
)
def test_leaving_out_is_as_if_they_had_not_been_there(tmp_path, tokenizer, aggregation, left_out):
    """Every weight, quantile and normaliser of every mechanism is that of the completions that ended."""
    changes = {name: value for name, value in ALL.items() if name not in left_out}
    changes["divergence"] = {"aggregation": aggregation}
    masked = trainer_of(tmp_path / "a", tokenizer, rollout=MASKED, **changes)
    plain = trainer_of(tmp_path / "b", tokenizer, **changes)
    rows = masked.train_dataset
    found = step_of(masked, rows)
    finished = [row for row, done in zip(rows, found[2].completions, strict=True) if done.finished]
    assert 1 < len(finished) < len(rows)
    expected = step_of(plain, finished)
    same(found, expected)
    assert found[2].metrics["completions/left_out"] == len(rows) - len(finished)
    assert found[2].metrics["completions/unfinished"] == 1 - len(finished) / len(rows)
    assert "completions/left_out" not in expected[2].metrics
    # What is left out is neither read nor learned.
    assert found[2].work["learned"] == expected[2].work["learned"]


def test_cut_off_completions_count_by_default(tmp_path, tokenizer):
    _, _, plan = step_of(trainer_of(tmp_path, tokenizer), trainer_of(tmp_path / "r", tokenizer).train_dataset)
    assert not all(done.finished for done in plan.completions)
    assert len(plan.step.targets) == sum(len(done.ids) for done in plan.completions)


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize(
    "changes",
    [ALL, {"features": {"weight": 1.0, "mode": "only"}}, {"divergence": {"kind": "cross_entropy"}}],
    ids=["mechanisms", "features only", "cross entropy"],
)
def test_a_step_of_which_all_are_cut_off_teaches_nothing_and_says_so(tmp_path, tokenizer, capsys, changes, adapter):
    trainer = trainer_of(tmp_path, tokenizer, rollout=MASKED, adapter=adapter, max_steps=2, **changes)
    trainer.sampler.end_tokens = frozenset()
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    with pytest.raises(UniSDError, match="no step had a gradient"):
        trainer.train()
    rows = lines(tmp_path)
    assert [row["loss"] for row in rows] == [0.0, 0.0]
    assert [row["grad_norm"] for row in rows] == [0.0, 0.0]
    assert [row["completions/left_out"] for row in rows] == [4.0, 4.0]
    assert all(torch.equal(before[n], p) for n, p in trainer.model.named_parameters())
    said = [line for line in capsys.readouterr().err.splitlines() if "mask_truncated_completions" in line]
    assert len(said) == 1
    assert "step 1 taught nothing (said once), as all completions were cut off" in said[0]
    assert "raise rollout.max_completion_length" in said[0]


def test_evaluation_with_nothing_that_ended(tmp_path, tokenizer):
    """The mean is over those rows that have a loss."""
    trainer = trainer_of(tmp_path, tokenizer, rollout=MASKED, per_device_eval_batch_size=1)
    trainer.eval_dataset = trainer.train_dataset[:4]
    losses = []
    for row in trainer.eval_dataset:
        plan = trainer.planner.plan([row], "eval")
        if plan.counted:
            losses.append(float(trainer.learner.learn(trainer.model, plan, with_gradient=False)))
    assert 0 < len(losses) < 4
    assert trainer.evaluate()["eval_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    trainer.planner.sampler.end_tokens = frozenset()
    found = trainer.evaluate()
    assert math.isnan(found["eval_loss"])
    assert found["eval_completions/left_out"] == 1.0


def test_rows_of_which_none_has_a_further_reading_are_matched_as_usual(tmp_path, tokenizer):
    """A rank, or a step, may hold no row with a wrong demonstration, though the mechanism reads whole distributions."""
    rows = tiny.rows(4)
    rows[1]["negative_context"] = rows[2]["negative_context"] = None
    on = trainer_of(tmp_path / "a", tokenizer, rows, hint_gap={"alpha": 0.5})
    off = trainer_of(tmp_path / "b", tokenizer, rows)
    same(step_of(on, on.train_dataset[1:3]), step_of(off, off.train_dataset[1:3]))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_looking_first_sees_what_is_learned(checkpointing, tmp_path, tokenizer):
    """A quantile of the divergences is taken under the very dropout that learning draws, however layers are run."""
    trainer = UniSDTrainer(
        tiny.model(),
        tiny.arguments(tmp_path, clipping={"quantile": 0.5}, gradient_checkpointing=checkpointing, max_steps=1),
        train_dataset=tiny.rows(),
        processing_class=tokenizer,
        peft_config=tiny.lora_config(dropout=0.5),
    )
    if checkpointing:
        trainer.model.gradient_checkpointing_enable()
    tiny.move(trainer.model, 0.5)
    trainer.model.train()
    plan = trainer.planner.plan(trainer.train_dataset, 0)
    trainer.learner.learn(trainer.model, plan)
    divergence = plan.step.values["divergence"]
    assert plan.step.values["cap"].item() == pytest.approx(float(divergence.quantile(0.5)), rel=1e-5)
    assert plan.step.values["clipped"].sum() == len(divergence) // 2
