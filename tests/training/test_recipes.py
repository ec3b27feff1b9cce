"""Every recipe takes three steps on a tiny random model, and its mechanism is seen to act."""

import json

import pytest
import torch

import tiny
from training.test_unread import check_unread_are_said, recorded
from unisd.training.runfile import assemble, recipe_names
from unisd.training.trainer import UniSDTrainer


@pytest.fixture(params=recipe_names())
def trained(request, tmp_path, tokenizer, monkeypatch):
    settings = assemble(request.param)
    settings.training |= {
        "max_steps": 3,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
    }
    settings.groups["rollout"] |= {
        "max_completion_length": 40 if request.param.endswith(("sft", "gkd", "quickstart")) else 8
    }
    settings.groups["rollout"]["mix_steps"] = min(settings.groups["rollout"]["mix_steps"], 1)
    settings.groups["teacher"]["every"] = 1
    if settings.groups["contrast"]["weight"]:
        # Few tokens of a random model lie between their two contexts: with 8 a completion there may be none.
        settings.groups["rollout"]["max_completion_length"] = 40
    model = tiny.model()
    if settings.groups["clipping"]["cap"]:
        with torch.no_grad():
            # Sharper distributions, so that divergences reach the paper's cap of 10 nats.
            model.lm_head.weight.mul_(2.5)
    config, read = settings.config(tmp_path), recorded(monkeypatch)
    trainer = UniSDTrainer(
        model,
        config,
        train_dataset=tiny.rows(8, probes=3),
        processing_class=tokenizer,
        peft_config=tiny.lora_config(settings.lora.dropout),
        grader=lambda ids, texts: [float(number % 2) for number in range(len(ids))],
    )
    trainer.train()
    monkeypatch.undo()
    if not request.param.startswith("paper"):  # which have the switches of the others
        check_unread_are_said(request.param, read, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    return trainer, rows


def test_three_steps(trained, request):
    trainer, rows = trained
    if "paper" not in request.node.callspec.params["trained"]:  # some of the paper's values are all but inert
        assert all(found.acts for found in trainer.acting()), trainer.acting()
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(row["loss"] > 0 and row["grad_norm"] > 0 for row in rows)
    config = trainer.args
    last = rows[-1]
    if config.agreement.on:
        assert last["agreement/weight_min"] < last["agreement/weight_max"]
    if config.teacher.kind == "ema":
        assert last["ema/ema_to_start"] > 0
    if config.contrast.on:
        assert sum(row["contrast/live"] for row in rows) > 0
    if config.features.on:
        assert last["features/distance"] > 0
    if config.clipping.on:
        assert sum(row["clip/rate"] for row in rows) > 0
    if config.features.mode != "only" and config.needs_teacher:
        assert last["divergence/mean"] > 0
