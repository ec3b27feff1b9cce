import json

import pytest
import torch

import tiny
from mechanisms.steps import acting, apart, assert_plain, step_of, trainer_of
from rollout.templates import QWQ
from unisd.errors import UniSDError, UsageError
from unisd.training.arguments import UniSDConfig


@pytest.mark.parametrize("prefer", ["correct", "incorrect"])
@pytest.mark.parametrize("aggregation", ["token", "sequence"])
def test_loss_and_gradient_are_those_of_plain_forward_passes(tmp_path, tokenizer, prefer, aggregation):
    grades = torch.tensor([1.0, 0.0, 1.0, 0.25], dtype=torch.float64)
    changes = {"divergence": {"aggregation": aggregation}}
    trainer = trainer_of(
        tmp_path, tokenizer, success={"prefer": prefer, "rest": 0.2}, grader=lambda i, t: grades.tolist(), **changes
    )
    weights = 0.2 + 0.8 * (grades if prefer == "correct" else 1 - grades)

    def loss(rows):
        if aggregation == "sequence":
            return (weights * torch.stack([row.forward_kl.mean() for row in rows])).sum() / weights.sum()
        tokens = torch.cat([w.expand(len(row.targets)) for w, row in zip(weights, rows, strict=True)])
        return (tokens * torch.cat([row.forward_kl for row in rows])).sum() / tokens.sum()

    assert_plain(trainer, loss)


def test_it_changes_the_gradient_and_says_so(tmp_path, tokenizer):
    half = lambda ids, texts: [float(i % 2) for i in range(len(ids))]  # noqa: E731
    off = step_of(trainer_of(tmp_path / "a", tokenizer))[1]
    on = trainer_of(tmp_path / "b", tokenizer, success={"prefer": "correct"}, grader=half)
    assert apart(off, step_of(on)[1]) > 0.01
    found = acting(on)["success filter"]
    assert found.acts
    assert "50.0% of completions are correct" in found.evidence


@pytest.mark.parametrize("grade", [0.0, 1.0])
def test_it_says_where_all_completions_count_alike(tmp_path, tokenizer, grade):
    trainer = trainer_of(
        tmp_path, tokenizer, success={"prefer": "correct", "rest": 0.5}, grader=lambda ids, texts: [grade] * len(ids)
    )
    assert not acting(trainer)["success filter"].acts


def test_a_step_without_any_preferred_completion_teaches_nothing_and_is_counted(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, success={"prefer": "correct"}, grader=lambda ids, texts: [0.0] * len(ids))
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    with pytest.raises(UniSDError, match="no step had a gradient, so nothing was trained"):
        trainer.train()
    (found,) = trainer.acting()
    assert not found.acts
    assert "100.0% of steps have none" in found.evidence
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(line["loss"] == 0.0 and line["grad_norm"] == 0.0 for line in lines)
    after = {n: p.detach() for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_completions_are_graded_once_a_step_as_text(tmp_path, tokenizer):
    calls = []

    def grader(ids, texts):
        calls.append(texts)
        return [1.0, 0.0] * (len(ids) // 2)

    trainer = trainer_of(tmp_path, tokenizer, success={"prefer": "incorrect"}, grader=grader)
    _, _, plan = step_of(trainer)
    assert len(calls) == 1
    ended = [tokenizer.decode(s.completion_ids, skip_special_tokens=True) for s in plan.sequences]
    assert list(calls[0]) == ended


@pytest.mark.parametrize("thoughts", ["cut", "keep"])
def test_thoughts_are_cut_before_a_grader_reads(tmp_path, thoughts):
    calls = []

    def grader(ids, texts):
        calls.append(texts)
        return [1.0] * len(ids)

    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = QWQ
    rollout = {"max_completion_length": 8, "thoughts": thoughts}
    trainer = trainer_of(tmp_path, tokenizer, success={"prefer": "incorrect"}, grader=grader, rollout=rollout)
    _, _, plan = step_of(trainer)
    written = [tokenizer.decode(s.completion_ids, skip_special_tokens=True) for s in plan.sequences]
    # No random model closes its thought within eight tokens.
    assert list(calls[0]) == ([""] * len(written) if thoughts == "cut" else [f"<think>\n{text}" for text in written])


def test_refusals(tmp_path, tokenizer):
    with pytest.raises(UsageError, match="success: nobody grades the completions"):
        trainer_of(tmp_path, tokenizer, success={"prefer": "correct"})
    with pytest.raises(UsageError, match=r"success\.rest"):
        UniSDConfig(output_dir=str(tmp_path), success={"prefer": "correct", "rest": 1.0})


@pytest.mark.parametrize(
    "grades",
    [[2.0] * 4, [float("nan")] * 4, [1.0] * 3, None, ["right"] * 4],
    ids=["above 1", "nan", "one too few", "nothing", "texts"],
)
def test_a_grader_that_gives_something_else_is_refused(tmp_path, tokenizer, grades):
    trainer = trainer_of(tmp_path, tokenizer, success={"prefer": "correct"}, grader=lambda ids, texts: grades)
    with pytest.raises(UsageError, match=r"grader: (4 grades from 0 to 1 were|a list of numbers was) expected"):
        step_of(trainer)
