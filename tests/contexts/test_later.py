import pytest

from contexts import families
from contexts.items import Bare, numbered
from unisd.contexts import Later, Making, Need, make_contexts, may_wait
from unisd.rollout import CompletionStore

NEEDS = [Need("gold", "gold"), Need("auxiliary", "random", 2), Need("near", "retrieval", 2)]


@pytest.mark.parametrize(
    ("need", "waits"),
    [
        (Need("gold", "gold"), False),
        (Need("auxiliary", "random"), True),
        (Need("auxiliary", "retrieval"), True),
        (Need("auxiliary", "induction"), False),  # one pool for all, and an item may get too few
        (Need("negative", "negative", required=False), True),
        (Need("negative", "negative", required=True), False),  # which items stay would not be known
    ],
)
def test_what_waits_is_what_depends_on_its_item_alone(need, waits):
    assert may_wait(need) is waits


@pytest.mark.parametrize("kind", ["random", "retrieval"])
def test_a_few_items_get_what_they_get_among_all(kind):
    examples = numbered(20)
    needs = [Need("gold", "gold"), Need("auxiliary", kind, 2)]
    whole, _, _ = make_contexts(needs, Making(Bare(), examples))
    bare, _, _ = make_contexts(needs[:1], Making(Bare(), examples))
    later = Later(needs[1:], Making(Bare(), examples), bare)
    assert later.slots == ["auxiliary"]
    assert later.made(["item-7", "item-3"]) == [whole[3], whole[7]]
    assert later.made(["item-19"]) == [whole[19]]
    assert "auxiliary" not in later.items[7].contexts


def test_what_was_left_out_adds_up(tmp_path):
    examples = numbered(6)
    bare, _, _ = make_contexts(NEEDS[:1], Making(Bare(), examples))
    store = CompletionStore(tmp_path / "texts.jsonl", "m")
    nobody = {"sampler": families.FakeSampler(lambda _: ""), "builder": object(), "store": store}
    later = Later([Need("negative", "negative", required=False)], Making(Bare(), examples, **nobody), bare)
    assert later.writes(10) == {"negative": 40}
    for items in (["item-1"], ["item-2", "item-3"]):
        assert [item.contexts["negative"] for item in later.made(items)] == [[]] * len(items)
        assert later.notes == [f"{len(items)} of {len(items)} items have no verified negative; they train without one"]
    assert later.dropped == {"negative: the task has no request for the item": 3}
