"""CoS-E: commonsense questions with a person's explanation (Rajani et al., 2019), on CommonsenseQA's questions.

Version 1.11 has five options (the hub's and the paper's version), version 1.0 three.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisd.errors import UniSDError, UsageError
from unisd.files import read_jsonl
from unisd.tasks.base import Example
from unisd.tasks.choice import ChoiceTask, choice_example

HUB_ID, HUB_VERSION = "Salesforce/cos_e", "v1.11"
SAMPLE = Path(__file__).parent / "data" / "cos_e"
"""The bundled sample, from version 1.0; the README beside it says how it was chosen."""

_OFFICIAL_NAMES = {"train": "train", "validation": "dev"}
# Version 1.11 comes raw and tidied ("processed"); the hub took the tidied files.
_VARIANTS = ("_processed", "", "_original")


class CosE(ChoiceTask):
    """CoS-E as a Task.

    Sources: ``hub`` (the default), version 1.11; ``sample``, 300 training and 150 validation items of version 1.0 that
    come with the package; or a folder with the official files of either version: CommonsenseQA's
    ``train_rand_split.jsonl`` and ``dev_rand_split.jsonl``, and CoS-E's ``cose_train_v*.jsonl`` and
    ``cose_dev_v*.jsonl`` (there or in its folders ``train`` and ``dev``), joined by ``id``.

    Nothing is filtered, and no item goes missing silently: the official files of one version match one to one, so a
    question without an explanation, or an explanation without a question, is an error. An explanation that is empty
    leaves a demonstration of the answer line alone. The rationale is the open-ended ("abstractive") explanation.
    """

    name = "cos_e"
    splits: Sequence[str] = ("train", "validation")

    def load(self, split: str, source: str | None = None) -> list[Example]:
        """Return the examples of a split in the source's order; the sources are described at the class.

        Raises:
            UsageError: no such split or source, or a damaged file (named, with its line).
            UniSDError: the hub cannot be reached.
        """
        if split not in self.splits:
            raise UsageError(f"{self.name} has no split '{split}'; choose one of {', '.join(self.splits)}")
        if source is None or source == "hub":
            rows = enumerate(_hub_rows(split))
            return [_from_row(row, f"{HUB_ID} ({HUB_VERSION}), {split}, row {i}") for i, row in rows]
        if source == "sample":
            path = SAMPLE / f"{split}.jsonl"
            return [_from_row(row, _Place(path, i)) for i, row in enumerate(read_jsonl(path))]
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise UsageError(
                f"{self.name}: no such source: {source}; use hub, sample, or a folder with the official files"
            )
        return _from_folder(folder, _OFFICIAL_NAMES[split])


@dataclass(frozen=True)
class _Place:
    """Where a row came from; its line is counted only when a message prints it."""

    path: Path
    row: int

    def __str__(self) -> str:
        lines = enumerate(self.path.read_text(encoding="utf-8").split("\n"), start=1)
        filled = [number for number, line in lines if line.strip()]
        return f"{self.path}, line {filled[self.row]}"


def _hub_rows(split: str) -> list[Mapping[str, Any]]:
    # Imported here: it takes a second that neither a list of tasks nor the sample should cost.
    import datasets

    try:
        return list(datasets.load_dataset(HUB_ID, HUB_VERSION, split=split))
    except Exception as error:  # the client raises many kinds of errors for one fact: the data cannot be had
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise UniSDError(
            f"cannot load {HUB_ID} ({HUB_VERSION}) from the hub: {cause}; check the network, or use the source "
            "'sample' or a folder with the official files"
        ) from error


def _from_row(row: Mapping[str, Any], place: object) -> Example:
    """Read a row with the hub's fields, in which the answer is the text of a choice."""
    try:
        choices = list(row["choices"])
        rationale = row["abstractive_explanation"] or ""
        return choice_example(row["id"], row["question"], choices, choices.index(row["answer"]), rationale=rationale)
    except KeyError as error:
        raise UsageError(f"{place}: the field {error} is missing; get the data again") from error
    except (ValueError, TypeError, AttributeError, UsageError) as error:
        raise UsageError(f"{place}: not a CoS-E item ({error}); get the data again") from error


def _from_folder(folder: Path, part: str) -> list[Example]:
    questions_path = folder / f"{part}_rand_split.jsonl"
    explanations_path = _explanations_path(folder, part)
    questions, explanations = _by_id(questions_path), _by_id(explanations_path)
    for path, ids, other, found in (
        (questions_path, questions, explanations_path, explanations),
        (explanations_path, explanations, questions_path, questions),
    ):
        if missing := [item_id for item_id in ids if item_id not in found]:
            raise UsageError(
                f"{path}: {len(missing)} of its {len(ids)} items are not in {other.name} (the first: {missing[0]}); "
                "use questions and explanations of the same version"
            )
    return [_joined(question, place, *explanations[key]) for key, (question, place) in questions.items()]


def _explanations_path(folder: Path, part: str) -> Path:
    """Return the file of explanations in an official folder, whatever its version."""
    pattern = re.compile(rf"cose_{part}_(v\d+(?:\.\d+)*)({'|'.join(_VARIANTS)})\.jsonl")
    found = [
        (_VARIANTS.index(match[2]), match[1], path)
        for path in sorted([*folder.glob("*.jsonl"), *(folder / part).glob("*.jsonl")])
        if (match := pattern.fullmatch(path.name))
    ]
    if not found:
        raise UsageError(f"{folder}: no cose_{part}_v1.0.jsonl or cose_{part}_v1.11.jsonl; put the official file there")
    if len(versions := sorted({version for _, version, _ in found})) > 1:
        raise UsageError(f"{folder}: explanations of {' and '.join(versions)}; keep one version in a folder")
    return min(found)[2]


def _joined(item: Mapping[str, Any], place: _Place, explained: Mapping[str, Any], explained_at: _Place) -> Example:
    """Read a line of CommonsenseQA and its line of CoS-E."""
    try:
        rationale = explained["explanation"]["open-ended"]
        if not isinstance(rationale, str):
            raise TypeError(f"an explanation is text, not {type(rationale).__name__}")
    except (KeyError, TypeError) as error:
        raise UsageError(f"{explained_at}: no open-ended explanation ({error}); get the file again") from error
    try:
        labels = [choice["label"] for choice in item["question"]["choices"]]
        options = [choice["text"] for choice in item["question"]["choices"]]
        answer = labels.index(item["answerKey"])
        return choice_example(item["id"], item["question"]["stem"], options, answer, rationale=rationale)
    except KeyError as error:
        raise UsageError(f"{place}: the field {error} is missing; get the file again") from error
    except (ValueError, TypeError, AttributeError, UsageError) as error:
        raise UsageError(f"{place}: not a CommonsenseQA item ({error}); get the file again") from error


def _by_id(path: Path) -> dict[str, tuple[dict[str, Any], _Place]]:
    found: dict[str, tuple[dict[str, Any], _Place]] = {}
    for i, row in enumerate(read_jsonl(path)):
        place, item_id = _Place(path, i), row.get("id")
        if not isinstance(item_id, str) or not item_id:
            raise UsageError(f"{place}: the field 'id' is missing; get the file again")
        if item_id in found:
            raise UsageError(f"{place}: the id {item_id} comes a second time; remove one of the two lines")
        found[item_id] = row, place
    return found
