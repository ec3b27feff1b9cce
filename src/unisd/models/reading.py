"""How a model's sequences are joined into forward passes: packed where it is right (`models.trust`), else padded."""

from collections.abc import Sequence

from torch import Tensor, nn

from unisd.fast.segments import segments_suit
from unisd.models.packed import (
    PackedSequence,
    decoder_of,
    flat_row,
    pack_sequences,
    predicting_states,
    shared_row,
)
from unisd.models.padded import batches, padded_states
from unisd.models.trust import trusted_rows


def shares(model: nn.Module) -> bool:
    """Return whether sequences of a row can share what they begin with alike."""
    return trusted_rows(model).segments and segments_suit(decoder_of(model))


def rows_of(model: nn.Module, sequences: Sequence[PackedSequence], budget: int) -> list[list[int]]:
    """Group sequences into forward passes of at most ``budget`` tokens; a longer sequence stands alone."""
    trust = trusted_rows(model)
    if trust.rows == "packed":
        return pack_sequences(sequences, budget, shares(model))
    return batches([len(s) for s in sequences], budget, together=trust.rows == "padded")


def completion_states(model: nn.Module, sequences: Sequence[PackedSequence], share: bool = False) -> Tensor:
    """Run sequences in one forward pass and return the final hidden states that predict the completion tokens.

    ``model`` may be wrapped (PEFT, DDP): the forward pass goes through the wrapper.

    Args:
        model: the model.
        sequences: what is read, one group of :func:`rows_of`.
        share: compute what prompts begin with alike once, where attention by segment allows it.

    Returns:
        ``[N, H]`` in the model's dtype, N = all completion tokens, in the order of ``sequences``.
    """
    if trusted_rows(model).rows != "packed":
        return padded_states(model, sequences)
    by_segment = shares(model)
    row = shared_row(sequences) if share and by_segment else flat_row(sequences)
    return predicting_states(model, row, by_segment)
