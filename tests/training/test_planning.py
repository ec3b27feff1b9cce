"""A plan from a configuration alone, and the rows that a run gets by it."""

import json
from types import SimpleNamespace

import pytest
import torch
from peft import IA3Config, get_peft_model

import tiny
from unisd.contexts import PreparedRow
from unisd.errors import UniSDError, UsageError
from unisd.models import LoraSettings, ModelSettings, reading
from unisd.models.shapes import shape_of
from unisd.training import planning
from unisd.training.dry import dry, dry_copy
from unisd.training.forecast import Lengths
from unisd.training.planning import GIB, Planned, fit_rows, kept_a_token, lines, made_of, model_config, planned
from unisd.training.runfile import assemble

SMALL = [
    "training.per_device_train_batch_size=4", "rollout.max_completion_length=32", "lora.r=4", "contexts.count=2",
    "model.dtype=bfloat16",
]  # fmt: skip


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    """The configuration of a tiny model, and nothing else."""
    folder = tmp_path_factory.mktemp("config")
    tiny.model().config.save_pretrained(folder)
    return folder / "config.json"


def settings_of(config_file, *more, recipe="core"):
    return assemble(recipe, None, [*SMALL, *more], {"model": {"name": str(config_file)}})


def test_a_configuration_is_enough(config_file):
    of_file, of_folder = (model_config(ModelSettings(name=str(p))) for p in (config_file, config_file.parent))
    assert of_file.hidden_size == of_folder.hidden_size == 32
    assert model_config(ModelSettings(name="qwen2.5-7b")).hidden_size == 3584
    with pytest.raises(UniSDError, match=r"--model .*empty: no configuration can be read .*; give a folder"):
        model_config(ModelSettings(name=str(config_file.parent / "empty")))


def test_a_plan_says_what_a_step_takes(config_file):
    found = planned(settings_of(config_file), memory=GIB, ranks=4, lengths=Lengths(50, 30))
    assert found.fits
    assert (found.tokens_per_row, found.checkpointing) == (8192, False)
    assert set(found.forecast.phases) == {"sample", "score", "learn", "update"}
    assert found.forecast.peak == max(found.forecast.phases.values())
    assert found.forecast.tokens["completions"] == 4 * 32
    assert found.forecast.exchanged == int(1.5 * found.forecast.parts["gradients"])
    plain = json.loads(json.dumps(found.plain()))
    assert plain["peak"] == found.forecast.peak
    text = "\n".join(lines(found, "tiny"))
    assert "4 ranks" in text
    assert "fits into 1.0 GiB" in text


def test_less_memory_means_shorter_rows(config_file, monkeypatch):
    monkeypatch.setattr(reading, "segments_suit", lambda decoder: True)  # a row without a mask: what it keeps is linear
    settings, lengths = settings_of(config_file, recipe="sft"), Lengths(400, 30)
    ample = planned(settings, lengths=lengths)
    small = ample.forecast.phases["learn"] - int(ample.kept["plain"] * 824)  # 1,724 tokens a row become 900
    less = planned(settings, memory=int(small / (1 - planning.BESIDE)), lengths=lengths)
    assert 512 <= less.tokens_per_row <= 1024
    assert less.forecast.phases["learn"] < ample.forecast.phases["learn"]
    assert less.fits
    assert not less.checkpointing


def test_hardly_any_memory_means_checkpointing_and_the_shortest_rows(config_file):
    none = planned(settings_of(config_file, recipe="sft"), memory=1, lengths=Lengths(400, 30))
    assert (none.tokens_per_row, none.checkpointing, none.fits) == (256, True, False)
    assert none.kept["checkpointed"] < 0.4 * none.kept["plain"]


def test_what_cannot_be_planned_is_said(config_file):
    with pytest.raises(UsageError, match=r"--ranks 0: use 1 or more"):
        planned(settings_of(config_file), ranks=0)
    with pytest.raises(UsageError, match=r"--plan: 8-bit weights cannot be counted"):
        planned(settings_of(config_file, "model.quantization=8bit"))


def test_kept_bytes_grow_with_the_row_alone():
    with dry("cpu"):
        model = dry_copy(tiny.model().config, torch.float32)
        assert kept_a_token(model, 200) == pytest.approx(kept_a_token(model, 400), rel=0.02)


# -- the rows of a run ------------------------------------------------------------------------------------------------


def trainer_of(folder, tokens=0):
    """What is asked of a trainer."""
    asked = []
    model = tiny.model()
    model.enable_input_require_grads = lambda: asked.append(True)
    args = SimpleNamespace(
        tokens_per_row=tokens,
        gradient_checkpointing=False,
        device=torch.device("cuda"),
        world_size=1,
        output_dir=str(folder),
    )
    rows = [PreparedRow("a", [0] * 10, {"gold": [[0] * 25]}, None), PreparedRow("b", [0] * 7, {}, None)]
    first = {"is_world_process_zero": lambda: True}
    return SimpleNamespace(args=args, model=model, train_dataset=rows, asked=asked, **first)


def plan_of(monkeypatch, tokens, checkpointing):
    """Let the plan be given, and keep what it was asked with."""
    asked = []

    def made(config, model, lora, of_model, device, memory, ranks, lengths):
        asked.append((memory, lengths))
        return Planned(SimpleNamespace(peak=1), tokens, checkpointing, {}, memory, lengths, ranks)

    monkeypatch.setattr(planning, "_planned", made)
    monkeypatch.setattr(planning, "free_bytes", lambda device: 7 * GIB)
    return asked


def test_a_run_gets_rows_by_its_memory_and_a_resumed_one_the_same(tmp_path, monkeypatch):
    asked, first = plan_of(monkeypatch, 2048, True), trainer_of(tmp_path)
    fit_rows(first, resume=False)
    assert asked == [(7 * GIB, Lengths(10, 15))]
    assert (first.args.tokens_per_row, first.args.gradient_checkpointing, first.asked) == (2048, True, [True])
    plan_of(monkeypatch, 512, False)
    again = trainer_of(tmp_path)
    fit_rows(again, resume=True)
    assert (again.args.tokens_per_row, again.args.gradient_checkpointing) == (2048, True)
    (tmp_path / planning.ROWS_FILE).write_text("{")
    with pytest.raises(UsageError, match=r"rows.json is damaged"):
        fit_rows(again, resume=True)


def test_rows_that_were_asked_for_stay_and_a_cpu_chooses_nothing(tmp_path, monkeypatch):
    asked = plan_of(monkeypatch, 2048, True)
    given = trainer_of(tmp_path, tokens=1000)
    fit_rows(given, resume=False)
    assert (given.args.tokens_per_row, given.args.gradient_checkpointing) == (1000, False)
    monkeypatch.undo()
    on_cpu = trainer_of(tmp_path)
    on_cpu.args.device = torch.device("cpu")
    fit_rows(on_cpu, resume=False)
    assert on_cpu.args.tokens_per_row == 0
    assert asked == []
    assert not list(tmp_path.iterdir())


def test_a_family_that_cannot_be_planned_trains_all_the_same(tmp_path, monkeypatch, capsys):
    plan_of(monkeypatch, 0, False)
    monkeypatch.setattr(planning, "_planned", lambda *args: 1 / 0)
    trainer = trainer_of(tmp_path)
    fit_rows(trainer, resume=False)
    assert trainer.args.tokens_per_row == 0
    assert "its memory cannot be planned (division by zero)" in capsys.readouterr().err


def test_what_a_model_is_made_of_is_read_from_it():
    settings, lora = made_of(tiny.lora(tiny.model().bfloat16(), dropout=0.1))
    assert (settings.dtype, settings.quantization, settings.attention) == ("bfloat16", "none", "sdpa")
    assert (lora.r, lora.alpha, lora.dropout) == (4, 8, 0.1)
    assert lora.target_modules == ["q_proj", "up_proj", "v_proj"]
    assert made_of(tiny.model())[1] is None
    other = get_peft_model(tiny.model(), IA3Config(task_type="CAUSAL_LM"))
    assert made_of(other)[1] == LoraSettings()


def test_shapes_are_planned_without_a_file():
    assert (
        model_config(ModelSettings(name="Qwen/Qwen2.5-1.5B-Instruct")).to_dict() == shape_of("qwen2.5-1.5b").to_dict()
    )
