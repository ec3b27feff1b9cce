"""``unisd check``."""

import argparse
from pathlib import Path
from typing import Any

from unisd.cli.answer import Answer

EXAMPLE = """example:
  unisd check cos_e --source sample
  unisd check my_task.yaml
  unisd check rows.jsonl --model Qwen/Qwen2.5-0.5B-Instruct"""
_MARKS = {"error": "ERROR  ", "warning": "warning", "note": "note   "}
_CUT = 2_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "task",
        help="a task (unisd list tasks), a YAML file, or rows to train on: a file, a folder, OWNER/NAME on the hub",
    )
    parser.add_argument("--source", help="where the task's data lies: hub, sample, or a folder with the official files")
    parser.add_argument("--split", action="append", help="a split to check; repeatable; default: all")
    parser.add_argument(
        "--model", help="whose tokenizer and chat template to use; default: the recipe's, or smollm2-135m"
    )
    parser.add_argument("--recipe", help="whose limits and layout count (unisd list recipes)")
    parser.add_argument("--set", action="append", metavar="GROUP.FIELD=VALUE", help="a setting, as for unisd train")
    parser.add_argument("--items", type=int, default=3, help="items to show as the model sees them (default 3)")
    parser.add_argument("--seed", type=int, default=42, help="seed of what is drawn")
    parser.add_argument("--quiet", action="store_true", help="what was found wrong alone, without items and tables")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")


def run(arguments: argparse.Namespace) -> Answer:
    """Check."""
    from unisd.errors import UsageError

    if arguments.items < 0:
        raise UsageError(f"--items: {arguments.items} is too few; use 0 or more")
    from unisd.evaluation.check import check_rows, check_task

    what = _loaded(arguments)
    settings, limits, builder = _model(arguments)
    if isinstance(what, tuple):
        rows, bad = what
        found = check_rows(arguments.task, rows, bad, builder, limits, arguments.items, arguments.seed)
    else:
        splits, unread = _splits(what, arguments)
        found = check_task(what, splits, builder, limits, arguments.items, arguments.seed, unread)
    about = {"model": settings.model.name, "layout": builder.layout}
    if not arguments.json:
        if not arguments.quiet:
            show_items(found, about)
        show_findings(found)
    message = f"{found.name}: {found.errors} surely wrong; mend that before anything is trained"
    return Answer(about | found.plain(), code=1 if found.errors else 0, message=message if found.errors else None)


def _loaded(arguments: argparse.Namespace) -> Any:
    """Return the task, or the rows of a file and those that cannot be read."""
    from unisd.errors import UsageError
    from unisd.tasks import get
    from unisd.tasks.row_files import Bad, has_rows, named_rows

    name, path = arguments.task, Path(arguments.task).expanduser()
    if name.endswith((".yaml", ".yml")) or not (path.exists() or has_rows(path.name) or "/" in name):
        return get(str(path) if path.exists() else name)
    for option in ("source", "split"):
        if getattr(arguments, option):
            raise UsageError(f"--{option}: {name} is a file of rows, which has none; leave it out")
    bad: Bad = []
    return named_rows(name, ("train", "training"), bad), bad


def _splits(task: Any, arguments: argparse.Namespace) -> tuple[dict[str, Any], list[Any]]:
    """Return the items by split, and what is said of rows that cannot be read.

    Of a benchmark some splits may lie elsewhere; a YAML file names those that it has.
    """
    from unisd.errors import UniSDError, UsageError, warn
    from unisd.evaluation.check import unread
    from unisd.tasks.custom import CustomTask

    found: dict[str, Any] = {}
    missing, said = None, []
    for split in dict.fromkeys(arguments.split or task.splits):
        try:
            if isinstance(task, CustomTask):
                bad: list[Any] = []
                found[split] = task.read(split, arguments.source, bad)
                said += unread(bad, split, task.drops)
                if not found[split] and not bad:
                    raise UsageError(f"{task.name}: the split '{split}' has no rows; put some into its file")
            else:
                found[split] = task.load(split, arguments.source)
        except UniSDError as error:
            if arguments.split or isinstance(task, CustomTask):
                raise
            missing = missing or error
            warn(f"{split} is not checked: {error}")
    if not any(found.values()):
        raise missing or UsageError(f"{task.name}: no row can be read; {said[0].line()}")
    return {split: examples for split, examples in found.items() if examples}, said


def _model(arguments: argparse.Namespace) -> Any:
    """Return the settings, the limits that prompts have to fit into, and who makes the prompts."""
    from unisd.contexts import PromptBuilder
    from unisd.evaluation.check import Limits
    from unisd.evaluation.models import find_model
    from unisd.models import load_tokenizer
    from unisd.training.runfile import assemble

    given = {"model": {"name": arguments.model}} if arguments.model else {}
    settings = assemble(arguments.recipe, None, arguments.set, given)
    contexts, rollout = settings.groups["contexts"], settings.groups["rollout"]
    found = find_model(settings.model.name)
    trust = settings.model.trust_remote_code or found.trust_remote_code
    tokenizer = load_tokenizer(found.tokenizer, trust)
    builder = PromptBuilder(
        tokenizer,
        contexts["layout"],
        contexts["words"],
        contexts["template_kwargs"],
        contexts["teacher_template_kwargs"],
    )
    positions = _positions(found.weights, trust)
    return settings, Limits(contexts["max_prompt_length"], rollout["max_completion_length"], positions), builder


def _positions(name: str, trust: bool) -> int | None:
    """Return the tokens that a model can read, as its configuration says; None where it does not."""
    from transformers import AutoConfig

    from unisd.models.load import base_of, is_adapter, resolve

    try:
        name = base_of(name) if is_adapter(name) else name
        config = AutoConfig.from_pretrained(resolve(name), trust_remote_code=trust)
    except Exception:  # of many kinds; a folder may hold a tokenizer alone, which is all that is needed
        return None
    value = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(value) if value and value > 0 else None


def show_items(found: Any, about: dict[str, Any]) -> None:
    """Print what the model sees, lengths, answers and grading."""
    from unisd.cli.tables import show, table

    for seen in found.seen:
        print(f"── {seen.split}: {seen.id} · the student sees " + "─" * 20 + f"\n{_cut(seen.student)}")
        if seen.teacher is not None:
            print(f"── the teacher sees besides (layout {about['layout']}) " + "─" * 20 + f"\n{_cut(seen.teacher)}")
        print("─" * 60 + (f"\nright: {_cut(seen.answer)}\n" if seen.answer else "\n"))
    counted = ", ".join(f"{split} {count:,}" for split, count in found.counts.items())
    rows = [
        (f"{split}, {part}", *(str(value) for value in figures.values()))
        for split, parts in found.lengths.items()
        for part, figures in parts.items()
    ]
    columns = ("", "half", "90 %", "99 %", "longest", "limit", "over it")
    print(f"{found.name}: {counted}\n")
    if rows:
        show(table(f"Tokens of {about['model']}", columns, rows))
    if found.answers:
        about_answers = ("split", "commonest", "different", "always the same", "chance")
        show(table("Right answers", about_answers, _answers(found)))
    if found.grading:
        names = {"gold": "right answers", "empty": "no answer", "shuffled": "other items' right answers"}
        graded = [
            (
                names[name],
                f"{g.correct:,} of {g.of:,} ({g.share:.1%})",
                "–" if g.expected is None else f"{g.expected:.1%}",
            )
            for name, g in found.grading.items()
        ]
        show(table("What grading makes of", ("", "correct", "should be"), graded))


def show_findings(found: Any) -> None:
    """Print what is wrong, worst first, and what it comes to."""
    for finding in found.findings:
        long = any(len(one) > 80 for one in finding.ids)
        print(f"{_MARKS[finding.level]} {finding.what if long else finding.line()}")
        for one in finding.ids if long else ():
            print(f"          {one}")
    warned = sum(finding.level == "warning" for finding in found.findings)
    if found.errors:
        print(f"\n{found.errors} surely wrong, {warned} to look at: mend the errors before anything is trained")
    else:
        print(f"\nnothing is surely wrong; {warned} to look at")


def _answers(found: Any) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for split, about in found.answers.items():
        total = found.counts[split]
        shown = list(about["common"].items())[: 6 if about["chance"] else 1]
        common = ", ".join(f"{answer[:30]} {times / total:.0%}" for answer, times in shown)
        rows.append((split, common, f"{about['distinct']:,}", f"{about['constant']:.1%}", f"{about['chance']:.1%}"))
    return rows


def _cut(text: str) -> str:
    return text if len(text) <= _CUT else f"{text[:_CUT]}… ({len(text) - _CUT:,} more characters)"
