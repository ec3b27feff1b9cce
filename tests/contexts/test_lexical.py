import heapq
import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contexts.items import cos_e
from unisd.contexts.leakage import words
from unisd.contexts.lexical import LexicalIndex

WORDS = ["sky", "bee", "sea", "the", "of", "is", "Sky", "a b"]


def by_hand(texts, query, count):
    """TF-IDF cosine as its formula says, without an index."""
    bags = [Counter(words(text)) for text in texts]
    spread = Counter(term for bag in bags for term in bag)

    def vector(bag):
        weights = {
            term: (1 + math.log(n)) * math.log((len(texts) + 1) / (spread[term] + 0.5))
            for term, n in bag.items()
            if term in spread
        }
        length = math.sqrt(sum(weight**2 for weight in weights.values()))
        return {term: weight / length for term, weight in weights.items()}

    own = vector(Counter(words(query)))
    scores = []
    for index, bag in enumerate(bags):
        other = vector(bag)
        if own.keys() & other.keys():
            scores.append((-round(sum(own[term] * other.get(term, 0) for term in own), 9), index))
    return [index for _, index in heapq.nsmallest(count, scores)]


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=6), min_size=1, max_size=12), st.integers(1, 5), st.data())
def test_finds_what_the_formula_finds(bags, count, data):
    texts = [" ".join(bag) for bag in bags]
    query = data.draw(st.sampled_from([*texts, "sky of nowhere", "", "?"]))
    assert LexicalIndex(texts).nearest(query, count) == by_hand(texts, query, count)


@pytest.mark.parametrize("seed", range(12))
def test_skipping_frequent_words_loses_nothing(seed):
    draw = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(40)]
    texts = [" ".join(f"w{i}" for i in draw.choices(range(40), weights, k=draw.randint(1, 12))) for _ in range(120)]
    index = LexicalIndex(texts)
    for query in texts[:40]:
        for count in (1, 3):
            assert index.nearest(query, count) == by_hand(texts, query, count)


def test_equally_near_texts_come_in_order():
    index = LexicalIndex(["bee hive", "sea", "hive BEE!", "bee, hive", "sky"])
    assert index.nearest("bee hive", 2) == [0, 2]
    assert index.nearest("bee hive", 9) == [0, 2, 3]
    assert index.nearest("nothing known", 3) == []


@pytest.mark.parametrize("count", [1, 5, 40])
def test_skipping_frequent_words_loses_nothing_on_real_questions(count):
    questions = [item.question for item in cos_e(500)]
    index = LexicalIndex(questions)
    for query in random.Random(1).sample(questions, 12):
        assert index.nearest(query, count) == by_hand(questions, query, count)


def test_a_rare_word_weighs_more_than_frequent_ones():
    questions = [item.question for item in cos_e()]
    index = LexicalIndex(questions)
    found = [questions[i] for i in index.nearest("Where is it likely that a person would use a lantern?", 2)]
    assert all("lantern" in question.lower() for question in found)
