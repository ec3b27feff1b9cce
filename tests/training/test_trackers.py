"""Trackers from the command line on. Where a package is installed it is the real one, else a stand-in."""

import importlib.util
import json
import sys
import types

import pytest
from transformers.integrations import integration_utils

import tiny
from unisd.cli.main import main
from unisd.errors import UniSDError
from unisd.training.trainer import UniSDTrainer


class StandIn(types.ModuleType):
    """As much of wandb and trackio as transformers' callbacks ask for."""

    def __init__(self, name):
        super().__init__(name)
        self.started, self.settings, self.rows, self.run = [], {}, [], None
        self.config = Settings(self.settings)
        self.context_vars = types.SimpleNamespace(current_space_id=types.SimpleNamespace(get=lambda: None))
        self.__version__ = "1.0"

    def init(self, **values):
        self.started.append(values)
        self.run = types.SimpleNamespace(_label=lambda **_: None, id="1", name=values.get("name"), summary={})

    def log(self, row, step=None):
        self.rows.append(row)

    def finish(self):
        self.run = None


class Settings(dict):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def update(self, values, **_):
        self.seen.update(values)


@pytest.fixture
def stand_in(monkeypatch):
    def install(name):
        module = StandIn(name)
        if name == "wandb":
            errors = types.ModuleType("wandb.sdk.lib.config_util")
            errors.ConfigError = type("ConfigError", (Exception,), {})
            monkeypatch.setitem(sys.modules, "wandb.sdk.lib.config_util", errors)
            for parent in ("wandb.sdk", "wandb.sdk.lib"):
                monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(integration_utils, f"is_{name}_available", lambda: True)
        return module

    return install


def train(tmp_path, name, *more):
    base = tmp_path / "base"
    tiny.model().save_pretrained(base)
    tiny.tokenizer().save_pretrained(base)
    settings = [
        f"training.report_to={name}", "training.max_steps=2", "training.use_cpu=true", "task.limit=4",
        "training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=1",
        "rollout.max_completion_length=4", "lora.r=2", *more,
    ]  # fmt: skip
    sets = [part for setting in settings for part in ("--set", setting)]
    folder = tmp_path / "runs/first"
    code = main(["train", "--recipe", "core", "--task", "cos_e", "--source", "sample", "--model", str(base),
                 "--output", str(folder), "--quiet", *sets])  # fmt: skip
    return code, folder


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_metrics_settings_and_a_name_arrive(name, stand_in, tmp_path):
    module = stand_in(name)
    own = ("trackio_space_id=me/space", "project=mine", "trackio_bucket_id=me/bucket", "trackio_static_space_id=false")
    code, folder = train(tmp_path, name, *(f"training.{value}" for value in own if name == "trackio"))
    assert code == 0
    assert [start["name"] for start in module.started] == ["first"]
    if name == "trackio":
        start = module.started[0]
        assert (start["project"], start["space_id"], start["bucket_id"]) == ("mine", "me/space", "me/bucket")
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in module.rows if "train/loss" in row]
    assert len(rows) == len(log) == 2
    for row, line in zip(rows, log, strict=True):
        for metric in ("divergence/mean", "completions/tokens", "grad_norm", "learning_rate", "time/step"):
            assert row[f"train/{metric}"] == line[metric]
        assert set(line) - {"step"} <= {key.removeprefix("train/") for key in row}
    settings = module.settings
    assert (settings["task"]["name"], settings["recipe"], settings["lora"]["r"]) == ("cos_e", "core", 2)
    assert settings["rollout"]["max_completion_length"] == 4
    assert settings["divergence"]["kind"] == "forward_kl"
    kept = (folder / "config.yaml").read_text()
    assert "run_name: null" in kept


def test_a_name_that_is_given_is_kept(stand_in, tmp_path):
    module = stand_in("wandb")
    assert train(tmp_path, "wandb", "training.run_name=mine")[0] == 0
    assert [start["name"] for start in module.started] == ["mine"]


def test_tensorboard_has_the_metrics(monkeypatch, tmp_path):
    written = {}

    class SummaryWriter:
        def __init__(self, log_dir):
            self.log_dir = log_dir

        def add_scalar(self, name, value, step):
            written[name, step] = value

        def add_text(self, name, text, *_):
            written[name] = text

        def flush(self): ...

        def close(self): ...

    if importlib.util.find_spec("tensorboard"):
        pytest.importorskip("torch.utils.tensorboard")
        monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", SummaryWriter)
    else:
        module = types.ModuleType("tensorboardX")
        module.SummaryWriter = SummaryWriter
        monkeypatch.setitem(sys.modules, "tensorboardX", module)
        monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: True)
    code, folder = train(tmp_path, "tensorboard")
    assert code == 0
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in log:
        assert written["train/divergence/mean", line["step"]] == line["divergence/mean"]
    assert json.loads(written["args"])["task"]["name"] == "cos_e"


@pytest.mark.parametrize("name", ["wandb", "tensorboard", "trackio", "mlflow", "comet_ml", "azure_ml", "swanlab"])
def test_a_missing_package_is_one_line(name, monkeypatch, capsys, tmp_path):
    probe = {"azure_ml": "azureml", "comet_ml": "comet"}.get(name, name)
    monkeypatch.setattr(integration_utils, f"is_{probe}_available", lambda: False)
    code, folder = train(tmp_path, name)
    package = {"azure_ml": "azureml-sdk", "comet_ml": "comet-ml"}.get(name, name)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert error.startswith(f"unisd: training.report_to: {name} (pip install {package}, or leave it out): ")
    assert not folder.exists()


def test_a_tracker_that_does_not_start_is_one_line(stand_in, tmp_path):
    module = stand_in("wandb")

    def fails(**values):
        raise RuntimeError("No API key configured.\nUse `wandb login`")

    module.init = fails
    trainer = UniSDTrainer(
        tiny.model(),
        tiny.arguments(tmp_path, report_to="wandb"),
        train_dataset=tiny.rows(),
        processing_class=tiny.tokenizer(),
        peft_config=tiny.lora_config(),
    )
    with pytest.raises(UniSDError, match=r"report_to: wandb did not start: No API key configured\. Use .*offline") as r:
        trainer.train()
    assert "\n" not in str(r.value)


def test_evaluations_arrive_as_such(stand_in, tmp_path):
    module = stand_in("wandb")
    trainer = UniSDTrainer(
        tiny.model(),
        tiny.arguments(tmp_path, report_to="wandb", max_steps=1, eval_strategy="steps", eval_steps=1),
        train_dataset=tiny.rows(),
        eval_dataset=tiny.rows(2),
        processing_class=tiny.tokenizer(),
        peft_config=tiny.lora_config(),
    )
    trainer.train()
    [row] = [row for row in module.rows if "eval/loss" in row]
    assert row["eval/divergence/mean"] > 0
    assert module.started[0]["name"] == tmp_path.name
