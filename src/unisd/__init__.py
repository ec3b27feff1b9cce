"""Unified self-distillation: adapt a language model with itself as the teacher."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unisd.training.arguments import UniSDConfig
    from unisd.training.trainer import UniSDTrainer

__version__ = "0.1.0"
__all__ = ["UniSDConfig", "UniSDTrainer", "__version__"]

_HOMES = {"UniSDConfig": "unisd.training.arguments", "UniSDTrainer": "unisd.training.trainer"}


def __getattr__(name: str) -> Any:
    """Import the heavy names when they are first used, so that the command line starts at once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'unisd' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
