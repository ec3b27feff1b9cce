import json
import os

import pytest

from unisd.errors import UsageError
from unisd.training.checkpoints import MARK, mark_complete, retire, rotate, to_resume


@pytest.fixture
def made(tmp_path):
    """Make a checkpoint of a step; whole unless it is to be torn."""

    def make(step, torn=False, **said):
        folder = tmp_path / f"checkpoints/checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in ("model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"):
            (folder / name).write_bytes(f"{name} of {step}".encode())
        if not torn:
            mark_complete(folder, step, **said)
        return folder

    return make


def steps(folder):
    return sorted(int(path.name.split("-")[1]) for path in (folder / "checkpoints").iterdir())


def test_the_newest_that_verifies_is_taken_and_the_others_are_named(tmp_path, made, capsys):
    for step in (2, 4, 10, 12):
        made(step)
    made(14, torn=True)
    assert to_resume(True, tmp_path).name == "checkpoint-12"
    assert capsys.readouterr().err == ""
    (tmp_path / "checkpoints/checkpoint-12/rng_state.pth").unlink()
    (tmp_path / "checkpoints/checkpoint-10/optimizer.pt").write_bytes(b"optimizer.pt of 1O")
    assert to_resume(tmp_path, "elsewhere").name == "checkpoint-4"
    assert capsys.readouterr().err == (
        "warning: checkpoint-12 does not verify (rng_state.pth is missing); checkpoint-10 does not verify "
        "(optimizer.pt has changed); the run goes on from checkpoint-4\n"
    )
    assert to_resume(None, tmp_path) is None
    assert to_resume(False, tmp_path) is None


@pytest.mark.parametrize("damaged", ["cut", "changed", "earlier", "list"])
def test_a_mark_that_says_something_else_counts_for_nothing(tmp_path, made, damaged):
    mark = made(2) / MARK
    text = mark.read_text()
    changed = {
        "cut": text[:-20],
        "changed": text.replace('"step": 2', '"step": 3'),
        "earlier": json.dumps({"step": 2}),
        "list": "[]",
    }
    mark.write_text(changed[damaged])
    with pytest.raises(UsageError, match=r"no checkpoint to go on from \(checkpoint-2 does not verify \(its unisd_com"):
        to_resume(True, tmp_path)
    with pytest.raises(UsageError, match=r"checkpoint-2 does not verify .*; name another checkpoint"):
        to_resume(mark.parent, tmp_path)


def test_a_checkpoint_of_the_model_alone_is_no_resumable_one(tmp_path, made, capsys):
    made(2)
    made(4, resumable=False)
    assert to_resume(True, tmp_path).name == "checkpoint-2"
    assert "checkpoint-4 holds the model alone (save_only_model)" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"holds no complete checkpoint"):
        to_resume(True, tmp_path / "checkpoints")


@pytest.mark.parametrize(
    ("limit", "kept"),
    [(None, [2, 4, 6, 8]), (0, [2, 4, 6, 8]), (1, [6]), (2, [4, 6]), (3, [2, 4, 6])],
)
def test_rotation_goes_by_steps_and_torn_ones_go_first(tmp_path, made, limit, kept):
    """Dates say nothing; the newest is the one just written, and a higher step is of a course that was given up."""
    for step in (2, 4, 6, 8):
        made(step)
    made(5, torn=True)
    for step in (2, 8):
        os.utime(tmp_path / f"checkpoints/checkpoint-{step}", (2e9, 2e9))
    rotate(tmp_path / "checkpoints", tmp_path / "checkpoints/checkpoint-6", limit)
    assert steps(tmp_path) == kept


def test_the_best_one_stays_and_counts(tmp_path, made):
    for step in (2, 4, 6, 8):
        made(step)
    folder = tmp_path / "checkpoints"
    rotate(folder, folder / "checkpoint-8", 2, [folder / "checkpoint-2"])
    assert steps(tmp_path) == [2, 8]


def test_a_dying_checkpoint_loses_its_mark_first(tmp_path, made, monkeypatch):
    folder, seen = made(2), []
    monkeypatch.setattr("shutil.rmtree", lambda path, **_: seen.append((path / MARK).exists()))
    retire(folder)
    assert seen == [False]
