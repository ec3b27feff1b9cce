"""How the answers of several mechanisms are joined, with small ones made for the purpose."""

import contextlib

import pytest
import torch

import tiny
from mechanisms.steps import apart, assert_plain, step_of, trainer_of
from unisd.errors import UsageError
from unisd.mechanisms import Acting, Mechanism, Weights, register, registry
from unisd.objective import Gate, Target
from unisd.settings import Field, group
from unisd.training.arguments import UniSDConfig


@group
class OneSettings:
    """One number."""

    value: float = Field(default=0.0, ge=0)
    """0 switches it off."""

    @property
    def on(self):
        return self.value > 0


class Small(Mechanism):
    Settings = OneSettings

    def acting(self, run):
        return Acting(self.name, "", True)


@contextlib.contextmanager
def known(**classes):
    for name, cls in classes.items():
        register(type(cls.__name__, (cls,), {"name": name}))
    try:
        yield
    finally:
        for name in classes:
            registry._REGISTERED.pop(name)


class Reweighs(Small):
    """Tokens above the step's mean divergence count ``value`` times."""

    looks_first = True

    def reweigh(self, step, divergence):
        high = divergence > step.ranks.sum(divergence.sum()) * step.uniform
        return Weights(token=torch.where(high, self.settings.value, 1.0).float())


class Caps(Small):
    def cap(self, step, divergence):
        return self.settings.value


class CapsEach(Small):
    """A cap a token: the value for tokens at odd places, ten times as much for the others."""

    def cap(self, step, divergence):
        return self.settings.value * torch.where(step.positions % 2 == 1, 1.0, 10.0)


class Gates(Small):
    def gates(self, step):
        return [Gate(self.name, lambda seen: torch.full_like(seen.s, self.settings.value))]


class Targets(Small):
    def target(self, step):
        return Target(self.name, lambda z: z[:, 0], (), (), torch.ones_like(step.targets, dtype=torch.bool))


def test_weights_from_the_steps_divergences(tmp_path, tokenizer):
    with known(louder=Reweighs):
        trainer = trainer_of(tmp_path, tokenizer, louder={"value": 3.0}, position={"floor": 0.2})

        def loss(rows):
            divergence = torch.cat([row.forward_kl for row in rows])
            weights = torch.where(divergence > divergence.mean(), 3.0, 1.0).double().detach()
            place = torch.cat([torch.arange(1, len(r.targets) + 1) / len(r.targets) for r in rows]).double()
            weights *= 0.2 + 0.8 * torch.sigmoid((place - 0.3) / 0.1)
            return (weights * divergence).sum() / weights.sum()

        assert_plain(trainer, loss)


def test_the_smallest_cap_counts_token_by_token(tmp_path, tokenizer):
    with known(first=Caps, each=CapsEach):
        trainer = trainer_of(tmp_path, tokenizer, first={"value": 0.5}, each={"value": 0.1})

        def loss(rows):
            values = []
            for row in rows:
                odd = torch.arange(1, len(row.targets) + 1) % 2 == 1
                values.append(torch.minimum(row.forward_kl, torch.where(odd, 0.1, 0.5).double()))
            return torch.cat(values).mean()

        plan = assert_plain(trainer, loss)
        assert plan.step.values["clipped"].any()


def test_gates_multiply(tmp_path, tokenizer):
    plain = step_of(trainer_of(tmp_path / "a", tokenizer))[1]
    with known(half=Gates, third=Gates):
        trainer = trainer_of(tmp_path / "b", tokenizer, half={"value": 0.5}, third={"value": 0.25})
        gated = step_of(trainer)[1]
    assert apart(plain, {name: value * 8 for name, value in gated.items()}) < 1e-6


def test_two_targets_are_refused(tmp_path):
    with known(mine=Targets), pytest.raises(UsageError, match="hint_gap and mine: each gives the target"):
        UniSDConfig(output_dir=str(tmp_path), mine={"value": 1.0}, hint_gap={"alpha": 0.5})


def test_what_needs_a_teacher_is_refused_without_one(tmp_path):
    with pytest.raises(UsageError, match="cross_entropy has no teacher; switch entropy_gate off"):
        UniSDConfig(output_dir=str(tmp_path), divergence={"kind": "cross_entropy"}, entropy_gate={"floor": 0.5})


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("position", {"floor": 0.5}),
        ("entropy_gate", {"floor": 0.5}),
        ("success", {"prefer": "correct"}),
        ("hint_gap", {"alpha": 0.5}),
        ("clipping", {"cap": 1.0}),
    ],
)
def test_what_acts_on_a_divergence_is_refused_where_features_are_the_whole_loss(tmp_path, name, settings):
    with pytest.raises(UsageError, match=rf"features.mode: 'only' is the whole loss; switch {name} off"):
        UniSDConfig(output_dir=str(tmp_path), features={"weight": 1.0, "mode": "only"}, **{name: settings})


def test_mechanisms_all_together(tmp_path, tokenizer):
    """Everything that can be on at once is on at once, and trains."""
    trainer = trainer_of(
        tmp_path,
        tokenizer,
        position={"floor": 0.25},
        entropy_gate={"floor": 0.1},
        success={"prefer": "correct", "rest": 0.1},
        trust_region={"weight": 0.5},
        teacher={"kind": "ema", "decay": 0.5, "every": 1},
        agreement={"granularity": "token", "gamma": 2.0},
        contrast={"weight": 0.5},
        features={"weight": 0.1},
        clipping={"quantile": 0.9},
        grader=lambda ids, texts: [float(number % 2) for number in range(len(ids))],
    )
    trainer.train()
    assert len(trainer.acting()) == 9
    assert all(found.acts for found in trainer.acting()), trainer.acting()


def test_settings_of_what_is_off_are_named(tmp_path):
    config = tiny.arguments(tmp_path, teacher={"decay": 0.95, "every": 1}, contrast={"weight": 0.1, "margin": 0.2})
    assert config.mechanisms.inert(4) == ["teacher.decay, teacher.every: teacher is off, so this changes nothing"]
    assert tiny.arguments(tmp_path, agreement={"granularity": "token"}).mechanisms.inert(4) == []
