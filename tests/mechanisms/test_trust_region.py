import pytest
import torch

from mechanisms.steps import acting, apart, assert_plain, step_of, trainer_of
from unisd.errors import UsageError
from unisd.training.arguments import UniSDConfig

EMA = {"kind": "ema", "decay": 0.5, "every": 1}


def moved(trainer):
    """The average teacher moves off the start: half way to the student."""
    trainer.mechanisms.follow(1)
    return trainer


@pytest.mark.parametrize("teacher", [EMA, {"kind": "live"}], ids=["ema", "live"])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_loss_and_gradient_are_those_of_plain_forward_passes(tmp_path, tokenizer, teacher, weight):
    trainer = trainer_of(tmp_path, tokenizer, teacher=teacher, trust_region={"weight": weight})
    moved(trainer)
    distances = []

    def loss(rows):
        divergences = []
        for row in rows:
            target = ((1 - weight) * row.initial + weight * row.gold).log_softmax(-1)
            divergences.append((target.exp() * (target - row.student)).sum(-1))
            distances.append((row.gold.exp() - target.exp()).abs().sum(-1) / 2)
        return torch.cat(divergences).mean()

    plan = assert_plain(trainer, loss)
    torch.testing.assert_close(plan.step.values["trust_region"], torch.cat(distances), rtol=1e-5, atol=1e-8)


def test_it_changes_the_gradient_and_says_so(tmp_path, tokenizer):
    off = step_of(moved(trainer_of(tmp_path / "a", tokenizer, teacher=EMA)))[1]
    on = trainer_of(tmp_path / "b", tokenizer, teacher=EMA, trust_region={"weight": 0.5})
    assert apart(off, step_of(moved(on))[1]) > 0.001
    assert acting(on)["trust region"].acts


def test_it_says_where_the_teacher_never_moved(tmp_path, tokenizer):
    still = {"kind": "ema", "decay": 0.5, "every": 100}
    trainer = trainer_of(tmp_path, tokenizer, trained=False, teacher=still, trust_region={"weight": 0.5})
    found = acting(trainer)["trust region"]
    assert not found.acts
    assert "teacher.every" in found.remedy


def test_its_reading_of_the_start_survives_training_and_resuming(tmp_path, tokenizer):
    """The second reader is the initial model, also once the student has moved and in a trainer made anew."""
    trainer = trainer_of(tmp_path, tokenizer, trained=False, teacher=EMA, trust_region={"weight": 0.0})
    before = step_of(trainer)[2].step.readings["trust_region"].values
    trainer.train()
    targets = step_of(trainer)[2]
    with trainer.model.disable_adapter(), torch.no_grad():
        row, done = trainer.train_dataset[0], list(targets.sequences[0].completion_ids)
        prompt = row.contexts["gold"][0]
        states = trainer.model(torch.tensor([[*prompt, *done]]), output_hidden_states=True).hidden_states[-1]
    first = slice(0, targets.offsets[1])
    torch.testing.assert_close(targets.step.readings["trust_region"].values[first], states[0, len(prompt) - 1 : -1])
    assert before.shape[1] == states.shape[-1]


def test_an_initial_teacher_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"trust_region.weight: the teacher is the initial model.*set teacher.kind"):
        UniSDConfig(output_dir=str(tmp_path), trust_region={"weight": 0.5})
