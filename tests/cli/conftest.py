"""Tiny models on disk, and what every refusal has in common."""

import json

import pytest

import tiny
from unisd.cli.main import main
from unisd.cli.tables import forget_meanings


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, tokenizer):
    """A tiny random model on disk; nobody writes into it."""
    folder = tmp_path_factory.mktemp("cli") / "model"
    tiny.model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def adapter_folder(tmp_path_factory, model_folder, tokenizer):
    """An adapter on that model, with weights as after some steps."""
    folder = tmp_path_factory.mktemp("cli") / "adapter"
    adapted = tiny.lora(tiny.model(), trained=True)
    adapted.peft_config["default"].base_model_name_or_path = model_folder
    adapted.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def refused(capsys):
    """Ask for something that must be refused: exit code 2, one line on standard error, nothing on standard output."""

    def ask(*words, code=2):
        capsys.readouterr()
        assert main([str(word) for word in words]) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        line = printed.err.strip()
        assert len(line.splitlines()) == 1, line
        assert line.startswith("unisd: ")
        return line

    return ask


@pytest.fixture
def terminal(monkeypatch):
    """Printing to a terminal of so many columns."""
    return lambda columns: monkeypatch.setattr("unisd.cli.tables.terminal_width", lambda: columns)


@pytest.fixture(autouse=True)
def reachable(monkeypatch):
    """A hub that can be reached, whatever this machine's network is like; nothing is fetched from it."""
    monkeypatch.setattr("unisd.hub.unreachable", lambda: None)


@pytest.fixture
def answered(capsys):
    """What a command printed with ``--json``: its result."""
    return lambda: json.loads(capsys.readouterr().out)["result"]


@pytest.fixture(autouse=True)
def unknown_words():
    """No word was explained in an earlier test."""
    forget_meanings()
