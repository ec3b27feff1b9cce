from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from unisd.contexts.draws import draws


@given(st.integers(0, 60), st.integers(0, 1000))
def test_every_index_is_drawn_once(count, key):
    assert sorted(draws(count, "test", key)) == list(range(count))


def test_what_chance_does_not_reach_comes_at_last():
    # With 8 attempts an index, one of 50 is missed for about one key in sixty.
    assert all(sorted(draws(50, "test", key)) == list(range(50)) for key in range(400))


def test_first_draws_are_uniform():
    firsts = Counter(next(draws(20, "test", key)) for key in range(20000))
    assert all(850 < firsts[index] < 1150 for index in range(20))


def test_what_is_appended_changes_few_draws_and_only_in_its_own_favour():
    changed = 0
    for key in range(4000):
        before, after = next(draws(100, "test", key)), next(draws(125, "test", key))
        assert after == before or after >= 100
        changed += after != before
    assert 0.17 < changed / 4000 < 0.23


def test_draws_depend_on_the_whole_key():
    assert len({tuple(draws(30, *key)) for key in [("a", 1), ("a", 2), ("b", 1), ("b", "1")]}) == 4
    assert list(draws(5, "a", 1)) == list(draws(5, "a", 1))
