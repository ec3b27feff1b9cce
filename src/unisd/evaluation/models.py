"""From what a user names to the weights that are evaluated."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from unisd.errors import UsageError
from unisd.training.settings import model_presets


@dataclass(frozen=True)
class Found:
    """Where a model's parts lie."""

    weights: str
    tokenizer: str
    dtype: str
    run: Path | None
    """The run's folder, where a run was named."""


def find_model(name: str) -> Found:
    """Find a run's folder, an adapter, a model folder, a short name or a hub id.

    Raises:
        UsageError: the run has no trained weights yet, or the folder is no model.
    """
    folder = Path(name)
    if (folder / "config.yaml").is_file():
        settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        for part in ("adapter", "model"):
            if (folder / part).is_dir():
                return Found(str(folder / part), str(folder / part), settings["model"]["dtype"], folder)
        raise UsageError(f"{name}: the run has no adapter yet; finish it with unisd train --output {name} --resume")
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise UsageError(f"{name}: neither a run (config.yaml), nor an adapter, nor a model lies there")
        return Found(name, name, "float32", None)
    preset = model_presets().get(name)
    if preset is not None:
        return Found(preset["name"], preset["name"], preset["dtype"], None)
    return Found(name, name, "float32", None)
