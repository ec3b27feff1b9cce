"""What a checkpoint has beyond the Trainer's own files, and how a torn one is told apart."""

import re
from pathlib import Path

from unisd.errors import UsageError
from unisd.files import write_json

_MARK = "unisd_complete.json"


def checkpoint_folder(output_dir: str | Path) -> Path:
    """Return where a run's checkpoints lie."""
    return Path(output_dir) / "checkpoints"


def mark_complete(checkpoint: Path, step: int) -> None:
    """Write the file that says that everything else of this checkpoint is there. It is the last to be written."""
    write_json(checkpoint / _MARK, {"step": step})


def last_complete(folder: Path) -> Path | None:
    """Return the latest checkpoint that was written whole, or None; one torn by a kill is passed over."""
    found = [
        (int(match[1]), mark.parent)
        for mark in folder.glob(f"checkpoint-*/{_MARK}")
        if (match := re.fullmatch(r"checkpoint-(\d+)", mark.parent.name))
    ]
    return max(found)[1] if found else None


def to_resume(given: str | bool | None, output_dir: str | Path) -> str | None:
    """Return the checkpoint to go on from, or None for a new start.

    Args:
        given: a checkpoint, or a run's folder, whose last complete one is taken; True: this run's; None or False: none.
        output_dir: this run's folder.

    Raises:
        UsageError: there is no complete checkpoint.
    """
    if not given:
        return None
    folder = Path(output_dir if given is True else given).expanduser()
    found = folder if (folder / _MARK).is_file() else last_complete(checkpoint_folder(folder))
    if found is None:
        raise UsageError(f"{folder} holds no complete checkpoint; name another, or start without resuming")
    return str(found)
