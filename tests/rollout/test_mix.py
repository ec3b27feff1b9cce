"""A mixture's share, step by step."""

import pytest

from unisd.errors import UsageError
from unisd.rollout.mix import MIX_FILE, Mix


def test_a_constant_share_is_the_same_at_every_step():
    mix = Mix(end=0.3)
    assert [mix.share(step) for step in (0, 1, 500, "eval")] == [0.3] * 4


def test_a_linear_share_reaches_its_end_after_its_steps_and_stays():
    mix = Mix("linear", start=0.25, end=0.75, steps=4)
    assert [mix.share(step) for step in range(7)] == [0.25, 0.375, 0.5, 0.625, 0.75, 0.75, 0.75]
    assert mix.share("eval") == 0.75
    falls = Mix("linear", start=1.0, end=0.0, steps=2)
    assert [falls.share(step) for step in range(4)] == [1.0, 0.5, 0.0, 0.0]


def test_a_share_follows_the_readable_answers_of_the_student():
    mix = Mix("readable", start=0.2, end=1.0)
    assert mix.share(0) == mix.share(99) == 0.2
    mix.follow(2, 4)
    assert mix.readable == 0.125
    assert mix.share(1) == pytest.approx(0.2 + 0.8 * 0.125)
    mix.follow(0, 0)  # a step of which the student wrote nothing says nothing
    assert mix.readable == 0.125
    for _ in range(60):
        mix.follow(3, 3)
    assert mix.share(61) == pytest.approx(1.0)


def test_who_writes_depends_on_seed_step_and_item_and_a_larger_share_only_adds():
    items = [f"item-{number}" for number in range(400)]

    def chosen(share, seed=1, step=3):
        return {item for item in items if Mix(end=share).samples(seed, step, item)}

    assert chosen(0.0) == set()
    assert chosen(1.0) == set(items)
    assert chosen(0.3) < chosen(0.6)
    assert abs(len(chosen(0.3)) - 120) < 30
    assert chosen(0.3) == chosen(0.3)
    assert chosen(0.3) != chosen(0.3, seed=2)
    assert chosen(0.3) != chosen(0.3, step=4)


def test_what_was_seen_is_kept_to_the_bit(tmp_path):
    mix, again = Mix("readable", start=0.1, end=0.7), Mix("readable", start=0.1, end=0.7)
    for read, written in ((1, 3), (2, 7), (5, 6)):
        mix.follow(read, written)
    mix.save(tmp_path)
    again.load(tmp_path)
    assert again == mix
    (tmp_path / MIX_FILE).unlink()
    linear = Mix("linear", 0.0, 0.5, 3)
    linear.save(tmp_path)
    linear.load(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"schedule": "linear", "end": 1.0}, "mix_steps: .* needs the number of steps"),
        ({"schedule": "linear", "start": 0.5, "steps": 3}, r"mix_start: it is rollout.mix \(0.5\), so nothing changes"),
        ({"schedule": "readable"}, "mix_start: .* set it above 0"),
        ({"schedule": "readable", "start": 0.5}, "nothing changes"),
        ({"schedule": "readable", "start": 0.2, "steps": 3}, "mix_steps: mix_schedule readable counts no steps"),
        ({"steps": 3}, "mix_steps: mix_schedule constant counts no steps"),
        ({"start": 0.1}, "mix_start: mix_schedule constant has no start"),
    ],
)
def test_what_a_schedule_does_not_read_is_refused(values, says):
    with pytest.raises(UsageError, match=says):
        Mix(**values)
