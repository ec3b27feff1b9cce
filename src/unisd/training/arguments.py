"""The trainer's arguments: transformers' own, and one group of settings an idea.

The groups of the mechanisms are their own; nothing here knows which mechanisms there are.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from transformers import TrainingArguments

from unisd import contexts
from unisd.contexts import Layout, PromptBuilder
from unisd.contexts.kinds.retrieval import Encoder
from unisd.errors import UniSDError, UsageError, warn
from unisd.mechanisms import Mechanisms, former_names, known
from unisd.models import LoraSettings, ModelSettings
from unisd.objective import OF_TOKENS, Aggregation, Chooser, DivergenceKind
from unisd.rollout.messages import checked_variables
from unisd.rollout.settings import RolloutSettings
from unisd.settings import Field, build, check_field, group, plain, unknown
from unisd.tasks.row_files import OnError
from unisd.training.fields import check_environment, check_fields, check_made
from unisd.training.foreign import foreign, hint


@group
class DivergenceSettings:
    """What the student minimises."""

    kind: DivergenceKind = "forward_kl"
    """forward_kl = KL(teacher ‖ student); reverse_kl = KL(student ‖ teacher); jsd = the generalised Jensen-Shannon
    divergence with ``alpha``; sampled_reverse_kl = reverse_kl estimated from the sampled token alone, with the score
    function's gradient; cross_entropy = −log p of the completion itself at temperature 1, without any teacher."""
    alpha: float = Field(default=0.5, gt=0, lt=1)
    """The mixture weight of the teacher in jsd, between 0 and 1 (½ is the symmetric one)."""
    temperature: float = Field(default=0.7, gt=0)
    """Both models' logits are divided by this; there is no τ² factor."""
    aggregation: Aggregation = "token"
    """token: every token of the step counts the same; sequence: a mean inside each completion, then over completions.
    The weights of mechanisms count in both."""
    top_k: int | None = Field(default=None, ge=1)
    """Compare the distributions over this many of the likeliest tokens alone; null: over the whole vocabulary."""
    tail: bool = True
    """With ``top_k``: one bucket holds the mass of all other tokens; false: the probabilities of the k are divided by
    their sum."""
    top_k_of: Chooser = "teacher"
    """With ``top_k``: whose likeliest tokens, the teacher's or the student's."""
    skip_tokens: int = Field(default=0, ge=0)
    """The first tokens of every completion that carry no loss, in any term: they are read, and nothing counts them."""

    def __post_init__(self) -> None:
        if self.top_k is not None and self.kind in OF_TOKENS:
            raise UsageError(f"divergence.top_k: {self.kind} looks at the sampled token alone; set top_k to null")
        if self.top_k == 1 and not self.tail:
            raise UsageError(
                "divergence.top_k: one token without a tail has all the mass in both; set tail, or raise it"
            )
        if self.kind != "jsd" and self.alpha != 0.5:
            raise UsageError(
                f"divergence.alpha: {self.kind} has no mixture; leave it out, or set divergence.kind to jsd"
            )
        if self.top_k is None and (not self.tail or self.top_k_of != "teacher"):
            name = "top_k_of" if self.tail else "tail"
            raise UsageError(
                f"divergence.{name}: the whole vocabulary is compared; set divergence.top_k, or leave it out"
            )


@group
class ContextsSettings:
    """What the teacher sees besides the prompt."""

    layout: Layout = "paper"
    """paper: the demonstration inside the user turn; turn: an earlier exchange; system: a leading system block.
    Measure the headroom before choosing: the layout decides what the teacher can teach."""
    kind: str = "retrieval"
    """Auxiliary contexts: ``retrieval`` (nearest training items), ``random`` ones, ``induction`` (instructions that the
    model writes), or a kind of one's own that is not about the item itself."""
    count: int = Field(default=3, ge=1)
    """K, the number of auxiliary contexts, where a mechanism reads them."""
    encoder: Encoder = "lexical"
    """How retrieval compares questions: a lexical index, or sentence embeddings (extra ``dense``)."""
    max_prompt_length: int = Field(default=3072, ge=1)
    """Items whose student or gold prompt is longer, in tokens, are dropped, counted and named; nothing is truncated."""
    on_error: OnError = "stop"
    """stop: a row of the data set that cannot be read ends the run before it begins, in one line; drop: it is left out,
    and a warning counts such rows and names the first ones and a file with all. A task has a key of its own for it."""
    words: dict[str, dict[str, str]] | None = None
    """Templates that introduce contexts, by kind: after, before, asked; null or empty: the built-in ones."""
    template_kwargs: dict[str, Any] | None = None
    """What the model's chat template reads beside the messages, in every prompt: ``{enable_thinking: false}``, say, or
    ``chat_template``, the name of one of several. A row's column ``chat_template_kwargs`` is laid over it."""
    teacher_template_kwargs: dict[str, Any] | None = None
    """Laid over ``template_kwargs`` in the teacher's prompts alone; null: the teacher's are as the student's."""

    def __post_init__(self) -> None:
        fit = [name for name in contexts.known() if contexts.get(name).about != "item"]
        if self.kind not in fit:
            raise UsageError(f"contexts.kind: {self.kind!r} is no kind of auxiliary context; {unknown(self.kind, fit)}")
        for name in ("template_kwargs", "teacher_template_kwargs"):
            checked_variables(getattr(self, name) or {}, f"contexts.{name}")

    def builder(self, tokenizer: Any) -> PromptBuilder:
        """Return who makes all prompts of a run, of the student and of the teacher."""
        return PromptBuilder(tokenizer, self.layout, self.words, self.template_kwargs, self.teacher_template_kwargs)


@group
class GuardSettings:
    """What stops a run that goes wrong."""

    skip_nonfinite: int = Field(default=0, ge=0)
    """Steps whose loss or gradient is no number that are left out, each with a warning, before the run stops. It stops
    before anything of such a step is kept, and writes down what was seen (``nonfinite-step-N-rank-R.json``)."""
    on_collapse: Literal["warn", "stop"] = "warn"
    """What to do where the student's own words narrow down (entropy, length, repetition, share cut off, distance to the
    teacher; the means of the latest five steps against those of the first): warn, or save and stop."""


@group
class OwnArguments:
    """Arguments of the trainer: those whose default is not transformers', and one more."""

    learning_rate: float = Field(default=2e-5, gt=0)
    """The highest learning rate of the schedule."""
    lr_scheduler_type: Any = "cosine"
    """The schedule, by transformers' name."""
    warmup_steps: float = Field(default=0.1, ge=0)
    """Steps until the highest rate; below 1: a share of all steps."""
    num_train_epochs: float = 1.0
    """Passes over the training items."""
    logging_steps: int | float = 1
    """A line of metrics every so many steps."""
    remove_unused_columns: bool | None = False
    """Rows keep their columns: contexts stand in them."""
    ddp_find_unused_parameters: bool | None = False
    """Every trained parameter has a gradient, so that nothing has to be searched for."""
    tokens_per_row: int = Field(default=0, ge=0)
    """Token budget of a packed row, in scoring and in learning. Changes memory and speed, never the result. 0: 512 on
    a CPU; elsewhere by the memory that is free, 8192 at most, with checkpointing where it is needed."""


_CORE: dict[str, type[Any]] = {
    "divergence": DivergenceSettings,
    "rollout": RolloutSettings,
    "contexts": ContextsSettings,
    "guard": GuardSettings,
}
# What leaves the distribution that is sampled from as it is.
_UNBENT = {"top_p": (1.0,), "top_k": (0,), "min_p": (0.0,), "repetition_penalty": (1.0,)}
_UNBENT |= {"mask_truncated_completions": (False,)}  # what ended in time is no fair sample of what is written
_TAKEN = {"task", "model", "lora", "training", "recipe", "description", "base", *_CORE}
_TAKEN |= {"versions", "command", "started_in"}


@functools.cache
def all_arguments() -> type[Any]:
    """Return the group by which arguments are checked: `OwnArguments`, and transformers' numbers and texts."""
    own = {field.name for field in dataclasses.fields(OwnArguments)} | {"output_dir"}  # type: ignore[arg-type]
    plain_kinds: list[Any] = [bool, int, float, bool | None, int | None, float | None, str | None]
    theirs = [
        (field.name, field.type if field.type in plain_kinds else Any, None)
        for field in dataclasses.fields(TrainingArguments)
        if field.init and field.name not in own
    ]
    return group(dataclasses.make_dataclass("Training", theirs, bases=(OwnArguments,)))


def groups() -> dict[str, type[Any]]:
    """Return all groups of settings by name: those of training itself, then every mechanism's.

    Raises:
        UniSDError: a mechanism has the name of something else.
    """
    found = known()
    for name in found:
        if name in _TAKEN or hasattr(UniSDConfig, name):
            raise UniSDError(f"mechanism '{name}': another setting has that name; give the mechanism another one")
    return _CORE | {name: mechanism.Settings for name, mechanism in found.items()}


def moved(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings in which those given under an earlier name stand under the present one, nulls included.

    Raises:
        UsageError: a setting is given under both names, or its value is not allowed.
    """
    result, mechanisms = dict(values), known()
    for former, present in former_names(mechanisms).items():
        (group_then, field_then), (name, field) = former.split("."), present.split(".")
        given = result.get(group_then)
        if not isinstance(given, Mapping) or field_then not in given:
            continue
        value = given[field_then]
        result[group_then] = {key: other for key, other in given.items() if key != field_then}
        if not result[group_then]:
            del result[group_then]
        others = result.get(name, {})
        if not isinstance(others, Mapping) or field in others:
            if value is not None:
                raise UsageError(f"{former}: its name is {present} now, which is set, too; leave {former} out")
            continue
        try:
            check_field(mechanisms[name].Settings, field, value, f"{former} (now {present})")
        except UsageError:
            if value is None:  # it meant "off", which the setting says in another way now
                continue
            raise
        result[name] = {**others, field: value}
    return result


def _instead(name: str) -> str:
    """Return what to write for a name that is no argument: in which groups it is, or what another trainer's is here."""
    group, _, field = name.rpartition(".")
    held = {place: cls for place, cls in groups().items() if field in cls.__pydantic_fields__ and group in ("", place)}
    row = foreign(name)
    if held and (row is None or any(f"{place}.{field}" in row.settings for place in held)):
        return "write " + " or ".join(f"{place}={{'{field}': …}}" for place in held)
    return hint(name)


class UniSDConfig(TrainingArguments):
    """Arguments of `UniSDTrainer`: transformers' ``TrainingArguments``, ``tokens_per_row``, and groups of settings.

    Args:
        output_dir: where the run lies.
        values: any of transformers' arguments (defaults that differ are the paper's: `OwnArguments`), and any group by
            its name, as a mapping or as the group's class. ``unisd list settings`` shows them all. ``lora`` and
            ``model`` are the groups of run files; rows come with the trainer in place of ``task``.

    Example:
        >>> UniSDConfig(output_dir="out", divergence={"kind": "jsd"}, rollout={"top_p": 0.9}, learning_rate=1e-4)

    Raises:
        UsageError: an unknown field, a value of the wrong type or out of range, or settings that contradict each other.
    """

    divergence: DivergenceSettings
    rollout: RolloutSettings
    contexts: ContextsSettings
    guard: GuardSettings
    tokens_per_row: int
    lora: LoraSettings | None
    """What adapter the model gets; None: that of the defaults where it is asked for by name, else none."""
    model: Mapping[str, Any] | None
    """What model is loaded, as the group ``model`` of run files says it; None: the trainer's argument."""
    about: Mapping[str, Any] = MappingProxyType({})
    """What else is to be said of the run where its settings are kept: in trackers and beside the weights."""

    def __init__(self, output_dir: str | None = None, **values: Any) -> None:
        values = moved(values)
        lora, model = (values.pop(name, None) for name in ("lora", "model"))
        self.lora = None if lora is None else build(LoraSettings, lora, "lora")
        checked = None if model is None else plain(build(ModelSettings, model, "model"))
        self.model = dict(model) if isinstance(model, Mapping) else checked
        if values.get("task") is not None:
            raise UsageError("task: in Python rows are given, as train_dataset; `unisd train --task` learns tasks")
        for name, cls in groups().items():
            setattr(self, name, build(cls, values.pop(name, {}), name))
        check_fields(values, [plain(OwnArguments())], "training.")
        check_environment(values)
        names = ["output_dir", *all_arguments().__pydantic_fields__, *groups()]
        if strange := [name for name in values if name not in names]:
            raise UsageError(f"{strange[0]}: no such setting; {_instead(strange[0]) or unknown(strange[0], names)}")
        build(all_arguments(), values, "training")
        values = plain(OwnArguments()) | values
        self.tokens_per_row = values.pop("tokens_per_row")
        self.mechanisms = Mechanisms(self)
        self._check_together()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available():
            # Without it every process trains alone, on the same rows, into the same folder.
            values["use_cpu"] = True
        try:
            super().__init__(output_dir, **values)
        except Exception as error:  # whatever transformers says of values that were given
            cause = " ".join(str(error).split())
            of = [f".{name}" for name, value in values.items() if cause.startswith(f"{value} is not a valid ")][:1]
            raise UsageError(f"training{''.join(of)}: {cause[:300]}") from error
        if self.n_gpu > 1:  # transformers would copy the model to all of them, row by row of a batch that has no rows
            all_of_them = f"torchrun --nproc_per_node={self.n_gpu} -m unisd.cli.main …"
            warn(f"{self.n_gpu} devices are seen and one is used; to use all, start with {all_of_them}")
            self._n_gpu = 1
        check_made(self, plain(OwnArguments()))

    def _check_together(self) -> None:
        """Refuse settings of the core's groups that cannot work together."""
        divergence, rollout = self.divergence, self.rollout
        if divergence.skip_tokens >= rollout.max_completion_length:
            raise UsageError(
                f"divergence.skip_tokens: {divergence.skip_tokens} leaves no token to learn from; use less than "
                f"rollout.max_completion_length ({rollout.max_completion_length})"
            )
        if self.mechanisms.replaces_divergence and (divergence.top_k or divergence.kind == "sampled_reverse_kl"):
            name = "top_k" if divergence.top_k else "kind"
            raise UsageError(
                f"divergence.{name}: another term is the whole loss, so that no divergence is formed; leave it out"
            )
        if divergence.kind != "sampled_reverse_kl":
            return
        # The mean over tokens is right where they were drawn from the very distribution that the loss compares.
        needed = {"source": ("student",), "temperature": (divergence.temperature,)} | _UNBENT
        for name, allowed in needed.items():
            given = getattr(rollout, name, allowed[0])
            if given not in allowed:
                raise UsageError(
                    f"rollout.{name}: sampled_reverse_kl learns from tokens that the student draws from the very "
                    f"distribution that it compares; set {allowed[0]} (now {given}), or divergence.kind to reverse_kl"
                )

    @functools.cached_property
    def mechanisms(self) -> Mechanisms:
        """The mechanisms that are switched on."""
        return Mechanisms(self)

    @property
    def needs_teacher(self) -> bool:
        """Whether anything is scored by a teacher."""
        return self.divergence.kind != "cross_entropy"

    @property
    def has_teacher(self) -> bool:
        """Whether there is a teacher: one that scores, or one that writes."""
        return self.needs_teacher or self.rollout.source == "teacher"

    def row_budget(self) -> int:
        """Return the token budget of a packed row."""
        return self.tokens_per_row or (512 if self.device.type == "cpu" else 8192)

    def scoring_budget(self) -> int:
        """Return the token budget of a row that is read without gradient, which needs far less memory a token."""
        return max(1024, self.row_budget())

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain values, groups as dicts."""
        own = {name: plain(getattr(self, name)) for name in groups() if hasattr(self, name)}
        own |= {} if self.lora is None else {"lora": plain(self.lora)}
        own |= {} if self.model is None else {"model": dict(self.model)}
        return {**super().to_dict(), "tokens_per_row": self.tokens_per_row, **own, **self.about}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UniSDConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        # Copies and saved arguments start anew: a mechanism in use holds weights.
        return {name: value for name, value in vars(self).items() if name != "mechanisms"}
