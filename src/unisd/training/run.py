"""One run, from settings to a trained model in a folder."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from unisd import fast
from unisd.contexts import Item, Making, PromptBuilder, make_contexts
from unisd.errors import UsageError
from unisd.files import stable_integer, write_json, write_text
from unisd.mechanisms import Acting
from unisd.models import load_model, load_tokenizer
from unisd.models.load import weights_fingerprint
from unisd.rollout import CompletionStore, make_sampler
from unisd.tasks import Example, Task, get, grade_all
from unisd.training.arguments import UniSDConfig
from unisd.training.card import model_card
from unisd.training.checkpoints import checkpoint_folder, last_complete
from unisd.training.plan import Grader
from unisd.training.profiling import Profile
from unisd.training.progress import warn
from unisd.training.runfile import RunSettings, assemble, dumped, first_difference, written
from unisd.training.telemetry import peak_memory_bytes
from unisd.training.trainer import UniSDTrainer, needed

CONFIG_FILE = "config.yaml"
SUMMARY_FILE = "summary.json"
AUDIT_FILE = "audit.json"


@dataclass
class Prepared:
    """Training data with its contexts, ready for the trainer."""

    items: list[Item]
    examples: list[Example]
    dropped: dict[str, int] = field(default_factory=dict)
    """Contexts that were written or drawn and then dropped, by reason."""


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


def load_examples(settings: RunSettings) -> tuple[Task, list[Example]]:
    """Load the task and its training items.

    Raises:
        UsageError: an unknown task, split or source; a task without demonstrations.
    """
    task = get(settings.task.name)
    examples = task.load(settings.task.split or task.splits[0], settings.task.source)
    seed = int(settings.training.get("seed", 42))
    if settings.task.limit is not None and settings.task.limit < len(examples):
        examples = sorted(examples, key=lambda e: stable_integer(seed, "train", e.id))[: settings.task.limit]
    if any(example.demonstration is None for example in examples):
        raise UsageError(f"task.name: {task.name} has items without a demonstration; it is for evaluation only")
    return task, examples


def prepare(
    config: UniSDConfig,
    task: Task,
    examples: Sequence[Example],
    model: nn.Module,
    tokenizer: Any,
    progress: bool = True,
) -> Prepared:
    """Build the contexts that the settings ask for; what the model writes is cached and resumable."""
    making = Making(
        task,
        examples,
        sampler=make_sampler(model, tokenizer, config.rollout.batch_size),
        builder=PromptBuilder(tokenizer, config.contexts.layout, config.contexts.words),
        store=lambda: CompletionStore.in_cache("contexts", task.name, weights_fingerprint(model)),
        seed=config.seed,
        encoder=config.contexts.encoder,
        temperature=config.rollout.temperature,
        room=min(config.rollout.max_completion_length, 256),
        max_prompt_length=config.contexts.max_prompt_length,
        progress=progress,
    )
    items, dropped, notes = make_contexts(needed(config), making)
    for note in notes:
        warn(note)
    return Prepared(items, list(examples), dropped)


def settings_to_resume(folder: Path, asked: RunSettings | None) -> RunSettings:
    """Return the settings that a run was started with; those asked for now must be the same.

    Raises:
        UsageError: they differ; the message names the first difference.
    """
    kept = assemble(file=folder / CONFIG_FILE)
    if asked is not None:
        found = first_difference(written(kept, kept.config(folder)), written(asked, asked.config(folder)))
        if found is not None:
            name, was, now = found
            raise UsageError(f"--resume: {name} is {now!r} but the run in {folder} has {was!r}; leave it out")
    return kept


def load_model_and_tokenizer(settings: RunSettings) -> tuple[nn.Module, Any]:
    """Load what is adapted, and take fast paths from here on as the settings say."""
    fast.use(settings.model.fast)
    asked, trust = settings.model, settings.model.trust_remote_code
    model = load_model(asked.name, asked.dtype, trust, asked.attention, asked.quantization)
    return model, load_tokenizer(asked.name, trust)


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
        loaded: what :func:`load_model_and_tokenizer` gave, where the caller has it already.
        audit: what an audit before the run found, kept in ``audit.json``; its ``markdown`` goes into the model card.
        profiled_steps: record a trace of this many steps, after the first, in ``profile.json``.

    Raises:
        UniSDError: with one line that says what is wrong and what to do.
    """
    started = time.perf_counter()
    claim_folder(folder, resume)
    config = settings.config(folder)
    # Taken down now: making a second configuration later would reset the state of accelerate under the trainer.
    kept = dumped(written(settings, config))
    config.disable_tqdm = quiet
    config.about = settings.about()
    task, examples = load_examples(settings)
    model, tokenizer = loaded or load_model_and_tokenizer(settings)
    prepared = prepare(config, task, examples, model, tokenizer, progress=not quiet)
    trainer = UniSDTrainer(
        model,
        config,
        train_dataset=prepared.items,
        processing_class=tokenizer,
        peft_config=settings.lora.peft_config(model) if settings.lora.enabled else None,
        callbacks=[Profile(folder, profiled_steps)] if profiled_steps else None,
        grader=_grader(task, examples),
    )
    first = trainer.is_world_process_zero()
    if first and not resume:
        # Only now: whatever was wrong with settings, data or model has been said, and nothing lies in the folder.
        write_text(folder / CONFIG_FILE, kept)
        if audit is not None:
            write_json(folder / AUDIT_FILE, audit)
    trainer.train(resume_from_checkpoint=bool(resume and last_complete(checkpoint_folder(folder))))
    weights = folder / ("adapter" if settings.lora.enabled else "model")
    trainer.save_weights(weights)
    acting = trainer.acting()
    result = RunResult(folder, weights, trainer.state.global_step, time.perf_counter() - started, acting, trainer)
    if first:
        card = model_card(settings, trainer.state.global_step, len(examples), acting, _audit_notes(folder))
        write_text(weights / "README.md", card)
        write_json(folder / SUMMARY_FILE, _summary(result, prepared))
    trainer.leave_ranks()
    return result


def _grader(task: Task, examples: Sequence[Example]) -> Grader:
    known = {example.id: example for example in examples}

    def grades(ids: Sequence[str], texts: Sequence[str]) -> list[float]:
        return [float(grade.correct) for grade in grade_all(task, [known[name] for name in ids], texts)]

    return grades


def _audit_notes(folder: Path) -> str:
    path = folder / AUDIT_FILE
    return str(json.loads(path.read_text(encoding="utf-8")).get("markdown", "")) if path.is_file() else ""


def _summary(result: RunResult, prepared: Prepared) -> dict[str, Any]:
    return {
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "peak_memory_bytes": peak_memory_bytes(),
        "items": len(prepared.examples),
        "dropped": {**prepared.dropped, **result.trainer.dropped},
        "mechanisms": [vars(acting) for acting in result.acting],
    }
