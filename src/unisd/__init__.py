"""Unified self-distillation: adapt a language model with itself as the teacher."""

__version__ = "0.1.0"
