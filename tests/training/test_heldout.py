"""Rows that are not learned from: measured, predicted, and given fixed samples of their own."""

import json
import math

import pytest
import torch

import tiny
from said import warned
from unisd.errors import UsageError
from unisd.training.trainer import UniSDTrainer

OWN = {"source": "own", "max_completion_length": 6}


def made(folder, tokenizer, adapter=True, eval_dataset=None, **changes):
    values = {"max_steps": 2, "rollout": {"max_completion_length": 6}} | changes
    return UniSDTrainer(
        tiny.model(),
        tiny.arguments(folder, **values),
        train_dataset=tiny.rows(4),
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        peft_config=tiny.lora_config() if adapter else None,
    )


def asked_otherwise(n=3):
    """Rows with the ids of the training rows and other prompts."""
    return [{**row, "prompt": f"And what is {i} times {i}, then?"} for i, row in enumerate(tiny.rows(n))]


def written(trainer, rows):
    return [list(sequence.completion_ids) for sequence in trainer.planner.plan(rows, "eval").sequences]


def test_several_sets_have_metrics_of_their_own(tmp_path, tokenizer):
    sets = {"near": tiny.rows(2), "far": asked_otherwise(3)}
    trainer = made(tmp_path, tokenizer, eval_dataset=sets, eval_strategy="steps", eval_steps=1)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "eval_near_loss" in entry or "eval_far_loss" in entry]
    assert len(logged) == 4
    found = trainer.evaluate()
    assert {"eval_near_loss", "eval_far_loss", "eval_far_runtime"} <= found.keys()
    assert "eval_loss" not in found
    assert found["eval_far_loss"] == trainer.evaluate(sets["far"])["eval_loss"]
    assert trainer.evaluate("far", metric_key_prefix="test")["test_loss"] == found["eval_far_loss"]
    with pytest.raises(UsageError, match="eval_dataset: middle: no such file"):
        trainer.evaluate("middle")


def test_sets_that_come_after_the_trainer_was_made(tmp_path, tokenizer):
    first = made(tmp_path / "a", tokenizer, eval_dataset=asked_otherwise(2))
    later = made(tmp_path / "b", tokenizer)
    later.train_dataset, later.eval_dataset = tiny.rows(4), asked_otherwise(2)
    assert first.evaluate()["eval_loss"] == later.evaluate()["eval_loss"]
    for trainer in (first, later):
        trainer.train()
    assert first.evaluate()["eval_loss"] == later.evaluate()["eval_loss"]


def test_a_fault_of_a_set_names_it(tmp_path, tokenizer):
    with pytest.raises(UsageError, match=r"^eval_dataset\['b'\]: column 'prompt', row 0"):
        made(tmp_path, tokenizer, eval_dataset={"a": tiny.rows(1), "b": [{"question": "Why?"}]})
    with pytest.raises(UsageError, match=r"^eval_dataset: the data set has no rows"):
        made(tmp_path, tokenizer, eval_dataset=[])
    with pytest.raises(UsageError, match="evaluate: no eval_dataset was given"):
        made(tmp_path, tokenizer).evaluate()


def test_what_was_dropped_is_of_the_training_rows(tmp_path, tokenizer):
    long = {**tiny.rows(1)[0], "id": "long", "prompt": "Why? " * 300}
    trainer = made(tmp_path, tokenizer, eval_dataset=[*tiny.rows(1), long], contexts={"max_prompt_length": 500})
    assert len(trainer.eval_dataset) == 1
    assert trainer.dropped == {}


def test_the_keys_are_those_of_transformers(tmp_path, tokenizer):
    found = made(tmp_path, tokenizer, eval_dataset=tiny.rows(3)).evaluate()
    assert {"eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "epoch"} <= found.keys()


@pytest.mark.parametrize("source", ["student", "gold"])
def test_predict_gives_what_is_written(tmp_path, tokenizer, source):
    rollout = {"max_completion_length": 40, "source": source}
    trainer = made(tmp_path, tokenizer, rollout=rollout, per_device_eval_batch_size=2)
    found = trainer.predict(tiny.rows(3))
    rows = trainer._prepare_held_out(tiny.rows(3), trainer.args, trainer.model)
    sampled = trainer.planner.writer.by_student(rows, "eval")
    assert [[t for t in ids if t != -100] for ids in found.predictions.tolist()] == [done.ids for done in sampled]
    assert (written(trainer, rows) == [done.ids for done in sampled]) == (source == "student")
    assert found.metrics["test_loss"] == trainer.evaluate(tiny.rows(3))["eval_loss"]
    assert (found.label_ids is None) == (source == "student")
    if source == "gold":
        assert [[t for t in ids if t != -100] for ids in found.label_ids.tolist()] == written(trainer, rows)
    with pytest.raises(UsageError, match="predict: one data set at a time"):
        trainer.predict({"a": tiny.rows(1)})


def test_rows_of_which_nothing_counts_have_no_loss_and_are_never_the_best(tmp_path, tokenizer):
    rollout = {"max_completion_length": 40, "source": "gold"}
    short = [{**row, "completion": "1"} for row in asked_otherwise(2)]
    best = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    best |= {"load_best_model_at_end": True, "metric_for_best_model": "loss", "divergence": {"skip_tokens": 4}}
    with warned(r"eval_loss: nothing of these rows counts .*; raise rollout\.max_completion_length") as said:
        trainer = made(tmp_path, tokenizer, eval_dataset=short, rollout=rollout, **best)
        trainer.train()
        assert math.isnan(trainer.evaluate()["eval_loss"])
    assert len([line for line in said if "eval_loss" in line]) == 1
    assert trainer.state.best_model_checkpoint is None
    # Beside rows that count they change nothing.
    full = asked_otherwise(3)[2:]
    assert trainer.evaluate([*short, *full])["eval_loss"] == pytest.approx(trainer.evaluate(full)["eval_loss"])


def test_predict_takes_the_split_for_tests_and_names_its_rows(tmp_path, tokenizer):
    from datasets import Dataset, DatasetDict

    parts = DatasetDict(validation=Dataset.from_list(tiny.rows(3)), test=Dataset.from_list(tiny.rows(2)))
    trainer = made(tmp_path, tokenizer)
    assert len(trainer.predict(parts).predictions) == 2
    assert trainer.evaluate(parts)["eval_samples_per_second"] > 0
    with pytest.raises(UsageError, match=r"^test_dataset: column 'privileged_context', row 0"):
        trainer.predict([{"prompt": "Why?"}])


@pytest.mark.parametrize("n", [1, 3])
def test_fewer_rows_than_a_batch(tmp_path, tokenizer, n):
    trainer = made(tmp_path, tokenizer, per_device_train_batch_size=8)
    trainer.train_dataset = trainer.train_dataset[:n]
    trainer.train()
    assert trainer.state.global_step == 2
    assert torch.isfinite(torch.tensor(trainer.evaluate(tiny.rows(n))["eval_loss"]))


def test_where_to_go_on_from(tmp_path, tokenizer):
    made(tmp_path / "run", tokenizer, save_strategy="steps", save_steps=1).train()
    for given in (True, str(tmp_path / "run"), tmp_path / "run/checkpoints/checkpoint-2"):
        again = made(tmp_path / "run", tokenizer, max_steps=3, save_strategy="no")
        again.train(resume_from_checkpoint=given)
        assert again.state.global_step == 3
        assert again.state.log_history[-1]["step"] == 3
    for given in ("nowhere", str(tmp_path / "run/checkpoints")):
        with pytest.raises(UsageError, match=f"{given} holds no complete checkpoint; name another"):
            made(tmp_path / "other", tokenizer).train(resume_from_checkpoint=given)
    trainer = UniSDTrainer(tiny.model(), tiny.arguments(tmp_path / "x"), processing_class=tokenizer)
    with pytest.raises(UsageError, match="train: no train_dataset was given"):
        trainer.train()


def test_evaluations_stand_in_the_log_of_the_run_that_they_belong_to(tmp_path, tokenizer):
    sets = {"near": tiny.rows(2), "far": asked_otherwise(3)}
    values = {"eval_strategy": "steps", "eval_steps": 1, "eval_on_start": True, "agreement": {"granularity": "token"}}
    trainer = made(tmp_path, tokenizer, eval_dataset=sets, **values)
    trainer.train()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    evaluated = [row for row in rows if "grad_norm" not in row]
    assert [row["step"] for row in rows] == [0, 0, 1, 1, 1, 2, 2, 2]
    assert [("eval_near_loss" in row, "eval_far_loss" in row) for row in evaluated] == [
        (True, False),
        (False, True),
    ] * 3
    logged = [entry["eval_near_loss"] for entry in trainer.state.log_history if "eval_near_loss" in entry]
    assert [row["eval_near_loss"] for row in evaluated[::2]] == logged
    before = (tmp_path / "metrics.jsonl").read_bytes()
    trainer.evaluate()  # by itself it writes nothing into a run that has ended
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    (acting,) = trainer.acting()
    assert acting.mechanism.startswith("agreement")
