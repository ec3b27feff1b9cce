"""What is said where a chat template, or what is given to it, cannot be used."""

import pytest

import tiny
from unisd.errors import UsageError
from unisd.rollout.chat import Chat

TOOLS = "{% if tools %}{{ tools | tojson }}{% endif %}"


def said(template: str, variables: dict | None = None) -> str:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UsageError) as refused:
        Chat(tokenizer).student_ids("What is 2?", variables)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_template_that_is_no_jinja_is_called_so():
    message = said("{% for m in messages %}{{ m.content }}")
    assert message.startswith("the chat template is not valid Jinja (")
    assert message.endswith("; repair tokenizer.chat_template")


def test_a_variable_that_is_not_set_is_named():
    message = said(tiny.CHATML + "{{ persona.name }}")
    assert message == "the chat template reads 'persona', which is not set; set it in contexts.template_kwargs"


def test_tools_that_cannot_be_shown_are_blamed_and_not_the_roles():
    message = said(TOOLS + tiny.CHATML, {"tools": [len]})
    assert message.startswith("the chat template cannot show the tools (")
    assert message.endswith("; give each as a JSON schema")


def test_a_refusal_of_roles_names_them():
    message = said("{{ raise_exception('no users here') }}")
    assert message == (
        "the chat template refuses messages of the roles user (no users here); use roles that the model knows"
    )
