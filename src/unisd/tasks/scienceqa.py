"""ScienceQA: school science with lectures and explained solutions (Lu et al., 2022), the items without an image."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unisd import hub
from unisd.errors import UniSDError, UsageError
from unisd.tasks.base import Example
from unisd.tasks.choice import ChoiceTask, choice_example
from unisd.tasks.sources import (
    Place,
    Row,
    check_split,
    checked,
    identifier,
    json_items,
    json_lines,
    official_folder,
    optional,
    reading,
    texts,
    whole,
)

HUB_ID = "derek-thomas/ScienceQA"
SUBJECTS = ("natural science", "language science", "social science")


class ScienceQA(ChoiceTask):
    """ScienceQA as a Task.

    Sources: ``hub`` (the default), or a folder with the official ``problems.json`` (whose items name their split) or
    with ``<split>_text_only.jsonl`` (the same fields, one item a line, ``pid`` as id).

    Items with an image are left out; after `load`, ``left_out`` tells how many and how many were of another subject.
    Options stay in the source's order. The hint is context, and so is the lecture, which follows it. The rationale is
    the solution; where it is empty the demonstration is the answer line alone.

    Args:
        lecture: give the lecture, where an item has one.
        subject: keep one of `SUBJECTS`; empty for all.

    Raises:
        UsageError: no such subject.
    """

    name = "scienceqa"
    splits: Sequence[str] = ("train", "validation", "test")

    def __init__(self, lecture: bool = True, subject: str = "") -> None:
        if subject and subject not in SUBJECTS:
            raise UsageError(f"scienceqa: no subject '{subject}'; choose one of {', '.join(SUBJECTS)}, or none for all")
        self.lecture = lecture
        self.subject = subject
        self.left_out: dict[str, int] = {}
        """How many items the last `load` left out, by reason: ``image``, ``other subject``."""

    def load(self, split: str, source: str | None = None) -> list[Example]:
        """Return the examples of a split in the source's order; the sources are described at the class.

        Raises:
            UsageError: no such split or source, or a damaged file (named, with its line or item).
            UniSDError: the hub cannot be reached.
        """
        check_split(self, split)
        rows: Iterable[tuple[Row, Place]]
        if source is None or source == "hub":
            rows = _hub_rows(split)
        else:
            rows = _folder_rows(official_folder(self.name, source), split)
        self.left_out = {"image": 0, "other subject": 0}
        examples = []
        for row, place in rows:
            with reading(place, "a ScienceQA item"):
                if row["image"]:
                    self.left_out["image"] += 1
                elif self.subject and row["subject"] != self.subject:
                    self.left_out["other subject"] += 1
                else:
                    examples.append(self._example(row, f"{split}/{place.number}"))
        of_subject = f" on {self.subject}" if self.subject else ""
        return checked(examples, self.name, f"{source or 'hub'}, {split}: text-only ones{of_subject}")

    def _example(self, row: Row, numbered: str) -> Example:
        parts = (row["hint"], row["lecture"] if self.lecture else "")
        return choice_example(
            identifier(row.get("pid", row.get("id", numbered))),
            row["question"],
            texts(row["choices"]),
            whole(row["answer"]),
            rationale=row["solution"],
            context="\n\n".join(part.strip() for part in parts if part.strip()),
            **{key: row.get(key, "") for key in ("subject", "topic", "grade")},
        )


def _folder_rows(folder: Path, split: str) -> list[tuple[Row, Place]]:
    lines = folder / f"{split}_text_only.jsonl"
    problems = folder / "problems.json"
    if lines.is_file():
        return json_lines(lines)
    if not problems.is_file():
        raise UsageError(f"scienceqa: {folder} holds no problems.json or {lines.name}; put the official file there")
    # The official files call the validation split "val".
    wanted = {"val", "validation"} if split == "validation" else {split}
    found = []
    for row, place in json_items(problems):
        with reading(place, "a ScienceQA item"):
            if row["split"] in wanted:
                found.append((row, place))
    return found


def _hub_rows(split: str) -> Iterable[tuple[Row, Place]]:
    """Yield the hub's rows with images left as they are stored: whether there is one is all that matters here."""
    todo = "use a folder with the official files as source"
    hub.require(HUB_ID, "data set", todo)
    datasets = optional("datasets", f"{HUB_ID} of the hub is")
    try:
        with hub.access(HUB_ID, "data set", todo):
            rows: Any = datasets.load_dataset(HUB_ID, split=split)
        rows = rows.cast_column("image", datasets.Image(decode=False))
        for number, row in enumerate(rows):
            yield row, Place(f"{HUB_ID}, {split}", number, "row")
    except UniSDError:
        raise
    except Exception as error:  # the client raises many kinds of errors for one fact: the data cannot be had
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise UniSDError(f"cannot load {HUB_ID} from the hub: {cause}; check the network, or {todo}") from error
