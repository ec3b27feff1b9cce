"""Checkpoints as the trainer writes them, and how it goes on from them and stops."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

import tiny
from unisd.errors import UsageError
from unisd.training.checkpoints import MARK, read_mark
from unisd.training.lock import LOCK_FILE, run_lock
from unisd.training.resumable import Stopping, ranges
from unisd.training.signals import STOP
from unisd.training.trainer import UniSDTrainer


def trainer_of(folder, callbacks=None, **changes):
    values = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 2}
    return UniSDTrainer(
        tiny.model(),
        tiny.arguments(folder, **(values | changes)),
        train_dataset=tiny.rows(4),
        processing_class=tiny.tokenizer(),
        peft_config=tiny.lora_config(),
        callbacks=callbacks,
    )


def steps(folder):
    return sorted(int(path.name.split("-")[1]) for path in (folder / "checkpoints").iterdir())


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


class Call(TrainerCallback):
    """Does something after a step."""

    def __init__(self, step, call):
        self.step, self.call = step, call

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.call()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run with all its checkpoints."""
    folder = tmp_path_factory.mktemp("whole")
    trainer_of(folder).train()
    return folder


@pytest.fixture
def run(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def test_a_mark_speaks_of_everything_and_comes_before_an_older_one_goes(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("unisd.training.resumable.rotate", lambda *a: seen.append((a[1] / MARK).is_file()))
    trainer_of(tmp_path, max_steps=1, save_total_limit=1).train()
    assert seen == [True, True]  # once more at the end
    mark = read_mark(tmp_path / "checkpoints/checkpoint-1")
    there = {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
    assert there <= set(mark["files"])
    arguments = torch.load(tmp_path / "checkpoints/checkpoint-1/training_args.bin", weights_only=False)
    assert arguments.save_total_limit == 1


def test_dates_of_the_future_make_no_resume_delete_what_it_wrote(run):
    shutil.rmtree(run / "checkpoints/checkpoint-1")
    for step in (2, 3, 4):
        os.utime(run / f"checkpoints/checkpoint-{step}", (2e9, 2e9))
    trainer_of(run, max_steps=6, save_total_limit=2).train(resume_from_checkpoint=True)
    assert steps(run) == [5, 6]


def test_resumed_at_its_end_a_run_takes_no_step_more(run, whole):
    """In the middle of an epoch, where transformers would take one."""
    shutil.rmtree(run / "checkpoints/checkpoint-4")
    trainer = trainer_of(run, max_steps=3)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 3
    assert steps(run) == [1, 2, 3]
    kept, found = weights(whole / "checkpoints/checkpoint-3"), dict(trainer.model.named_parameters())
    assert all(torch.equal(found[name.replace(".weight", ".default.weight")], value) for name, value in kept.items())


@pytest.mark.parametrize(
    ("file", "kind"), [("optimizer.pt", "cut"), ("rng_state.pth", "lost"), ("scheduler.pt", "lost")]
)
def test_a_damaged_one_is_named_and_gives_no_other_result(run, whole, file, kind, capsys):
    path = run / "checkpoints/checkpoint-4" / file
    data = path.read_bytes()
    path.unlink()
    if kind == "cut":
        path.write_bytes(data[:-1])
    trainer_of(run).train(resume_from_checkpoint=True)
    assert f"checkpoint-4 does not verify ({file} " in capsys.readouterr().err
    kept, found = weights(whole / "checkpoints/checkpoint-4"), weights(run / "checkpoints/checkpoint-4")
    assert all(torch.equal(found[name], value) for name, value in kept.items())


def test_one_writer_a_folder(run, monkeypatch):
    seen = []
    trainer = trainer_of(run, max_steps=5, callbacks=[Call(5, lambda: seen.append((run / LOCK_FILE).is_file()))])
    trainer.train(resume_from_checkpoint=True)
    assert seen == [True]
    assert not (run / LOCK_FILE).exists()
    with run_lock(run), monkeypatch.context() as other:
        other.setattr("unisd.training.lock._held", {})  # as in another process
        with pytest.raises(UsageError, match="a run is writing there"):
            trainer_of(run).train()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lines: [lines[0], lines[1][:30] + "\n", lines[2], lines[3]], "the lines of steps 2 are lost"),
        (lambda lines: lines[3:], "the lines of steps 1–3 are lost"),
        (lambda lines: [line.replace('"loss": ', '"loss": 1') for line in lines], "lines have changed"),
        (lambda lines: lines, ""),
    ],
)
def test_lost_metrics_are_said_and_the_run_goes_on(run, damage, said, capsys):
    path = run / "metrics.jsonl"
    path.write_text("".join(damage(path.read_text().splitlines(keepends=True))))
    trainer_of(run, max_steps=5).train(resume_from_checkpoint=True)
    err = capsys.readouterr().err
    assert (f"{path}: {said}; the run goes on" in err) if said else (str(path) not in err)
    assert '"step": 5' in path.read_text().splitlines()[-1]


def test_what_was_drawn_once_is_drawn_again_where_it_has_changed(tmp_path, capsys):
    own = {"rollout": {"source": "own", "max_completion_length": 6}, "max_steps": 2}
    trainer_of(tmp_path, **own).train()
    path = tmp_path / "own_samples.jsonl"
    drawn = path.read_text()
    path.write_text(drawn.replace('"ids": [', '"ids": [7, ', 1))
    trainer_of(tmp_path, **own).train(resume_from_checkpoint=True)
    assert f"{path} is not what the run wrote; it is made again" in capsys.readouterr().err
    assert path.read_text() == drawn


@pytest.mark.parametrize("strategy", ["no", "epoch"])
def test_a_stopped_run_has_saved_its_step_and_goes_on(tmp_path, whole, strategy):
    def ask():
        STOP.signal = "SIGTERM"

    trainer = trainer_of(tmp_path, save_strategy=strategy, callbacks=[Call(1, ask)])
    callbacks = trainer.callback_handler.callbacks
    callbacks.append(callbacks.pop(callbacks.index(trainer.stopping)))  # it looks after the signal has come
    trainer.train()
    STOP.clear()
    assert (trainer.state.global_step, trainer.stopping.reason, steps(tmp_path)) == (1, "SIGTERM", [1])
    trainer_of(tmp_path).train(resume_from_checkpoint=True)
    kept, found = weights(whole / "checkpoints/checkpoint-4"), weights(tmp_path / "checkpoints/checkpoint-4")
    assert all(torch.equal(found[name], value) for name, value in kept.items())


def test_ranks_stop_at_the_same_step(tmp_path):
    """One of two was asked to: the sum over both says it to the other."""
    for asked, reason in ((1.0, "another rank"), (0.0, "")):
        stopping = Stopping(SimpleNamespace(count=2, sum=lambda value, asked=asked: value + asked))
        control = SimpleNamespace(should_save=False, should_training_stop=False)
        args, state = SimpleNamespace(device="cpu"), SimpleNamespace(global_step=3, max_steps=9)
        stopping.on_train_begin(args, state, control)
        stopping.on_step_end(args, state, control)
        assert (stopping.reason, control.should_save, control.should_training_stop) == (
            reason,
            bool(asked),
            bool(asked),
        )


def test_ranges():
    assert ranges([1, 2, 3, 7, 9, 10]) == "1–3, 7, 9–10"
    assert ranges([]) == ""


def everything(folder):
    """Every file and folder of a run: when it was changed, and what it holds."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in (folder, *folder.rglob("*"))
    }


@pytest.mark.parametrize("length", [{"max_steps": 2}, {"max_steps": -1, "num_train_epochs": 1.0}])
def test_a_finished_run_keeps_every_byte_and_says_that_it_is_finished(tmp_path, capsys, length):
    keeps = {"rollout": {"max_completion_length": 4, "log_completions_steps": 1}, **length}
    first = trainer_of(tmp_path, **keeps)
    first.train()
    before = everything(tmp_path)
    capsys.readouterr()
    for asked in (True, str(tmp_path), str(tmp_path / "checkpoints/checkpoint-2")):
        again = trainer_of(tmp_path, **keeps)
        assert again.train(resume_from_checkpoint=asked).global_step == 2
        assert everything(tmp_path) == before
        assert "checkpoint-2 is this run's last step (2): nothing is trained or written" in capsys.readouterr().err
        for (name, one), (_, other) in zip(first.model.named_parameters(), again.model.named_parameters(), strict=True):
            assert torch.equal(one, other), name


def test_what_a_kill_left_is_cleared_though_the_run_is_finished(tmp_path):
    trainer_of(tmp_path, max_steps=2).train()
    (tmp_path / ".half.partial").write_text("torn")
    trainer_of(tmp_path, max_steps=2).train(resume_from_checkpoint=True)
    assert not (tmp_path / ".half.partial").exists()


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("stopped", [2, 1])
def test_a_longer_run_goes_on_at_the_rate_of_its_new_length(tmp_path, schedule, stopped):
    """Also where the old schedule had ended at 0, or was left in the middle; no step is learned at rate 0."""

    def rates(folder):
        rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        return [row["learning_rate"] for row in rows]

    trainer_of(tmp_path / "straight", max_steps=5, lr_scheduler_type=schedule).train()
    trainer_of(tmp_path / "parts", max_steps=2, lr_scheduler_type=schedule).train()
    if stopped < 2:
        shutil.rmtree(tmp_path / "parts/checkpoints/checkpoint-2")
    trainer_of(tmp_path / "parts", max_steps=5, lr_scheduler_type=schedule).train(resume_from_checkpoint=True)
    wanted = rates(tmp_path / "straight")
    assert rates(tmp_path / "parts")[stopped:] == wanted[stopped:]
    assert min(wanted) > 0
