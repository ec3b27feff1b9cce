import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerCallback

import tiny
from mechanisms.steps import trainer_of
from unisd.errors import UniSDError
from unisd.training import plan as plan_module
from unisd.training.checkpoints import mark_complete, read_mark
from unisd.training.window import RepeatedWindows, Window

REUSE = {"reuse": {"steps": 3, "cap": 1.5}, "dtype": torch.float32}


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def untimed(rows):
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "memory/", "speed/"))} for row in rows]


def watch(trainer):
    """Record the rows and completions of every step that is planned."""
    seen, plan = [], trainer.planner.plan

    def watched(rows, step):
        made = plan(rows, step)
        seen.append([(row.id, tuple(s.completion_ids)) for row, s in zip(rows, made.sequences, strict=True)])
        return made

    trainer.planner.plan = watched
    return seen


@given(
    count=st.integers(1, 30),
    window=st.integers(1, 9),
    uses=st.integers(1, 4),
    seed=st.one_of(st.none(), st.integers(0, 99)),
    drop_last=st.booleans(),
)
def test_an_epoch_is_every_row_in_windows_that_come_several_times(count, window, uses, seed, drop_last):
    sampler = RepeatedWindows(count, window, uses, seed, lambda: 0, drop_last)
    order = list(sampler)
    assert len(order) == len(sampler)
    windows = [order[start : start + window] for start in range(0, len(order), window)]
    assert all(len(rows) == window for rows in windows)
    distinct = windows[::uses]
    assert windows == [rows for rows in distinct for _ in range(uses)]
    once = [row for rows in distinct for row in rows]
    if drop_last and count >= window:
        assert len(once) == len(set(once)) == count // window * window
    else:
        assert set(once) == set(range(count))
        assert len(once) - count < window
    if seed is None:
        assert once == [place % count for place in range(len(once))]


def test_epochs_differ_and_come_again():
    epoch = [0]
    sampler = RepeatedWindows(20, 4, 2, 7, lambda: epoch[0])
    first = list(sampler)
    epoch[0] = 1
    assert list(sampler) != first
    epoch[0] = 0
    assert list(sampler) == first


def test_several_steps_learn_from_what_one_wrote(tmp_path, tokenizer):
    """Eight rows, four a step, three uses: an epoch is six steps, and every cut of a step gives the same."""
    losses = []
    for batch, accumulation in ((4, 1), (2, 2)):
        folder = tmp_path / str(batch)
        cut = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        trainer = trainer_of(folder, tokenizer, trained=False, **REUSE, max_steps=-1, num_train_epochs=2, **cut)
        seen = watch(trainer)
        trainer.train()
        assert trainer.state.global_step == 12
        windows = seen[::3]
        assert seen == [window for window in windows for _ in range(3)]
        assert len({tuple(window) for window in windows}) == 4
        for epoch in (windows[:2], windows[2:]):
            assert sorted(item for window in epoch for item, _ in window) == sorted(row["id"] for row in tiny.rows())
        rows = lines(folder)
        assert [row["epoch"] for row in rows][5::6] == [1.0, 2.0]
        assert [row["reuse/weight"] == 1.0 for row in rows] == [True, False, False] * 4
        losses.append([row["loss"] for row in rows])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_an_evaluation_in_between_leaves_the_window_alone(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, **REUSE)
    rows = trainer.train_dataset[:4]
    first = trainer.planner.plan(rows, 0)
    trainer.learner.learn(trainer.model, first)
    evaluated = trainer.planner.plan(rows, "eval")
    again = trainer.planner.plan(rows, 1)
    assert not torch.equal(evaluated.step.targets, first.step.targets)
    assert evaluated.step.written_logprobs is None
    assert torch.equal(again.step.targets, first.step.targets)
    assert again.step.written_logprobs is first.step.values["student_logprobs"]


@pytest.mark.parametrize(("kind", "reads"), [("initial", 2), ("live", 4)])
def test_only_weights_that_move_read_again(tmp_path, tokenizer, monkeypatch, kind, reads):
    calls, score = [], plan_module.score
    monkeypatch.setattr(plan_module, "score", lambda *args: calls.append(1) or score(*args))
    changes = {"reuse": {"steps": 2}, "teacher": {"kind": kind}, "max_steps": 4}
    trainer_of(tmp_path, tokenizer, dtype=torch.float32, **changes).train()
    assert len(calls) == reads


def test_readings_that_are_kept_change_nothing(tmp_path, tokenizer):
    kept = trainer_of(tmp_path / "a", tokenizer, **REUSE, max_steps=3, contrast={"weight": 0.1})
    kept.train()
    again = trainer_of(tmp_path / "b", tokenizer, **REUSE, max_steps=3, contrast={"weight": 0.1})
    read = again.planner._read
    again.planner._read = lambda plan, rows, again: read(plan, rows, False)
    again.train()
    assert untimed(lines(tmp_path / "a")) == untimed(lines(tmp_path / "b"))


class Stop(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("every", [2, 3], ids=["inside a window", "at a window's end"])
def test_stopped_and_resumed_gives_the_same_bits(tmp_path, tokenizer, every):
    """In the second epoch, in the middle of a window, where the weights that wrote are gone."""
    changes = {
        **REUSE,
        "trained": False,
        "max_steps": 9,
        "save_strategy": "steps",
        "save_steps": every,
        "teacher": {"kind": "ema", "decay": 0.5, "every": 2},
        "divergence": {"kind": "sampled_reverse_kl", "skip_tokens": 1},
        "contrast": {"weight": 0.1},
    }
    whole = trainer_of(tmp_path / "whole", tokenizer, **changes)
    whole.train()
    first = trainer_of(tmp_path / "halves", tokenizer, **changes)
    first.add_callback(Stop(every * (8 // every) + 1))
    with pytest.raises(KeyboardInterrupt):
        first.train()
    step = every * (8 // every)
    folder = tmp_path / f"halves/checkpoints/checkpoint-{step}"
    assert (folder / "window.jsonl").is_file() == (step % 3 > 0)
    torch.manual_seed(12345)
    second = trainer_of(tmp_path / "halves", tokenizer, **changes)
    second.train(resume_from_checkpoint=True)
    assert untimed(lines(tmp_path / "halves")) == untimed(lines(tmp_path / "whole"))
    trained = dict(second.model.named_parameters())
    assert all(torch.equal(trained[name], value) for name, value in whole.model.named_parameters())


def test_a_window_that_is_not_there_is_said(tmp_path, tokenizer):
    changes = {**REUSE, "max_steps": 3, "save_strategy": "steps", "save_steps": 2}
    trainer_of(tmp_path, tokenizer, **changes).train()
    file = tmp_path / "checkpoints/checkpoint-2/window.jsonl"
    trainer = trainer_of(tmp_path, tokenizer, **changes)
    rows = file.read_text()
    file.write_text(rows + rows.splitlines()[0].replace('"rank": 0', '"rank": 1') + "\n")
    with pytest.raises(UniSDError, match="was written by 2 processes and 1 resume"):
        Window.load(file.parent, 0, trainer.ranks, torch.device("cpu"))
    file.unlink()
    mark_complete(file.parent, 2, read_mark(file.parent)["identity"])
    with pytest.raises(UniSDError, match="is not in the checkpoint; resume from one at a step that 3 divides"):
        trainer.train(resume_from_checkpoint=str(file.parent))
