"""A bridge to lm-evaluation-harness (EleutherAI), which is not a dependency: ``pip install lm_eval``."""

from typing import Any

from unisd.errors import UniSDError
from unisd.evaluation.models import Loaded


def harness_model(name: str, batch_size: int = 8, device: str = "auto", **more: Any) -> Any:
    """Return a model as the harness knows it, for ``lm_eval.simple_evaluate(model=…)``.

    Args:
        name: a run's folder, an adapter, a model's folder, a short name or a hub id.
        batch_size: of the harness.
        device: where the model is placed: auto, or as PyTorch names it.
        more: passed on to the harness's ``HFLM``.

    Raises:
        UniSDError: the harness is not installed, or the model cannot be loaded.
    """
    try:
        from lm_eval.models.huggingface import HFLM
    except ImportError as error:
        raise UniSDError(f"lm-evaluation-harness cannot be loaded ({error}); pip install lm_eval") from error
    loaded = Loaded(name, device)
    return HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch_size, **more)
