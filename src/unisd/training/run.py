"""One run, from settings to a trained model in a folder."""

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback

from unisd.errors import Stopped, UniSDError, UsageError, warn
from unisd.files import contents, first_damage, is_partial, remove_partial, replacing_folder, write_json, write_text
from unisd.mechanisms import Acting
from unisd.models import has_adapter
from unisd.models.adapters import active_names, bare_names
from unisd.models.default import silent_bars
from unisd.models.load import base_model, base_of, is_adapter, resolve, weights_folder
from unisd.models.origin import BASE_FILE, keep_bases, placed_name
from unisd.training.arguments import UniSDConfig
from unisd.training.card import card_of, facts
from unisd.training.checkpoints import checkpoint_folder, has_marked
from unisd.training.lock import LOCK_FILE, run_lock
from unisd.training.planning import ROWS_FILE
from unisd.training.prepare import Prepared, prepare
from unisd.training.profiling import Profile
from unisd.training.runfile import RunSettings, assemble, differences, dumped, read_run_file
from unisd.training.signals import STOP
from unisd.training.telemetry import METRICS_FILE, peak_memory_bytes
from unisd.training.trainer import UniSDTrainer
from unisd.training.unread import unread_of_run

CONFIG_FILE = "config.yaml"
SUMMARY_FILE = "summary.json"
AUDIT_FILE = "audit.json"
FINISHED_FILE = "finished.json"
"""The last file of a run: its steps, and hashes of the weights that it gave."""
_BEFORE = (LOCK_FILE, ROWS_FILE, AUDIT_FILE)
"""What a run may have left that was killed before its ``config.yaml`` was there: nothing that would be missed."""
_LONGER = ("training.max_steps", "training.num_train_epochs")
_SPLIT = ("training.per_device_train_batch_size", "training.gradient_accumulation_steps")
"""How a step's rows are shared out, for another number of processes: the checkpoint knows how many they must be."""


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

    What a run left that was killed before its settings were kept is free, too, and begins anew with ``resume``.

    Raises:
        UsageError: the folder is in use, or holds no run to resume, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder}: a file of that name exists; choose another folder")
    there = list(folder.iterdir()) if folder.is_dir() else []
    foreign = [path for path in there if path.name not in _BEFORE and not is_partial(path)]
    if resume:
        if not (folder / CONFIG_FILE).is_file() and (foreign or not there):
            raise UsageError(f"--resume: {folder} holds no {CONFIG_FILE}, so there is no run to resume; check --output")
        return
    if foreign:
        instead = "" if resume is None else ", or add --resume to go on with its run"
        raise UsageError(f"--output {folder}: the folder is in use; choose another{instead}")
    parent = next(p for p in [folder, *folder.parents] if p.exists())
    if not os.access(parent, os.W_OK):
        raise UsageError(f"--output {folder}: no permission to write in {parent}; choose another folder")


def settings_to_resume(folder: Path, asked: RunSettings | None) -> RunSettings:
    """Return the settings that a run goes on with: those it was started with, with what may be changed if asked for.

    Raises:
        UsageError: others are asked for; the message names the first difference.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        if asked is None:
            raise UsageError(f"--resume: {folder} was left before its settings were kept; give --recipe as at first")
        return asked
    kept = assemble(file=file)
    changed = {}
    if asked is not None:
        for name, was, now in differences(kept.opened(folder)[1], asked.opened(folder)[1]):
            higher = name in _LONGER and isinstance(was, int | float) and now > was > 0
            if not higher and name not in _SPLIT:
                raise UsageError(
                    f"--resume: {name} is {now!r} but the run in {folder} has {was!r}; leave it out: --resume alone "
                    "goes on with the run's own settings"
                )
            changed[name.partition(".")[2]] = now
    kept.training |= changed
    return kept


def finished(folder: Path) -> int | None:
    """Return how many steps a finished run took, or None: it is not finished, or its weights are not what it saved."""
    try:
        said = json.loads((folder / FINISHED_FILE).read_text(encoding="utf-8"))
        if first_damage(folder / said["weights"], said["files"]):
            return None
        for name, entry in said["beside"].items():
            if (why := first_damage(folder, {name: entry})) is not None:
                warn(f"{folder}: {why} since the run was finished; its weights are as they were")
        return int(said["steps"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def is_longer(folder: Path, settings: RunSettings) -> bool:
    """Return whether ``settings`` ask for more steps or epochs than the finished run in a folder was started with.

    Raises:
        UsageError: they do, and the run kept no checkpoint to go on from.
    """
    kept = assemble(file=folder / CONFIG_FILE).training
    found = any(settings.training.get(n) != kept.get(n) for n in (name.partition(".")[2] for name in _LONGER))
    if found and not has_marked(checkpoint_folder(folder)):
        raise UsageError(f"--resume: the run in {folder} is finished and kept no checkpoint; start a longer one anew")
    return found


def train_run(
    settings: RunSettings,
    folder: str | Path,
    resume: bool = False,
    quiet: bool = False,
    loaded: tuple[nn.Module, Any] | None = None,
    audit: dict[str, Any] | None = None,
    profiled_steps: int = 0,
    callbacks: Sequence[TrainerCallback] = (),
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
        callbacks: further ones of transformers' kind.

    Raises:
        UniSDError: with one line that says what is wrong and what to do.
    """
    first, folder = os.environ.get("RANK", "0") == "0", Path(folder)
    claim_folder(folder, resume)
    with run_lock(folder, owner=first):
        if first:
            claim_folder(folder, resume)  # nobody else writes there from here on
            remove_partial(folder)
        resume = resume and (folder / CONFIG_FILE).is_file()
        return _train(settings, folder, resume, quiet, loaded, audit, profiled_steps, callbacks)


def _train(
    settings: RunSettings,
    folder: Path,
    resume: bool,
    quiet: bool,
    loaded: tuple[nn.Module, Any] | None,
    audit: dict[str, Any] | None,
    profiled_steps: int,
    callbacks: Sequence[TrainerCallback],
) -> RunResult:
    started = time.perf_counter()
    config, values = settings.opened(folder)
    config.disable_tqdm = quiet
    config.about = settings.about()
    data = prepare(settings, config, loaded, progress=not quiet)
    trainer = trainer_of(
        settings, config, data, [*([Profile(folder, profiled_steps)] if profiled_steps else []), *callbacks]
    )
    for message in unread_of_run(settings):
        warn(message)
    trainer.make_ahead(say=None if quiet else _say)
    if trainer.is_world_process_zero():
        _keep_settings(folder, values, audit)
        keep_start(trainer.model, settings, folder)
    with STOP.finishing():
        trainer.train(resume_from_checkpoint=resume and has_marked(checkpoint_folder(folder)))
    if trainer.stopping.reason:
        raise _stopped(trainer, folder)
    acting, steps = trainer.acting(), trainer.state.global_step
    weights = folder / ("adapter" if has_adapter(trainer.model) else "model")
    trainer.save_weights(weights)
    result = RunResult(folder, weights, steps, time.perf_counter() - started, acting, trainer)
    if trainer.is_world_process_zero():
        args, items = trainer.args, len(data.examples)
        rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        summary = {
            "steps": steps,
            "seconds": round(result.seconds, 1),
            "peak_memory_bytes": peak_memory_bytes(),
            "items": items,
            **facts(trainer.model, steps, items, rows, trainer.mechanisms.uses),
            "dropped": {**data.dropped, **(data.later.dropped if data.later else {}), **trainer.dropped},
            "mechanisms": [vars(found) for found in acting],
        }
        write_json(folder / SUMMARY_FILE, summary)
        write_text(weights / "README.md", card_of(folder))
        write_json(folder / FINISHED_FILE, _finish(folder, weights, steps))
    trainer.leave_ranks()
    return result


def trainer_of(
    settings: RunSettings, config: UniSDConfig, data: Prepared, callbacks: list[TrainerCallback] | None = None
) -> UniSDTrainer:
    """Return the trainer of a run, on what was prepared for it.

    Raises:
        UniSDError: with one line that says what is wrong and what to do.
    """
    model, peft_config = settings.lora.begin(data.model)
    return UniSDTrainer(
        model,
        config,
        train_dataset=data.items,
        processing_class=data.tokenizer,
        peft_config=peft_config,
        callbacks=callbacks,
        grader=data.grades,
        later=data.later,
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _finish(folder: Path, weights: Path, steps: int) -> dict[str, Any]:
    beside = contents(folder, names=[CONFIG_FILE, METRICS_FILE, SUMMARY_FILE])
    return {"steps": steps, "weights": weights.name, "files": contents(weights, ["README.md"]), "beside": beside}


def _keep_settings(folder: Path, values: dict[str, Any], audit: dict[str, Any] | None) -> None:
    """Write what a run is into its folder, where it does not stand there: only now, when whatever was wrong with
    settings, data or model has been said. The settings come last, for with them the folder is a run's."""
    (folder / FINISHED_FILE).unlink(missing_ok=True)
    if audit is not None:
        write_json(folder / AUDIT_FILE, audit)
    file = folder / CONFIG_FILE
    if not file.is_file() or read_run_file(file).get("training") != values["training"]:
        write_text(file, dumped(values))


def _stopped(trainer: UniSDTrainer, folder: Path) -> UniSDError:
    """Say where a run was left, and how it goes on; the ranks are left."""
    step, of, why = trainer.state.global_step, trainer.state.max_steps, trainer.stopping.reason
    saved = "the model alone, as save_only_model asks, so no run goes on from it"
    if not trainer.args.save_only_model:
        saved = f"to go on: unisd train --output {folder} --resume"
    trainer.leave_ranks()
    return Stopped(f"stopped by {why} after step {step} of {of}, which is saved; {saved}")


def keep_start(model: nn.Module, settings: RunSettings, folder: Path) -> None:
    """Keep in a run's folder what it began from: the name of its base, and where that is an adapter its weights, too.

    An adapter that is trained on lies in ``start/``, and what it was merged into in ``base/``.
    """
    name, merge = settings.model.name, settings.lora.start == "merge"
    start, base = (folder / part for part in ("start", "base"))
    belongs_on, before = name, None
    if is_adapter(name):
        belongs_on = before = base_of(weights_folder(name))
        if not start.is_dir():
            with replacing_folder(start) as temporary:
                for file in Path(weights_folder(name)).glob("adapter_*"):
                    shutil.copy(file, temporary)
        if merge and has_adapter(model):
            belongs_on = str(base)
            if not base.is_dir():
                # The merged model without the new adapter: its own tensors by their own names.
                names, bare = bare_names(model), base_model(model)
                state = {names[key]: value for key, value in model.state_dict().items() if key in names}
                with replacing_folder(base) as temporary, silent_bars():
                    bare.save_pretrained(temporary, state_dict=state)  # type: ignore[operator]
    at = placed_name(resolve(belongs_on))
    for adapter in active_names(model) if has_adapter(model) else ():
        model.peft_config[adapter].base_model_name_or_path = at  # type: ignore[index, union-attr]
    if not (folder / BASE_FILE).is_file():
        keep_bases(folder, at if has_adapter(model) else None, before and placed_name(resolve(before)))
