"""What the teacher sees besides the prompt: kinds of context, one file each, and one prompt builder for all."""

from unisd.contexts.base import Context, ContextKind, Made, Making, Need, Words, merged
from unisd.contexts.builder import Layout, PromptBuilder
from unisd.contexts.items import Item, columns_of, make_contexts, read_columns
from unisd.contexts.later import Later, may_wait
from unisd.contexts.leakage import leaks
from unisd.contexts.registry import get, known, register
from unisd.contexts.rows import DropReport, PreparedRow, prepare_rows
from unisd.rollout.chat import Prompt, messages_of

__all__ = [
    "Context",
    "ContextKind",
    "DropReport",
    "Item",
    "Later",
    "Layout",
    "Made",
    "Making",
    "Need",
    "PreparedRow",
    "Prompt",
    "PromptBuilder",
    "Words",
    "columns_of",
    "get",
    "known",
    "leaks",
    "make_contexts",
    "may_wait",
    "merged",
    "messages_of",
    "prepare_rows",
    "read_columns",
    "register",
]
