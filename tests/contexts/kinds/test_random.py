from collections import Counter

from contexts.items import made, numbered


def random_contexts(items, count, seed, pool=None):
    return made("random", items, count, seed=seed, pool=pool).contexts


def test_random_contexts_depend_on_seed_and_id_alone():
    items = numbered(40)
    found = random_contexts(items, 3, 1)
    assert random_contexts(items, 3, 1) == found
    assert random_contexts(items, 3, 2) != found
    assert random_contexts([items[7]], 3, 1, pool=items) == [found[7]]
    assert random_contexts(items[::-1], 3, 1, pool=items)[::-1] == found


def test_appended_items_change_few_random_contexts():
    items = numbered(100)
    before, after = random_contexts(items[:80], 3, 1), random_contexts(items, 3, 1)[:80]
    fresh = {item.prompt for item in items[80:]}
    come = [c for old, new in zip(before, after, strict=True) for c in new if c not in old]
    assert 0.1 < len(come) / 240 < 0.3
    # An old item comes only where a fresh one was drawn twice.
    assert sum(context.question not in fresh for context in come) <= 3


def test_random_contexts_use_all_items_about_equally():
    items = numbered(30)
    uses = Counter(context.question for seed in range(60) for c in random_contexts(items, 3, seed) for context in c)
    assert len(uses) == 30
    assert max(uses.values()) < 1.5 * min(uses.values())
