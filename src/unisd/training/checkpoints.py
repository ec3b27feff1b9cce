"""Checkpoints: when one counts, which one a run goes on from, and which one goes.

The order is what keeps them: everything is written, everything is on the disk, then the mark is (names, sizes and
hashes of all files, and what the run is), and only then an older checkpoint goes, its mark first. Wherever a process or
a machine dies in between, the newest marked checkpoint is whole.
"""

import json
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from unisd.errors import UsageError, warn
from unisd.files import contents, fingerprint, first_damage, to_disk, tree_to_disk, write_json

MARK = "unisd_complete.json"
_ALONE = "holds the model alone (save_only_model), so no run goes on from it"


def checkpoint_folder(output_dir: str | Path) -> Path:
    """Return where a run's checkpoints lie."""
    return Path(output_dir) / "checkpoints"


def mark_complete(
    checkpoint: Path,
    step: int,
    identity: Mapping[str, Any] | None = None,
    resumable: bool = True,
    beside: Mapping[str, str] | None = None,
) -> None:
    """Bring a checkpoint to the disk, and then write the file that says that all of it is there.

    Args:
        checkpoint: everything else has been written into it.
        step: its number.
        identity: what the run is (:mod:`unisd.training.identity`).
        resumable: whether a run can go on from it; false with ``save_only_model``.
        beside: hashes of files of the run that it builds on, by name.
    """
    tree_to_disk(checkpoint)
    for folder in (checkpoint.parent, checkpoint.parent.parent):  # their names may be new, too
        to_disk(folder)
    mark = {"step": step, "resumable": resumable, "files": contents(checkpoint, [MARK])}
    mark |= {"identity": dict(identity or {}), "beside": dict(beside or {})}
    write_json(checkpoint / MARK, mark | {"hash": fingerprint(mark)})


def found_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return the checkpoints in a folder by their steps, marked or not, the lowest first."""
    matches = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in folder.glob("checkpoint-*")]
    return sorted((int(match[1]), path) for match, path in matches if match and path.is_dir())


def has_marked(folder: Path) -> bool:
    """Return whether any checkpoint in a folder is marked: whether there is something to go on from, or to repair."""
    return any((path / MARK).is_file() for _, path in found_checkpoints(folder))


def read_mark(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint's mark says; an empty mapping where it says nothing that could be trusted."""
    try:
        mark = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(mark, dict):
        return {}
    said = mark.pop("hash", None)
    return mark if said == fingerprint(mark) else {}


def damage(checkpoint: Path) -> str | None:
    """Return why no run can go on from a marked checkpoint, as what it does, or None. Every file is read."""
    mark = read_mark(checkpoint)
    if not mark:
        return f"does not verify (its {MARK} is damaged, or of an earlier version)"
    if not mark["resumable"]:
        return _ALONE
    why = first_damage(checkpoint, mark["files"])
    return None if why is None else f"does not verify ({why})"


def to_resume(given: str | Path | bool | None, output_dir: str | Path) -> Path | None:
    """Return the checkpoint to go on from, every file of it verified, or None for a new start.

    Args:
        given: a checkpoint, or a run's folder, of which the newest one that verifies is taken (others are named);
            True: this run's; None or False: none.
        output_dir: this run's folder.

    Raises:
        UsageError: there is none, or none verifies, or the one that was named does not.
    """
    if not given:
        return None
    folder = Path(output_dir if given is True else given).expanduser()
    if (folder / MARK).is_file():
        if (why := damage(folder)) is not None:
            raise UsageError(f"{folder} {why}; name another checkpoint, or start without resuming")
        return folder
    marked = [path for _, path in found_checkpoints(checkpoint_folder(folder)) if (path / MARK).is_file()]
    if not marked:
        raise UsageError(f"{folder} holds no complete checkpoint; name another, or start without resuming")
    passed: list[str] = []
    for path in reversed(marked):
        if (why := damage(path)) is None:
            if passed:
                warn(f"{'; '.join(passed)}; the run goes on from {path.name}")
            return path
        passed.append(f"{path.name} {why}")
    raise UsageError(f"{folder} holds no checkpoint to go on from ({'; '.join(passed)}); start anew in another folder")


def retire(checkpoint: Path) -> None:
    """Remove a checkpoint: first its mark, on the disk, so that what is left of it never passes for whole."""
    if (checkpoint / MARK).exists():
        (checkpoint / MARK).unlink()
        to_disk(checkpoint)
    shutil.rmtree(checkpoint, ignore_errors=True)


def rotate(folder: Path, newest: Path, limit: int | None, keep: Collection[Path] = ()) -> None:
    """Remove what need not stay, once ``newest`` is marked: torn checkpoints all, of the others the oldest steps.

    Args:
        folder: of the checkpoints.
        newest: it stays.
        limit: how many stay; None or 0: all that are whole.
        keep: others that stay (the best one).
    """
    stay = {path.absolute() for path in (newest, *keep)}
    found = [(step, path) for step, path in found_checkpoints(folder) if path.absolute() not in stay]
    torn = [path for _, path in found if not (path / MARK).is_file()]
    reached = next((step for step, path in found_checkpoints(folder) if path.absolute() == newest.absolute()), 0)
    # Steps that the run has not reached are those of a course that was given up.
    whole = [path for _, _, path in sorted((step < reached, step, path) for step, path in found if path not in torn)]
    there = sum(path.is_dir() for path in stay)
    excess = max(len(whole) - max(limit - there, 0), 0) if limit else 0
    for path in (*torn, *whole[:excess]):
        retire(path)
