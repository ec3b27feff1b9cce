from dataclasses import replace

import pytest

from contexts.items import made, numbered
from unisd.contexts import Context
from unisd.errors import UsageError


@pytest.mark.parametrize("count", [1, 3])
def test_each_item_gets_its_own_demonstration(count):
    items = numbered(4)
    found = made("gold", items, count)
    assert found.contexts == [[Context("gold", item.demonstration)] for item in items]
    assert (found.dropped, found.notes) == ({}, [])


@pytest.mark.parametrize("nothing", [None, "", " \n"])
def test_an_item_without_a_demonstration_cannot_be_trained_on(nothing):
    items = [numbered(1)[0], replace(numbered(2)[1], demonstration=nothing)]
    with pytest.raises(UsageError, match=r"item 'item-1' has no demonstration, .* leave it out"):
        made("gold", items)


def test_a_pool_is_not_drawn_from():
    items = numbered(3)
    assert made("gold", items[:1], pool=items).contexts == [[Context("gold", items[0].demonstration)]]
