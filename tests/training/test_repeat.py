import shlex
from pathlib import Path

from unisd.cli.main import parser
from unisd.training.repeat import evaluate_run, evaluate_weights
from unisd.training.runfile import assemble


def read(command):
    program, *words = shlex.split(command)
    assert program == "unisd"
    return parser().parse_args(words)


def test_a_runs_name_alone_is_enough_and_is_quoted():
    assert evaluate_run(Path("runs/first")) == "unisd evaluate runs/first"
    for name in ("runs/my first", "runs/it's; rm -r x", "$HOME/a\nb"):
        assert read(evaluate_run(Path(name))).model == [name]


def test_weights_alone_are_asked_with_what_was_used():
    sets = ["rollout.max_completion_length=40", "rollout.thoughts=keep", "contexts.template_kwargs={a b: 'it''s'}"]
    settings = assemble("core", overrides=sets, given={"task": {"name": "mbpp:tests=hidden", "source": "my data"}})
    asked = read(evaluate_weights(settings, "ADAPTER"))
    assert (asked.model, asked.task, asked.source) == (["ADAPTER"], ["mbpp:tests=hidden"], "my data")
    assert (asked.max_new_tokens, asked.thoughts, asked.template_kwargs) == (40, "keep", '{"a b": "it\'s"}')
    plain = read(evaluate_weights(assemble("core"), "ADAPTER"))
    assert (plain.source, plain.thoughts, plain.template_kwargs) == (None, None, None)
    assert plain.max_new_tokens == 1024
