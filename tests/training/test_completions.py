"""What was written is kept: every so many-th step, whole, and shown to the trackers that take texts."""

import json
from types import SimpleNamespace

import pytest

import tiny
from unisd.training.completions import COMPLETIONS_FILE, CompletionsLog
from unisd.training.trainer import UniSDTrainer


def trainer_of(folder, tokenizer, rollout=(), grader=None, **changes):
    model = tiny.model()
    model.generation_config.eos_token_id = list(range(0, tiny.VOCABULARY, 8))
    return UniSDTrainer(
        model,
        tiny.arguments(folder, rollout={"max_completion_length": 8, **dict(rollout)}, **changes),
        train_dataset=tiny.rows(),
        processing_class=tokenizer,
        peft_config=tiny.lora_config(),
        grader=grader,
    )


def lines(folder):
    return [json.loads(line) for line in (folder / COMPLETIONS_FILE).read_text().splitlines()]


def test_nothing_is_kept_unless_it_is_asked_for(tmp_path, tokenizer):
    trainer_of(tmp_path, tokenizer, max_steps=1).train()
    assert not (tmp_path / COMPLETIONS_FILE).exists()


def test_every_second_step_is_kept_whole(tmp_path, tokenizer):
    rollout = {"log_completions_steps": 2, "num_generations": 2, "mask_truncated_completions": True}
    trainer = trainer_of(tmp_path, tokenizer, rollout, lambda ids, texts: [0.25] * len(ids), max_steps=5)
    plans = []
    make = trainer.planner.plan
    trainer.planner.plan = lambda rows, step: plans.append(make(rows, step)) or plans[-1]
    trainer.train()
    found = lines(tmp_path)
    assert [row["step"] for row in found] == [2] * 8 + [4] * 8
    assert {row["counted"] for row in found} == {True, False}
    for row, index, plan in zip(found, [*range(8)] * 2, [plans[1]] * 8 + [plans[3]] * 8, strict=True):
        done = plan.completions[index]
        assert (row["id"], row["sample"], row["grade"]) == (plan.step.items[index], index % 2, 0.25)
        assert row["prompt"] == tokenizer.decode(plan.sequences[index].prompt_ids)
        assert row["prompt"].startswith("<|im_start|>user\nWhat is")
        assert row["completion"] == tokenizer.decode(done.ids, skip_special_tokens=True)
        assert (row["tokens"], row["finished"]) == (len(done.ids), done.finished)
        assert row["counted"] == done.finished
        own = plan.step.values["divergence"][plan.step.sequence == index]
        assert row["divergence"] == (pytest.approx(float(own.mean()), rel=1e-6) if len(own) else None)


def test_without_a_grader_there_is_no_grade(tmp_path, tokenizer):
    more = {"features": {"weight": 1.0, "mode": "only"}, "max_steps": 1}  # nor, here, a divergence
    trainer_of(tmp_path, tokenizer, {"log_completions_steps": 1}, **more).train()
    assert [row["divergence"] for row in lines(tmp_path)] == [None] * 4
    assert all("grade" not in row for row in lines(tmp_path))


def test_a_run_that_starts_anew_begins_the_file_anew(tmp_path, tokenizer):
    (tmp_path / COMPLETIONS_FILE).write_text('{"step": 9}\n')
    trainer_of(tmp_path, tokenizer, {"log_completions_steps": 1}, max_steps=1).train()
    assert {row["step"] for row in lines(tmp_path)} == {1}


LINES = [
    {"step": 3, "id": "a", "sample": 0, "prompt": "P\n", "completion": "<b>one", "tokens": 2, "divergence": None},
    {"step": 3, "id": "b", "sample": 0, "prompt": "Q\n", "completion": "two", "tokens": 1, "divergence": 0.5},
]


def test_trackers_that_take_texts_are_shown_them(tmp_path):
    texts, logged = [], []
    board = SimpleNamespace(tb_writer=SimpleNamespace(add_text=lambda *given: texts.append(given)))
    wandb = SimpleNamespace(run=object(), log=logged.append, Table=lambda columns, data: (columns, data))
    log = CompletionsLog(tmp_path, 1)
    log.start(0)
    idle = SimpleNamespace(_wandb=SimpleNamespace(run=None), tb_writer=None)
    log.add(LINES, 3, [object(), board, SimpleNamespace(_wandb=wandb), idle])
    assert lines(tmp_path) == LINES
    ((name, text, step),) = texts
    assert (name, step) == ("completions", 3)
    assert "    P\n    <b>one" in text  # as it is: an indented block is not read as markup
    assert "**id b, sample 0, tokens 1, divergence 0.5**" in text
    assert logged == [{"completions": (list(LINES[0]), [list(row.values()) for row in LINES]), "train/global_step": 3}]


def test_a_resumed_run_goes_on_after_its_checkpoint(tmp_path):
    log = CompletionsLog(tmp_path, 1)
    log.start(0)
    for step in (1, 2, 3):
        log.add([{**row, "step": step} for row in LINES], step, [])
    with (tmp_path / COMPLETIONS_FILE).open("a") as file:
        file.write('{"step": 4, "id"')  # torn by a kill
    log.start(2)
    assert [row["step"] for row in lines(tmp_path)] == [1, 1, 2, 2]


@pytest.mark.parametrize(("every", "due"), [(0, []), (1, [1, 2, 3, 4, 5, 6]), (3, [3, 6])])
def test_which_steps_are_due(tmp_path, every, due):
    assert [step for step in range(1, 7) if CompletionsLog(tmp_path, every).due(step)] == due
