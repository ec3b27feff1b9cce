"""Contexts that are made for the rows that are drawn: which these are, and that nothing else changes."""

import json
from itertools import chain

import pytest
import torch
from safetensors.torch import load_file

import tiny
from contexts.items import choice
from unisd.contexts import Later, Making, Need, make_contexts
from unisd.errors import UsageError
from unisd.rollout import CompletionStore, make_sampler
from unisd.tasks.base import NegativeRequest, Task
from unisd.training.checkpoints import read_mark
from unisd.training.trainer import UniSDTrainer

NEEDS = [Need("gold", "gold"), Need("auxiliary", "random", 2), Need("negative", "negative", required=False, per_item=2)]
MECHANISMS = {"agreement": {"granularity": "token"}, "contrast": {"weight": 0.1, "per_item": 2}}


class Letters(Task):
    """Any text is wrong, for every second item."""

    name, splits = "letters", ("train",)

    def load(self, split, source=None):
        raise AssertionError

    def grade(self, example, text):
        raise AssertionError

    def negative_requests(self, example):
        return [NegativeRequest(f"Be wrong. {example.question}", "B")]

    def negative(self, example, request, text):
        return f"Reasoning: no.\nAnswer: {len(text)}" if int(example.id[5:]) % 2 else None


def examples(count, long=()):
    return [
        choice(f"item-{i}", f"What holds {i}?" * (40 if i in long else 1), f"thing {i} is so.", "A")
        for i in range(count)
    ]


def trainer_of(folder, waits=True, count=12, adapter=True, long=(), **changes):
    """A trainer whose contexts wait, or are there for all items from the beginning."""
    model, tokenizer, items = tiny.model(), tiny.tokenizer(), examples(count, long)
    values = {"max_steps": 3, "per_device_train_batch_size": 2, **MECHANISMS, "rollout": {"max_completion_length": 4}}
    args = tiny.arguments(folder, **(values | changes))
    needs = NEEDS if "agreement" in (values | changes) else NEEDS[:1]
    store = CompletionStore(folder / "texts.jsonl", "m")
    making = Making(Letters(), items, None, make_sampler(model, tokenizer), args.contexts.builder(tokenizer), store)
    making.room = 4
    rows, _, _ = make_contexts(needs[:1] if waits else needs, making)
    return UniSDTrainer(
        model,
        args,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=tiny.lora_config() if adapter else None,
        later=Later(needs[1:], making, rows) if waits and needs[1:] else None,
    )


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(("time/", "memory/", "speed/"))} for line in lines]


def texts(folder):
    return len((folder / "texts.jsonl").read_text().splitlines())


def drawn(trainer):
    """The rows of each step as they are planned while the trainer trains."""
    seen, plan = [], trainer.planner.plan

    def watched(rows, step):
        seen.append([row.id for row in rows])
        return plan(rows, step)

    trainer.planner.plan = watched
    trainer.train()
    return seen


ORDERS = {
    "one epoch": {"max_steps": -1, "num_train_epochs": 1.0},
    "a part of one": {"max_steps": -1, "num_train_epochs": 0.5},
    "into a third": {"max_steps": 8},
    "accumulation, with a rest": {"max_steps": 5, "gradient_accumulation_steps": 2},
    "without the rest": {"max_steps": 6, "dataloader_drop_last": True, "gradient_accumulation_steps": 2},
    "another seed": {"data_seed": 7},
    "in order": {"train_sampling_strategy": "sequential"},
    "repeated": {"reuse": {"steps": 2}, "max_steps": 7},
}


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_is_known_beforehand(tmp_path, name):
    changes = {"agreement": {}, "contrast": {}} | ORDERS[name]
    trainer = trainer_of(tmp_path, waits=False, count=7, **changes)
    state = torch.get_rng_state()
    planned = trainer.planned()
    assert torch.equal(torch.get_rng_state(), state)
    rows = [[trainer.train_dataset[i].id for i in step] for step in planned]
    seen = drawn(trainer)
    assert rows == seen[: len(rows)]
    assert set(chain(*seen)) == set(chain(*rows))
    assert len(rows) == len(seen) or len(set(chain(*rows))) == 7


@pytest.mark.parametrize("adapter", [True, False])
def test_a_part_trains_as_the_whole_does(tmp_path, adapter):
    whole, part = (trainer_of(tmp_path / n, waits, adapter=adapter) for n, waits in (("whole", False), ("part", True)))
    for trainer in (whole, part):
        trainer.train()
        trainer.save_weights(tmp_path / "w" / trainer.args.output_dir.rpartition("/")[2])
    assert metrics(tmp_path / "part") == metrics(tmp_path / "whole")
    a, b = (load_file(next((tmp_path / "w" / n).glob("*.safetensors"))) for n in ("whole", "part"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert (texts(tmp_path / "whole"), texts(tmp_path / "part")) == (24, 12)
    assert sum("negative" in row.contexts for row in part.train_dataset) == 6


def test_a_longer_run_makes_what_is_new_and_its_checkpoint_knows_what_was_drawn(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 1}
    straight = trainer_of(tmp_path / "straight", max_steps=5, **saving)
    straight.train()
    trainer_of(tmp_path / "parts", max_steps=2, **saving).train()
    assert texts(tmp_path / "parts") == 8
    trainer_of(tmp_path / "parts", max_steps=5, **saving).train(resume_from_checkpoint=True)
    assert texts(tmp_path / "parts") == 20
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "straight")
    mark = read_mark(tmp_path / "parts/checkpoints/checkpoint-5")["identity"]
    assert mark["drawn"].keys() == {"auxiliary contexts", "negative contexts"}
    assert not mark["rows"].keys() & mark["drawn"].keys()
    # What other contexts were drawn is another run.
    (tmp_path / "parts/texts.jsonl").unlink()
    other = trainer_of(tmp_path / "parts", max_steps=7, **saving)
    other._later.making.room = 2
    with pytest.raises(UsageError, match="another run: the negative contexts of the rows that were drawn"):
        other.train(resume_from_checkpoint=True)


def test_contexts_that_may_not_fit_are_made_for_all(tmp_path):
    """Whether a row stays decides the order: where that may be, nothing required waits."""
    limits = {"contexts": {"layout": "turn", "count": 2, "max_prompt_length": 1000}}
    whole, part = (
        trainer_of(tmp_path / n, waits, long=(2,), **limits) for n, waits in (("whole", False), ("part", True))
    )
    assert [row.id for row in part.train_dataset] == [row.id for row in whole.train_dataset]
    assert len(part.train_dataset) < 12
    assert part._later.slots == ["negative"]
    for trainer in (whole, part):
        trainer.train()
    assert metrics(tmp_path / "part") == metrics(tmp_path / "whole")


def test_a_row_that_proves_unfit_changes_the_order_as_it_would_have(tmp_path, monkeypatch):
    limits = {"contexts": {"layout": "turn", "count": 2, "max_prompt_length": 1000}}
    monkeypatch.setattr(UniSDTrainer, "_surely_fit", lambda *_: True)
    part, whole = (trainer_of(tmp_path / n, n == "part", long=(2,), **limits) for n in ("part", "whole"))
    part.make_ahead()
    assert [row.id for row in part.train_dataset] == [row.id for row in whole.train_dataset]
    part.train(), whole.train()
    assert metrics(tmp_path / "part") == metrics(tmp_path / "whole")


def test_so_many_steps_or_rows_and_what_is_said(tmp_path):
    trainer, said = trainer_of(tmp_path), []
    assert len(trainer.make_ahead(limit=1, say=said.append)) == 1
    assert len(trainer.make_ahead(steps=1, say=said.append)) == 1
    assert len(trainer.make_ahead(steps=2, say=said.append)) == 2
    assert trainer.make_ahead(steps=2, say=said.append) == []
    assert [line.partition(" of 12 items that are drawn (negative: ")[::2] for line in said] == [
        (f"writing contexts for the {n}", f"{2 * n} texts at most; what is kept already is not written again); Ctrl-C "
         "stops, and keeps what was written")
        for n in (1, 1, 2)
    ]  # fmt: skip


def test_nothing_to_read_is_said_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Letters, "negative", lambda *_: None)
    trainer_of(tmp_path / "part").train()
    said = capsys.readouterr().err
    assert "6 of 6 items have no verified negative; they train without one" in said
    assert "contrast did nothing in this run" in said
    with pytest.raises(UsageError, match="contrast: no row has a negative_context; add the column or switch"):
        trainer_of(tmp_path, max_steps=6).train()
    assert not (tmp_path / "metrics.jsonl").exists()


def test_rows_that_come_later_bring_their_contexts(tmp_path):
    trainer = trainer_of(tmp_path)
    trainer.train_dataset = tiny.rows(4)
    trainer.train()
    assert trainer.state.global_step == 3
    assert not (tmp_path / "texts.jsonl").exists()


@pytest.mark.parametrize("source", ["own", "teacher"])
def test_what_is_drawn_once_is_drawn_for_the_rows_of_the_steps(tmp_path, source):
    changes = {"agreement": {}, "contrast": {}, "rollout": {"source": source, "max_completion_length": 4}}
    saving = {"save_strategy": "steps", "save_steps": 1}
    trainer = trainer_of(tmp_path / "a", waits=False, max_steps=2, **saving, **changes)
    trainer.train()
    kept = tmp_path / f"a/{source}_samples.jsonl"
    assert len(kept.read_text().splitlines()) == 4
    trainer_of(tmp_path / "a", waits=False, max_steps=4, **saving, **changes).train(resume_from_checkpoint=True)
    assert len(kept.read_text().splitlines()) == 8
    trainer_of(tmp_path / "b", waits=False, max_steps=4, **changes).train()
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
