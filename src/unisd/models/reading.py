"""How a model's sequences are joined into forward passes: packed where it is right (`models.trust`), else padded."""

from collections.abc import Sequence

from torch import Tensor, nn

from unisd.fast.segments import segments_suit
from unisd.models.packed import (
    PackedSequence,
    decoder_of,
    flat_row,
    pack,
    pack_sequences,
    predicting_states,
    shared_row,
)
from unisd.models.padded import batches, padded_states
from unisd.models.trust import trusted


def shares(model: nn.Module) -> bool:
    """Return whether sequences of a row can share what they begin with alike."""
    return trusted(model).segments and segments_suit(decoder_of(model))


def rows_of(
    model: nn.Module, sequences: Sequence[PackedSequence], budget: int, items: Sequence[object] | None = None
) -> list[list[int]]:
    """Group sequences into forward passes of at most ``budget`` tokens; a longer sequence stands alone.

    Args:
        model: who reads them.
        sequences: what is read.
        budget: tokens of a pass.
        items: of each sequence what it belongs to, None if to nothing; what belongs together is read together where
            that saves work, even beyond the budget.
    """
    trust = trusted(model)
    lengths = [len(s) for s in sequences]
    alone = [i for i, length in enumerate(lengths) if trust.turn and length > trust.turn]
    rest = [i for i in range(len(sequences)) if i not in set(alone)]
    if trust.rows != "packed":
        rows = batches([lengths[i] for i in rest], budget, together=trust.rows == "padded")
    elif items is not None and shares(model):
        rows = _bundled([sequences[i] for i in rest], [items[i] for i in rest], budget)
    else:
        budget = min(budget, trust.reach or budget)
        rows = pack_sequences([sequences[i] for i in rest], budget, items is None and shares(model))
    return [[rest[i] for i in row] for row in rows] + [[i] for i in alone]


def _bundled(sequences: Sequence[PackedSequence], items: Sequence[object], budget: int) -> list[list[int]]:
    bundles: dict[object, list[int]] = {}
    for number, item in enumerate(items):
        bundles.setdefault(number if item is None else ("item", item), []).append(number)
    members = list(bundles.values())
    lengths = [len(shared_row([sequences[i] for i in bundle]).ids) for bundle in members]
    return [[i for number in packed for i in members[number]] for packed in pack(lengths, budget)]


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
    if trusted(model).rows != "packed":
        return padded_states(model, sequences)
    by_segment = shares(model)
    row = shared_row(sequences) if share and by_segment else flat_row(sequences)
    return predicting_states(model, row, by_segment)
