import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

import unisd
from unisd.cli import list_command
from unisd.cli.answer import Answer
from unisd.cli.main import COMMANDS, main, parser
from unisd.errors import Stopped, UniSDError, UsageError
from unisd.training.signals import Interrupted

HERE = Path(__file__).parent


def commands() -> dict[str, argparse.ArgumentParser]:
    found = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices)


def options(command: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in command._actions if not isinstance(action, argparse._HelpAction)]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "COMMAND"),
        (["trane"], "trane"),
        (["evaluate", "--task", "cos_e"], "model"),
        (["evaluate", "x", "--task", "cos_e", "--limit", "few"], "few"),
        (["audit", "--items", "few"], "few"),
        (["list"], "what"),
        (["list", "recipies"], "recipies"),
        (["demo", "--items"], "--items"),
    ],
)
def test_words_that_cannot_be_read_name_the_help_to_look_at(words, named, refused):
    line = refused(*words)
    assert named in line
    where = f"unisd {words[0]}" if words and words[0] in COMMANDS else "unisd"
    assert line.endswith(f"; see {where} --help")


def test_an_option_that_there_is_not(refused):
    line = refused("train", "--recipe", "core", "--output", "x", "--learning-rate", "1")
    assert "--learning-rate" in line
    assert line.endswith("; see unisd train --help")


def test_done_is_the_code_of_the_command(monkeypatch):
    for code in (0, 1):
        monkeypatch.setattr(list_command, "run", lambda _, code=code: Answer(code=code))
        assert main(["list", "tasks"]) == code


@pytest.mark.parametrize(
    ("error", "code", "what", "remedy"),
    [
        (UsageError("--limit: 0 is not allowed; use 1 or more"), 2, "--limit: 0 is not allowed", "use 1 or more"),
        (UniSDError("cannot read x; check it"), 1, "cannot read x", "check it"),
        (OSError(28, "No space left", "/full/x"), 1, "No space left: /full/x", "free space or check the path"),
        (OSError("broken"), 1, "broken", "free space or check the path"),
        (MemoryError(), 1, "out of memory", "lower training.tokens_per_row or rollout.batch_size"),
        (KeyboardInterrupt(), 3, "stopped", "run the command again"),
        (Interrupted("SIGTERM"), 3, "stopped by SIGTERM", "run the command again"),
        (Stopped("stopped after step 3; to go on: x"), 3, "stopped after step 3", "to go on: x"),
    ],
)
def test_each_way_to_fail_has_its_code_and_one_line(error, code, what, remedy, monkeypatch, refused):
    def fail(arguments):
        raise error

    monkeypatch.setattr(list_command, "run", fail)
    line = refused("list", "tasks", code=code)
    assert line.startswith(f"unisd: {what}")
    assert line.endswith(f"; {remedy}")


def test_a_fault_of_our_own_is_one_line_that_says_how_to_see_more(monkeypatch, refused, capsys):
    def fail(arguments):
        raise ZeroDivisionError("of\nsome kind")

    monkeypatch.setattr(list_command, "run", fail)
    line = refused("list", "tasks", code=1)
    assert line == "unisd: unexpected: ZeroDivisionError: of some kind; unisd --debug list … shows where, for a report"
    assert main(["--debug", "list", "tasks"]) == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "in fail" in printed
    assert printed.rstrip().endswith(line)


def test_version(capsys):
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"unisd {unisd.__version__}\n"


def test_help_lists_every_command_with_what_it_does(capsys):
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    assert done.value.code == 0
    words = " ".join(capsys.readouterr().out.split())
    for name, summary in COMMANDS.items():
        assert f"{name} {summary}" in words
    assert "Start with: unisd demo" in words


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    printed = capsys.readouterr().out
    module = sys.modules[f"unisd.cli.{command}_command"]
    assert module.EXAMPLE in printed
    assert f"unisd {command}" in module.EXAMPLE


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_can_be_read(command):
    lines = sys.modules[f"unisd.cli.{command}_command"].EXAMPLE.splitlines()[1:]
    assert lines
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "unisd"
        assert parser().parse_args(words).command in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained_and_used_in_the_tests_of_its_command(command):
    tests = (HERE / f"test_{command}_command.py").read_text(encoding="utf-8")
    found = options(commands()[command])
    assert found
    for option in found:
        if option.option_strings:
            assert option.help, option.option_strings
            assert re.search(rf'"{option.option_strings[0]}["=]', tests), option.option_strings
    names = [option.option_strings[0] for option in found if option.option_strings]
    assert {"--quiet", "--json"} <= set(names)


def test_help_loads_no_heavy_library():
    code = "import sys; from unisd.cli.main import parser; parser(); print({'torch'} & set(sys.modules))"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert time.perf_counter() - started < 5


def test_the_module_is_a_program():
    """torchrun starts it in this way."""
    words = [sys.executable, "-m", "unisd.cli.main"]
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout == f"unisd {unisd.__version__}\n"
    done = subprocess.run([*words, "lists"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("unisd: ")


def test_libraries_are_calmed_and_the_users_own_choice_is_kept(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv("KINETO_LOG_LEVEL", "")
    monkeypatch.delenv("KINETO_LOG_LEVEL")
    assert main(["list", "models"]) == 0
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    assert os.environ["KINETO_LOG_LEVEL"] == "5"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_output_that_nobody_takes_leaves_no_traceback(more):
    command = [sys.executable, "-m", "unisd.cli.main", "list", "settings", *more]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "No space left on device" in done.stderr
    done = subprocess.run(["bash", "-c", f"{shlex.join(command)} >&-"], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_other_encodings():
    for encoding, word in (("ascii", "\u00e9"), ("utf-8:strict", os.fsdecode(b"\xff"))):
        command = [sys.executable, "-m", "unisd.cli.main", "list", "tasks", word, "--json"]
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert word in json.loads(done.stdout)["message"]
        assert done.stderr.count(b"\n") == 1
