"""``unisd demo``."""

import argparse
from pathlib import Path
from typing import Any

from unisd.cli.answer import Answer

EXAMPLE = """example:
  unisd demo
  unisd demo --task cos_e --output runs/questions
  unisd demo --minutes 10 --output runs/longer"""

RECIPES = {"house": "quickstart", "cos_e": "quickstart_cos_e"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="the run's folder (default runs/demo)")
    parser.add_argument("--task", choices=list(RECIPES), default="house", help="house: content is gained (default); "
                        "cos_e: commonsense questions, all five mechanisms, format alone at this size")  # fmt: skip
    parser.add_argument("--against", choices=["sft", "nothing"], help="compare with imitation of the same "
                        "demonstrations at equal gain (default for house), or with nothing")  # fmt: skip
    parser.add_argument("--minutes", type=float, help="about how long it may take on two quiet cores (default 5)")
    parser.add_argument("--seed", type=int, help="of everything that is drawn while training (default 42)")
    parser.add_argument("--items", type=int, default=56, help="held-out questions, asked before and after (default 56)")
    parser.add_argument("--headroom-items", type=int, default=7, help="questions for the headroom (default 7)")
    parser.add_argument("--set", action="append", default=[], metavar="GROUP.FIELD=VALUE", help="override a setting")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(arguments: argparse.Namespace) -> Answer:
    """Run the quickstart, print its tables and write its page."""
    from unisd.errors import UsageError
    from unisd.training.run import claim_folder

    for name in ("items", "headroom_items"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')}: use 1 or more")
    claim_folder(arguments.output, resume=None)
    settings = _settings(arguments)
    from unisd.studies.quickstart import run_quickstart
    from unisd.studies.report import write_report

    silent = arguments.json
    found = run_quickstart(
        settings,
        arguments.output,
        arguments.items,
        arguments.headroom_items,
        say=lambda line: None if silent else print(line, flush=True),
        quiet=arguments.quiet or silent,
        against=(arguments.against or ("sft" if arguments.task == "house" else "nothing")) == "sft",
    )
    page = write_report(arguments.output)
    if not silent:
        _print(found, page)
    return Answer(found.summary(), [arguments.output, page])


def _settings(arguments: argparse.Namespace) -> Any:
    """Return the demo's run: the task's recipe, with the seed and the steps for the time."""
    from unisd.studies.quickstart import steps_for
    from unisd.training.runfile import assemble, load_recipe

    recipe = load_recipe(RECIPES[arguments.task])
    given: dict[str, Any] = {"training": {} if arguments.seed is None else {"seed": arguments.seed}}
    steps = recipe["training"]["max_steps"]
    if (longer := steps_for(arguments.minutes, steps)) != steps:
        given["training"]["max_steps"] = longer
        if ramp := recipe["rollout"].get("mix_steps"):
            given["rollout"] = {"mix_steps": max(1, round(ramp * longer / steps))}
    return assemble(RECIPES[arguments.task], given=given, overrides=arguments.set)


def _print(found: Any, page: Path) -> None:
    from unisd.cli.tables import EVALUATION_COLUMNS, evaluation_rows, mechanisms_table, show, table

    names = {k: v.summary() for k, v in found.headroom.items()}
    show(table("Headroom on training questions (95 % intervals)", EVALUATION_COLUMNS, evaluation_rows(names)))
    asked = {"before": found.before.summary()} | {name: m.after.summary() for name, m in found.methods.items()}
    show(table("Held-out questions (95 % intervals)", EVALUATION_COLUMNS, evaluation_rows(asked)))
    show(table("What was forgotten", _FORGOTTEN, [_forgotten(name, m) for name, m in found.methods.items()]))
    if found.acting:
        show(mechanisms_table(found.acting))
    for line in found.verdict():
        print(line)
    print(f"\n{found.seconds:.0f} s, peak memory {found.peak_memory_bytes / 2**30:.2f} GiB")
    print(f"adapter (loads with plain PEFT): {found.weights}\npage: {page}\nnext: unisd train --recipe unisd --help")


_FORGOTTEN = ("", "steps", "gained, points", "drift, nats a token", "entropy", "everyday requests taken for the task")


def _forgotten(name: str, method: Any) -> tuple[str, ...]:
    left, gained = method.kept, 100 * method.change.difference.estimate
    drift, entropy = (
        ("–", "–") if left.drift is None else (f"{left.drift:.3f}", "{:.2f} → {:.2f}".format(*left.entropy))
    )
    return name, str(method.steps), f"{gained:+.0f}", drift, entropy, f"{left.taken[1]} of {left.requests}"
