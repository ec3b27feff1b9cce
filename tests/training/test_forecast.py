"""A forecast against the bytes of a real step, and the choice of rows."""

import pytest
import torch

import tiny
from unisd.models import LoraSettings
from unisd.training.dry import Tally, dry_copy
from unisd.training.forecast import Lengths, assumed_rows, choose_row, fewest_rows, forecast
from unisd.training.trainer import UniSDTrainer

GIB = 2**30
LORA = LoraSettings(r=4, alpha=8, dropout=0.0, target_modules=["q_proj", "v_proj", "up_proj"])
CHANGES = {
    "teacher": {"kind": "ema", "decay": 0.5, "every": 1},
    "agreement": {"granularity": "token", "gamma": 2.0},
    "contrast": {"weight": 0.5},
    "features": {"weight": 0.5},
    "rollout": {"max_completion_length": 24},
    "tokens_per_row": 256,
}


def test_a_forecast_is_what_a_real_step_takes(tmp_path, tokenizer):
    """The real trainer's plan and learning under a tally, against the same rows dry."""
    trainer = UniSDTrainer(
        tiny.model(),
        tiny.arguments(tmp_path, **CHANGES),
        train_dataset=tiny.rows(),
        processing_class=tokenizer,
        peft_config=tiny.lora_config(),
    )
    rows, config = trainer.train_dataset[:4], trainer.model.config
    written = trainer.planner.writer.completions(rows, 0)
    trainer.planner.writer.completions = lambda rows, step: written
    held = sum(each.nbytes for each in [*trainer.model.parameters(), *trainer.model.buffers()])
    shadow = sum(each.nbytes for each in trainer.teacher._shadow.values()) * 2
    for parameter in trainer.model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    gradients = sum(parameter.grad.nbytes for parameter in trainer.model.parameters() if parameter.grad is not None)
    with Tally() as tally:
        plan = trainer.planner.plan(rows, 0)
        real = {"score": tally.peak}
        tally.restart()
        trainer.model.train()
        trainer.learner.learn(trainer.model, plan)
        real["learn"] = tally.peak
    lengths = [len(done.ids) for done in written]
    made = forecast(
        tiny.arguments(tmp_path, **CHANGES), lambda: dry_copy(config, torch.float32, LORA), rows, "cpu", 1, lengths
    )
    assert made.parts == {"weights": held, "teacher": shadow, "gradients": gradients, "optimizer": 2 * gradients}
    always = held + shadow + 2 * gradients
    assert made.phases["score"] - always == pytest.approx(real["score"], rel=0.15)
    assert made.phases["learn"] - always - gradients == pytest.approx(real["learn"], rel=0.15)
    assert made.tokens["learned"] == plan.work["learned"]
    assert made.tokens["completions"] == sum(lengths)
    assert made.exchanged == 0


def test_rows_that_are_alike_are_counted_instead_of_run(tmp_path):
    config = tiny.arguments(tmp_path, **CHANGES)
    base = tiny.model().config

    def of(run, count, ranks=1):
        rows = assumed_rows(config, Lengths(200, 40), run)
        return forecast(config, lambda: dry_copy(base, torch.bfloat16, LORA), rows, "cuda", ranks, count=count)

    all_run, few = of(8, 8), of(fewest_rows(config, Lengths(200, 40), 8), 8, ranks=2)
    assert fewest_rows(config, Lengths(200, 40), 8) == 5
    assert few.tokens == all_run.tokens
    assert few.operations == pytest.approx(all_run.operations)
    for name, size in all_run.phases.items():
        assert few.phases[name] - few.parts["gradients"] == pytest.approx(size, rel=0.05), name
    assert few.exchanged == few.parts["gradients"], "a ring of two sends half of it twice"


def test_rows_are_chosen_by_what_is_free():
    mega = 1e6
    assert choose_row(80 * GIB, 20 * GIB, 5 * mega, mega) == (8192, False), "no more than is of use"
    assert choose_row(40 * GIB, 20 * GIB, 5 * mega, mega) == (4096 + 0, False)
    assert choose_row(24 * GIB, 20 * GIB, 5 * mega, mega, longest=2048) == (4096, True)
    assert choose_row(24 * GIB, 20 * GIB, 5 * mega, mega, longest=512) == (768, False)
    assert choose_row(10 * GIB, 20 * GIB, 5 * mega, mega) == (256, True), "nothing fits"


@pytest.mark.parametrize("free", [3, 9, 21, 33, 70])
def test_a_chosen_row_fits_and_the_next_one_would_not(free):
    tokens, checkpointing = choose_row(free * 1e9, 2e9, 5e6, 4e5)
    cost = 4e5 if checkpointing else 5e6
    assert tokens % 256 == 0
    assert 2e9 + tokens * cost <= free * 1e9
    assert tokens == 8192 or 2e9 + (tokens + 256) * cost > free * 1e9
