import copy
import io
import pickle

import pytest
import torch
from transformers import TrainingArguments

import foreign
from unisd.errors import UniSDError, UsageError
from unisd.mechanisms import known
from unisd.settings import build, documented, plain
from unisd.training import arguments
from unisd.training.arguments import UniSDConfig, groups


def make(**settings):
    return UniSDConfig(output_dir="unused", use_cpu=True, **settings)


def test_defaults_are_the_papers():
    config = make()
    assert config.learning_rate == 2e-5
    assert config.lr_scheduler_type == "cosine"
    assert config.divergence.kind == "forward_kl"
    assert config.rollout.temperature == 0.7
    assert not config.mechanisms


def test_groups_as_dicts_and_back():
    config = make(teacher={"kind": "ema", "decay": 0.98}, agreement={"granularity": "token"})
    assert config.teacher.kind == "ema"
    assert [mechanism.name for mechanism in config.mechanisms] == ["agreement", "teacher"]
    assert config.to_dict()["teacher"] == {"kind": "ema", "decay": 0.98, "every": 10}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"teacher": {"kind": "emma"}}, r"teacher\.kind: 'emma' is not one of initial, live, ema"),
        ({"teacher": {"deacy": 0.9}}, r"teacher\.deacy: no such setting; did you mean 'decay'"),
        ({"teacher": {"decay": "high"}}, r"teacher\.decay: 'high' is not a number"),
        ({"teacher": {"decay": 1.0}}, r"teacher\.decay"),
        ({"teacher": {"every": 0}}, r"teacher\.every"),
        ({"agreement": {"granularity": "token", "gamma": -1}}, r"agreement\.gamma"),
        ({"agreement": {"granularity": "token"}, "contexts": {"count": 1}}, r"contexts\.count: 1 probe"),
        ({"divergence": {"kind": "jsd", "alpha": 0.0}}, r"divergence\.alpha"),
        ({"clipping": {"cap": 10.0, "quantile": 0.9}}, "not both"),
        ({"clipping": {"cap": 0.0}}, r"clipping\.cap"),
        ({"divergence": {"clip": 10.0, "clip_quantile": 0.9}}, "not both"),
        (
            {"divergence": {"clip": 0.0}},
            r"divergence\.clip \(now clipping\.cap\): 0\.0 is not allowed; use a value above 0",
        ),
        ({"divergence": {"clip": 1.0}, "clipping": {"cap": 2.0}}, r"divergence\.clip: its name is clipping\.cap now"),
        ({"divergence": {"kind": "cross_entropy"}, "clipping": {"cap": 1.0}}, "cross_entropy has no teacher"),
        ({"divergence": {"temperature": 0}}, r"divergence\.temperature"),
        ({"divergence": {"kind": "cross_entropy"}, "features": {"weight": 0.1}}, "cross_entropy has no teacher"),
        ({"features": {"mode": "only"}}, r"features\.weight"),
        ({"features": {"mode": "only", "weight": 1.0}, "contrast": {"weight": 0.1}}, r"features\.mode"),
        ({"contrast": {"weight": -0.1}}, r"contrast\.weight"),
        ({"rollout": {"source": "techer"}}, r"rollout\.source"),
        ({"rollout": {"source": "gold", "num_generations": 2}}, r"rollout\.num_generations: an item has one demonstr"),
        ({"rollout": {"source": "mix", "num_generations": 2}}, r"rollout\.num_generations: an item has one demonstr"),
        ({"rollout": {"num_generations": 0}}, r"rollout\.num_generations: 0 is not allowed; use 1 or more"),
        ({"rollout": {"num_generations": 2, "top_k": 1}}, r"rollout\.top_k: 1 leaves one token .*num_generations to 1"),
        ({"rollout": {"num_generations": 2, "min_p": 1.0}}, r"rollout\.min_p: 1 leaves one token to choose"),
        (
            {"rollout": {"source": "gold", "top_k": 5}},
            r"rollout\.top_k: with source gold nothing is sampled.*set it to 0",
        ),
        ({"rollout": {"source": "gold", "min_p": 0.1}}, r"rollout\.min_p: with source gold"),
        ({"rollout": {"source": "gold", "repetition_penalty": 2}}, r"rollout\.repetition_penalty: with source gold"),
        (
            {"rollout": {"source": "gold", "mask_truncated_completions": True}},
            r"rollout\.mask_truncated_completions: with source gold .*set it to false",
        ),
        ({"rollout": {"teacher_draws": "each_step"}}, r"rollout\.teacher_draws: source student has no teacher write"),
        ({"rollout": {"source": "own", "teacher_draws": "each_step"}}, r"rollout\.teacher_draws: source own"),
        ({"rollout": {"top_k": -1}}, r"rollout\.top_k: -1 is not allowed; use 0 or more"),
        ({"rollout": {"min_p": 1.5}}, r"rollout\.min_p"),
        ({"rollout": {"repetition_penalty": 0.0}}, r"rollout\.repetition_penalty: 0\.0 is not allowed"),
        ({"rollout": {"log_completions_steps": -1}}, r"rollout\.log_completions_steps"),
        (
            {"divergence": {"kind": "cross_entropy"}, "rollout": {"source": "teacher"}, "teacher": {"kind": "live"}},
            r"teacher\.kind: live is the initial model still .*each_step",
        ),
        (
            {"divergence": {"kind": "cross_entropy"}, "rollout": {"source": "teacher"}, "features": {"weight": 0.1}},
            "cross_entropy has no teacher; switch features off",
        ),
        ({"rollout": {"top_p": 0.0}}, r"rollout\.top_p"),
        ({"rollout": {"max_completion_length": True}}, r"rollout\.max_completion_length: True is not a whole number"),
        ({"contexts": {"layout": "papre"}}, r"contexts\.layout"),
        ({"tokens_per_row": -1}, "tokens_per_row"),
        ({"tokens_per_row": 1.5}, r"tokens_per_row: 1\.5 is not a whole number"),
        ({"rollout": {"temperature": float("inf")}}, r"rollout\.temperature: inf is not allowed; use a finite number"),
        ({"contexts": {"words": {"gold": {"after": 3}}}}, r"contexts\.words: 3 is not a text"),
        ({"contexts": {"words": "x"}}, r"contexts\.words: 'x' is not a mapping"),
        ({"contexts": {"template_kwargs": "off"}}, r"contexts\.template_kwargs: 'off' is not a mapping"),
        ({"contexts": {"template_kwargs": {"tokenize": 1}}}, r"contexts\.template_kwargs: 'tokenize' is no variable"),
        ({"contexts": {"teacher_template_kwargs": {"padding": 1}}}, r"contexts\.teacher_template_kwargs: 'padding'"),
        ({"rollout": {"thoughts": "drop"}}, r"rollout\.thoughts"),
        ({"teacher": 3}, "teacher: a group of settings was expected, not 3"),
        ({"teacher": {1: 2}}, r"teacher\.1: no such setting; choose one of kind, decay, every"),
        ({"teecher": {"kind": "ema"}}, "teecher: no such setting; did you mean 'teacher'"),
        ({"learning_rat": 1.0}, "learning_rat: no such setting; did you mean 'learning_rate'"),
        ({"learning_rate": "fast"}, "learning_rate: 'fast' is not a number"),
        ({"outputdir": "a"}, "outputdir: no such setting; did you mean 'output_dir'"),
        ({"num_generations": 4}, r"num_generations: no such setting; write rollout={'num_generations': …}"),
        ({"top_k": 4}, r"top_k: no such setting; write divergence={'top_k': …} or rollout={'top_k': …}"),
        ({"rollout.top_k": 4}, r"rollout\.top_k: no such setting; write rollout={'top_k': …}"),
        ({"divergence": {"alpha": 0.3}}, r"divergence\.alpha: forward_kl has no mixture"),
        ({"divergence": {"top_k": 1, "tail": False}}, r"divergence\.top_k: one token without a tail"),
        ({"rollout": {"mix": 0.3}}, r"rollout\.mix: source student is no mixture"),
        ({"rollout": {"mix_schedule": "linear"}}, r"rollout\.mix_schedule: source student is no mixture"),
        ({"rollout": {"source": "mix", "mix_steps": 3}}, r"rollout\.mix_steps: mix_schedule constant counts no steps"),
        ({"max_steps": 0}, r"training\.max_steps: 0 would train nothing"),
        ({"num_train_epochs": 0.0}, r"training\.num_train_epochs: 0 would train nothing"),
        ({"seed": 2**32}, r"training\.seed: 4294967296 is not allowed; use 4294967295 or less"),
        ({"bf16": "yes"}, "bf16: 'yes' is not true or false"),
    ],
)
def test_bad_settings_are_named_in_one_line(settings, named):
    with pytest.raises(UsageError, match=named) as raised:
        make(**settings)
    assert "\n" not in str(raised.value)


def test_a_teacher_that_only_writes_may_move():
    moving = {"source": "teacher", "teacher_draws": "each_step"}
    config = make(divergence={"kind": "cross_entropy"}, rollout=moving, teacher={"kind": "ema"})
    assert (config.needs_teacher, config.has_teacher) == (False, True)
    assert [need.slot for need in config.mechanisms.needs()] == ["gold"]
    assert not make(divergence={"kind": "cross_entropy"}, rollout={"source": "own"}).has_teacher


def test_a_cap_that_cannot_bind_is_said():
    config = make(divergence={"kind": "jsd"}, clipping={"cap": 10.0})
    assert any("can never bind" in message for message in config.mechanisms.inert(None))
    assert not make(divergence={"kind": "forward_kl"}, clipping={"cap": 10.0}).mechanisms.inert(None)


def test_an_average_that_never_moves_is_said():
    config = make(teacher={"kind": "ema", "every": 10})
    assert any("teacher.every" in message for message in config.mechanisms.inert(5))
    assert not config.mechanisms.inert(20)


def test_gamma_zero_is_said():
    config = make(agreement={"granularity": "token", "gamma": 0.0})
    assert any("agreement.gamma" in message for message in config.mechanisms.inert(None))


@pytest.mark.parametrize("name", groups())
def test_every_group_is_documented_and_comes_back(name):
    cls = groups()[name]
    assert cls.__doc__
    assert all(field.meaning for field in documented(cls))
    settings = cls()
    assert build(cls, plain(settings), name) == settings
    assert make(**{name: settings}).to_dict()[name] == plain(settings)


@pytest.mark.parametrize(("name", "mechanism"), known().items())
def test_every_mechanism_is_off_by_default_and_says_what_it_is(name, mechanism):
    assert not mechanism.Settings().on
    assert mechanism.name == name
    assert mechanism.summary


@pytest.mark.parametrize(
    ("name", "on"),
    [
        ("agreement", {"granularity": "sequence", "gamma": 10.0}),
        ("clipping", {"quantile": 0.9}),
        ("contrast", {"weight": 0.1}),
        ("features", {"weight": 1.0, "mode": "only"}),
        ("teacher", {"kind": "live"}),
    ],
)
def test_every_group_switches_its_mechanism_on(name, on):
    config = make(**{name: on})
    assert [mechanism.name for mechanism in config.mechanisms] == [name]
    assert config.mechanisms[0].settings is getattr(config, name)


def test_earlier_names_still_work():
    assert make(divergence={"clip": 4}).clipping.cap == 4.0
    assert make(divergence={"clip_quantile": 0.9, "clip": None}).clipping.quantile == 0.9
    assert make(divergence={"clip": None}, clipping={"cap": 2.0}).clipping.cap == 2.0
    assert make(divergence={"clip": None, "kind": "jsd"}).divergence.kind == "jsd"


def test_a_whole_number_is_a_number():
    assert make(rollout={"temperature": 1}).rollout.temperature == 1.0
    assert make(warmup_steps=2, learning_rate=1).warmup_steps == 2


def test_copies_and_saved_arguments_are_equal_and_start_anew():
    config = make(teacher={"kind": "ema"}, divergence={"clip": 4.0}, tokens_per_row=99)
    config.mechanisms[1].average = "weights in use"
    saved = io.BytesIO()
    torch.save(config, saved)
    saved.seek(0)
    copies = copy.deepcopy(config), pickle.loads(pickle.dumps(config)), torch.load(saved, weights_only=False)
    for other in copies:
        assert other == config
        assert other.row_budget() == 99
        assert other.mechanisms[1].name == "teacher"
        assert other.mechanisms[1].average is None
        assert other.mechanisms[1].config is other
    assert config != make(teacher={"kind": "ema"}, divergence={"clip": 5.0}, tokens_per_row=99)


def test_transformers_finds_what_it_wants():
    config = make(teacher={"kind": "ema"}, lr_scheduler_type="constant", seed=3)
    assert '"decay": 0.9' in config.to_json_string()
    assert config.to_sanitized_dict()["tokens_per_row"] == 0
    assert config.lr_scheduler_type.value == "constant"
    assert (config.seed, config.logging_steps, config.remove_unused_columns) == (3, 1, False)


def test_many_processes_without_an_accelerator_share_the_cpu(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    given = {}
    # Without the parent's own start, which would look for the other processes.
    monkeypatch.setattr(TrainingArguments, "__init__", lambda self, output_dir, **values: given.update(values))
    monkeypatch.setattr(arguments, "check_made", lambda config, own: None)
    UniSDConfig(output_dir="unused")
    assert given["use_cpu"]


def test_a_mechanism_of_another_package_brings_its_settings():
    with foreign.registered():
        config = make(patience={"strength": 2})
        assert config.patience.strength == 2.0
        assert [mechanism.name for mechanism in config.mechanisms] == ["patience"]
        assert config.to_dict()["patience"] == {"strength": 2.0}
        assert copy.deepcopy(config) == config
        assert make(rollout={"calm": 3}).patience.strength == 3.0
        with pytest.raises(UsageError, match=r"patience\.strenth: no such setting; did you mean 'strength'"):
            make(patience={"strenth": 2})
        with pytest.raises(UsageError, match=r"rollout\.calm \(now patience\.strength\): 'x' is not a number"):
            make(rollout={"calm": "x"})
    with pytest.raises(UsageError, match="patience: no such setting"):
        make(patience={"strength": 2})
    assert "patience" not in config.to_dict()


@pytest.mark.parametrize("name", ["rollout", "task", "learning_rate", "mechanisms"])
def test_a_mechanism_with_a_name_that_is_taken(name):
    with foreign.registered(name), pytest.raises(UniSDError, match=f"mechanism '{name}': another setting"):
        make()
