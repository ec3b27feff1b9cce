"""Contexts that are made when it is known which items are drawn: what takes a model's time, or a search."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from unisd.contexts import registry
from unisd.contexts.base import Making, Need, merged
from unisd.contexts.items import Item, make_slots


def may_wait(need: Need) -> bool:
    """Return whether contexts can be made for some items alone, without a change to what any item gets.

    Those that an item must have can, if all items are certain to get them: else it would not be known which stay.
    """
    kind = registry.get(need.kind)
    return need.slot != "gold" and kind.alone and (kind.certain or not need.required)


@dataclass
class Later:
    """Makes the contexts of some slots, for the items that are asked for.

    Args:
        needs: those slots' needs.
        making: what kinds may use; its examples are all items of the training set.
        items: the same, in order, with the contexts that are there already.
    """

    needs: Sequence[Need]
    making: Making
    items: Sequence[Item]
    dropped: Counter[str] = field(default_factory=Counter)
    """What was written or drawn and left out, counted by kind and reason."""
    notes: list[str] = field(default_factory=list)
    """What the user should be told of what was made last, a line each."""

    def __post_init__(self) -> None:
        self.needs = merged(self.needs)

    @property
    def slots(self) -> list[str]:
        """The slots that are filled."""
        return [need.slot for need in self.needs]

    def writes(self, items: int) -> dict[str, int]:
        """Return how many texts a model writes for so many items, at most, by the kind of context."""
        return {need.kind: items * need.per_item for need in self.needs if registry.get(need.kind).written}

    def made(self, ids: Collection[str], needs: Iterable[Need] | None = None) -> list[Item]:
        """Return the items with the given ids, in their order in the training set, with their contexts.

        Args:
            ids: which items.
            needs: which contexts; None: all.

        Raises:
            UsageError: contexts cannot be made from these items.
            UniSDError: what was written cannot be kept.
        """
        wanted, needs = set(ids), self.needs if needs is None else list(needs)
        chosen = [index for index, item in enumerate(self.items) if item.id in wanted]
        examples, pool = self.making.examples, self.making.pool
        part = replace(self.making, examples=[examples[i] for i in chosen], pool=examples if pool is None else pool)
        slots, dropped, self.notes = make_slots(needs, part)
        self.making.store = part.store  # made when it is first needed, once
        self.dropped.update(dropped)
        return [
            replace(self.items[i], contexts={**self.items[i].contexts, **{slot: of[n] for slot, of in slots.items()}})
            for n, i in enumerate(chosen)
        ]
