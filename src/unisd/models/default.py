"""The default model: SmolLM2-135M-Instruct, carried by a package from the index, so that a first run needs no hub."""

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from unisd.errors import UniSDError
from unisd.files import cache_folder, fingerprint, named_write_errors
from unisd.hub import DISTRIBUTION, HUB_ID, NAME, carried_file

__all__ = ["DISTRIBUTION", "HUB_ID", "NAME", "carried_file", "converted_folder", "silent_bars"]


@contextlib.contextmanager
def silent_bars() -> Iterator[None]:
    """Switch transformers' own progress bars off for a while."""
    from transformers.utils import logging as bars

    active = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if active:
            bars.enable_progress_bar()


def converted_folder(gguf: Path) -> Path:
    """Convert a GGUF file to safetensors in the user's cache, once, and return the folder (model, tokenizer, template).

    Raises:
        UniSDError: the file cannot be read, or the ``gguf`` extra is missing.
    """
    stat = gguf.stat()
    target = cache_folder() / "models" / f"{NAME}-{fingerprint(gguf.name, stat.st_size)}"
    if (target / "complete").is_file():
        return target
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        with silent_bars():
            # Weights left in GGUF blocks are slow to run here and cannot be saved: dequantize them for good.
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except ImportError as error:
        raise UniSDError(f"reading {gguf.name} needs the gguf extra; pip install 'unisd[gguf]' ({error})") from error
    with named_write_errors(target), silent_bars():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as own:
            made = Path(own) / target.name
            # Each process that converts moves a whole folder into place; transformers would save on rank 0 alone.
            model.should_save_on_this_rank = lambda is_main_process: True
            model.save_pretrained(made)
            tokenizer.save_pretrained(made)
            (made / "complete").write_text("converted from " + gguf.name + "\n", encoding="utf-8")
            _take_place(made, target)
    logging.getLogger(__name__).info("converted %s to %s", gguf.name, target)
    return target


def is_converted(name: str) -> bool:
    """Return whether a folder is what :func:`converted_folder` makes, on this machine or another."""
    return Path(name).name.startswith(f"{NAME}-") and Path(name).parent.name == "models"


def _take_place(made: Path, target: Path) -> None:
    """Move a folder to ``target``, unless another process was first: its folder is equal, stays, and may be in use."""
    try:
        made.rename(target)
    except OSError:
        if (target / "complete").is_file():
            return
        shutil.rmtree(target)  # torn by a kill, long ago: folders are whole when they are moved here
        made.rename(target)
