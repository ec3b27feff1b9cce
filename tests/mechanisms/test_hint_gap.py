import pytest
import torch

import tiny
from mechanisms.steps import acting, apart, assert_plain, step_of, trainer_of
from unisd.errors import UsageError

ON = {"alpha": 0.5}


def plain(row):
    """Target and gate of one completion, from whole distributions."""
    if row.negative is None:
        return row.gold, torch.ones(len(row.targets), dtype=torch.float64)
    target = (1.5 * row.gold - 0.5 * row.negative.clamp(min=-30.0)).log_softmax(-1)
    apart = (row.gold.exp() * (row.gold - row.negative)).sum(-1)
    return target, apart / (apart + 1)


@pytest.mark.parametrize("without", [(), (1, 2)], ids=["all rows have a negative", "some rows have none"])
def test_loss_and_gradient_are_those_of_plain_forward_passes(tmp_path, tokenizer, without):
    rows = tiny.rows(4)
    for number in without:
        rows[number]["negative_context"] = None
    trainer = trainer_of(tmp_path, tokenizer, rows=rows, hint_gap=ON)

    def loss(seen):
        parts = []
        for row in seen:
            target, gate = plain(row)
            parts.append(gate * (target.exp() * (target - row.student)).sum(-1))
        return torch.cat(parts).mean()

    assert_plain(trainer, loss)


def test_a_token_that_the_wrong_demonstration_rules_out_is_not_lifted_without_end(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, hint_gap=ON)
    _, _, plan = step_of(trainer)
    right = torch.zeros(1, 3, dtype=torch.float64)
    wrong = torch.tensor([[0.0, 0.0, -1e4]], dtype=torch.float64)
    plan.target.function(right, wrong)
    expected = 1.5 * torch.log(torch.tensor(1 / 3)) - 0.5 * torch.tensor([-(2.0**-1), -(2.0**-1), -30.0])
    expected[:2] = 1.5 * torch.log(torch.tensor(1 / 3)) - 0.5 * torch.log(torch.tensor(0.5))
    torch.testing.assert_close(right[0], expected.double(), rtol=1e-6, atol=1e-6)


def test_it_changes_the_gradient_and_says_so(tmp_path, tokenizer):
    off = step_of(trainer_of(tmp_path / "a", tokenizer))[1]
    on = trainer_of(tmp_path / "b", tokenizer, hint_gap=ON)
    assert apart(off, step_of(on)[1]) > 0.01
    found = acting(on)["hint gap"]
    assert found.acts
    assert "100% of tokens have a negative" in found.evidence


def test_it_says_where_right_and_wrong_demonstrations_say_the_same(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, rows=tiny.rows(4), hint_gap=ON)
    for row in trainer.train_dataset:  # rows of which a column says so are left without
        row.contexts["negative"] = row.contexts["gold"]
    assert not acting(trainer)["hint gap"].acts


def test_it_shares_the_negatives_with_others_and_refuses_rows_without_any(tmp_path, tokenizer):
    both = trainer_of(tmp_path / "a", tokenizer, hint_gap={"alpha": 0.5, "per_item": 2}, contrast={"weight": 0.1})
    _, negative = both.mechanisms.needs()
    assert (negative.slot, negative.per_item) == ("negative", 4)
    step_of(both)
    with pytest.raises(UsageError, match="hint_gap: no row has a negative_context"):
        trainer_of(tmp_path / "b", tokenizer, rows=tiny.rows(4, negative=False), hint_gap=ON)
