import pytest

import tiny
from unisd.errors import UsageError
from unisd.models.vocabulary import check_ids


@pytest.mark.parametrize("adapted", [False, True])
def test_a_token_without_an_embedding_is_named(adapted):
    tokenizer, model = tiny.tokenizer(), tiny.model()
    model = tiny.lora(model) if adapted else model
    tokenizer.add_tokens(["<new>"])
    check_ids(model, tokenizer, [[], [0, tiny.VOCABULARY - 1]])
    with pytest.raises(UsageError, match=r"writes token 259 \('<new>'\), and the model has embeddings of 259 tokens"):
        check_ids(model, tokenizer, [[1], [2, tiny.VOCABULARY]])
    model.resize_token_embeddings(len(tokenizer))
    check_ids(model, tokenizer, [[tiny.VOCABULARY]])


def test_without_sequences_or_known_embeddings_there_is_nothing_to_check():
    check_ids(tiny.model(), tiny.tokenizer(), [])
    check_ids(tiny.torch.nn.Linear(2, 2), tiny.tokenizer(), [[10**6]])
