"""One step of a tiny model in double precision: as the trainer takes it, and plainly, one forward pass a completion."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import tiny
from unisd.mechanisms import InitialTeacher
from unisd.training.trainer import UniSDTrainer

TEMPERATURE = 0.7


def trainer_of(folder, tokenizer, trained=True, rows=None, dtype=torch.float64, **changes):
    """A trainer of a tiny model with an adapter; ``trained`` moves the adapter off its start."""
    values = {"max_steps": 3, "tokens_per_row": 400, "rollout": {"max_completion_length": 10}}
    grader = changes.pop("grader", None)
    trainer = UniSDTrainer(
        tiny.model().to(dtype),
        tiny.arguments(folder, **(values | changes)),
        train_dataset=rows or tiny.rows(),
        processing_class=tokenizer,
        peft_config=tiny.lora_config(),
        grader=grader,
    )
    trainer.model.to(dtype)  # an adapter is made in single precision
    trainer.start = InitialTeacher(trainer.model)
    if trained:
        torch.manual_seed(5)
        tiny.move(trainer.model, 0.1)
    return trainer


def step_of(trainer, n=4):
    """Take the gradient of one step; return its loss, gradients by name, and the plan."""
    trainer.model.train()
    trainer.model.zero_grad()
    plan = trainer.planner.plan(trainer.train_dataset[:n], 0)
    loss = trainer.learner.learn(trainer.model, plan)
    return loss, {k: p.grad.clone() for k, p in trainer.model.named_parameters() if p.grad is not None}, plan


@dataclass
class Plain:
    """One completion as plain forward passes see it, everything ``[T]`` or ``[T, V]`` at the training temperature."""

    targets: Tensor
    student: Tensor
    """Log-probabilities, with gradient."""
    gold: Tensor
    """The teacher's, in the gold context."""
    initial: Tensor
    """The initial model's, in the gold context."""
    negative: Tensor | None
    """The teacher's, in the negative context."""
    states: Tensor
    """The student's final hidden states, with gradient."""
    gold_states: Tensor

    @property
    def forward_kl(self) -> Tensor:
        return (self.gold.exp() * (self.gold - self.student)).sum(-1)

    def of_targets(self, logprobs: Tensor) -> Tensor:
        return logprobs.gather(1, self.targets[:, None])[:, 0]


def plain_step(trainer, plan, n=4) -> list[Plain]:
    """Read the completions of a plan with whole forward passes."""
    model, teacher = trainer.model, trainer.teacher
    initial = teacher if teacher.kind == "initial" else trainer.start

    def read(prompt, completion):
        ids = torch.tensor([[*prompt, *completion]])
        seen = model(ids, output_hidden_states=True)
        rows = slice(len(prompt) - 1, -1)
        return (seen.logits[0, rows] / TEMPERATURE).log_softmax(-1), seen.hidden_states[-1][0, rows]

    found = []
    for row, sequence in zip(trainer.train_dataset[:n], plan.sequences, strict=True):
        done = list(sequence.completion_ids)
        negative = row.contexts.get("negative")
        with teacher.weights():
            gold, gold_states = read(row.contexts["gold"][0], done)
            wrong = read(negative[0], done)[0] if negative else None
        with initial.weights():
            start = read(row.contexts["gold"][0], done)[0]
        student, states = read(row.student_ids, done)
        found.append(Plain(torch.tensor(done), student, gold, start, wrong, states, gold_states))
    return found


def assert_plain(trainer, loss_of: Callable[[list[Plain]], Tensor], n=4):
    """The step's loss and gradient are those of a formula over plain forward passes."""
    loss, gradient, plan = step_of(trainer, n)
    trainer.model.zero_grad()
    trainer.model.eval()
    expected = loss_of(plain_step(trainer, plan, n))
    expected.backward()
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-6, atol=1e-9)
    plainly = {k: p.grad for k, p in trainer.model.named_parameters() if p.grad is not None}
    assert plainly.keys() == gradient.keys()
    for name, whole in plainly.items():  # coefficients are in single precision
        assert (gradient[name] - whole).norm() <= 1e-6 * whole.norm() + 1e-12, name
    return plan


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """How far two gradients are apart, relative to the first."""
    size = torch.stack([g.square().sum() for g in one.values()]).sum().sqrt()
    return float(torch.stack([(one[k] - other[k]).square().sum() for k in one]).sum().sqrt() / size)


def acting(trainer):
    """Train, and return what the run says of each mechanism, by name."""
    trainer.train()
    return {found.mechanism: found for found in trainer.acting()}
