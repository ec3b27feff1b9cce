import torch

from mechanisms.steps import acting, apart, assert_plain, step_of, trainer_of

ON = {"floor": 0.1, "scale": 0.5}


def test_loss_and_gradient_are_those_of_plain_forward_passes(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, entropy_gate=ON)
    gates = []

    def loss(rows):
        for row in rows:
            entropy = -(row.gold.exp() * row.gold).sum(-1)
            gates.append(0.1 + 0.9 * torch.exp(-entropy / 0.5))
        divergence = torch.cat([row.forward_kl for row in rows])
        return (torch.cat(gates) * divergence).mean()  # a mean over tokens: gates are not normalised

    plan = assert_plain(trainer, loss)
    torch.testing.assert_close(plan.step.values["entropy_gate"], torch.cat(gates), rtol=1e-6, atol=1e-8)


def test_it_does_not_depend_on_how_the_step_is_cut_into_rows(tmp_path, tokenizer):
    one = step_of(trainer_of(tmp_path / "a", tokenizer, entropy_gate=ON, tokens_per_row=1))[1]
    other = step_of(trainer_of(tmp_path / "b", tokenizer, entropy_gate=ON, tokens_per_row=4096))[1]
    assert apart(one, other) < 1e-6


def test_it_changes_the_gradient_and_says_so(tmp_path, tokenizer):
    off = step_of(trainer_of(tmp_path / "a", tokenizer))[1]
    on = trainer_of(tmp_path / "b", tokenizer, entropy_gate=ON)
    assert apart(off, step_of(on)[1]) > 0.01
    found = acting(on)["entropy gate"]
    assert found.acts
    assert "mean gate 0." in found.evidence


def test_it_says_where_it_does_not_act(tmp_path, tokenizer):
    found = acting(trainer_of(tmp_path, tokenizer, entropy_gate={"floor": 0.5, "scale": 1e6}))["entropy gate"]
    assert not found.acts
    assert "entropy_gate.scale" in found.remedy
