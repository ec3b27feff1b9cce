"""Free text with a grader of one's own: a sentence that must hold given words, in a given length.

    python examples/free_text/task.py train --recipe core --task postcard --output runs/postcard
    python examples/free_text/task.py evaluate runs/postcard --task postcard --base

The file makes the task known and then is the command `unisd`. In a package of your own an entry point does the former
(see docs/custom_tasks.md).
"""

import re
import sys

from unisd import tasks
from unisd.cli.main import main
from unisd.tasks import Example, Grade, Task

PLACES = {
    "train": ["a harbour", "a forest", "a castle", "a market", "an island", "a museum", "a bridge", "a garden"],
    "test": ["a lighthouse", "a canyon", "a library", "a vineyard"],
}
WEATHER = ["rain", "sun", "wind", "snow"]
LONGEST = 20
"""Words of a postcard at most."""


class Postcard(Task):
    """Write one sentence about a place and the weather there."""

    name = "postcard"
    splits = ("train", "test")
    max_new_tokens = 48

    def load(self, split: str, source: str | None = None) -> list[Example]:
        """Return the requests of a split."""
        found = []
        for number, place in enumerate(PLACES[split]):
            weather = WEATHER[number % len(WEATHER)]
            noun = place.split()[-1]
            asked = (
                f"Write one sentence of at most {LONGEST} words to a friend. It must name {place} and the {weather}."
            )
            gold = f"We are at {place}, and the {weather} makes the {noun} look like an old painting."
            fields = {"words": [noun, weather]}
            found.append(Example(f"{split}/{noun}", asked, asked, " and ".join(fields["words"]), gold, fields))
        return found

    def grade(self, example: Example, text: str) -> Grade:
        """Right is one sentence of the right length with both words; the score is the share of the three."""
        said = text.strip()
        held = [word for word in example.fields["words"] if re.search(rf"\b{word}", said, re.IGNORECASE)]
        one = bool(re.fullmatch(r"[^.!?\n]+[.!?]?", said)) and len(said.split()) <= LONGEST
        share = (len(held) + one) / 3
        return Grade(share == 1, said or None, {"share": share})


if __name__ == "__main__":
    tasks.register("postcard", Postcard, "one sentence with given words")
    sys.exit(main())
