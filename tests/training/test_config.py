import pytest

from unisd.errors import UsageError
from unisd.training.config import UniSDConfig, inert_settings


def make(**settings):
    return UniSDConfig(output_dir="unused", use_cpu=True, **settings)


def test_defaults_are_the_papers():
    config = make()
    assert config.learning_rate == 2e-5
    assert config.lr_scheduler_type == "cosine"
    assert config.divergence.kind == "forward_kl"
    assert config.rollout.temperature == 0.7
    assert not config.uses_teacher_views


def test_groups_as_dicts_and_back():
    config = make(teacher={"kind": "ema", "decay": 0.98}, agreement={"granularity": "token"})
    assert config.teacher.kind == "ema"
    assert config.probes == 3
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
        ({"divergence": {"clip": 10.0, "clip_quantile": 0.9}}, "not both"),
        ({"divergence": {"clip": 0.0}}, r"divergence\.clip"),
        ({"divergence": {"temperature": 0}}, r"divergence\.temperature"),
        ({"divergence": {"kind": "cross_entropy"}, "features": {"weight": 0.1}}, "cross_entropy has no teacher"),
        ({"features": {"mode": "only"}}, r"features\.weight"),
        ({"features": {"mode": "only", "weight": 1.0}, "contrast": {"weight": 0.1}}, r"features\.mode"),
        ({"contrast": {"weight": -0.1}}, r"contrast\.weight"),
        ({"rollout": {"source": "teacher"}}, r"rollout\.source"),
        ({"rollout": {"top_p": 0.0}}, r"rollout\.top_p"),
        ({"rollout": {"max_completion_length": True}}, r"rollout\.max_completion_length: True is not a whole number"),
        ({"contexts": {"layout": "papre"}}, r"contexts\.layout"),
        ({"tokens_per_row": -1}, "tokens_per_row"),
    ],
)
def test_bad_settings_are_named_in_one_line(settings, named):
    with pytest.raises(UsageError, match=named) as raised:
        make(**settings)
    assert "\n" not in str(raised.value)


def test_a_cap_that_cannot_bind_is_said():
    config = make(divergence={"kind": "jsd", "clip": 10.0})
    assert any("can never bind" in message for message in inert_settings(config))
    assert not inert_settings(make(divergence={"kind": "forward_kl", "clip": 10.0}))


def test_an_average_that_never_moves_is_said():
    config = make(teacher={"kind": "ema", "every": 10})
    assert any("teacher.every" in message for message in inert_settings(config, steps=5))
    assert not inert_settings(config, steps=20)


def test_gamma_zero_is_said():
    config = make(agreement={"granularity": "token", "gamma": 0.0})
    assert any("agreement.gamma" in message for message in inert_settings(config))
