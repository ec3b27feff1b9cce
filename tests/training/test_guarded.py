"""Numbers that are none stop a run before they are kept; collapse and lack of memory are said."""

import json
import math

import pytest
import torch

import tiny
from said import warned
from unisd.errors import UniSDError
from unisd.training.trainer import UniSDTrainer


def trainer_of(folder, tokenizer, **changes):
    values = {"save_strategy": "steps", "save_steps": 1, "contexts": {"layout": "turn"}} | changes
    return UniSDTrainer(
        tiny.model(),
        tiny.arguments(folder, **values),
        train_dataset=tiny.rows(),
        processing_class=tokenizer,
        peft_config=tiny.lora_config(),
    )


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def kept(folder):
    return sorted(path.name for path in folder.glob("checkpoints/checkpoint-*"))


def break_loss(trainer, steps):
    """Make the loss of some steps NaN, as if a token's divergence were."""
    plain = trainer.learner.learn

    def learn(model, plan, with_gradient=True):
        loss = plain(model, plan, with_gradient)
        if trainer.state.global_step + 1 in steps:
            plan.step.values["divergence"][0] = math.nan
            return loss * math.nan
        return loss

    trainer.learner.learn = learn


def break_gradient(trainer, steps):
    plain = trainer.learner.learn

    def learn(model, plan, with_gradient=True):
        loss = plain(model, plan, with_gradient)
        if trainer.state.global_step + 1 in steps:
            next(p for p in model.parameters() if p.requires_grad).grad.view(-1)[0] = math.inf
        return loss

    trainer.learner.learn = learn


@pytest.mark.parametrize(("harm", "what"), [(break_loss, "the loss"), (break_gradient, "the gradient")])
@pytest.mark.parametrize("clipped", [0.0, 1.0])
def test_the_first_number_that_is_none_stops_the_run_before_it_is_kept(harm, what, clipped, tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, max_grad_norm=clipped)
    harm(trainer, {3})
    with pytest.raises(UniSDError, match=rf"step 3: {what} is no number.*learning_rate \(it was 0.01\).*model.dtype"):
        trainer.train()
    assert kept(tmp_path) == ["checkpoint-1", "checkpoint-2"]
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    seen = json.loads((tmp_path / "nonfinite-step-3-rank-0.json").read_text())
    assert seen["what"] == what
    assert len(seen["completions"]) == 4
    if harm is break_loss:
        assert list(seen["values"]) == ["divergence"]
        assert len(seen["values"]["divergence"]) == 1


@pytest.mark.parametrize("harm", [break_loss, break_gradient])
def test_some_such_steps_may_be_left_out(harm, tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, guard={"skip_nonfinite": 2})
    harm(trainer, {2, 3})
    with warned(r"step 3: .* is no number; the step is left out \(2 of 2\)"):
        trainer.train()
    assert [row.get("skipped", 0.0) for row in rows(tmp_path)] == [0.0, 1.0, 1.0, 0.0]
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_weights_are_looked_at_before_they_are_saved(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer)

    def overflow(*args, **kwargs):
        next(p for p in trainer.model.parameters() if p.requires_grad).data.view(-1)[0] = math.inf

    trainer.callback_handler.callbacks[0].on_optimizer_step = overflow
    with pytest.raises(UniSDError, match="step 1: a weight is no number"):
        trainer.train()
    assert kept(tmp_path) == []


def test_a_learning_rate_beyond_reason_ends_with_an_error(tmp_path, tokenizer):
    with pytest.raises(UniSDError, match=r"no number|not finite"):
        trainer_of(tmp_path, tokenizer, learning_rate=1e30, max_steps=6).train()


@pytest.mark.parametrize("stops", [False, True])
def test_collapse_is_said_and_may_stop_the_run(stops, tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr("unisd.training.collapse.STEPS", 1)
    trainer = trainer_of(tmp_path, tokenizer, guard={"on_collapse": "stop" if stops else "warn"})
    values = iter([1.0, 0.001, 0.001, 0.001])
    plain = trainer._guard
    monkeypatch.setattr(trainer, "_guard", lambda metrics: plain(metrics | {"student/entropy": next(values)}))
    with warned("step 2: the student's entropy fell from 1 to 0.001 nats"):
        trainer.train()
    assert trainer.state.global_step == (2 if stops else 4)
    assert f"checkpoint-{trainer.state.global_step}" in kept(tmp_path)


@pytest.mark.parametrize(
    ("part", "error", "told"),
    [
        ("planner.plan", torch.OutOfMemoryError("CUDA out of memory"), "wrote or scored; lower rollout.batch"),
        ("learner.learn", RuntimeError("DefaultCPUAllocator: can't allocate memory"), "learned; lower training.tokens"),
    ],
)
def test_lack_of_memory_names_what_to_lower(part, error, told, tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer)
    name, method = part.split(".")

    def fail(*args, **kwargs):
        raise error

    setattr(getattr(trainer, name), method, fail)
    with pytest.raises(UniSDError, match=f"step 1: out of memory while it {told}") as caught:
        trainer.train()
    assert "\n" not in str(caught.value)


def test_other_errors_pass(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer)
    trainer.learner.learn = lambda *args: (_ for _ in ()).throw(RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        trainer.train()


def test_nothing_acts_where_nothing_was_learned(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, features={"weight": 0.1})
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "grad_norm": 0.0, "features/loss": 1.0}) + "\n")
    assert trainer.acting()
    assert not any(found.acts for found in trainer.acting())
