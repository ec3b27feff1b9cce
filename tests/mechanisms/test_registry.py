import json
import re
import sys
import types
from pathlib import Path

import pytest
import yaml

import tiny
from mechanisms.steps import acting, apart, step_of, trainer_of
from unisd.cli.main import main
from unisd.errors import UniSDError, UsageError
from unisd.mechanisms import Mechanism, known, register, registry

PAGE = Path(__file__).parents[2] / "docs/add_a_mechanism.md"


@pytest.fixture
def example(monkeypatch):
    """The page's complete example, as its reader copies it into a file of a package."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert len(code.splitlines()) <= 60
    module = types.ModuleType("confidence_of_the_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, str(PAGE), "exec"), vars(module))
    return module.Confidence


@pytest.fixture
def registered(example):
    register(example)
    yield example
    registry._REGISTERED.pop(example.name)


class Point:
    group = registry.ENTRY_POINTS
    name = value = "confidence"

    def __init__(self, load):
        self.load = load


@pytest.fixture
def installed(monkeypatch):
    """Packages whose entry points are the given ones."""

    def install(*points):
        monkeypatch.setattr(registry, "entry_points", lambda group: list(points))
        registry._installed.cache_clear()

    yield install
    monkeypatch.undo()
    registry._installed.cache_clear()


def test_every_file_of_the_package_is_known_and_each_says_what_it_does():
    files = {file.stem for file in Path(registry.__file__).parent.glob("*.py")}
    assert set(known()) == files - {"__init__", "active", "base", "registry"}
    for name, mechanism in known().items():
        assert mechanism.name == name
        assert mechanism.summary
        assert mechanism.Settings.__doc__
        assert not mechanism.Settings().on, f"{name} must be off by default"


def test_the_pages_example_acts_and_says_where_it_does_not(registered, tmp_path, tokenizer):
    off = step_of(trainer_of(tmp_path / "a", tokenizer))[1]
    on = trainer_of(tmp_path / "b", tokenizer, confidence={"limit": 0.2})
    assert apart(off, step_of(on)[1]) > 0.001
    assert acting(on)["confidence gate"].acts
    never = trainer_of(tmp_path / "c", tokenizer, confidence={"limit": 0.9999999})
    assert not acting(never)["confidence gate"].acts


def test_an_installed_mechanism_trains_from_the_command_line(example, installed, tmp_path, capsys):
    installed(Point(lambda: example))
    tiny.model().save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    options = {
        "confidence.limit": 0.2,
        "task.limit": 4,
        "training.max_steps": 1,
        "training.per_device_train_batch_size": 2,
        "training.use_cpu": "true",
        "rollout.max_completion_length": 8,
        "lora.r": 2,
    }
    arguments = ["train", "--quiet", "--recipe", "core", "--task", "cos_e", "--source", "sample"]
    arguments += ["--model", str(tmp_path / "model"), "--output", str(tmp_path / "run")]
    for name, value in options.items():
        arguments += ["--set", f"{name}={value}"]
    assert main(arguments) == 0
    line = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    assert 0 < line["confidence/kept"] < 1
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["confidence"] == {"limit": 0.2}
    assert "confidence gate" in (tmp_path / "run/adapter/README.md").read_text()
    capsys.readouterr()
    assert main(["list", "mechanisms"]) == 0
    assert "confidence" in capsys.readouterr().out
    assert main([*arguments[:-2], "--set", "confidence.limt=0.5", "--output", str(tmp_path / "other")]) == 2
    assert "did you mean 'limit'?" in capsys.readouterr().err


def test_a_broken_package_is_named(installed):
    def load():
        raise ImportError("no module named 'elsewhere'")

    installed(Point(load))
    with pytest.raises(UniSDError, match=r"mechanism 'confidence' .* cannot be loaded: no module named 'elsewhere'"):
        known()
    installed(Point(lambda: int))
    with pytest.raises(UniSDError, match="is no mechanism"):
        known()


def test_refusals(example):
    with pytest.raises(UsageError, match="is no mechanism"):
        register(int)
    with pytest.raises(UsageError, match="declares no Settings"):
        register(type("Nameless", (Mechanism,), {"name": "nameless"}))
    with pytest.raises(UsageError, match="have no 'on'"):
        register(type("Always", (Mechanism,), {"name": "always", "Settings": int}))
    with pytest.raises(UsageError, match="there is a mechanism 'contrast' already"):
        register(type("Contrast", (example,), {"name": "contrast"}))


def test_no_package_changes_what_a_recipe_means(example, installed):
    installed(Point(lambda: type("Contrast", (example,), {"name": "contrast"})))
    assert known()["contrast"].__module__ == "unisd.mechanisms.contrast"
