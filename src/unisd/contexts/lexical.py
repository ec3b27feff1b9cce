"""Nearest texts by words: TF-IDF cosine over an inverted index, in plain Python."""

import heapq
import math
from collections import Counter
from collections.abc import Sequence

from unisd.contexts.leakage import words

_DIGITS = 9  # scores that agree to so many digits are a tie, however their sums were rounded
_SLACK = 2e-9  # more than rounding to those digits and the order of additions can cost


class LexicalIndex:
    """An index of texts that answers which of them are nearest to a text.

    With n texts, a word counts (1 + ln frequency in the text) · ln((n + 1) / (texts with the word + ½)); texts are
    compared by the cosine of their weights.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        bags = [Counter(words(text)) for text in texts]
        spread = Counter(term for bag in bags for term in bag)
        self._rarity = {term: math.log((len(texts) + 1) / (number + 0.5)) for term, number in spread.items()}
        self._vectors = [self._vector(bag) for bag in bags]
        self._postings: dict[str, list[tuple[int, float]]] = {term: [] for term in spread}
        for index, vector in enumerate(self._vectors):
            for term, weight in vector.items():
                self._postings[term].append((index, weight))

    def _vector(self, bag: Counter[str]) -> dict[str, float]:
        weights = {
            term: (1 + math.log(number)) * self._rarity[term] for term, number in bag.items() if term in self._rarity
        }
        length = math.sqrt(sum(weight * weight for weight in weights.values()))
        return {term: weight / length for term, weight in weights.items()}

    def nearest(self, text: str, count: int) -> list[int]:
        """Return the indices of the ``count`` nearest texts, nearest first; equally near ones in the index's order.

        Texts that share no word with ``text`` are left out, so there may be fewer.
        """
        query = self._vector(Counter(words(text)))
        rest = sum(weight * weight for weight in query.values())
        scores: dict[int, float] = {}  # of the terms so far
        closed = False
        # From the heaviest (rarest) term on. All vectors have length one, so what the remaining terms can add to any
        # text is at most the length of the query's remaining part (Cauchy and Schwarz).
        for term in sorted(query, key=lambda term: (-query[term], term)):
            weight = query[term]
            if not closed:
                for index, other in self._postings[term]:
                    scores[index] = scores.get(index, 0.0) + weight * other
            else:
                for index in scores:
                    if other := self._vectors[index].get(term, 0.0):
                        scores[index] += weight * other
            rest -= weight * weight
            if len(scores) > count:
                bound = math.sqrt(max(rest, 0.0)) + _SLACK
                least = heapq.nlargest(count, scores.values())[-1]
                # No text unseen so far can be among the nearest: the long postings of frequent words stay unread.
                closed = closed or least > bound
                if closed:
                    scores = {index: score for index, score in scores.items() if score + bound >= least}
        ranked = sorted((-round(score, _DIGITS), index) for index, score in scores.items())
        return [index for _, index in ranked[:count]]
