import sys
import types

import pytest
import torch

from contexts.items import choice, cos_e, made, numbered
from unisd.contexts import leaks
from unisd.contexts.kinds import retrieval
from unisd.contexts.leakage import normalised
from unisd.errors import UniSDError, UsageError


def retrieved(items, count, encoder="lexical", pool=None, **making):
    return made("retrieval", items, count, encoder=encoder, pool=pool, **making).contexts


def test_retrieval_takes_the_nearest_first_and_ties_in_order():
    items = [
        choice("0", "Where do bees make honey?", "hives.", "A"),
        choice("1", "Who sails a ship?", "sailors.", "B"),
        choice("2", "Where do bees sleep?", "hives too.", "A"),
        choice("3", "Where do wasps sleep?", "nests.", "C"),
        choice("4", "Where do bees sleep at night?", "in hives.", "C"),
        choice("5", "Who sings?", "singers.", "B"),
    ]
    index = {item.prompt: number for number, item in enumerate(items)}
    found = [[index[context.question] for context in contexts] for contexts in retrieved(items, 3)]
    assert found[2] == [4, 3, 0]
    assert found[0][:2] == [2, 4]
    assert found[1][0] == 5


def test_retrieval_looks_beyond_many_twins():
    twins = [choice(f"twin-{i}", "Where do bees live?", f"reason {i}.", "A", f"A. hive {i}") for i in range(40)]
    near = choice("near", "Where do small bees live?", "near.", "A")
    far = [choice(f"far-{i}", f"Who sails ship number {i}?", f"far {i}.", "B") for i in range(40)]
    found = retrieved([*far, *twins, near], 2)
    assert all(contexts[0].question == near.prompt for contexts in found[40:80])


def test_retrieval_fills_up_where_no_word_is_shared():
    items = [choice(word, f"{word}?", f"reason for {word}.", "A") for word in ("bee", "sea", "sky", "sun", "ice")]
    found = retrieved(items, 4)
    assert all(len({context.question for context in contexts}) == 4 for contexts in found)
    assert retrieved(items, 4) == found


def test_retrieval_does_not_depend_on_the_seed_nor_on_the_other_items():
    items = numbered(30)
    found = retrieved(items, 3, seed=1)
    assert retrieved(items, 3, seed=2) == found
    assert retrieved([items[7]], 3, pool=items) == [found[7]]


def test_retrieval_on_real_questions():
    items = cos_e(1500)
    found = retrieved(items, 3)
    by_prompt = {item.prompt: item for item in items}
    shared = random_shared = 0
    for item, contexts, others in zip(items, found, made("random", items, 3, seed=0).contexts, strict=True):
        own = set(normalised(item.question).split())
        for context in contexts:
            other = by_prompt[context.question]
            assert other.id != item.id
            assert normalised(other.question) != normalised(item.question)
            assert not leaks(item, context)
            shared += len(own & set(normalised(other.question).split()))
        random_shared += sum(len(own & set(normalised(by_prompt[c.question].question).split())) for c in others)
    assert shared > 2 * random_shared
    planted = choice("planted", "Where is a lantern likely to be, if it is not for a sale?", "none.", "A")
    assert retrieved([planted], 1, pool=items)[0][0].question == items[0].prompt


@pytest.fixture
def embedded(monkeypatch):
    """Texts are embedded by first letters; the numbers of texts that were embedded together."""
    asked = []

    class Encoder:
        def __init__(self, name):
            assert name == retrieval.DENSE_MODEL

        def encode(self, texts, normalize_embeddings, convert_to_tensor, show_progress_bar):
            assert normalize_embeddings
            assert convert_to_tensor
            asked.append(len(texts))
            rows = torch.tensor([[float(text.lower().count(letter)) for letter in "abcdefgh"] for text in texts]) + 1e-3
            noise = 1e-7 * (torch.arange(len(texts)) % 7).unsqueeze(-1)  # as of texts batched with other texts
            return torch.nn.functional.normalize(rows, dim=-1) * (1 + noise)

    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=Encoder))
    return asked


def test_dense_retrieval_takes_the_nearest_embeddings(embedded):
    texts = ["aaa", "bbb", "aab", "a a a!", "abb", "bbbb", "ccc"]
    items = [choice(str(i), text, f"reason {i}.", "A") for i, text in enumerate(texts)]
    found = [[int(c.text.split()[2][0]) for c in contexts] for contexts in retrieved(items, 3, "dense")]
    assert embedded == [7]
    assert found[0] == [3, 2, 4]  # "a a a!" has other words than "aaa": near, not the same question
    assert found[1] == [5, 4, 2]
    assert found[2] == [0, 3, 4]  # a tie comes in order
    lone = retrieved(items[:1], 1, "dense", pool=items[1:])
    assert lone[0][0].question == items[3].prompt
    assert embedded == [7, 6, 1]


def test_dense_ties_come_in_order(embedded):
    items = [choice(str(i), f"ab {i}", f"reason {i}.", "A") for i in range(100)]
    found = retrieved(items, 3, "dense")
    assert [context.question for context in found[50]] == [item.prompt for item in items[:3]]


def test_dense_retrieval_without_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UsageError, match=r"pip install 'unisd\[dense\]'"):
        retrieved(numbered(4), 2, "dense")


def test_unknown_encoders_are_refused():
    with pytest.raises(UsageError, match="unknown encoder 'sparse'; choose one of lexical, dense"):
        retrieved(numbered(4), 2, "sparse")


def test_dense_retrieval_without_its_model(monkeypatch):
    def fail(name):
        raise OSError("no network\nat all")

    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=fail))
    with pytest.raises(UniSDError, match=r"cannot load .*MiniLM.*OSError: no network\)"):
        retrieved(numbered(4), 2, "dense")
