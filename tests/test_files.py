import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unisd.files import (
    contents,
    first_damage,
    is_partial,
    process_lives,
    remove_partial,
    replacing,
    replacing_folder,
    write_json,
    write_text,
)


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_success(tmp_path, monkeypatch):
    events, fsync, replace = [], os.fsync, Path.replace

    def watched(handle):
        fsync(handle)
        events.append(("disk", os.readlink(f"/proc/self/fd/{handle}")))

    def renamed(self, target):
        events.append(("name", str(self), str(target)))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(Path, "replace", renamed)
    write_text(tmp_path / "a.txt", "x")
    (disk, half), (name, source, target), last = events
    assert (disk, name, source, target) == ("disk", "name", half, str(tmp_path / "a.txt"))
    assert last == ("disk", str(tmp_path))
    events.clear()
    with replacing_folder(tmp_path / "folder") as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner/b.txt").write_text("y")
    names = [Path(event[1]).name for event in events]
    assert names == ["b.txt", "inner", ".folder.partial", ".folder.partial", tmp_path.name]
    assert [event[0] for event in events] == ["disk", "disk", "disk", "name", "disk"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_stays(tmp_path, dead):
    with replacing(tmp_path / "a.json") as half:
        machine = half.name.removeprefix(".a.json.").split("-")[0]
        write_json(tmp_path / "a.json", 1)
        assert half.exists()
    left = tmp_path / f".a.json.{machine}-{dead}.xyz.partial"
    others = [
        tmp_path / f".a.json.{machine}-{os.getpid()}.abc.partial",
        tmp_path / f".b.json.{machine}-{dead}.x.partial",
    ]
    others.append(tmp_path / f".a.json.00000000-{dead}.x.partial")  # another machine's
    for path in (left, *others):
        path.write_text("half")
    write_json(tmp_path / "a.json", 2)
    assert json.loads((tmp_path / "a.json").read_text()) == 2
    assert (left.exists(), [path.exists() for path in others]) == (False, [True] * 3)
    remove_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert not process_lives(dead)
    assert process_lives(os.getpid())


def test_a_folder_that_a_killed_process_left_does_not_get_into_the_next(tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial/old.txt").write_text("old")
    (tmp_path / "out").mkdir()
    with replacing_folder(tmp_path / "out") as temporary:
        (temporary / "new.txt").write_text("new")
        assert (tmp_path / "out").is_dir()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_damage_of_every_kind_is_named(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / ".x.partial").write_bytes(b"half")
    found = json.loads(json.dumps(contents(tmp_path)))
    assert sorted(found) == ["b", "inner/a"]
    assert first_damage(tmp_path, found) is None
    (tmp_path / "inner/a").write_bytes(b"12_45")
    assert first_damage(tmp_path, found) == "inner/a has changed"
    (tmp_path / "inner/a").write_bytes(b"123")
    assert first_damage(tmp_path, found) == "inner/a has 3 bytes and had 5"
    (tmp_path / "inner/a").unlink()
    assert first_damage(tmp_path, found) == "inner/a is missing"
    assert is_partial(tmp_path / ".x.partial")
    assert not is_partial(tmp_path / "x.partial")
