"""One run, from settings to a trained model in a folder."""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from unisd.errors import UsageError, warn
from unisd.files import replacing_folder, write_json, write_text
from unisd.mechanisms import Acting
from unisd.models import has_adapter
from unisd.models.adapters import active_names, bare_names
from unisd.models.default import silent_bars
from unisd.models.load import base_model, is_adapter, weights_folder
from unisd.training.card import model_card
from unisd.training.checkpoints import checkpoint_folder, last_complete
from unisd.training.planning import ROWS_FILE, fit_rows
from unisd.training.prepare import prepare
from unisd.training.profiling import Profile
from unisd.training.runfile import RunSettings, assemble, dumped, first_difference
from unisd.training.telemetry import peak_memory_bytes
from unisd.training.trainer import UniSDTrainer
from unisd.training.unread import unread_of_run

CONFIG_FILE = "config.yaml"
SUMMARY_FILE = "summary.json"
AUDIT_FILE = "audit.json"


@dataclass
class RunResult:
    """A finished run."""

    folder: Path
    weights: Path
    """Where the adapter (or the whole model) lies."""
    steps: int
    seconds: float
    acting: list[Acting]
    trainer: UniSDTrainer


def claim_folder(folder: Path, resume: bool | None) -> None:
    """Make sure that ``folder`` is free, or, to resume, that a run lies in it. None: who asks cannot resume.

    Raises:
        UsageError: the folder is in use, or holds no run to resume, or cannot be written.
    """
    if resume:
        if not (folder / CONFIG_FILE).is_file():
            raise UsageError(f"--resume: {folder} holds no {CONFIG_FILE}, so there is no run to resume; check --output")
        return
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder}: a file of that name exists; choose another folder")
    if folder.is_dir() and any(folder.iterdir()):
        instead = "" if resume is None else ", or add --resume to go on with its run"
        raise UsageError(f"--output {folder}: the folder is in use; choose another{instead}")
    parent = next(p for p in [folder, *folder.parents] if p.exists())
    if not os.access(parent, os.W_OK):
        raise UsageError(f"--output {folder}: no permission to write in {parent}; choose another folder")


def settings_to_resume(folder: Path, asked: RunSettings | None) -> RunSettings:
    """Return the settings that a run was started with; those asked for now must be the same.

    Raises:
        UsageError: they differ; the message names the first difference.
    """
    kept = assemble(file=folder / CONFIG_FILE)
    if asked is not None:
        found = first_difference(kept.opened(folder)[1], asked.opened(folder)[1])
        if found is not None:
            name, was, now = found
            raise UsageError(f"--resume: {name} is {now!r} but the run in {folder} has {was!r}; leave it out")
    return kept


def train_run(
    settings: RunSettings,
    folder: Path,
    resume: bool = False,
    quiet: bool = False,
    loaded: tuple[nn.Module, Any] | None = None,
    audit: dict[str, Any] | None = None,
    profiled_steps: int = 0,
) -> RunResult:
    """Train what ``settings`` say into ``folder`` (config.yaml, metrics.jsonl, checkpoints/, adapter/ or model/).

    Args:
        settings: the whole run.
        folder: a free folder, or with ``resume`` that of the run to go on with.
        resume: go on from the last complete checkpoint.
        quiet: no progress bars.
        loaded: what `load_model_and_tokenizer` gave, where the caller has it already.
        audit: what an audit before the run found, kept in ``audit.json``; its ``markdown`` goes into the model card.
        profiled_steps: record a trace of this many steps, after the first, in ``profile.json``.

    Raises:
        UniSDError: with one line that says what is wrong and what to do.
    """
    started = time.perf_counter()
    claim_folder(folder, resume)
    config, values = settings.opened(folder)
    config.disable_tqdm = quiet
    config.about = settings.about()
    data = prepare(settings, config, loaded, progress=not quiet)
    for message in unread_of_run(settings):
        warn(message)
    model, peft_config = settings.lora.begin(data.model)
    trainer = UniSDTrainer(
        model,
        config,
        train_dataset=data.items,
        processing_class=data.tokenizer,
        peft_config=peft_config,
        callbacks=[Profile(folder, profiled_steps)] if profiled_steps else None,
        grader=data.grades,
    )
    rows = fit_rows(trainer, settings, folder, resume)
    if trainer.is_world_process_zero() and not resume:
        # Only now: whatever was wrong with settings, data or model has been said, and nothing lies in the folder.
        write_text(folder / CONFIG_FILE, dumped(values))
        if rows is not None:
            write_json(folder / ROWS_FILE, rows)
        if audit is not None:
            write_json(folder / AUDIT_FILE, audit)
    if trainer.is_world_process_zero():
        keep_start(trainer.model, settings, folder)
    trainer.train(resume_from_checkpoint=bool(resume and last_complete(checkpoint_folder(folder))))
    acting, steps = trainer.acting(), trainer.state.global_step
    weights = folder / ("adapter" if has_adapter(trainer.model) else "model")
    trainer.save_weights(weights)
    result = RunResult(folder, weights, steps, time.perf_counter() - started, acting, trainer)
    if trainer.is_world_process_zero():
        card = model_card(settings, trainer.model, steps, len(data.examples), acting, _audit_notes(folder))
        write_text(weights / "README.md", card)
        summary = {
            "steps": steps,
            "seconds": round(result.seconds, 1),
            "peak_memory_bytes": peak_memory_bytes(),
            "items": len(data.examples),
            "dropped": {**data.dropped, **trainer.dropped},
            "mechanisms": [vars(found) for found in acting],
        }
        write_json(folder / SUMMARY_FILE, summary)
    trainer.leave_ranks()
    return result


def keep_start(model: nn.Module, settings: RunSettings, folder: Path) -> None:
    """Keep in a run's folder what it began from, where that is an adapter: ``start/``, and ``base/`` once merged."""
    name = settings.model.name
    if not is_adapter(name):
        return
    start, base = (folder / part for part in ("start", "base"))
    if not start.is_dir():
        with replacing_folder(start) as temporary:
            for file in Path(weights_folder(name)).glob("adapter_*"):
                shutil.copy(file, temporary)
    if settings.lora.start == "merge" and has_adapter(model):
        if not base.is_dir():
            # The merged model without the new adapter: its own tensors by their own names.
            names, bare = bare_names(model), base_model(model)
            state = {names[key]: value for key, value in model.state_dict().items() if key in names}
            with replacing_folder(base) as temporary, silent_bars():
                bare.save_pretrained(temporary, state_dict=state)  # type: ignore[operator]
        for adapter in active_names(model):
            model.peft_config[adapter].base_model_name_or_path = str(base.resolve())  # type: ignore[index, union-attr]


def _audit_notes(folder: Path) -> str:
    path = folder / AUDIT_FILE
    return str(json.loads(path.read_text(encoding="utf-8")).get("markdown", "")) if path.is_file() else ""
