"""``unisd evaluate``."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unisd.cli.answer import Answer
from unisd.cli.own_choices import choose, taken
from unisd.cli.placing import add_device_arguments, check_models
from unisd.errors import UsageError, warn

EXAMPLE = """example:
  unisd evaluate runs/first --base
  unisd evaluate smollm2-135m runs/first --limit 50 --output compared
  unisd evaluate runs/first --task all --source data --base --retention
  unisd evaluate runs/first --task mbpp --samples 10 --temperature 0.8
  unisd evaluate runs/first --regrade"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", nargs="+", help="run folders, adapters, model folders, short names or hub ids")
    parser.add_argument(
        "--task", action="append", help="a task (unisd list tasks), or all; repeatable; default: what the run learned"
    )
    parser.add_argument(
        "--source",
        help="where the data lies: hub, sample, or a folder with the official files (of one or many tasks); "
        "default: where the run has its task from, else the task's",
    )
    parser.add_argument("--split", help="default: each task's evaluation split")
    parser.add_argument("--limit", type=int, help="ask this many items of each task, drawn by a stable hash")
    parser.add_argument("--max-new-tokens", type=int, help="room for an answer; default: the run's, else the task's")
    parser.add_argument("--batch-size", type=int, default=32, help="answers written at a time")
    parser.add_argument("--samples", type=int, default=1, help="answers per item, for pass@k; needs --temperature")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (the default) is greedy")
    parser.add_argument("--top-p", type=float, default=1.0, help="nucleus of the samples")
    parser.add_argument("--top-k", type=int, default=0, help="only so many of the likeliest tokens; 0 keeps all")
    parser.add_argument("--min-p", type=float, default=0.0, help="only tokens this share as likely as the likeliest")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, help="above 1: repeats become less likely")
    parser.add_argument("--seed", type=int, default=42, help="seed of the samples")
    parser.add_argument(
        "--template-kwargs",
        metavar="YAML",
        help="what the chat template reads besides, such as '{enable_thinking: false}'; default: as a run was trained",
    )
    parser.add_argument(
        "--thoughts", choices=("cut", "keep"), help="what a model thinks, before grading; default: the run's, else cut"
    )
    add_device_arguments(parser)
    parser.add_argument("--base", action="store_true", help="ask what each model was adapted from, too, and compare")
    parser.add_argument(
        "--likelihood", action="store_true", help="perplexity of gold answers; calibration of multiple choice"
    )
    parser.add_argument(
        "--retention",
        action="store_true",
        help="distance to the base: PPL_ret, divergences, length and entropy drift, instructions still followed",
    )
    parser.add_argument(
        "--instructions", type=int, metavar="N", help="so many instructions for --retention; 0 asks none; default: all"
    )
    parser.add_argument("--regrade", action="store_true", help="grade the answers that were kept again; asks nothing")
    parser.add_argument("--fresh", action="store_true", help="do not use answers that earlier evaluations kept")
    parser.add_argument(
        "--output", type=Path, help="a folder, or FILE.json for one model and task; default for a run: its evaluation/"
    )
    parser.add_argument("--max-time", metavar="TIME", help="stop then, with answers kept: 90m, 2h30m, or seconds")
    parser.add_argument("--quiet", action="store_true", help="no progress bars and no table")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> Answer:
    """Evaluate."""
    from unisd.files import check_writable

    for name in ("limit", "max_new_tokens", "batch_size", "samples"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')}: {value} is not allowed; use 1 or more")
    if not 0 <= arguments.temperature < float("inf") or not 0 < arguments.top_p <= 1:
        raise UsageError("--temperature must be 0 or more, --top-p in (0, 1]")
    if arguments.top_k < 0 or not 0 <= arguments.min_p <= 1 or not 0 < arguments.repetition_penalty < float("inf"):
        raise UsageError("--top-k must be 0 or more, --min-p in [0, 1], --repetition-penalty above 0")
    filters = {"--top-k": arguments.top_k > 0, "--top-p": arguments.top_p < 1, "--min-p": arguments.min_p > 0}
    if arguments.temperature == 0 and (given := [name for name in filters if filters[name]]):
        raise UsageError(f"{given[0]}: greedy answers take the likeliest token anyway; add --temperature 0.7")
    if arguments.samples > 1 and arguments.temperature == 0:
        raise UsageError(f"--samples {arguments.samples}: greedy answers would be equal; add --temperature 0.7")
    if arguments.instructions is not None and (arguments.instructions < 0 or not arguments.retention):
        why = "it belongs to --retention; add that" if arguments.instructions >= 0 else "use 0 or more"
        raise UsageError(f"--instructions {arguments.instructions}: {why}")
    named = bool(arguments.task)
    own = choose(arguments, arguments.model)
    if _is_file(arguments) and (len(arguments.model) > 1 or len(arguments.task) > 1 or "all" in arguments.task):
        raise UsageError(f"--output {arguments.output}: name a folder for several models or tasks")
    if arguments.output is not None:
        check_writable(arguments.output, "--output", folder=not _is_file(arguments))
        if _is_file(arguments) and not arguments.regrade:
            _refuse_strange(arguments.output)
    if not arguments.regrade:
        check_models(arguments.model)
    if not (arguments.quiet or arguments.json):
        for line in taken(arguments, own, named):
            print(line)
    if arguments.thoughts is None:
        arguments.thoughts = next((said.thoughts for said in own.values()), "cut")
    return _regrade(arguments) if arguments.regrade else _ask(arguments, own)


def _ask(arguments: argparse.Namespace, own: dict[str, Any]) -> Answer:
    from unisd.evaluation.session import Options, load_exams, run_session, write_report, write_result

    chosen = {name: getattr(arguments, name) for name in Options.__dataclass_fields__}
    chosen["template_kwargs"] = template_kwargs(arguments)
    exams, skipped = load_exams(arguments.task, arguments.source, arguments.split, arguments.limit, own)
    if arguments.split is None:
        _warn_of_training_items(exams, own)
    quiet = arguments.quiet or arguments.json
    for label, why in skipped.items():
        if not quiet:
            print(f"left out: {label} ({why})")
    kept: list[Path] = []

    def keep(loaded: Any, result: Any) -> None:
        folder = _folder(arguments, loaded.found.run, loaded.name)
        if folder is None:
            return
        if _is_file(arguments) and not result.model.endswith("(base)"):
            result.evaluation.write(arguments.output, result.more())
            kept.append(arguments.output)
        else:
            kept.append(write_result(result, folder))

    report = run_session(arguments.model, exams, Options(**chosen), keep, progress=not quiet)
    answers = [path.with_suffix(".jsonl") for path in kept]
    if len(report.results) > 1 and (folder := _report_folder(arguments)) is not None:
        kept.append(write_report(report, folder))
    _renew_cards(arguments)
    if not quiet:
        from unisd.cli.evaluation_tables import show_report
        from unisd.cli.report_command import show_page

        show_report(report)
        folder = _report_folder(arguments)
        show_page(folder.parent if folder is not None and arguments.output is None else folder)
        for path in answers:
            print(f"answers in {path}")
    return Answer(report.summary() | {"left_out": skipped}, [*kept, *answers])


def _warn_of_training_items(exams: Sequence[Any], own: dict[str, Any]) -> None:
    """Warn where a run is asked, by default, the items that it was trained on."""
    for exam in exams:
        said = own.get(exam.label)
        split = exam.origin["split"]
        if said is not None and said.source == exam.origin["source"] and (said.split or exam.task.splits[0]) == split:
            warn(f"{said.run} was trained on the split '{split}' of {exam.label}, which it is asked now: the answers "
                 "say nothing of new items; ask others with --split or --source")  # fmt: skip


def _renew_cards(arguments: argparse.Namespace) -> None:
    """Put what was measured into the model cards of the runs in whose folders it lies."""
    from unisd.errors import UniSDError, warn
    from unisd.evaluation.results import renew_card

    for name in arguments.model if arguments.output is None else ():
        try:
            renew_card(Path(name))
        except UniSDError as error:  # what was measured is kept all the same
            warn(f"the model card stays as it was: {error}")


def template_kwargs(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Return what ``--template-kwargs`` says, checked."""
    from unisd.rollout.messages import checked_variables
    from unisd.training.runfile import parse_override

    if arguments.template_kwargs is None:
        return None
    given = parse_override(f"contexts.template_kwargs={arguments.template_kwargs}")["contexts"]["template_kwargs"]
    return checked_variables(given or {}, "--template-kwargs")


def _regrade(arguments: argparse.Namespace) -> Answer:
    from unisd.cli.tables import EVALUATION_COLUMNS, evaluation_rows, show, table
    from unisd.evaluation.session import ALL, Exam, regrade_file
    from unisd.tasks import get, names

    found: dict[str, Any] = {}
    files: list[Path] = []
    for name in arguments.model:
        run_folder = Path(name) if (Path(name) / "config.yaml").is_file() else None
        folder = _folder(arguments, run_folder, name)
        if folder is None:
            raise UsageError(f"--regrade: {name} is no run; say with --output where its answers lie")
        answered = [label for label in names() if (folder / f"{label}.json").is_file()]
        for label in dict.fromkeys(
            each for asked in arguments.task for each in (answered if asked == ALL else [asked])
        ):
            task = get(label)
            stem = folder / Exam(label, task, []).file_name
            path = arguments.output if _is_file(arguments) else stem.with_name(f"{stem.name}.json")
            for model, file in ((name, path), (f"{name} (base)", path.with_name(f"{path.stem}-base.json"))):
                if file == path or file.is_file():
                    graded = regrade_file(task, file, arguments.thoughts)
                    found[f"{model}, {label}"] = graded | {"model": model, "label": label}
                    files += [file, file.with_suffix(".jsonl")]
        if (folder / "report.json").is_file() and not (arguments.quiet or arguments.json):
            print(f"{folder / 'report.json'} holds the former grades; evaluate again to renew it")
    _renew_cards(arguments)
    if not found:
        raise UsageError("--regrade: no answers of any task lie there; evaluate first, or name the task")
    if not (arguments.quiet or arguments.json):
        show(table("Graded again (95 % intervals)", EVALUATION_COLUMNS, evaluation_rows(found)))
    return Answer({"results": list(found.values())}, files)


def _refuse_strange(path: Path) -> None:
    """Raise UsageError where a file lies that no evaluation wrote: it is somebody's, and would be lost."""
    if path.is_file():
        try:
            ours = '"metric"' in path.read_text(encoding="utf-8") and path.with_suffix(".jsonl").is_file()
        except (OSError, UnicodeDecodeError):
            ours = False
        if not ours:
            raise UsageError(f"--output {path}: a file that is no evaluation lies there; choose another name")


def _is_file(arguments: argparse.Namespace) -> bool:
    return arguments.output is not None and arguments.output.suffix == ".json"


def _folder(arguments: argparse.Namespace, run_folder: Path | None, name: str) -> Path | None:
    """Return where a model's answers are kept; None where nothing says so."""
    if arguments.output is None:
        return run_folder / "evaluation" if run_folder is not None else None
    if _is_file(arguments):
        return Path(arguments.output.parent)
    folder: Path = arguments.output
    if len(arguments.model) == 1:
        return folder
    same = [model for model in dict.fromkeys(arguments.model) if Path(model).name == Path(name).name]
    # Two models of one name get their whole paths.
    return folder / (Path(name).name if len(same) == 1 else re.sub(r"[^\w.-]+", "-", name.strip("/")))


def _report_folder(arguments: argparse.Namespace) -> Path | None:
    """Return where the comparison is kept: the output folder, or the only run's own."""
    if arguments.output is not None:
        return None if _is_file(arguments) else Path(arguments.output)
    run = Path(arguments.model[0])
    return run / "evaluation" if len(arguments.model) == 1 and (run / "config.yaml").is_file() else None
