"""Instructions with constraints on the form of the reply that code checks; evaluation only, bundled."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from unisd.errors import UsageError
from unisd.tasks.base import Example, Grade, Task
from unisd.tasks.constraints import check_constraints, verdicts
from unisd.tasks.sources import Place, Row, check_split, checked, identifier, json_lines, reading

_DATA = resources.files("unisd.tasks") / "data" / "instructions" / "prompts.jsonl"


class Instructions(Task):
    """Requests whose replies must keep to one or more constraints ("exactly three sentences"); no demonstrations.

    A reply is correct if it follows every constraint of its prompt; the score ``constraints`` is the share that it
    follows. The prompts come with the package (`unisd/tasks/data/instructions`): the source is the default or
    ``sample``.
    """

    name = "instructions"
    splits: Sequence[str] = ("test",)
    max_new_tokens = 160
    metric = "all constraints followed"

    def load(self, split: str, source: str | None = None) -> list[Example]:
        """Return the prompts that come with the package.

        Raises:
            UsageError: no such split, or another source.
        """
        check_split(self, split)
        if source not in (None, "sample"):
            raise UsageError(f"{self.name}: its prompts come with the package; use the source 'sample', not {source}")
        with resources.as_file(_DATA) as path:
            return read_prompts(path)

    def grade(self, example: Example, text: str, cut: bool = False) -> Grade:
        """Grade one reply; ``cut`` says that the length limit ended it, so that it cannot be whole."""
        found = verdicts(text, example.fields["constraints"], example.prompt, cut)
        broken = [kind for kind, followed in found.items() if not followed]
        scores = {"constraints": 1 - len(broken) / len(found)}
        note = f"not followed: {', '.join(broken)}" if broken else ""
        return Grade(not broken, text.strip() or None, scores, note)

    def gold(self, example: Example) -> str:
        """Return a reply that follows every constraint."""
        return example.answer

    def group(self, example: Example) -> str:
        """Return the kind of constraint, or that there are several."""
        kinds = list(example.fields["constraints"])
        return str(kinds[0]) if len(kinds) == 1 else "several constraints"


def read_prompts(path: Path) -> list[Example]:
    """Read a file of prompts with their constraints.

    Raises:
        UsageError: it cannot be read, a line is no such prompt (it is named), or an id comes twice.
    """
    return checked([_example(row, place) for row, place in json_lines(path)], Instructions.name, path)


def _example(row: Row, place: Place) -> Example:
    with reading(place, "a prompt with constraints"):
        prompt, constraints = str(row["prompt"]), check_constraints(row["constraints"])
        fields = {"constraints": constraints}
        return Example(identifier(row["id"]), prompt, prompt, str(row["reply"]), fields=fields)
