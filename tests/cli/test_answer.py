import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from unisd import __version__
from unisd.cli import doctor_command
from unisd.cli.answer import STATUS, Answer, plain
from unisd.cli.main import main
from unisd.errors import Stopped, UniSDError, UsageError, warn


@dataclass
class Pair:
    left: Path
    right: float


def test_whatever_is_answered_becomes_what_json_can_hold():
    value = {
        1: Pair(Path("a/b"), float("nan")), "t": (1, True, None), "s": {"b", "a"},
        "x": torch.tensor([1.0, float("inf")]), "path": Path("c"),
    }  # fmt: skip
    assert plain(value) == {
        "1": {"left": "a/b", "right": None}, "t": [1, True, None], "s": ["a", "b"], "x": [1.0, None], "path": "c",
    }  # fmt: skip


@pytest.fixture
def said(monkeypatch, capsys):
    """What ``unisd doctor --json`` prints where the command does what is given."""

    def ask(work):
        def run(arguments) -> Answer:
            return work()

        monkeypatch.setattr(doctor_command, "run", run)
        code = main(["doctor", "--json"])
        printed = capsys.readouterr()
        answer = json.loads(printed.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert list(answer) == [
            "command", "version", "status", "exit_code", "message", "result", "warnings", "files",
        ]  # fmt: skip
        assert (answer["command"], answer["version"]) == ("doctor", __version__)
        assert (answer["exit_code"], answer["status"]) == (code, STATUS[code])
        return answer, printed.err

    return ask


def test_one_shape_for_what_was_found(said):
    def work():
        print("a note that somebody prints")
        warn("something is odd; mend it")
        return Answer({"figure": float("inf")}, [Path("runs/a"), "b.json"])

    answer, err = said(work)
    assert (answer["result"], answer["files"]) == ({"figure": None}, ["runs/a", "b.json"])
    assert (answer["warnings"], answer["message"]) == (["something is odd; mend it"], None)
    assert err == "a note that somebody prints\nwarning: something is odd; mend it\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("--limit: 0 is not allowed; use 1 or more"), 2),
        (UniSDError("cannot read x; check it"), 1),
        (Stopped("stopped after step 3; to go on: x"), 3),
        (KeyboardInterrupt(), 3),
        (ZeroDivisionError("of some kind"), 1),
    ],
)
def test_the_same_shape_for_what_went_wrong(error, code, said):
    def work():
        warn("first this")
        raise error

    answer, err = said(work)
    assert answer["exit_code"] == code
    assert answer["result"] is None
    assert answer["warnings"] == ["first this"]
    assert err == f"warning: first this\nunisd: {answer['message']}\n"


def test_a_command_that_cannot_be_read_answers_in_it_too(capsys):
    assert main(["doctor", "--jsn", "--json"]) == 2
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert (answer["command"], answer["status"]) == ("doctor", "refused")
    assert printed.err == f"unisd: {answer['message']}\n"
    assert "--jsn" in answer["message"]


def test_of_several_processes_the_first_alone_prints(monkeypatch, capsys):
    def run(arguments) -> Answer:
        return Answer(1)

    monkeypatch.setattr(doctor_command, "run", run)
    monkeypatch.setenv("RANK", "1")
    assert main(["doctor", "--json"]) == 0
    assert capsys.readouterr().out == ""
