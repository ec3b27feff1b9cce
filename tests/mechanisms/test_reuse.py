from types import SimpleNamespace

import pytest
import torch

from mechanisms.steps import acting, apart, plain_step, trainer_of
from objective.reference import fused
from objective.test_fused import make, with_gradients
from unisd.errors import UsageError
from unisd.mechanisms.reuse import Reuse, ReuseSettings

ON = {"steps": 2, "cap": 1.2}


def second_use(trainer, n=4, std=0.05):
    """Learn a step, move the student, and return the gradient and the plan of the step that uses the same again."""
    rows = trainer.train_dataset[:n]
    trainer.model.train()
    trainer.learner.learn(trainer.model, trainer.planner.plan(rows, 0))
    with torch.no_grad():
        torch.manual_seed(11)
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.add_(std * torch.randn_like(parameter))
    trainer.model.zero_grad()
    plan = trainer.planner.plan(rows, 1)
    loss = trainer.learner.learn(trainer.model, plan)
    return loss, {k: p.grad.clone() for k, p in trainer.model.named_parameters() if p.grad is not None}, plan


@pytest.mark.parametrize("kind", ["forward_kl", "sampled_reverse_kl"])
def test_loss_and_gradient_are_those_of_plain_forward_passes(tmp_path, tokenizer, kind):
    trainer = trainer_of(tmp_path, tokenizer, reuse=ON, divergence={"kind": kind})
    before = trainer.planner.plan(trainer.train_dataset[:4], 0)
    written = torch.cat([row.of_targets(row.student) for row in plain_step(trainer, before)]).detach()
    loss, gradient, plan = second_use(trainer)
    assert torch.equal(plan.step.targets, before.step.targets)
    trainer.model.zero_grad()
    trainer.model.eval()
    rows = plain_step(trainer, plan)
    s, g = (torch.cat([row.of_targets(getattr(row, name)) for row in rows]) for name in ("student", "gold"))
    weight = (s - written).exp().clamp(max=1.2).detach()
    assert 0.05 < float((weight == 1.2).double().mean()) < 0.95
    if kind == "forward_kl":
        expected = surrogate = (weight * torch.cat([row.forward_kl for row in rows])).mean()
    else:
        ratio = s - g
        expected, surrogate = (weight * ratio).mean(), (weight * ratio.detach() * s).mean()
    surrogate.backward()
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-6, atol=1e-9)
    for name, parameter in trainer.model.named_parameters():
        if parameter.grad is not None:
            assert (gradient[name] - parameter.grad).norm() <= 1e-6 * parameter.grad.norm() + 1e-12, name
    torch.testing.assert_close(plan.step.values["reuse"].double(), weight.double())


def test_weighted_tokens_of_the_writer_have_the_students_mean():
    """Over all tokens that an earlier student could have drawn, weights that are not capped make the sampled estimate
    the full reverse KL's value and gradient of the student as it is now."""
    batch = make(n=1, vocabulary=9, width=4)
    batch["coefficients"] = torch.ones(1, dtype=torch.float64)
    old = torch.randn(9, generator=torch.Generator().manual_seed(3)).double().log_softmax(0)
    full, (exact,) = with_gradients(fused, batch, kind="reverse_kl")
    weighted, gradient, unweighted = 0.0, torch.zeros_like(exact), torch.zeros_like(exact)
    for token in range(9):
        drawn = {**batch, "targets": torch.tensor([token]), "kind": "sampled_reverse_kl"}
        step = SimpleNamespace(written_logprobs=old[token : token + 1])
        gates = Reuse(ReuseSettings(steps=2, cap=1e9), None).gates(step)
        result, (part,) = with_gradients(fused, drawn, gates=gates)
        weighted, gradient = weighted + old[token].exp() * result["loss"], gradient + old[token].exp() * part
        unweighted += old[token].exp() * with_gradients(fused, drawn)[1][0]
    torch.testing.assert_close(weighted, full["loss"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, exact, rtol=1e-9, atol=1e-12)
    assert (unweighted - exact).norm() > 0.1 * exact.norm()


def test_the_first_use_is_an_ordinary_step(tmp_path, tokenizer):
    plain = trainer_of(tmp_path / "a", tokenizer)
    used = trainer_of(tmp_path / "b", tokenizer, reuse=ON)
    losses, gradients = [], []
    for trainer in (plain, used):
        trainer.model.train()
        plan = trainer.planner.plan(trainer.train_dataset[:4], 0)
        losses.append(trainer.learner.learn(trainer.model, plan))
        gradients.append({k: p.grad for k, p in trainer.model.named_parameters() if p.grad is not None})
    assert torch.equal(*losses)
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_a_cap_of_null_leaves_the_weights_out(tmp_path, tokenizer):
    free = second_use(trainer_of(tmp_path / "a", tokenizer, reuse={"steps": 2, "cap": None}))
    capped = second_use(trainer_of(tmp_path / "b", tokenizer, reuse=ON))
    assert "reuse" not in free[2].step.values
    assert apart(free[1], capped[1]) > 0.01


def test_it_says_whether_it_acted(tmp_path, tokenizer):
    found = acting(trainer_of(tmp_path / "a", tokenizer, reuse=ON))["reuse"]
    assert found.acts
    assert "learned from 2 times; weights 0." in found.evidence
    still = acting(trainer_of(tmp_path / "b", tokenizer, reuse=ON, learning_rate=1e-14))["reuse"]
    assert not still.acts
    once = trainer_of(tmp_path / "c", tokenizer, reuse=ON, max_steps=1)
    assert once.mechanisms.inert(1) == ["reuse.steps: the run has one step, so that nothing is used again"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rollout": {"source": "gold"}}, "reuse.steps: 2 is for completions that the student writes"),
        ({"rollout": {"source": "mix"}}, "rollout.source is mix"),
        ({"rollout": {"source": "own"}}, "rollout.source is own"),
        ({"rollout": {"temperature": 1.0}}, "writes at rollout.temperature 1 and learns at 0.7"),
        ({"divergence": {"kind": "cross_entropy"}}, "writes at rollout.temperature 0.7 and learns at 1"),
        (
            {"divergence": {"kind": "sampled_reverse_kl"}, "reuse": {"steps": 2, "cap": None}},
            "reuse.cap: null leaves out the weights",
        ),
        ({"features": {"weight": 1.0, "mode": "only"}}, "switch reuse off"),
        ({"ignore_data_skip": True}, "leave ignore_data_skip"),
        ({"train_sampling_strategy": "group_by_length"}, "train_sampling_strategy"),
    ],
)
def test_what_cannot_work_together_is_refused(tmp_path, tokenizer, changes, named):
    with pytest.raises(UsageError, match=named) as refused:
        trainer_of(tmp_path, tokenizer, **({"reuse": ON} | changes))
    assert "\n" not in str(refused.value)
