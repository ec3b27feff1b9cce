"""What a context is, what a kind of context is, and what passes between who needs contexts and who makes them.

A mechanism says what it *needs*; the kind *makes* contexts for a task's examples; they stay objects until the prompt
builder turns them into token ids. A kind is one file: a subclass of :class:`ContextKind`, found by the registry.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import ClassVar, Literal

from unisd.contexts import registry
from unisd.errors import UsageError
from unisd.rollout import CompletionStore, Request, Sampler, SamplingParams
from unisd.rollout.chat import Chat
from unisd.tasks.base import Example, Task
from unisd.tasks.turns import reply_of

About = Literal["item", "another", "general"]
"""Whether a kind speaks of the item that is asked, of another item (it shows that item's prompt), or of none."""


@dataclass(frozen=True)
class Words:
    """Templates, in which ``{text}`` is the context and ``{question}`` a question.

    The question is the other item's prompt for kinds about another item, and else what the student is asked.
    """

    after: str
    """Layout ``paper``: stands after the student's question, in the same turn."""
    before: str
    """Layout ``system``: a block of its own before the student's prompt."""
    asked: str = "{question}"
    """Layout ``turn``: what the user asks in an earlier exchange; the context's text is the reply."""


@dataclass(frozen=True)
class Context:
    """One piece of privileged or auxiliary context, before it is put into a prompt.

    Raises:
        UsageError: an unknown kind, an empty text, or a ``question`` that is missing or out of place.
    """

    kind: str
    text: str
    question: str | None = None
    """The student prompt of the *other* item for kinds about another item; None for every other kind."""

    def __post_init__(self) -> None:
        about = registry.get(str(self.kind)).about
        if not isinstance(self.text, str) or not self.text.strip():
            raise UsageError(
                f"a context of kind {self.kind!r} needs a non-empty text, not {self.text!r}; or leave it out"
            )
        if about != "another":
            if self.question is not None:
                raise UsageError(f"a context of kind {self.kind!r} has no question of its own; leave it null")
        elif not isinstance(self.question, str) or not self.question.strip():
            raise UsageError(f"a context of kind {self.kind!r} needs the other item's prompt as its 'question'")


@dataclass(frozen=True)
class Need:
    """What a mechanism asks for: contexts of one kind, in one slot of every training item."""

    slot: str
    """Where they stand in an item: ``gold``, ``auxiliary``, ``negative``, or a name of one's own."""
    kind: str
    count: int = 1
    """Contexts per item."""
    required: bool = True
    """Whether an item without them is dropped; else it trains without them."""
    per_item: int = 4
    """Texts that the model writes per item, at most, for kinds of which one is chosen."""
    first: bool = False
    """Of such kinds: take the first text that is fit, and write no more, rather than one of all that are."""

    def __post_init__(self) -> None:
        if self.slot == "privileged":
            raise UsageError("contexts: a slot 'privileged' would share its column with gold; choose another name")


def merged(needs: Iterable[Need]) -> list[Need]:
    """Join the needs of each slot, in the order in which the slots come: what is made serves everyone who asked.

    Raises:
        UsageError: two needs want different kinds in one slot.
    """
    joined: dict[str, Need] = {}
    for need in needs:
        known = joined.get(need.slot, need)
        if known.kind != need.kind:
            raise UsageError(
                f"contexts: slot '{need.slot}' is to hold both '{known.kind}' and '{need.kind}'; "
                "choose one kind, or name two slots"
            )
        count, per_item = max(known.count, need.count), max(known.per_item, need.per_item)
        required, first = known.required or need.required, known.first and need.first
        joined[need.slot] = Need(need.slot, need.kind, count, required, per_item, first)
    return list(joined.values())


@dataclass(frozen=True)
class Made:
    """The contexts that a kind made, and what became of the rest."""

    contexts: list[list[Context]]
    """One list per example, in their order; shorter than asked for where there are no more."""
    dropped: dict[str, int] = field(default_factory=dict)
    """What was written or drawn and left out, counted by reason."""
    notes: list[str] = field(default_factory=list)
    """What the user should be told, a line each."""


@dataclass
class Making:
    """What a kind may use to make contexts for ``examples``."""

    TOO_LONG: ClassVar = "the request is longer than max_prompt_length"
    """Why what :meth:`written` did not send is dropped."""
    task: Task
    examples: Sequence[Example]
    pool: Sequence[Example] | None = None
    """The training items to draw from, where they are not the examples themselves."""
    sampler: Sampler | None = None
    """Who writes; needed, like ``builder`` and ``store``, for kinds that the model writes."""
    builder: Chat | None = None
    store: CompletionStore | Callable[[], CompletionStore] | None = None
    """Keeps what is written; or what gives the store when it is first needed: its key, of all weights, takes time."""
    seed: int = 42
    encoder: str = "lexical"
    """What makes questions near: ``lexical`` or ``dense``."""
    temperature: float = 0.7
    """How demonstrations are sampled."""
    room: int = 256
    """Tokens of a demonstration."""
    max_prompt_length: int | None = None
    """Requests of more tokens are not sent; None sends all."""
    progress: bool = False
    """Whether to show progress bars."""
    shared: Callable[[Callable[[list[Request]], list[str]], list[Request]], list[str]] = lambda work, asked: work(asked)
    """Does work on requests and returns what it gave: here, or every process a part, and all of it on each."""

    def written(
        self, asked: Sequence[tuple[str, tuple[str | int, ...]]], params: SamplingParams, label: str
    ) -> list[str | None]:
        """Return what the model writes for each of ``asked``, user turns with the keys of their random streams.

        Thoughts before it are cut. It is None where a turn is longer than ``max_prompt_length``. ``label`` names the
        progress bar.

        Raises:
            UsageError: there is nobody to write.
        """
        if self.sampler is None or self.builder is None or self.store is None:
            raise UsageError(f"{label} are written by the model; give Making a sampler, a builder and a store")
        if not isinstance(self.store, CompletionStore):
            self.store = self.store()
        requests = [Request(self.builder.student_ids(prompt), key) for prompt, key in asked]
        limit = self.max_prompt_length
        fit = [limit is None or len(request.prompt_ids) <= limit for request in requests]
        sent = list(compress(requests, fit))
        sampler, store, shown = self.sampler, self.store, label if self.progress else None
        texts = self.shared(lambda part: store.texts(sampler, part, params, shown), sent)
        opened = (self.builder.opened(request.prompt_ids) for request in sent)
        replies = iter([reply_of(mark + text) for mark, text in zip(opened, texts, strict=True)])
        return [next(replies) if fits else None for fits in fit]


class ContextKind:
    """A kind of context: what it is called, how it is shown, and how it is made. Subclass it, and register the class.

    Example:
        >>> @register  # doctest: +SKIP
        ... class Hint(ContextKind):
        ...     name, summary, about = "hint", "the first sentence of the demonstration", "item"
        ...     words = Words(after="A hint:\\n{text}", before="A hint for the next question:\\n{text}")
        ...     def make(self, need, making):
        ...         return Made([[Context("hint", e.demonstration.split(".")[0])] for e in making.examples])
    """

    name: str
    """As settings and rows call it."""
    summary: str
    """One line for lists."""
    about: About
    words: Words | str
    """How it is shown; or the name of the kind whose words these are, now and whatever a user sets them to."""
    wrong: bool = False
    """Whether it must be wrong: one that says what is right (the gold context, the completion) is left out."""
    written: bool = False
    """Whether the model writes it."""
    alone: bool = False
    """Whether what an item gets depends on the item and the pool alone, so that it may be made for a few items, and for
    others when they are drawn."""
    certain: bool = False
    """Whether every item gets as many as are asked for, or `make` raises an error."""

    def make(self, need: Need, making: Making) -> Made:
        """Return contexts for ``making.examples``, up to ``need.count`` for each.

        Raises:
            UsageError: they cannot be made from these examples, or by anyone (the default: they come with the rows).
        """
        raise UsageError(f"contexts of kind '{self.name}' are not made from a task; give them as columns of the rows")
