"""Tokens that carry no loss, and the divergences of few tokens, through the trainer."""

import dataclasses

import pytest
import torch

import tiny
from mechanisms.steps import apart, assert_plain, plain_step, step_of, trainer_of
from objective.reference import divergence, over
from unisd.errors import UniSDError, UsageError
from unisd.objective import Support
from unisd.training.arguments import UniSDConfig

ALL = {
    "agreement": {"granularity": "token", "gamma": 2.0},
    "clipping": {"quantile": 0.9},
    "contrast": {"weight": 0.1},
    "features": {"weight": 0.1},
    "position": {"floor": 0.2},
}


def rewritten(trainer, cut):
    """Let completions be of given lengths: those that were written, cut or drawn out."""
    sample = trainer.sampler.sample

    def written(requests, params, progress=None):
        done = sample(requests, params, progress)
        return [dataclasses.replace(d, ids=(d.ids * 9)[:n]) for d, n in zip(done, cut, strict=True)]

    trainer.sampler.sample = written
    return trainer


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
def test_skipped_tokens_are_in_no_sum_and_no_normaliser(tmp_path, tokenizer, aggregation):
    """Divergence, contrast and features of plain forward passes over what is left of each completion."""
    changes = {"divergence": {"skip_tokens": 3, "aggregation": aggregation}}
    changes |= {"contrast": {"weight": 0.5}, "features": {"weight": 0.01}, "position": {"floor": 0.2}}
    trainer = rewritten(trainer_of(tmp_path, tokenizer, **changes), [8, 5, 3, 1])
    plan = trainer.planner.plan(trainer.train_dataset[:4], 0)
    assert plan.step.lengths.tolist() == [5, 2, 0, 0]
    assert plan.step.positions.tolist() == [4, 5, 6, 7, 8, 4, 5]
    assert plan.metrics["completions/tokens"] == 17
    assert plan.metrics["completions/mean_length"] == 17 / 4

    def loss(rows):
        rows = [row for row in rows if len(row.targets)]  # plain_step reads what a plan's sequences hold
        weights = []
        for whole in (8, 5):
            place = torch.arange(4, whole + 1) / whole
            weights.append(0.2 + 0.8 * torch.sigmoid((place - 0.3) / 0.1))
        tokens = [row.forward_kl for row in rows]
        if aggregation == "token":
            weighted = sum((w * d).sum() for w, d in zip(weights, tokens, strict=True)) / torch.cat(weights).sum()
        else:
            weighted = sum((w * d).sum() / w.sum() for w, d in zip(weights, tokens, strict=True)) / 2
        hinges = []
        for row in rows:
            s, g, b = (row.of_targets(logs) for logs in (row.student, row.gold, row.negative))
            hinges.append(torch.relu(0.5 + (s - g).abs() - (s - b).abs()))
        apart = torch.cat([(row.states - row.gold_states).square().mean(-1) for row in rows])
        return weighted + 0.5 * torch.cat(hinges).mean() + 0.01 * apart.mean()

    add_openings(trainer, plan)
    assert_plain(trainer, loss)


def add_openings(trainer, plan):
    """Let plain forward passes read the skipped tokens behind every prompt."""
    for row, opening in zip(trainer.train_dataset[:4], plan.openings, strict=True):
        for prompts in [[row.student_ids], *row.contexts.values()]:
            for prompt in prompts:
                prompt.extend(opening)
    planned = trainer.planner.plan
    bare = [
        dataclasses.replace(
            row,
            student_ids=row.student_ids[: len(row.student_ids) - len(opening)],
            contexts={k: [p[: len(p) - len(opening)] for p in v] for k, v in row.contexts.items()},
        )
        for row, opening in zip(trainer.train_dataset[:4], plan.openings, strict=True)
    ]
    trainer.planner.plan = lambda rows, step: planned(bare, step)


def test_skipped_tokens_change_nothing_by_how_a_step_is_cut(tmp_path, tokenizer):
    changes = {**ALL, "divergence": {"skip_tokens": 4}}
    cut = [8, 7, 4, 2]
    one = step_of(rewritten(trainer_of(tmp_path / "a", tokenizer, **changes, tokens_per_row=1), cut))[1]
    other = step_of(rewritten(trainer_of(tmp_path / "b", tokenizer, **changes, tokens_per_row=4096), cut))[1]
    assert apart(one, other) < 1e-6
    all_tokens = step_of(rewritten(trainer_of(tmp_path / "c", tokenizer, **ALL), cut))[1]
    assert apart(one, all_tokens) > 0.01


@pytest.mark.parametrize(
    "changes", [{}, ALL, {"features": {"weight": 1.0, "mode": "only"}}], ids=["core", "all", "only"]
)
@pytest.mark.parametrize("adapter", [True, False], ids=["adapter", "full"])
def test_a_step_without_any_token_teaches_nothing(tmp_path, tokenizer, changes, adapter):
    """Every completion is as short as what is skipped: the loss and gradients are 0; a run of no others is an error."""
    if not adapter:
        changes = {**changes, "learning_rate": 1e-4}
    trainer = trainer_of(tmp_path, tokenizer, **changes, divergence={"skip_tokens": 3}, dtype=torch.float32)
    if not adapter:
        from unisd.training.trainer import UniSDTrainer

        trainer = UniSDTrainer(tiny.model("qwen2"), trainer.args, train_dataset=tiny.rows(), processing_class=tokenizer)
    lengths = [3, 2, 1, 3]
    rewritten(trainer, lengths)
    loss, gradient, plan = step_of(trainer)
    assert not plan.counted
    assert float(loss) == 0.0
    assert gradient
    assert all(float(value.abs().max()) == 0.0 for value in gradient.values())
    with pytest.raises(UniSDError, match="no step had a gradient"):
        trainer.train()
    lengths[:] = [9, 2, 1, 3]
    assert float(step_of(trainer)[0]) > 0.0


@pytest.mark.parametrize(("tail", "of"), [(True, "teacher"), (False, "teacher"), (True, "student")])
@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
def test_few_tokens_are_compared_as_plain_sums_over_them(tmp_path, tokenizer, kind, tail, of):
    changes = {"kind": kind, "top_k": 6, "tail": tail, "top_k_of": of} | ({"alpha": 0.3} if kind == "jsd" else {})
    trainer = trainer_of(tmp_path, tokenizer, divergence=changes)

    def loss(rows):
        support = Support(6, tail, of)
        return torch.cat([divergence(*over(row.student, row.gold, support), kind, 0.3) for row in rows]).mean()

    assert_plain(trainer, loss)


def test_sampled_tokens_carry_the_score_functions_gradient(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, divergence={"kind": "sampled_reverse_kl"})
    loss, gradient, plan = step_of(trainer)
    trainer.model.zero_grad()
    trainer.model.eval()
    rows = plain_step(trainer, plan)
    s, g = (torch.cat([row.of_targets(getattr(row, name)) for row in rows]) for name in ("student", "gold"))
    ((s - g).detach() * s).mean().backward()
    torch.testing.assert_close(loss.double(), (s - g).mean().detach(), rtol=1e-6, atol=1e-9)
    for name, parameter in trainer.model.named_parameters():
        if parameter.grad is not None:
            assert (gradient[name] - parameter.grad).norm() <= 1e-6 * parameter.grad.norm() + 1e-12, name


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"divergence": {"skip_tokens": 8}}, r"divergence.skip_tokens: 8 leaves no token .* \(8\)"),
        ({"divergence": {"kind": "cross_entropy", "top_k": 5}}, "divergence.top_k: cross_entropy looks at"),
        ({"divergence": {"kind": "sampled_reverse_kl", "top_k": 5}}, "divergence.top_k: sampled_reverse_kl looks at"),
        ({"rollout": {"source": "gold"}}, r"rollout.source: .* set student \(now gold\)"),
        ({"rollout": {"source": "own"}}, r"rollout.source: .* set student \(now own\)"),
        ({"rollout": {"source": "mix"}}, r"rollout.source: .* set student \(now mix\)"),
        ({"rollout": {"temperature": 1.0}}, r"rollout.temperature: .* set 0.7 \(now 1.0\)"),
        ({"rollout": {"temperature": 0.0}}, "rollout.temperature"),
        ({"rollout": {"top_p": 0.9}}, r"rollout.top_p: .* set 1.0 \(now 0.9\)"),
        ({"divergence": {"tail": False}}, "divergence.tail: the whole vocabulary is compared"),
        ({"divergence": {"top_k_of": "student"}}, "divergence.top_k_of: the whole vocabulary is compared"),
        ({"features": {"weight": 1.0, "mode": "only"}}, "divergence.kind: another term is the whole loss"),
        (
            {"divergence": {"top_k": 5}, "features": {"weight": 1.0, "mode": "only"}},
            "divergence.top_k: another term is the whole loss",
        ),
        ({"clipping": {"cap": 1.0}}, "clipping: a cap on the log-ratios"),
    ],
)
def test_what_cannot_work_together_is_refused(tmp_path, changes, named):
    values = {"divergence": {"kind": "sampled_reverse_kl"}, "rollout": {}} | changes
    values["rollout"] = {"max_completion_length": 8} | values["rollout"]
    with pytest.raises(UsageError, match=named) as refused:
        UniSDConfig(str(tmp_path), **values)
    assert "\n" not in str(refused.value)
