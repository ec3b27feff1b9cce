"""What a checkpoint has beyond the Trainer's own files, and how a torn one is told apart."""

import re
from pathlib import Path

from unisd.files import read_jsonl, write_json, write_jsonl
from unisd.rollout import Completion

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


def write_own_samples(path: Path, samples: dict[str, Completion]) -> None:
    """Keep the initial model's samples, so that a resumed run learns from the very same ones."""
    write_jsonl(path, ({"id": name, "ids": done.ids, "finished": done.finished} for name, done in samples.items()))


def read_own_samples(path: Path) -> dict[str, Completion]:
    """Read what :func:`write_own_samples` wrote."""
    return {row["id"]: Completion(row["ids"], row["finished"]) for row in read_jsonl(path)}
