"""``unisd train``."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from unisd.cli.answer import Answer
from unisd.cli.placing import check_models

EXAMPLE = """example:
  unisd train --recipe unisd --task cos_e --model smollm2-135m --output runs/first
  unisd train --recipe unisd --output runs/first --resume
  unisd train my_run.yaml --output runs/mine --set teacher.decay=0.98 --set training.learning_rate=2e-4
  unisd train --recipe unisd --model qwen2.5-7b --plan --memory 80"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_run_arguments(parser)
    parser.add_argument("--output", type=Path, help="the run's folder")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder, bit for bit")
    parser.add_argument("--max-time", metavar="TIME", help="stop after the last step that fits: 90m, 2h30m, seconds")
    parser.add_argument(
        "--audit", type=int, metavar="N", help="first measure on N training items what the teacher has to teach"
    )
    parser.add_argument(
        "--profile", type=int, nargs="?", const=1, default=0, metavar="STEPS", help="write a trace of a step (or STEPS)"
    )
    parser.add_argument("--dry-run", action="store_true", help="check and print all settings; load and train nothing")
    plan = parser.add_argument_group("plan", "what a step needs, without weights and without the device")
    plan.add_argument("--plan", action="store_true", help="print memory by phase, tokens, operations; train nothing")
    plan.add_argument("--memory", type=float, metavar="GIB", help="of the device: rows are chosen to fit into it")
    plan.add_argument("--ranks", type=int, metavar="N", help="processes that share a step; default 1")
    plan.add_argument("--prompt-tokens", type=int, metavar="N", help="a prompt's length; default 512")
    plan.add_argument("--context-tokens", type=int, metavar="N", help="what each context adds to it; default 512")
    parser.add_argument("--quiet", action="store_true", help="no progress bars and no table")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


_OF_A_PLAN = ("memory", "ranks", "prompt_tokens", "context_tokens")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what says which run is meant: what is trained, on what, how."""
    parser.add_argument("file", nargs="?", type=Path, help="a run file (YAML): any settings, as in a run's config.yaml")
    parser.add_argument("--recipe", help="a recipe (unisd list recipes)")
    parser.add_argument("--task", help="a task (unisd list tasks); default cos_e")
    parser.add_argument("--source", help="where the task's data lies: hub, sample, or a folder with the official files")
    parser.add_argument("--model", help="a short name (unisd list models), a hub id or a folder; default smollm2-135m")
    parser.add_argument("--device", help="auto, cpu, or as PyTorch names it; default auto; for a plan cuda")
    parser.add_argument("--set", action="append", default=[], metavar="GROUP.FIELD=VALUE", help="override a setting")


def run(arguments: argparse.Namespace) -> Answer:
    """Train."""
    from unisd.errors import UsageError, warn
    from unisd.files import remove_partial

    if arguments.model is not None and not (arguments.plan or arguments.dry_run):
        check_models([arguments.model])
    from unisd.training.lock import run_lock
    from unisd.training.runfile import assemble

    given = given_settings(arguments)
    chosen = bool(arguments.file or arguments.recipe)
    if not chosen and not arguments.resume:
        raise UsageError("train: nothing to train; give --recipe NAME or a run file (unisd list recipes)")
    settings = assemble(arguments.recipe, arguments.file, arguments.set, given) if chosen else None
    if arguments.plan:
        return _plan(settings, arguments)
    if strange := [name for name in _OF_A_PLAN if getattr(arguments, name) is not None]:
        raise UsageError(f"--{strange[0].replace('_', '-')}: it belongs to --plan; add that, or leave it out")
    if arguments.output is None:
        raise UsageError("--output: a run needs a folder of its own; name one, for example --output runs/first")
    if arguments.dry_run:
        return _dry_run(settings, arguments)
    from unisd.training.run import claim_folder, finished, is_longer, settings_to_resume

    if arguments.profile < 0:
        raise UsageError(f"--profile {arguments.profile}: use 1 step or more")
    output = arguments.output
    claim_folder(output, arguments.resume)
    if arguments.resume:
        settings = settings_to_resume(output, settings or _asked(arguments, given))
        if arguments.audit is not None:
            warn("--audit: a run that goes on is not audited; unisd audit measures by itself")
    assert settings is not None
    with run_lock(output, owner=os.environ.get("RANK", "0") == "0"):
        steps = finished(output) if arguments.resume else None
        if steps is not None and not is_longer(output, settings):
            remove_partial(output)
            return _is_finished(arguments, steps)
        return _train(settings, arguments)


def _asked(arguments: argparse.Namespace, given: dict[str, Any]) -> Any:
    """Return what was asked for beside ``--resume``, laid over the run's own settings; None: nothing."""
    from unisd.training.runfile import assemble

    kept = arguments.output / "config.yaml"
    return (
        assemble(file=kept, overrides=arguments.set, given=given)
        if (arguments.set or given) and kept.is_file()
        else None
    )


def _is_finished(arguments: argparse.Namespace, steps: int) -> Answer:
    if os.environ.get("RANK", "0") == "0" and not (arguments.quiet or arguments.json):
        print(f"{arguments.output} is finished ({steps} steps): nothing was changed; to go on, ask for more steps, "
              "for example --set training.max_steps=N")  # fmt: skip
    return Answer(_summary(arguments.output))


def _summary(folder: Path) -> Any:
    file = folder / "summary.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _train(settings: Any, arguments: argparse.Namespace) -> Answer:
    from unisd.training.repeat import evaluate_run
    from unisd.training.run import train_run

    first = os.environ.get("RANK", "0") == "0"
    quiet = arguments.quiet or arguments.json or not first
    loaded = audit = None
    if arguments.audit is not None and not arguments.resume:
        loaded, audit = _audited(settings, arguments, quiet)
    result = train_run(settings, arguments.output, arguments.resume, quiet, loaded, audit, arguments.profile)
    if not quiet:
        from unisd.cli.tables import mechanisms_table, show

        show(mechanisms_table(result.acting))
        print(f"{result.steps} steps in {result.seconds:.0f} s; weights in {result.weights}")
        print(f"next: {evaluate_run(arguments.output)}")
    files = [arguments.output / name for name in ("config.yaml", "metrics.jsonl", "summary.json")]
    return Answer(_summary(arguments.output), [result.weights, *files])


def _audited(settings: Any, arguments: argparse.Namespace, quiet: bool) -> tuple[Any, dict[str, Any]]:
    """Audit with the model that is then trained; return both."""
    from unisd.cli.audit_command import show_audit
    from unisd.errors import UsageError
    from unisd.evaluation.audit import Auditor, audit_sample
    from unisd.models.load import load_model_and_tokenizer, weights_fingerprint
    from unisd.rollout import CompletionStore, make_sampler
    from unisd.training.prepare import load_examples

    if arguments.audit < 2 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("--audit: use 2 items or more and one process; with several, run unisd audit before")
    task, examples = load_examples(settings)
    config = settings.config(arguments.output)
    model, tokenizer = load_model_and_tokenizer(settings.model, config.device)
    groups, seed = settings.groups, int(settings.training.get("seed", 42))
    auditor = Auditor(
        task,
        examples,
        model,
        make_sampler(model, tokenizer),
        config.contexts.builder(tokenizer),
        CompletionStore.in_cache("contexts", task.name, weights_fingerprint(model)),
        max_new_tokens=groups.get("rollout", {}).get("max_completion_length"),
        seed=seed,
        progress=not quiet,
    )
    found = auditor.audit(audit_sample(examples, arguments.audit, seed))
    if not quiet:
        show_audit(found)
    return (model, tokenizer), found.summary() | {"markdown": found.markdown()}


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what ``--task``, ``--source``, ``--model`` and ``--device`` say, as nested settings."""
    given: dict[str, Any] = {}
    for group, name, value in (
        ("task", "name", arguments.task),
        ("task", "source", arguments.source),
        ("model", "name", arguments.model),
        ("model", "device", None if getattr(arguments, "plan", False) else arguments.device),
    ):
        if value is not None:
            given.setdefault(group, {})[name] = value
    return given


def _plan(settings: Any, arguments: argparse.Namespace) -> Answer:
    """Print what a step needs."""
    from unisd.errors import UsageError
    from unisd.training.forecast import Lengths
    from unisd.training.planning import GIB, lines, planned

    if settings is None:
        raise UsageError("--plan: give --recipe NAME or a run file")
    if arguments.memory is not None and not arguments.memory > 0:
        raise UsageError(f"--memory {arguments.memory:g}: give the device's memory in GiB, for example 80")
    for name in ("ranks", "prompt_tokens", "context_tokens"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: use 1 or more")
    device = arguments.device or "cuda"
    if device not in ("cuda", "cpu"):
        raise UsageError(f"--device {device}: a plan is for cuda or cpu; choose one of them")
    memory = None if arguments.memory is None else int(arguments.memory * GIB)
    lengths = Lengths(arguments.prompt_tokens or 512, arguments.context_tokens or 512)
    found = planned(settings, device, memory, arguments.ranks or 1, lengths)
    if not arguments.json:
        print("\n".join(lines(found, settings.model.name)))
    return Answer(found.plain())


def _dry_run(settings: Any, arguments: argparse.Namespace) -> Answer:
    from unisd.errors import UsageError

    if settings is None:
        raise UsageError("--dry-run: give --recipe NAME or a run file")
    settings.config(arguments.output)
    from unisd.tasks import get

    get(settings.task.name)
    if not arguments.json:
        print(json.dumps(settings.plain(), indent=2))
    return Answer(settings.plain())
