"""Whether tokenizer and model know the same tokens."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from unisd.errors import UsageError
from unisd.models.load import base_model


def check_ids(model: nn.Module, tokenizer: Any, sequences: Iterable[Sequence[int]]) -> None:
    """Check that the model has an embedding for every token of ``sequences``.

    A tokenizer may have more tokens than the model as long as nobody writes them (some have one for images).

    Raises:
        UsageError: it has not; the message names a token.
    """
    inner: Any = base_model(model)
    embedding = getattr(inner, "get_input_embeddings", lambda: None)()
    rows = getattr(embedding, "num_embeddings", None)
    highest = max((max(sequence, default=0) for sequence in sequences), default=0)
    if rows and highest >= rows:
        token = tokenizer.convert_ids_to_tokens(highest)
        raise UsageError(
            f"the tokenizer writes token {highest} ({token!r}), and the model has embeddings of {rows} tokens; use the "
            "model's own tokenizer, or call model.resize_token_embeddings(len(tokenizer)) and train them"
        )
