"""Chat templates as texts: which of them a tokenizer has, what they read, and the one date that they print."""

import re
from typing import Any

import jinja2
from jinja2 import meta

# A template that prints today's date would change every prompt (and every cache key) at midnight: the date that
# Llama-3 templates fall back to is used on all days, in whichever notation is asked for.
_DATE = {"%Y": "2024", "%m": "07", "%d": "26", "%-d": "26", "%e": "26", "%b": "Jul", "%B": "July", "%y": "24"} | {
    **{"%A": "Friday", "%a": "Fri", "%H": "00", "%I": "12", "%M": "00", "%S": "00", "%p": "AM", "%j": "208"}
}
_FIXED_DATE = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f"|replace('{code}', '{value}')" for code, value in _DATE.items())
    + " }}{% endmacro %}"
)
PLAIN = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% else %}{{ message['role'] | capitalize + ':\n' + message['content'] }}"
    "{{ (eos_token or '') if message['role'] == 'assistant' else '' }}{{ '\n\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)
_GIVEN = {"messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now"} | {
    *("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token", "chat_template")
}
"""What every template is given."""


def read_by(template: str) -> set[str] | None:
    """Return the names that a template reads from outside; None where that cannot be told."""
    try:
        plain = re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", template)
        return meta.find_undeclared_variables(jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(plain))
    except jinja2.TemplateError:
        return None


def offered(template: str) -> list[str]:
    """Return the variables that somebody may want to set: what a template reads and does not set for itself."""
    own = set(re.findall(r"\bset\s+(\w+)\s*=", template))
    asked = set(re.findall(r"\b(\w+)\s*(?:\|\s*default\b|is\s+(?:not\s+)?defined\b)", template))
    return sorted((read_by(template) or set()) - _GIVEN - (own - asked))


def named(given: Any) -> dict[str, str]:
    """Return a tokenizer's chat templates by name."""
    if isinstance(given, list | tuple):
        return {str(one["name"]): str(one["template"]) for one in given}
    return dict(given) if isinstance(given, dict) else {"default": str(given)}


def with_fixed_date(template: str) -> str:
    """Return a template that prints the same date on all days."""
    return _FIXED_DATE + template if "strftime_now" in template else template
