"""Other training items, the nearest ones."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, get_args

from unisd import hub
from unisd.contexts.base import ContextKind, Made, Making, Need
from unisd.contexts.draws import draws
from unisd.contexts.lexical import LexicalIndex
from unisd.contexts.others import ANOTHER, first_fit
from unisd.errors import UniSDError, UsageError

Encoder = Literal["lexical", "dense"]
"""What makes questions near: shared words (TF-IDF cosine, no download) or sentence embeddings (the paper's)."""
DENSE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

_Nearest = Callable[[int], Iterator[int]]


class Retrieval(ContextKind):
    """The prompts and demonstrations of the items with the nearest questions, one per context, nearest first.

    Equally near items come in the pool's order. Where fewer than enough others share a word with a question, stable
    draws fill up.
    """

    name, summary, about = "retrieval", "demonstrations of the training items with the nearest questions", "another"
    words = ANOTHER

    def make(self, need: Need, making: Making) -> Made:
        """Return the ``need.count`` nearest items for each example (see :func:`first_fit`).

        Raises:
            UsageError: an item has too few usable others; the encoder is unknown or its extra not installed.
            UniSDError: the embedding model cannot be loaded.
        """
        if making.encoder not in get_args(Encoder):
            raise UsageError(f"unknown encoder {making.encoder!r}; choose one of {', '.join(get_args(Encoder))}")
        questions = [example.question for example in making.examples]
        pool = questions if making.pool is None else [item.question for item in making.pool]
        near = (_lexical if making.encoder == "lexical" else _dense)(questions, pool, need.count)
        ids = [example.id for example in making.examples]
        return first_fit(self.name, need, making, lambda i: chain(near(i), draws(len(pool), "retrieval", ids[i])))


def _lexical(questions: Sequence[str], pool: Sequence[str], count: int) -> _Nearest:
    index = LexicalIndex(pool)

    def nearest(item: int) -> Iterator[int]:
        # Nearly always these suffice (one is the item itself); only items with twins need more.
        wanted, given = count + 2, 0
        while True:
            found = index.nearest(questions[item], wanted)
            yield from found[given:]
            if len(found) < wanted:
                return
            given, wanted = wanted, 4 * wanted

    return nearest


def _dense(questions: Sequence[str], pool: Sequence[str], count: int) -> _Nearest:
    encoder = _load_encoder()

    def embedded(texts: Sequence[str]) -> Any:
        return encoder.encode(
            list(texts), normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=len(texts) > 1000
        )

    theirs = embedded(pool)
    ours = theirs if questions == pool else embedded(questions)

    def nearest(item: int) -> Iterator[int]:
        # Rounding makes equal texts equal, however they were batched; a stable sort then keeps the pool's order.
        similarity = (theirs @ ours[item]).float().mul(1e5).round()
        order: list[int] = similarity.argsort(descending=True, stable=True).tolist()
        return iter(order)

    return nearest


def _load_encoder() -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UsageError(
            "dense retrieval needs sentence-transformers, which is not installed; "
            "pip install 'unisd[dense]', or choose the lexical encoder"
        ) from error
    try:
        with hub.access(DENSE_MODEL, "encoder", "set contexts.encoder=lexical"):
            return SentenceTransformer(DENSE_MODEL)
    except UniSDError:
        raise
    except Exception as error:  # hub and network errors of many kinds
        cause = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise UniSDError(
            f"cannot load {DENSE_MODEL} ({cause}); connect once so that it is cached, or choose the lexical encoder"
        ) from error
