"""What a run's folder holds of evaluations, as Markdown for its model card, and the card with them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unisd.errors import UsageError
from unisd.evaluation.answers import in_words, read_evaluation
from unisd.evaluation.compare import compare
from unisd.files import write_text
from unisd.training.card import card_of, public

_NEEDED = {"n", "accuracy", "parsable", "accuracy_among_parsable"}
_BEFORE, _AFTER = ("-base", "-before"), ("", "-after")
"""How the files of one exam end: those of ``unisd evaluate`` and those of the demo."""
_IMITATION = "-sft"
"""How the answers end of the model that the demo compares with, which are not this one's."""


def renew_card(run: Path, base: str | None = None) -> None:
    """Write a finished run's model card anew, with all that was measured of it since.

    Args:
        run: its folder. One that holds no finished run is left alone.
        base: what the base is called on the hub, where its own name does not say.

    Raises:
        UniSDError: a file of the run is damaged.
    """
    weights = next((run / part for part in ("adapter", "model") if (run / part).is_dir()), None)
    if weights is not None and (run / "summary.json").is_file() and (run / "config.yaml").is_file():
        write_text(weights / "README.md", card_of(run, results_of(run), base))


def results_of(run: Path) -> str:
    """Return every evaluation that lies in a run's folder: shares with 95 % intervals, changes, signs of a collapse."""
    rows, changes, collapses = [], [], []
    for name, before, after in _exams(run / "evaluation"):
        for which, file in (("before", before), ("after", after)):
            if (said := _summary(file)) is None:
                continue
            asked = said.get("asked") or {}
            of = ", ".join(f"{key} {public(str(asked[key]))}" for key in ("source", "split") if asked.get(key))
            shares = [in_words(said[part]) for part in ("accuracy", "parsable", "accuracy_among_parsable")]
            rows.append([f"`{name}`", f"{said['n']} items{f' ({of})' if of else ''}", which, *shares])
            # One answer to nearly everything, where the evaluation counted them.
            answers = said.get("answers")
            if isinstance(answers, dict) and answers.get("collapse"):
                collapses.append(f"* `{name}`, {which}: {answers.get('in_words', 'one answer to nearly everything')}")
        if (line := _change(before, after)) is not None:
            changes.append(f"* `{name}`: {line}")
    if not rows:
        return ""
    table = [["task", "asked", "training", "correct", "readable", "correct among readable"], ["---"] * 6, *rows]
    parts = ["\n".join("| " + " | ".join(row) + " |" for row in table)]
    if changes:
        parts += ["**Change of correct answers**, in points, gained and lost items:", "\n".join(changes)]
    if collapses:
        parts += ["**Collapse**, so the figures above say little of what was learned:", "\n".join(collapses)]
    return "\n\n".join([*parts, "In brackets: 95 % intervals, and counts."])


def _exams(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield the exams that were asked: their names, and the files of the answers before and after training."""
    stems = {file.stem for file in folder.glob("*.json") if file.with_suffix(".jsonl").is_file()}
    for end_before, end_after in zip(_BEFORE, _AFTER, strict=True):
        for stem in sorted(stems):
            name = stem.removesuffix(end_after) if stem.endswith(end_after) else ""
            other = stem.endswith((*_BEFORE, "-after", _IMITATION)) if not end_after else False
            if name and not other and not name.startswith("headroom") and "-headroom-" not in stem:
                yield name, folder / f"{name}{end_before}.json", folder / f"{stem}.json"


def _summary(file: Path) -> dict[str, Any] | None:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and said.keys() >= _NEEDED else None


def _change(before: Path, after: Path) -> str | None:
    try:
        return compare(read_evaluation(before), read_evaluation(after)).in_words()
    except UsageError:  # one is missing, or other items were asked
        return None
