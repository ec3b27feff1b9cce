"""The item's own worked answer: what makes the teacher a teacher."""

from unisd.contexts.base import Context, ContextKind, Made, Making, Need, Words
from unisd.errors import UsageError


class Gold(ContextKind):
    """The demonstration that the task gives with the item.

    Its words close with one short sentence that asks for the same format. That is not a matter of taste: with a small
    model it doubled the teacher's share of correct answers over two sentences, or over one that does not mention it.
    """

    name, summary, about = "gold", "the item's own demonstration", "item"
    words = Words(
        after="Here is an example response to this question:\n{text}\n\n"
        "After studying the example, solve the problem in your own way, in the same format.",
        before="Here is an example response to the next question:\n{text}\n\n"
        "After studying the example, solve the problem in your own way, in the same format.",
    )

    def make(self, need: Need, making: Making) -> Made:
        """Return each example's demonstration.

        Raises:
            UsageError: an example has none.
        """
        for example in making.examples:
            if not (example.demonstration or "").strip():
                raise UsageError(f"item {example.id!r} has no demonstration, so it cannot be trained on; leave it out")
        return Made([[Context(self.name, example.demonstration or "")] for example in making.examples])
