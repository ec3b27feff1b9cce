import math

import pytest
import torch

from mechanisms.steps import acting, apart, assert_plain, step_of, trainer_of

ON = {"floor": 0.25, "center": 0.3, "width": 0.1}


def weights(lengths, floor, center, width):
    """By hand, one number at a time."""
    return torch.tensor(
        [
            floor + (1 - floor) / (1 + math.exp(-(t / length - center) / width))
            for length in lengths
            for t in range(1, length + 1)
        ],
        dtype=torch.float64,
    )


def test_loss_and_gradient_are_those_of_plain_forward_passes(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, position=ON)

    def loss(rows):
        w = weights([len(row.targets) for row in rows], **ON)
        return (w * torch.cat([row.forward_kl for row in rows])).sum() / w.sum()

    plan = assert_plain(trainer, loss)
    expected = weights([len(s.completion_ids) for s in plan.sequences], **ON)
    torch.testing.assert_close(plan.step.values["position"].double(), expected, rtol=1e-6, atol=1e-7)


def test_in_sequence_aggregation_each_completion_has_a_mean_of_its_own(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, position=ON, divergence={"aggregation": "sequence"})

    def loss(rows):
        means = []
        for row in rows:
            w = weights([len(row.targets)], **ON)
            means.append((w * row.forward_kl).sum() / w.sum())
        return torch.stack(means).mean()

    assert_plain(trainer, loss)


def test_it_multiplies_with_other_weights(tmp_path, tokenizer):
    both = trainer_of(tmp_path / "a", tokenizer, position=ON, agreement={"granularity": "token", "gamma": 5.0})
    _, _, plan = step_of(both)
    product = plan.step.values["position"] * plan.step.values["agreement"]
    torch.testing.assert_close(plan.coefficients, product / product.sum())


def test_it_changes_the_gradient_and_says_so(tmp_path, tokenizer):
    off = step_of(trainer_of(tmp_path / "a", tokenizer))[1]
    on = trainer_of(tmp_path / "b", tokenizer, position=ON)
    assert apart(off, step_of(on)[1]) > 0.01
    found = acting(on)["position weights"]
    assert found.acts
    assert "weights 0." in found.evidence


@pytest.mark.parametrize(
    ("settings", "length"), [({"floor": 0.999}, 10), (ON, 1)], ids=["a floor of nearly 1", "completions of one token"]
)
def test_it_says_where_it_does_not_act(tmp_path, tokenizer, settings, length):
    trainer = trainer_of(tmp_path, tokenizer, position=settings, rollout={"max_completion_length": length})
    found = acting(trainer)["position weights"]
    assert not found.acts
    assert "position.floor" in found.remedy


def test_it_weighs_cross_entropy_too(tmp_path, tokenizer):
    changes = {"divergence": {"kind": "cross_entropy"}, "rollout": {"source": "gold", "max_completion_length": 64}}
    off = step_of(trainer_of(tmp_path / "a", tokenizer, **changes))[0]
    on = step_of(trainer_of(tmp_path / "b", tokenizer, position=ON, **changes))[0]
    assert abs(float(on - off)) > 1e-4
