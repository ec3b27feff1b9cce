"""On any device: placed once, nothing mixed, and the host does not wait. The accelerator is a stand-in (`standin`)."""

import contextlib
import json

import pytest
import torch

import standin
import tiny
from said import warned
from unisd.cli.main import main
from unisd.devices import chosen_device, wide
from unisd.errors import UsageError
from unisd.evaluation.models import find_model
from unisd.training.learn import Learner
from unisd.training.plan import Planner
from unisd.training.runfile import assemble, model_presets, recipe_names
from unisd.training.trainer import UniSDTrainer
from unisd.training.write import Writer


@pytest.fixture
def device():
    with standin.StandIn() as made:
        yield made


@pytest.fixture
def phases(device, monkeypatch):
    """What the host read from the device in sampling, scoring and learning."""
    counts = {"sample": 0, "score": 0, "learn": 0}

    def counted(cls, method, phase):
        plain = getattr(cls, method)

        def run(*args, **kwargs):
            before = device.reads.total()
            try:
                return plain(*args, **kwargs)
            finally:
                counts[phase] += device.reads.total() - before

        monkeypatch.setattr(cls, method, run)

    counted(Writer, "completions", "sample")
    counted(Planner, "_read", "score")
    counted(Learner, "learn", "learn")
    return counts


def trainer_of(recipe, folder, tokenizer, lora=True, dropout=0.05, **training):
    settings = assemble(recipe)
    settings.training |= {
        "max_steps": 1,
        "tokens_per_row": 512,  # else rows are planned, by memory that there is not
        "per_device_train_batch_size": 3,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "disable_tqdm": True,
        "save_strategy": "no",
        **training,
    }
    gold = settings.groups["rollout"]["source"] in ("gold", "mix")
    settings.groups["rollout"] |= {"max_completion_length": 40 if gold else 5}
    settings.groups["teacher"]["every"] = 1
    return UniSDTrainer(
        tiny.model(),
        settings.config(folder),
        train_dataset=tiny.rows(6, probes=3),
        processing_class=tokenizer,
        peft_config=tiny.lora_config(dropout) if lora else None,
        grader=lambda ids, texts: [float(number % 2) for number in range(len(ids))],
    )


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def held(trainer):
    """All tensors that a run holds: the model's, and those of its teachers."""
    teachers = [trainer.teacher, trainer.initial, *(vars(m).get("anchor") for m in trainer.mechanisms)]
    yield from trainer.model.parameters()
    for teacher in filter(None, teachers):
        for kept in (vars(teacher).get("_start"), vars(teacher).get("_shadow")):
            yield from (kept or {}).values()


def test_the_stand_in_forbids_and_counts_what_a_device_does(device):
    there, here = torch.ones(3, device="cuda"), torch.ones(3)
    assert (there * 2).device == torch.zeros_like(there).device == torch.device("cuda", 0)
    assert here.device == there.cpu().device == torch.device("cpu")
    for mixed in (lambda: there + here, lambda: torch.cat([there, here]), lambda: here[there.long()], there.numpy):
        with pytest.raises((RuntimeError, TypeError), match=r"device|cpu"):
            mixed()
    assert (there + torch.tensor(1.0)).device.type == "cuda"  # a number of the CPU may join
    device.reads.clear()
    assert there.tolist() == [1.0] * 3
    assert there[there > 0].sum().item() == 3.0
    assert bool(there.any())
    assert sorted(device.reads.values()) == [1, 1, 2]


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_takes_steps_on_a_device(recipe, device, phases, tmp_path, tokenizer):
    trainer = trainer_of(recipe, tmp_path, tokenizer)
    trainer.train()
    assert all(row["loss"] > 0 for row in metrics(tmp_path))
    assert {tensor.device for tensor in held(trainer)} == {torch.device("cuda", 0)}
    assert phases["score"] == phases["learn"] == 0, device.reads
    tokens = 0 if trainer.args.rollout.source == "gold" else trainer.args.rollout.max_completion_length
    assert phases["sample"] <= tokens, device.reads


@pytest.mark.parametrize("recipe", ["ema", "unisd", "gkd"])
def test_full_fine_tuning(recipe, device, phases, tmp_path, tokenizer):
    trainer = trainer_of(recipe, tmp_path, tokenizer, lora=False)
    trainer.train()
    assert {tensor.device for tensor in held(trainer)} == {torch.device("cuda", 0)}
    assert phases["score"] == phases["learn"] == 0, device.reads


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_result_is_that_of_a_cpu(checkpointing, tmp_path, tokenizer):
    """Without dropout, which draws other masks there."""
    found = []
    for name in ("cpu", "cuda"):
        with standin.StandIn() if name == "cuda" else contextlib.nullcontext():
            settings = {"use_cpu": name == "cpu", "max_steps": 2}
            settings |= {"gradient_checkpointing": checkpointing}
            if checkpointing:  # what compares devices there looks from where the stand-in is not seen
                settings["gradient_checkpointing_kwargs"] = {"use_reentrant": False, "determinism_check": "none"}
            trainer = trainer_of("core", tmp_path / name, tokenizer, dropout=0.0, **settings)
            trainer.train()
        found.append([row["loss"] for row in metrics(tmp_path / name)])
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_a_stopped_run_goes_on_from_its_average(device, tmp_path, tokenizer):
    ways = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3}
    whole = trainer_of("ema", tmp_path, tokenizer, **ways)
    whole.train()
    again = trainer_of("ema", tmp_path, tokenizer, **ways)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoints" / "checkpoint-1"))
    assert again.teacher.updates == 3
    for one, other in zip(held(whole), held(again), strict=True):
        assert torch.equal(one, other)
        assert other.device.type == "cuda"


def test_every_command_runs_there(device, tmp_path, tokenizer, monkeypatch, capsys):
    """Contexts and negatives that the model writes, training, evaluation with all measures, and the audit."""
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    tiny.model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    task = ["--task", "cos_e", "--source", "sample"]
    tuned = ["training.max_steps=1", "training.per_device_train_batch_size=2", "rollout.max_completion_length=2"]
    tuned += [
        "training.tokens_per_row=512",
        "task.limit=4",
        "contexts.kind=random",
        "contexts.count=2",
        "contexts.layout=turn",
    ]
    words = [word for setting in tuned for word in ("--set", setting)]
    train = ["train", "--recipe", "agreement_token", *task, "--model", str(folder), *words, "--quiet"]
    assert main([*train, "--output", str(tmp_path / "run")]) == 0
    asked = ["--limit", "1", "--max-new-tokens", "2", "--base", "--likelihood", "--retention"]
    asked += ["--instructions", "1", "--json"]
    assert main(["evaluate", str(tmp_path / "run"), *task, *asked]) == 0
    few = ["--items", "2", "--layout", "turn", "--context", "induction", "--max-new-tokens", "2", "--json"]
    assert main(["audit", *task, "--model", str(tmp_path / "run"), *few]) == 0
    assert any("rollout/torch_sampler.py" in where for where in device.reads)


def test_devices_by_name(monkeypatch):
    assert chosen_device("cpu") == torch.device("cpu")
    if not torch.accelerator.is_available():
        assert chosen_device() == torch.device("cpu")
        with pytest.raises(UsageError, match=r"model.device: there is no cuda here \(no accelerator is seen\)"):
            chosen_device("cuda")
    with pytest.raises(UsageError, match="--device: 'gpu' is no device"):
        chosen_device("gpu", "--device")
    with standin.StandIn():
        assert chosen_device() == chosen_device("cuda") == torch.device("cuda", 0)
        with pytest.raises(UsageError, match=r"there is no cuda:1 here \(cuda has 1 device"):
            chosen_device("cuda:1")
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
        monkeypatch.setenv("LOCAL_RANK", "2")
        assert chosen_device() == torch.device("cuda", 2)


def test_of_several_devices_one_is_used_and_it_is_said(tmp_path, monkeypatch):
    with standin.StandIn():
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        with warned("4 devices are seen and one is used; to use all, start with torchrun --nproc_per_node=4"):
            arguments = assemble("core").config(tmp_path)
        assert arguments.n_gpu == 1


def test_model_device_says_where_training_runs(tmp_path):
    with standin.StandIn():
        assert assemble("core", overrides=["model.device=cpu"]).config(tmp_path).device == torch.device("cpu")
        assert assemble("core", overrides=["model.device=cuda"]).config(tmp_path).device == torch.device("cuda", 0)


def test_sums_are_wide():
    assert wide(torch.ones(1, dtype=torch.float16)).dtype == torch.float64


def test_a_model_has_one_dtype_in_training_and_evaluation():
    for short, preset in model_presets().items():
        for name in (short, preset["name"]):
            trained = assemble("core", given={"model": {"name": name}}).model
            assert trained.dtype == find_model(name).dtype == preset["dtype"]


def test_full_fine_tuning_keeps_single_precision(tmp_path, tokenizer):
    whole = assemble("core", overrides=["lora.enabled=false", "model.name=qwen2.5-1.5b"])
    assert whole.model.dtype == "float32"
    with warned("what is trained is kept in bfloat16, in which small steps are rounded away; set model.dtype=float32"):
        UniSDTrainer(
            tiny.model().bfloat16(),
            tiny.arguments(tmp_path),
            train_dataset=tiny.rows(),
            processing_class=tokenizer,
        )
