"""The settings of who writes, how, and how many."""

from typing import Literal

from unisd.errors import UsageError
from unisd.rollout.mix import Mix, Schedule
from unisd.settings import Field, group
from unisd.tasks.turns import Thoughts


@group
class RolloutSettings:
    """Where the completions come from that the student learns on."""

    source: Literal["student", "gold", "mix", "own", "teacher"] = "student"
    """student: sampled afresh every step; gold: the demonstration; mix: either, by ``mix``; own: sampled once from the
    initial model, the same in every epoch; teacher: sampled by the teacher in the gold context."""
    teacher_draws: Literal["once", "each_step"] = "once"
    """For source teacher: once, before training, the same in every epoch; each_step: afresh, by the teacher as it is
    then."""
    mix: float = Field(default=0.5, ge=0, le=1)
    """Share of items whose completion the student samples, for source mix (λ of GKD); with a schedule, at its end."""
    mix_schedule: Schedule = "constant"
    """How the share comes to ``mix``. linear: from ``mix_start`` over ``mix_steps`` steps; readable: from ``mix_start``
    as far as the task can read the student's latest answers."""
    mix_start: float = Field(default=0.0, ge=0, le=1)
    """The share at the first step, where there is a schedule; 0: demonstrations alone."""
    mix_steps: int = Field(default=0, ge=0)
    """Steps after which the share is ``mix``, for schedule linear."""
    num_generations: int = Field(default=1, ge=1)
    """Completions a prompt, each with a random stream of its own. ``per_device_train_batch_size`` counts prompts: a
    step learns from so many times as many completions."""
    mask_truncated_completions: bool = False
    """Leave completions that ran into ``max_completion_length`` without an end out of the loss; false: they count."""
    temperature: float = Field(default=0.7, gt=0)
    """Sampling temperature."""
    top_k: int = Field(default=0, ge=0)
    """Sample among so many of the likeliest tokens; 0: among all. The order: repetition_penalty, temperature, top_k,
    top_p, min_p."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus; 1 keeps the whole distribution."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Sample among tokens at least this share as likely as the likeliest; 0: among all."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Above 1, tokens of the prompt and of the completion so far become less likely; 1 leaves them."""
    max_completion_length: int = Field(default=1024, ge=1)
    """Tokens a completion may have."""
    batch_size: int = Field(default=32, ge=1)
    """Completions written at a time; changes speed and memory, not results."""
    thoughts: Thoughts = "cut"
    """What a reasoning model thinks, where completions are graded: cut (a thought that was never closed is no answer),
    or keep: the whole text is graded."""
    log_completions_steps: int = Field(default=0, ge=0)
    """Keep what was written at every so many-th step in the run's ``completions.jsonl``; 0: never."""

    def __post_init__(self) -> None:
        if self.source in ("gold", "mix") and self.num_generations > 1:
            raise UsageError(
                f"rollout.num_generations: an item has one demonstration, so source {self.source} cannot have "
                f"{self.num_generations} completions a prompt; set it to 1"
            )
        for name, default in {"mix": 0.5, "mix_schedule": "constant", "mix_start": 0.0, "mix_steps": 0}.items():
            if self.source != "mix" and getattr(self, name) != default:
                raise UsageError(f"rollout.{name}: source {self.source} is no mixture; leave it out, or use source mix")
        self.mixture()
        if self.source != "teacher" and self.teacher_draws != "once":
            raise UsageError(
                f"rollout.teacher_draws: source {self.source} has no teacher write; leave it out, or use source teacher"
            )
        unused = {"mask_truncated_completions": False, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
        for name, default in unused.items() if self.source == "gold" else ():
            if getattr(self, name) != default:
                raise UsageError(
                    f"rollout.{name}: with source gold nothing is sampled or cut off; set it to {str(default).lower()}"
                )
        for name in ("top_k", "min_p"):
            if self.num_generations > 1 and getattr(self, name) == 1:
                raise UsageError(
                    f"rollout.{name}: 1 leaves one token to choose, so {self.num_generations} completions of a prompt "
                    "would be equal; set num_generations to 1"
                )

    def mixture(self) -> Mix:
        """Return who writes, step by step, for source mix."""
        return Mix(self.mix_schedule, self.mix_start, self.mix, self.mix_steps)
