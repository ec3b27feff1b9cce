"""A checkpoint of another run is refused, and the first difference is named."""

import copy
import sys
from pathlib import Path

import pytest
import torch

import tiny
from unisd.errors import UsageError
from unisd.training.checkpoints import read_mark
from unisd.training.identity import _sums, check_same
from unisd.training.trainer import UniSDTrainer

HERE = Path("run/checkpoints/checkpoint-2")


def trainer_of(folder, model=None, rows=None, tokenizer=None, peft=True, adapter=None, **changes):
    values = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 2}
    config = tiny.lora_config()
    for name, value in (adapter or {}).items():
        setattr(config, name, value)
    return UniSDTrainer(
        tiny.model() if model is None else model,
        tiny.arguments(folder, **(values | changes)),
        train_dataset=tiny.rows(4) if rows is None else rows,
        processing_class=tokenizer or tiny.tokenizer(),
        peft_config=config if peft else None,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that has checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    trainer_of(folder).train()
    return folder


def changed_rows(slot, value):
    rows = tiny.rows(4)
    rows[2] |= {slot: value}
    return rows


def with_a_word():
    made = tiny.tokenizer()
    made.add_tokens(["<new>"])
    return made


def other_bits():
    made = tiny.model()
    with torch.no_grad():
        made.model.layers[1].mlp.down_proj.weight[3, 4] += 1e-6
    return made


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 7}, "training.seed: 7 here, 42 there"),
        ({"learning_rate": 0.5}, "training.learning_rate: 0.5 here, 0.01 there"),
        ({"optim": "sgd"}, "training.optim: 'sgd' here, "),
        ({"divergence": {"kind": "reverse_kl"}}, "divergence.kind: 'reverse_kl' here, 'forward_kl' there"),
        ({"teacher": {"kind": "ema", "decay": 0.5}}, "teacher."),
        ({"rollout": {"max_completion_length": 9}}, "rollout.max_completion_length: 9 here, 8 there"),
        ({"adapter": {"lora_alpha": 64}}, "the adapter's lora_alpha: '64' here, '8' there"),
        ({"adapter": {"r": 2}}, "the adapter's r: '2' here, '4' there"),
        ({"peft": False}, "the adapter's method: 'none' here, 'PeftType.LORA' there"),
        ({"rows": changed_rows("prompt", "What else?")}, "the training rows' prompts"),
        ({"rows": changed_rows("privileged_context", "Another one.")}, "the training rows' gold contexts"),
        ({"rows": changed_rows("id", "other")}, "the training rows' names"),
        ({"rows": tiny.rows(6)}, "the training rows' number: 6 here, 4 there"),
        ({"tokenizer": "word"}, "the tokenizer's words"),
        ({"model": "bits"}, "the weights of the model that training starts from"),
        ({"model": "qwen2"}, "the configuration of the model that training starts from"),
        ({"per_device_train_batch_size": 1}, "a step had 2 rows and has 1 here (batch × accumulation × processes)"),
        ({"max_steps": 1}, "training.max_steps is 1, and"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_run_is_refused(run, tmp_path, changes, named):
    changes = dict(changes)
    makers = {"bits": other_bits, "qwen2": lambda: tiny.model("qwen2"), "word": with_a_word}
    changes |= {name: makers[changes[name]]() for name in ("model", "tokenizer") if name in changes}
    trainer = trainer_of(tmp_path, **changes)
    with pytest.raises(UsageError) as refused:
        trainer.train(resume_from_checkpoint=str(run))
    assert named in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert str(refused.value).endswith(("start anew in another folder", "raise it", "so that it has as many"))
    assert not list(tmp_path.iterdir())


def test_what_changes_no_step_may_change_and_a_longer_run_is_said(run, tmp_path, capsys):
    free = {"tokens_per_row": 64, "logging_steps": 2, "save_strategy": "no", "per_device_train_batch_size": 1}
    trainer = trainer_of(tmp_path, gradient_accumulation_steps=2, max_steps=3, **free)
    trainer.train(resume_from_checkpoint=str(run))
    assert trainer.state.global_step == 3
    assert "training.max_steps is 3 and was 2 when checkpoint-2 was written" in capsys.readouterr().err


@pytest.fixture
def known(run):
    """What two equal runs are."""
    kept = read_mark(run / "checkpoints/checkpoint-2")["identity"]
    return kept, copy.deepcopy(kept)


def test_processes_of_another_number(known, capsys):
    kept, own = known
    own["step"]["processes"] = 2
    check_same(kept, own, HERE)
    for one, other in (known, reversed(known)):
        one["step"]["parts"] = "dropout draws from a stream of each process"
        with pytest.raises(
            UsageError, match=r"processes and \d resume, which is not exact: dropout draws.*; resume with"
        ):
            check_same(kept, own, HERE)
        one["step"]["parts"] = other["step"]["parts"] = ""
    assert capsys.readouterr().err == ""


def test_dropout_and_a_last_step_that_is_filled_up_need_the_same_processes(tmp_path):
    said = [
        trainer_of(tmp_path, adapter={"lora_dropout": 0.1})._note_identity()["step"]["parts"],
        trainer_of(tmp_path, rows=tiny.rows(5))._note_identity()["step"]["parts"],
    ]
    assert said[0] == "dropout draws from a stream of each process"
    assert said[1].startswith("5 rows are no multiple of the 2 of a step")


def test_other_code_is_a_warning_and_what_one_of_them_does_not_know_is_not_compared(known, capsys):
    kept, own = known
    own["versions"]["torch"] = "9.9"
    own["settings"]["training.brand_new"] = 1
    check_same(kept, own, HERE)
    said = capsys.readouterr().err
    assert "checkpoint-2 was written with torch " in said
    assert "(now 9.9): the run goes on, and its bits may differ" in said


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.uint8])
def test_sums_see_every_bit_and_every_place(dtype, monkeypatch):
    monkeypatch.setattr("unisd.training.identity._CHUNK", 7)
    value = torch.arange(85).to(dtype).reshape(5, 17)
    raw = value.flatten().view(torch.uint8).tolist()
    raw += [0] * (-len(raw) % 8)
    exact = [int.from_bytes(bytes(raw[i : i + 8]), sys.byteorder, signed=True) for i in range(0, len(raw), 8)]
    wrapped = [(total + 2**63) % 2**64 - 2**63 for total in (sum(exact), sum(b * (i + 1) for i, b in enumerate(exact)))]
    assert _sums(value) == wrapped
    words = value.flatten().view(torch.uint8)[: len(exact) // 2 * 8].view(torch.int64)
    words[0], words[-1] = int(words[-1]), int(words[0])  # swapped: the sum by place alone sees it
    assert _sums(value)[0] == wrapped[0]
    assert _sums(value)[1] != wrapped[1]


def test_random_factors_behind_a_zero_are_none_of_the_start(run):
    def weights(std):
        torch.manual_seed(int(std * 10) + 3)
        model = tiny.lora(tiny.model())
        torch.nn.init.normal_(next(p for n, p in model.named_parameters() if "lora_A" in n))
        if std:
            tiny.move(model, std)
        return trainer_of(run, model=model, peft=False)._note_identity()["model"]["weights"]

    assert weights(0.0) == read_mark(run / "checkpoints/checkpoint-2")["identity"]["model"]["weights"]
    assert weights(0.2) != weights(0.3)
