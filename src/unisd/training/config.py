"""Every setting of a training run, documented where it is declared.

Mechanisms are orthogonal groups, each on its own and together; a recipe is a choice of their values, never code.
"""

import dataclasses
import os
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import TrainingArguments

from unisd.contexts import Layout
from unisd.errors import UsageError
from unisd.objective import divergence_bound
from unisd.teacher import TeacherKind


@dataclass
class DivergenceConfig:
    """What the student minimises (METHOD 3, 3.1, 3.2)."""

    kind: Literal["forward_kl", "reverse_kl", "jsd", "cross_entropy"] = "forward_kl"
    """forward_kl = KL(teacher ‖ student); reverse_kl = KL(student ‖ teacher); jsd = the generalised Jensen-Shannon
    divergence with ``alpha``; cross_entropy = −log p of the completion itself at temperature 1, without any teacher."""
    alpha: float = 0.5
    """The mixture weight of the teacher in jsd, between 0 and 1 (½ is the symmetric one)."""
    temperature: float = 0.7
    """Both models' logits are divided by this; there is no τ² factor."""
    clip: float | None = None
    """Divergence clipping: cap on a token's divergence in nats. Clipped tokens get no gradient. null: no cap."""
    clip_quantile: float | None = None
    """Divergence clipping, instead of ``clip``: the cap is this quantile of the step's divergences (costs a second
    student forward pass)."""
    aggregation: Literal["token", "sequence"] = "token"
    """token: every token of the step counts the same; sequence: a mean inside each completion, then over completions.
    Agreement weights count in both."""

    def validate(self) -> None:
        """Raise UsageError for a value out of range."""
        _check(
            0 < self.alpha < 1,
            "divergence.alpha",
            self.alpha,
            "use a value between 0 and 1, or kind forward_kl or reverse_kl for the ends",
        )
        _check(self.temperature > 0, "divergence.temperature", self.temperature, "use a value above 0")
        _check(self.clip is None or self.clip > 0, "divergence.clip", self.clip, "use a cap above 0 nats, or null")
        _check(
            self.clip_quantile is None or 0 < self.clip_quantile < 1,
            "divergence.clip_quantile",
            self.clip_quantile,
            "use a quantile between 0 and 1, or null",
        )
        _check(
            self.clip is None or self.clip_quantile is None,
            "divergence.clip_quantile",
            self.clip_quantile,
            "choose either clip or clip_quantile, not both",
        )

    def clips(self) -> bool:
        """Return whether divergence clipping is switched on."""
        return self.clip is not None or self.clip_quantile is not None


@dataclass
class TeacherConfig:
    """Whose weights the teacher uses (METHOD 3.4)."""

    kind: TeacherKind = "initial"
    """initial: the model before training; live: the student as it is now; ema: an average of past students."""
    decay: float = 0.9
    """β of the average, θ̄ ← β θ̄ + (1−β) θ."""
    every: int = 10
    """Optimizer steps between two updates of the average."""

    def validate(self) -> None:
        """Raise UsageError for a value out of range."""
        _check(0 <= self.decay < 1, "teacher.decay", self.decay, "use a value in [0, 1)")
        _check(self.every >= 1, "teacher.every", self.every, "use 1 or more steps")


@dataclass
class AgreementConfig:
    """Multi-teacher agreement (METHOD 3.3): tokens or completions on which the probes disagree count less."""

    granularity: Literal["none", "token", "sequence"] = "none"
    """Where weights are formed; none switches the mechanism off."""
    gamma: float = 1.0
    """How strongly disagreement lowers a weight. The official 0.01 and 0.001 are all but inert."""
    statistic: Literal["variance", "range"] = "variance"
    """How the probes' log-probabilities are compared: population variance, or maximum − minimum."""
    quantile: float = 0.95
    """Token level: disagreement is measured in units of this quantile of the step's disagreements."""
    cap: float = 10.0
    """Token level: the largest scaled disagreement that counts."""
    floor: float = 0.01
    """Token level: the smallest weight."""

    def validate(self) -> None:
        """Raise UsageError for a value out of range."""
        _check(self.gamma >= 0, "agreement.gamma", self.gamma, "use 0 or more")
        _check(0 < self.quantile <= 1, "agreement.quantile", self.quantile, "use a quantile in (0, 1]")
        _check(self.cap > 0, "agreement.cap", self.cap, "use a value above 0")
        _check(0 <= self.floor <= 1, "agreement.floor", self.floor, "use a value in [0, 1]")

    @property
    def on(self) -> bool:
        """Whether the mechanism is switched on."""
        return self.granularity != "none"


@dataclass
class ContrastConfig:
    """Token-level contrast against a wrong demonstration (METHOD 3.5)."""

    weight: float = 0.0
    """λ_c; 0 switches the mechanism off."""
    margin: float = 0.5
    """Hinge margin in nats."""
    per_item: int = 4
    """Wrong demonstrations that the model writes per item beforehand; one verified one is drawn."""

    def validate(self) -> None:
        """Raise UsageError for a value out of range."""
        _check(self.weight >= 0, "contrast.weight", self.weight, "use 0 (off) or more")
        _check(self.margin >= 0, "contrast.margin", self.margin, "use 0 or more nats")
        _check(self.per_item >= 1, "contrast.per_item", self.per_item, "use 1 or more")

    @property
    def on(self) -> bool:
        """Whether the mechanism is switched on."""
        return self.weight > 0


@dataclass
class FeaturesConfig:
    """Feature matching of final hidden states (METHOD 3.6)."""

    weight: float = 0.0
    """λ_f; 0 switches the mechanism off."""
    mode: Literal["joint", "only"] = "joint"
    """joint: added to the divergence; only: it is the whole loss ("representation only")."""

    def validate(self) -> None:
        """Raise UsageError for a value out of range."""
        _check(self.weight >= 0, "features.weight", self.weight, "use 0 (off) or more")
        _check(
            self.mode != "only" or self.weight > 0, "features.weight", self.weight, "mode only needs a weight above 0"
        )

    @property
    def on(self) -> bool:
        """Whether the mechanism is switched on."""
        return self.weight > 0


@dataclass
class RolloutConfig:
    """Where the completions come from that the student learns on."""

    source: Literal["student", "gold", "mix", "own"] = "student"
    """student: sampled afresh every step; gold: the demonstration; mix: either, by ``mix``; own: sampled once from the
    initial model, the same in every epoch."""
    mix: float = 0.5
    """Share of items whose completion the student samples, for source mix (λ of GKD)."""
    temperature: float = 0.7
    """Sampling temperature."""
    top_p: float = 1.0
    """Nucleus; 1 keeps the whole distribution."""
    max_completion_length: int = 1024
    """Tokens a completion may have."""
    batch_size: int = 32
    """Completions written at a time; changes speed and memory, not results."""

    def validate(self) -> None:
        """Raise UsageError for a value out of range."""
        _check(0 <= self.mix <= 1, "rollout.mix", self.mix, "use a share in [0, 1]")
        _check(self.temperature > 0, "rollout.temperature", self.temperature, "use a value above 0")
        _check(0 < self.top_p <= 1, "rollout.top_p", self.top_p, "use a value in (0, 1]")
        _check(
            self.max_completion_length >= 1,
            "rollout.max_completion_length",
            self.max_completion_length,
            "use 1 or more tokens",
        )
        _check(self.batch_size >= 1, "rollout.batch_size", self.batch_size, "use 1 or more")


@dataclass
class ContextsConfig:
    """What the teacher sees besides the prompt (METHOD 3.3, 4.1)."""

    layout: Layout = "paper"
    """paper: the demonstration inside the user turn; turn: an earlier exchange; system: a leading system block.
    Measure the headroom before choosing: the layout decides what the teacher can teach."""
    kind: Literal["retrieval", "random", "induction"] = "retrieval"
    """Auxiliary contexts of the probes: nearest training items, random ones, or instructions written by the model."""
    count: int = 3
    """K, the number of probes (2 or more when agreement is on)."""
    encoder: Literal["lexical", "dense"] = "lexical"
    """How retrieval compares questions: a lexical index, or sentence embeddings (extra ``dense``)."""
    max_prompt_length: int = 3072
    """Items whose student or gold prompt is longer, in tokens, are dropped, counted and named; nothing is truncated."""

    def validate(self) -> None:
        """Raise UsageError for a value out of range."""
        _check(self.count >= 1, "contexts.count", self.count, "use 1 or more (2 or more for agreement)")
        _check(
            self.max_prompt_length >= 1, "contexts.max_prompt_length", self.max_prompt_length, "use 1 or more tokens"
        )


GROUPS: dict[str, type[Any]] = {
    "divergence": DivergenceConfig,
    "teacher": TeacherConfig,
    "agreement": AgreementConfig,
    "contrast": ContrastConfig,
    "features": FeaturesConfig,
    "rollout": RolloutConfig,
    "contexts": ContextsConfig,
}


@dataclass
class UniSDConfig(TrainingArguments):
    """Settings of :class:`~unisd.training.trainer.UniSDTrainer`: transformers' ``TrainingArguments`` and seven groups.

    Each group may be given as its dataclass or as a dict. Defaults that differ from transformers' are the paper's
    (METHOD 4): learning rate 2e-5, cosine, 10 % warm-up, one epoch; a line of metrics is logged every step.

    Example:
        >>> UniSDConfig(output_dir="out", agreement={"granularity": "token"}, teacher={"kind": "ema", "every": 1})

    Raises:
        UsageError: an unknown field, a value of the wrong type or out of range, or settings that contradict each other.
    """

    learning_rate: float = 2e-5
    lr_scheduler_type: Any = "cosine"
    warmup_steps: float = 0.1
    num_train_epochs: float = 1.0
    logging_steps: float = 1
    remove_unused_columns: bool | None = False
    ddp_find_unused_parameters: bool | None = False
    tokens_per_row: int = 0
    """Token budget of a packed row, in scoring and in learning. Changes memory and speed, never the result. 0: chosen
    by device (512 on a CPU, 8192 elsewhere)."""
    divergence: DivergenceConfig = field(default_factory=DivergenceConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    agreement: AgreementConfig = field(default_factory=AgreementConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    contexts: ContextsConfig = field(default_factory=ContextsConfig)

    def __post_init__(self) -> None:
        for name, group in GROUPS.items():
            value = getattr(self, name)
            values = value if isinstance(value, dict) else dataclasses.asdict(value)
            setattr(self, name, build(group, values, name))
            getattr(self, name).validate()
        _check(self.tokens_per_row >= 0, "tokens_per_row", self.tokens_per_row, "use 0 (automatic) or more")
        self._check_together()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available():
            # Without it every process trains alone, on the same rows, into the same folder.
            self.use_cpu = True
        super().__post_init__()

    def _check_together(self) -> None:
        if self.agreement.on and self.contexts.count < 2:
            raise UsageError(
                f"contexts.count: {self.contexts.count} probe cannot disagree with itself; agreement needs 2 or more"
            )
        if self.divergence.kind == "cross_entropy" and self.uses_teacher_views:
            raise UsageError(
                "divergence.kind: cross_entropy has no teacher; switch agreement, contrast, features and clipping off"
            )
        if self.features.mode == "only" and (self.divergence.clips() or self.contrast.on):
            raise UsageError("features.mode: 'only' is the whole loss; switch contrast and clipping off, or use joint")

    @property
    def needs_teacher(self) -> bool:
        """Whether anything is scored by a teacher."""
        return self.divergence.kind != "cross_entropy"

    @property
    def uses_teacher_views(self) -> bool:
        """Whether a mechanism is on that only makes sense beside a teacher."""
        return self.agreement.on or self.contrast.on or self.features.on or self.divergence.clips()

    @property
    def probes(self) -> int:
        """The number of probes that are read: K, or 0 when agreement is off."""
        return self.contexts.count if self.agreement.on else 0

    def row_budget(self) -> int:
        """Return the token budget of a packed row."""
        return self.tokens_per_row or (512 if self.device.type == "cpu" else 8192)

    def scoring_budget(self) -> int:
        """Return the token budget of a row that is read without gradient, which needs far less memory a token."""
        return max(1024, self.row_budget())

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain values, groups as dicts."""
        plain: dict[str, Any] = super().to_dict()
        for name in GROUPS:
            plain[name] = dataclasses.asdict(getattr(self, name))
        return plain


def inert_settings(config: UniSDConfig, steps: int | None = None) -> list[str]:
    """Return a warning for each mechanism that is on and, by its settings alone, cannot act in ``steps`` steps."""
    warnings = []
    bound = divergence_bound(config.divergence.kind, config.divergence.alpha) if config.needs_teacher else None
    clip = config.divergence.clip
    if clip is not None and bound is not None and clip >= bound:
        warnings.append(
            f"divergence.clip: {clip:g} nats can never bind: {config.divergence.kind} is at most {bound:.3f}; lower it"
        )
    if config.teacher.kind == "ema" and steps is not None and steps < config.teacher.every:
        warnings.append(
            f"teacher.every: the average first moves after {config.teacher.every} steps, the run has {steps}; lower it"
        )
    if config.agreement.on and config.agreement.gamma == 0:
        warnings.append("agreement.gamma: 0 gives every token weight 1; raise it or set granularity to none")
    return warnings


def build(cls: type[Any], values: dict[str, Any], where: str) -> Any:
    """Build a settings dataclass from a dict, with unknown names and wrong types named in one line.

    Raises:
        UsageError: an unknown field or a value of another type than declared.
    """
    import difflib

    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls) if f.init]
    for name, value in values.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean '{close[0]}'?" if close else f"choose one of {', '.join(known[:12])}"
            raise UsageError(f"{where}.{name}: no such setting; {hint}")
        if not _fits(value, hints[name]):
            raise UsageError(f"{where}.{name}: {value!r} is not {_describe(hints[name])}")
    return cls(**{name: _coerce(value, hints[name]) for name, value in values.items()})


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if origin is Literal:
        return value in typing.get_args(hint) and not isinstance(value, bool)
    if origin in (list, tuple):
        return isinstance(value, list | tuple)
    if origin is dict:
        return isinstance(value, dict)
    if dataclasses.is_dataclass(hint):
        return isinstance(value, dict | hint)  # type: ignore[arg-type]
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _coerce(value: Any, hint: Any) -> Any:
    parts = typing.get_args(hint) or (hint,)
    if float in parts and int not in parts and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_describe(part) for part in typing.get_args(hint))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    return names.get(hint, "of the declared type")


def _check(good: bool, name: str, value: Any, remedy: str) -> None:
    if not good:
        raise UsageError(f"{name}: {value!r} is not allowed; {remedy}")
