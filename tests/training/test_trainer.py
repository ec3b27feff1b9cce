import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

import tiny
from rollout.templates import QWEN3
from unisd.errors import UsageError
from unisd.teacher import ReadRequest, score
from unisd.training.trainer import UniSDTrainer

UNISD = {
    "clipping": {"quantile": 0.9},
    "teacher": {"kind": "ema", "decay": 0.5, "every": 1},
    "agreement": {"granularity": "token", "gamma": 2.0},
    "contrast": {"weight": 0.1},
    "features": {"weight": 0.1},
}


def trainer_of(folder, tokenizer, adapter=True, rows=None, dropout=0.0, **changes):
    return UniSDTrainer(
        tiny.model(),
        tiny.arguments(folder, **changes),
        train_dataset=rows or tiny.rows(),
        processing_class=tokenizer,
        peft_config=tiny.lora_config(dropout) if adapter else None,
    )


def lines(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def untimed(rows):
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "memory/", "speed/"))} for row in rows]


def trained(trainer):
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("adapter", [True, False])
def test_core_learns(tmp_path, tokenizer, adapter):
    trainer = trainer_of(tmp_path, tokenizer, adapter, max_steps=12, per_device_train_batch_size=8)
    before = trained(trainer)
    trainer.train()
    after = trained(trainer)
    assert any(not torch.equal(before[n], after[n]) for n in before)
    losses = [row["loss"] for row in lines(tmp_path)]
    assert len(losses) == 12
    assert sum(losses[-3:]) < sum(losses[:3])


def test_rows_that_cannot_be_read_are_dropped_if_asked(tmp_path, tokenizer, monkeypatch, capsys):
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path / "cache"))
    rows = [*tiny.rows(4), {"prompt": 3}]

    def trainer(**settings):
        arguments = tiny.arguments(tmp_path / "run", **settings)
        return UniSDTrainer(tiny.lora(tiny.model()), arguments, train_dataset=rows, processing_class=tokenizer)

    with pytest.raises(UsageError, match=r"column 'prompt', row 4"):
        trainer()
    assert len(trainer(contexts={"on_error": "drop"}).train_dataset) == 4
    said = capsys.readouterr().err
    assert "rows of the data set: 1 of 5 rows (20.0%) are DROPPED" in said
    assert "the data set, row 4: column 'prompt', row 4" in said


def test_args_none_and_model_by_name(tmp_path, tokenizer, monkeypatch):
    tiny.model().save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    trainer = UniSDTrainer(str(tmp_path / "m"), train_dataset=tiny.rows(2))
    assert trainer.args.learning_rate == 2e-5
    assert trainer.args.output_dir == "unisd-run"


def test_student_equal_to_teacher_has_zero_divergence(tmp_path, tokenizer):
    """The gold prompt put in the place of the student's, initial weights on both sides."""
    trainer = trainer_of(tmp_path, tokenizer)
    rows = trainer.train_dataset
    import dataclasses

    same = [dataclasses.replace(row, contexts={**row.contexts, "gold": [row.student_ids]}) for row in rows[:4]]
    plan = trainer.planner.plan(same, 0)
    trainer.learner.learn(trainer.model, plan)
    assert plan.step.values["divergence"].abs().max() < 1e-6
    assert all(p.grad is None or p.grad.abs().max() < 1e-6 for p in trainer.model.parameters())


def step_of(trainer, n=8):
    """The gradient and loss of the first step over the first n rows."""
    trainer.model.train()
    trainer.model.zero_grad()
    plan = trainer.planner.plan(trainer.train_dataset[:n], 0)
    loss = trainer.learner.learn(trainer.model, plan)
    return loss, {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}, plan


@pytest.mark.parametrize("granularity", ["token", "sequence"])
@pytest.mark.parametrize("aggregation", ["token", "sequence"])
def test_agreement_changes_the_gradient(tmp_path, tokenizer, granularity, aggregation):
    """The official code's sequence weights cancel; ours must not, in either aggregation."""
    base = {"divergence": {"aggregation": aggregation}}
    off = step_of(trainer_of(tmp_path / "a", tokenizer, **base))[1]
    agreement = {"granularity": granularity, "gamma": 100.0}
    on = step_of(trainer_of(tmp_path / "b", tokenizer, agreement=agreement, **base))[1]
    size = sum(g.square().sum() for g in off.values()).sqrt()
    difference = sum((on[n] - off[n]).square().sum() for n in off).sqrt()
    assert difference > 0.01 * size


@pytest.mark.parametrize(
    "mechanism",
    [
        {"contrast": {"weight": 1.0}},
        {"features": {"weight": 1.0}},
        {"clipping": {"quantile": 0.5}},
        {"clipping": {"cap": 0.05}},
        {"features": {"weight": 1.0, "mode": "only"}},
        {"divergence": {"kind": "reverse_kl"}},
        {"divergence": {"kind": "jsd"}},
    ],
)
def test_each_mechanism_changes_the_gradient(tmp_path, tokenizer, mechanism):
    off = step_of(trainer_of(tmp_path / "a", tokenizer))[1]
    on = step_of(trainer_of(tmp_path / "b", tokenizer, **mechanism))[1]
    size = sum(g.square().sum() for g in off.values()).sqrt()
    assert sum((on[n] - off[n]).square().sum() for n in off).sqrt() > 0.01 * size


@pytest.mark.parametrize("budget", [1, 64, 4096])
def test_rows_do_not_change_the_result(tmp_path, tokenizer, budget):
    loss, gradient, _ = step_of(trainer_of(tmp_path / "a", tokenizer, **UNISD, tokens_per_row=300))
    other, other_gradient, _ = step_of(trainer_of(tmp_path / "b", tokenizer, **UNISD, tokens_per_row=budget))
    torch.testing.assert_close(loss, other, rtol=1e-5, atol=1e-6)
    for name in gradient:
        torch.testing.assert_close(gradient[name], other_gradient[name], rtol=1e-4, atol=1e-6)


def test_step_loss_equals_a_plain_reference(tmp_path, tokenizer):
    """Whole padded-free forwards, full logits, autograd: the divergence and its gradient are the same."""
    trainer = trainer_of(tmp_path, tokenizer, adapter=True)
    loss, gradient, plan = step_of(trainer, n=4)
    model = trainer.model
    model.zero_grad()
    values = []
    for row, sequence in zip(trainer.train_dataset[:4], plan.sequences, strict=True):
        completion = list(sequence.completion_ids)
        with torch.no_grad(), model.disable_adapter():
            gold = model(torch.tensor([[*row.contexts["gold"][0], *completion]])).logits[
                0, len(row.contexts["gold"][0]) - 1 : -1
            ]
        own = model(torch.tensor([[*row.student_ids, *completion]])).logits[0, len(row.student_ids) - 1 : -1]
        p, q = (gold / 0.7).log_softmax(-1), (own / 0.7).log_softmax(-1)
        values.append((p.exp() * (p - q)).sum(-1))
    expected = torch.cat(values).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-6)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("extra", [{}, UNISD], ids=["core", "unisd"])
@pytest.mark.parametrize("aggregation", ["token", "sequence"])
def test_batch_4_equals_batch_1_times_4_accumulated(tmp_path, tokenizer, extra, aggregation):
    changes = {**extra, "divergence": {**extra.get("divergence", {}), "aggregation": aggregation}, "max_steps": 3}
    a = trainer_of(tmp_path / "a", tokenizer, dropout=0.1, **changes)
    a.train()
    b = trainer_of(
        tmp_path / "b", tokenizer, dropout=0.1, **changes, per_device_train_batch_size=1, gradient_accumulation_steps=4
    )
    b.train()
    for name, value in trained(a).items():
        torch.testing.assert_close(trained(b)[name], value, rtol=1e-5, atol=1e-6)
    for one, other in zip(untimed(lines(tmp_path / "a")), untimed(lines(tmp_path / "b")), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


@pytest.mark.parametrize("adapter", [True, False])
def test_stopped_and_resumed_gives_the_same_bits(tmp_path, tokenizer, adapter):
    changes = {**UNISD, "dropout": 0.2, "adapter": adapter, "save_strategy": "steps", "save_steps": 2}
    changes |= {"lr_scheduler_type": "cosine", "seed": 7}
    whole = trainer_of(tmp_path / "whole", tokenizer, **changes)
    whole.train()
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            # One step past the checkpoint: the resumed run must repeat step 3, not skip it.
            if state.global_step == 3:
                raise KeyboardInterrupt

    first = trainer_of(tmp_path / "halves", tokenizer, **changes)
    first.add_callback(Stop())
    with pytest.raises(KeyboardInterrupt):
        first.train()
    torch.manual_seed(12345)
    second = trainer_of(tmp_path / "halves", tokenizer, **changes)
    second.train(resume_from_checkpoint=True)
    assert [row["step"] for row in lines(tmp_path / "halves")] == [1, 2, 3, 4]
    assert untimed(lines(tmp_path / "halves")) == untimed(lines(tmp_path / "whole"))
    for name, value in trained(whole).items():
        assert torch.equal(trained(second)[name], value), name
    for name, value in whole.teacher._shadow.items():
        assert torch.equal(second.teacher._shadow[name], value), name
    for file in ("ema.safetensors", "adapter_model.safetensors" if adapter else "model.safetensors"):
        a = load_file(tmp_path / "whole/checkpoints/checkpoint-4" / file)
        b = load_file(tmp_path / "halves/checkpoints/checkpoint-4" / file)
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_torn_checkpoint_is_passed_over(tmp_path, tokenizer):
    changes = {"save_strategy": "steps", "save_steps": 2}
    trainer = trainer_of(tmp_path, tokenizer, **changes)
    trainer.train()
    (tmp_path / "checkpoints/checkpoint-4/unisd_complete.json").unlink()
    again = trainer_of(tmp_path, tokenizer, **changes)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 4
    assert [row["step"] for row in lines(tmp_path)] == [1, 2, 3, 4]


def test_nothing_to_resume(tmp_path, tokenizer):
    with pytest.raises(UsageError, match="no complete checkpoint"):
        trainer_of(tmp_path, tokenizer).train(resume_from_checkpoint=True)


def test_rollouts_are_fresh_every_step_and_differ_between_samples(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer)
    rows = [trainer.train_dataset[0]] * 2
    first = trainer.planner.plan(rows, 0)
    again = trainer.planner.plan(rows, 0)
    later = trainer.planner.plan(rows, 1)
    assert torch.equal(first.step.targets, again.step.targets)
    assert not torch.equal(first.step.targets, later.step.targets)
    assert first.sequences[0].completion_ids != first.sequences[1].completion_ids


@pytest.mark.parametrize("source", ["gold", "mix", "own"])
def test_sources_of_completions(tmp_path, tokenizer, source):
    trainer = trainer_of(tmp_path, tokenizer, max_steps=2, rollout={"source": source, "max_completion_length": 40})
    trainer.train()
    assert len(lines(tmp_path)) == 2
    plan = trainer.planner.plan(trainer.train_dataset, 0)
    gold = [list(row.completion_ids or []) for row in trainer.train_dataset]
    taken = [list(s.completion_ids) == g for s, g in zip(plan.sequences, gold, strict=True)]
    if source == "gold":
        assert all(taken)
    if source == "mix":
        assert any(taken)
        assert not all(taken)
    if source == "own":
        assert not any(taken)
        again = trainer.planner.plan(trainer.train_dataset, 5)
        assert torch.equal(plan.step.targets, again.step.targets)
        assert (tmp_path / "own_samples.jsonl").is_file()


def test_variables_of_the_template_reach_student_teacher_and_gold(tmp_path, tokenizer):
    """Thinking is off for the student, on for the teacher, and on again in one row."""
    thinks = tiny.tokenizer()
    thinks.chat_template = QWEN3
    rows = tiny.rows(4, negative=False, probes=0)
    rows[3]["chat_template_kwargs"] = {"enable_thinking": True}
    contexts = {
        "layout": "paper",
        "template_kwargs": {"enable_thinking": False},
        "teacher_template_kwargs": {"enable_thinking": True},
    }
    trainer = trainer_of(tmp_path, thinks, rows=rows, rollout={"source": "gold"}, contexts=contexts, max_steps=1)
    block = "<think>\n\n</think>\n\n"
    plan = trainer.planner.plan(trainer.train_dataset, 0)
    for number, (row, sequence) in enumerate(zip(trainer.train_dataset, plan.sequences, strict=True)):
        prompt, said = (thinks.decode(ids) for ids in (sequence.prompt_ids, sequence.completion_ids))
        assert prompt.endswith(block) == (number < 3)
        assert said == block * (number == 3) + rows[number]["completion"] + "<|im_end|>"
        assert thinks.decode(row.contexts["gold"][0]).endswith("assistant\n")
    trainer.train()
    assert lines(tmp_path)[0]["loss"] > 0


def test_sft_is_the_usual_cross_entropy(tmp_path, tokenizer):
    changes = {"divergence": {"kind": "cross_entropy"}, "rollout": {"source": "gold", "max_completion_length": 64}}
    trainer = trainer_of(tmp_path, tokenizer, **changes)
    loss, _, plan = step_of(trainer, n=3)
    total, count = 0.0, 0
    for sequence in plan.sequences:
        ids = torch.tensor([[*sequence.prompt_ids, *sequence.completion_ids]])
        labels = ids.clone()
        labels[0, : len(sequence.prompt_ids)] = -100
        with torch.no_grad():
            total += float(trainer.model(ids, labels=labels).loss) * len(sequence.completion_ids)
        count += len(sequence.completion_ids)
    assert float(loss) == pytest.approx(total / count, rel=1e-5)
    assert trainer.teacher is None


def test_metrics_show_every_mechanism_acting(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, **UNISD)
    trainer.train()
    last = lines(tmp_path)[-1]
    assert last["agreement/weight_max"] - last["agreement/weight_min"] > 0.1
    assert 0 < last["agreement/effective_sample_size"] < 1
    assert last["ema/updates"] == 4
    assert last["ema/ema_to_start"] > 0
    assert last["ema/ema_to_student"] > 0
    assert 0 < last["contrast/live"] <= 1
    assert last["contrast/tokens_with_negative"] == 1.0
    assert last["features/distance"] > 0
    assert 0.02 < last["clip/rate"] <= 0.15
    assert {a.mechanism.split()[0] for a in trainer.acting()} == {
        "agreement",
        "ema",
        "contrast",
        "features",
        "clipping",
    }
    assert all(a.acts for a in trainer.acting())
    assert {"time/sample", "time/score", "time/learn", "time/step", "memory/peak_bytes"} <= set(last)


def test_an_inert_mechanism_is_said(tmp_path, tokenizer, capsys):
    trainer_of(tmp_path, tokenizer, agreement={"granularity": "token", "gamma": 0.001}).train()
    assert "agreement (token) did nothing" in capsys.readouterr().err


def test_rows_without_a_negative_stay(tmp_path, tokenizer):
    rows = tiny.rows(4)
    rows[1]["negative_context"] = None
    rows[2]["negative_context"] = None
    trainer = trainer_of(tmp_path, tokenizer, rows=rows, contrast={"weight": 0.5}, max_steps=1)
    trainer.train()
    assert 0 < lines(tmp_path)[0]["contrast/tokens_with_negative"] < 1
    assert math.isfinite(lines(tmp_path)[0]["loss"])
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_contrast_without_any_negative_is_refused(tmp_path, tokenizer):
    with pytest.raises(UsageError, match="no row has a negative_context"):
        trainer_of(tmp_path, tokenizer, rows=tiny.rows(4, negative=False), contrast={"weight": 0.5})


def test_evaluate_reports_the_objective_and_changes_nothing(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, **UNISD)
    trainer.eval_dataset = trainer._prepare(tiny.rows(3), trainer.args, trainer.model)
    before = trained(trainer)
    first, second = trainer.evaluate(), trainer.evaluate()
    assert first["eval_loss"] == second["eval_loss"]
    assert all(torch.equal(value, trained(trainer)[n]) for n, value in before.items())
    assert all(p.grad is None for p in trainer.model.parameters())


def test_weights_load_with_plain_peft(tmp_path, tokenizer):
    from peft import PeftModel

    trainer = trainer_of(tmp_path / "run", tokenizer, max_steps=2)
    trainer.train()
    trainer.save_weights(str(tmp_path / "run/adapter"))  # a text, as people write it
    loaded = PeftModel.from_pretrained(tiny.model(), tmp_path / "run/adapter").eval()
    ids = torch.tensor([[1, 5, 9]])
    trainer.model.eval()
    torch.testing.assert_close(loaded(ids).logits, trainer.model(ids).logits)


def test_logits_of_all_tokens_are_never_made(tmp_path, tokenizer):
    """The model is never asked for the logits of more than one position."""
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                sizes.append(tuple(out.shape))
            return out

    trainer = trainer_of(tmp_path, tokenizer, **UNISD, per_device_train_batch_size=8)
    plan = trainer.planner.plan(trainer.train_dataset, 0)
    with Watch():
        trainer.learner.learn(trainer.model, plan)
    shortest = min(len(s) for s in plan.sequences)
    assert not [s for s in sizes if len(s) == 3 and s[-1] == tiny.VOCABULARY and s[-2] >= shortest]


def test_no_number_is_read_back_from_the_device_while_scoring_and_learning(tmp_path, tokenizer):
    """On an accelerator each such read would wait for all work that is under way."""

    class Reads(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += function is torch.ops.aten._local_scalar_dense.default
            return function(*args, **(kwargs or {}))

    trainer = trainer_of(tmp_path, tokenizer, **UNISD)
    plan = trainer.planner.plan(trainer.train_dataset, 0)
    views = [ReadRequest(sequence, 0.7) for sequence in plan.sequences] + [
        ReadRequest(sequence) for sequence in plan.sequences
    ]
    with Reads() as reads:
        score(trainer.model, views, 64)
        trainer.learner.learn(trainer.model, plan)
    assert reads.count == 0
    with Reads() as reads:
        float(torch.ones(()))
    assert reads.count == 1
