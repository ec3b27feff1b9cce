"""Fast paths, behind one switch (``model.fast``); each gives what its plain path gives, to rounding.

* ``segments``: attention within each part of a packed row, and rows that share what prompts begin with alike. Plain: a
  mask over the whole row (``models.packed``).
* ``slots``: keys and values kept by position. Plain: padding and transformers' cache (``models.readers``).
* ``merged``: merged, packed weights while nothing is learned. Plain: the layers' own forward passes.
* ``lean``: LoRA layers that keep less while something is learned. Plain: PEFT's own forward passes.
* ``products``: oneDNN's matrix product. Plain: ``torch.mm``.

Each asks :func:`enabled` in one place: ``segments_suit``, ``slots_suit``, ``merged_weights``, ``lean_adapters`` and
``product``. ``replaced`` holds what they share: how a part of a model runs another way for a while.
"""

from unisd.fast.switch import Mode, enabled, use

__all__ = ["Mode", "enabled", "use"]
