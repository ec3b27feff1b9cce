"""Stable draws: which of many things an item gets, as a function of a key and not of the order of work."""

from collections.abc import Iterator

from unisd.files import stable_integer


def _bucket(key: int, count: int) -> int:
    """Return a uniform index below ``count`` (the jump consistent hash of Lamping and Veach, 2014).

    When ``count`` grows from n to m, an index stays as it is with probability n / m and otherwise falls on a new one.
    """
    index, following = 0, 0
    while following < count:
        index = following
        key = (key * 2862933555777941757 + 1) % 2**64
        following = int((index + 1) * (1 << 31) / ((key >> 33) + 1))
    return index


def draws(count: int, *key: str | int) -> Iterator[int]:
    """Yield every index below ``count`` once, in an order that only ``key`` and ``count`` decide.

    Things appended at the end of a list change few of the first draws, and those only in favour of the new things.
    """
    seen: set[int] = set()
    for attempt in range(8 * count):
        index = _bucket(stable_integer(*key, attempt), count)
        if index not in seen:
            seen.add(index)
            yield index
    # What chance has not reached after so many attempts follows in order.
    yield from (index for index in range(count) if index not in seen)
