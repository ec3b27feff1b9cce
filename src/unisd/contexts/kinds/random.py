"""Other training items, drawn at random."""

from unisd.contexts.base import ContextKind, Made, Making, Need
from unisd.contexts.draws import draws
from unisd.contexts.others import ANOTHER, first_fit


class Random(ContextKind):
    """The prompts and demonstrations of other items drawn at random.

    An item's draw depends on the seed, its id and the pool: not on the other examples, nor on who asks in which order.
    Items appended to a pool of n leave each earlier draw as it is with probability n / (n + appended), and otherwise
    put a new item in its place (or, where that one is unfit, the next draw).
    """

    name, summary, about = "random", "demonstrations of other training items, drawn at random", "another"
    words = ANOTHER
    alone = certain = True

    def make(self, need: Need, making: Making) -> Made:
        """Return ``need.count`` other items for each example (see :func:`first_fit`)."""
        size = len(making.examples if making.pool is None else making.pool)
        ids = [example.id for example in making.examples]
        return first_fit(self.name, need, making, lambda index: draws(size, "random", making.seed, ids[index]))
