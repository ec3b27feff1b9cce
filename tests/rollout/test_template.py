"""Chat templates as texts."""

import re

import pytest

from rollout.templates import FAMILIES
from unisd.rollout.template import named, offered, read_by, with_fixed_date


@pytest.mark.parametrize(
    ("template", "read"),
    [
        ("{{ messages }}{% set a = b %}{{ a }}", {"b"}),
        ("{% if not date_string is defined %}{% set date_string = 1 %}{% endif %}{{ date_string }}", {"date_string"}),
        (
            "{% for m in messages %}{%- generation -%}{{ m.content + style }}{%- endgeneration -%}{% endfor %}",
            {"style"},
        ),
        ("{% for m in messages %}{% if m.a %}{% break %}{% endif %}{% endfor %}{{ bos_token }}", set()),
        ("{% for m in messages %}{% if m %}{% set a = 1 %}{% endif %}{{ a }}{% endfor %}", set()),
        ("{% set think = think | default(true) %}{{ think }}", {"think"}),
        ("{{ namespace(a=b) }}{{ 'enable_thinking' }}", {"b"}),
    ],
)
def test_what_a_template_reads(template, read):
    assert offered(template) == sorted(read)
    assert read <= read_by(template)


def test_a_template_that_cannot_be_read_says_nothing():
    assert read_by("{% if %}") is None
    assert read_by("{% own_tag x %}") is None


def test_templates_by_name():
    assert named("a") == {"default": "a"}
    assert named({"x": "a"}) == named([{"name": "x", "template": "a"}]) == {"x": "a"}


def test_only_templates_with_a_date_are_changed():
    for family in FAMILIES.values():
        template = family.template or ""
        changed = with_fixed_date(template)
        assert changed.endswith(template)
        assert (changed == template) == (re.search("strftime_now", template) is None)
