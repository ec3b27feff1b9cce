"""``unisd study``."""

import argparse
import sys
from pathlib import Path
from typing import Any

from unisd.cli.answer import Answer

EXAMPLE = """example:
  unisd study docs/studies/house.yaml --dry-run
  unisd study docs/studies/house.yaml --output studies/house --workers 1
  unisd study docs/studies/house.yaml --output studies/house --status
  unisd study docs/studies/paper.yaml --output /shared/paper --on slurm --option slurm_partition=gpu
  unisd report studies/house"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", type=Path, help="the study (YAML; see docs/studies.md)")
    parser.add_argument("--output", type=Path, help="where results lie; default studies/ and the study's name")
    parser.add_argument("--on", default="local", metavar="ENGINE", help="local (default), slurm or ray")
    parser.add_argument("--workers", type=int, help="jobs at a time; default: one per accelerator, or per two cores")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="for slurm what sbatch takes, as submitit names it; for ray what ray.init takes; repeatable",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list the jobs, with an estimate of time and cost; run nothing"
    )
    parser.add_argument("--status", action="store_true", help="say what is done and what is left; run nothing")
    parser.add_argument("--max-time", metavar="TIME", help="stop then, with jobs kept as far as they got: 90m, 2h30m")
    parser.add_argument("--quiet", action="store_true", help="say nothing of single jobs")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(arguments: argparse.Namespace) -> Answer:
    """Run a study, or say what there is of it."""
    from unisd.errors import UsageError
    from unisd.studies.settings import read_study

    if arguments.workers is not None and arguments.workers < 1:
        raise UsageError(f"--workers: {arguments.workers} is not allowed; use 1 or more")
    study = read_study(arguments.file)
    folder = arguments.output or Path("studies") / study.name
    if arguments.dry_run:
        return _dry_run(arguments, study, folder)
    if arguments.status:
        return _status(arguments, study, folder)
    return _run(arguments, study, folder)


def _run(arguments: argparse.Namespace, study: Any, folder: Path) -> Answer:
    from unisd.errors import UniSDError
    from unisd.studies.analysis import need_statistics
    from unisd.studies.engines import make_engine
    from unisd.studies.report import write_report
    from unisd.studies.study import run_study

    need_statistics()
    engine = make_engine(arguments.on, arguments.workers, _options(arguments.option))
    silent = arguments.quiet or arguments.json
    found = run_study(study, folder, engine, (lambda line: None) if silent else (lambda line: print(line, flush=True)))
    files: list[str | Path] = [folder]
    try:
        files.insert(0, write_report(folder, ("html", "md", "csv")))
    except UniSDError as error:
        if not found.failed:
            raise
        if not silent:
            print(f"no report: {error}")
    failed = {str(path): why for path, why in found.failed.items()}
    message = None
    if failed:
        first, why = next(iter(failed.items()))
        several = f"{len(failed)} of {len(failed) + found.finished} jobs failed, the first in {first}"
        message = f"{several}: {why}; the same command tries them again"
    if not arguments.json:
        page = f"; report: {files[0]}" if len(files) > 1 else ""
        print(f"{found.finished} jobs finished{page}")
    if message is not None and not arguments.json:
        print(f"unisd: {message}", file=sys.stderr)
    return Answer({"finished": found.finished, "failed": failed}, files, 1 if failed else 0, message)


def _options(given: list[str]) -> dict[str, Any]:
    from unisd.training.runfile import parse_override

    return {name: value for text in given for name, value in parse_override(f"option.{text}")["option"].items()}


def _dry_run(arguments: argparse.Namespace, study: Any, folder: Path) -> Answer:
    from unisd.cli.tables import show, table
    from unisd.studies.study import estimate, plan

    jobs = plan(study, without_data=True)
    found = estimate(jobs, folder)
    known = all(phase.seconds is not None for phase in found)
    hours = sum(phase.seconds or 0.0 for phase in found) / 3600
    result: dict[str, Any] = {
        "arms": {arm.name: {"recipe": arm.recipe, "seeds": list(arm.seeds)} for arm in jobs.arms},
        "phases": [vars(phase) for phase in found],
        "hours": hours if known else None,
        "cost": hours * study.about.price if known and study.about.price else None,
        "lacking": jobs.lacking,
    }
    if not arguments.json:
        rows = [[arm.name, arm.recipe, ", ".join(map(str, arm.seeds))] for arm in jobs.arms]
        show(table(f"Study {study.name}: arms", ["arm", "recipe", "seeds"], rows))
        rows = [[p.title, str(p.jobs), str(p.missing), _time(p.seconds)] for p in found]
        show(table("Jobs", ["", "all", "missing", "one after the other"], rows))
        for task, why in jobs.lacking.items():
            print(f"{task} is counted without its items, which are not here: {why}")
        if not known:
            print("Nothing like some of these jobs was measured yet: run a part, or give seconds_per_step in the file.")
        else:
            price = f", {result['cost']:,.0f} at {study.about.price:g} an hour" if study.about.price else ""
            print(f"{hours:,.1f} hours of one device{price}.")
    return Answer(result)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "not known yet"
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:,.0f} min"


def _status(arguments: argparse.Namespace, study: Any, folder: Path) -> Answer:
    from unisd.cli.tables import show, table
    from unisd.studies.study import plan, status

    found = status(plan(study), folder)
    kinds = ("finished", "started", "failed", "waiting")
    if not arguments.json:
        rows = [[title, *(str(counts[kind]) for kind in kinds)] for title, counts, _ in found]
        show(table(f"Study {study.name} in {folder}", ["", *kinds], rows))
        for _, _, named in found:
            for what, state in named:
                print(f"{state}: {what}")
    return Answer(
        {"phases": [{"phase": title, **{kind: counts[kind] for kind in kinds}} for title, counts, _ in found]}
    )
