"""Secrets and places of a machine; what is published of a whole run: tests/cli/test_push_command.py."""

import re

import pytest

import hub as hubs
from unisd.errors import UsageError
from unisd.evaluation.publish import check_public


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"token: {hubs.TOKEN}", "a token of the hub"),
        ("key=sk-proj-" + "x1" * 20, "a key of a service"),
        ("AKIA" + "A1B2C3D4E5F6G7H8", "a key of a service"),
        ("-----BEGIN RSA PRIVATE KEY-----", "a private key"),
        ("index: https://me:hunter2@host/simple", "a password in an address"),
        ("it is correct horse battery", "the value of $MY_API_KEY"),
        ("from /home/someone/data/rows.json", "a place of this machine (/home/someone/data/rows.json)"),
        ('{"x": "/root/.cache/unisd/models"}', "a place of this machine"),
        ("C:\\\\Users\\\\me\\\\model", "a place of this machine"),
        ("~/models/llama", "a place of this machine"),
        ("/tmp/pytest-0/base", "a place of this machine"),
    ],
)
def test_secrets_and_places_are_seen(tmp_path, monkeypatch, text, what):
    monkeypatch.setenv("MY_API_KEY", "correct horse battery")
    file = tmp_path / "note.md"
    file.write_text(f"first line\n{text}\n")
    with pytest.raises(UsageError, match=re.escape("push: note.md, line 2") + ".*" + re.escape(what)):
        check_public(file, "note.md")


def test_what_is_no_secret_passes(tmp_path):
    file = tmp_path / "note.md"
    file.write_text(
        "https://arxiv.org/abs/2605.06597, 1/2/3, a/b, and/or, `…/tiny`, hf_hub, <|im_start|>/think, x://y\n"
    )
    check_public(file, "note.md")
