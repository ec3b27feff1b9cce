"""Run by test_ranks.py under torchrun and alone: trains a tiny model and writes what it did, per rank."""

import json
import os
import sys
import weakref
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import torch

import tiny
from unisd.training.arguments import UniSDConfig
from unisd.training.trainer import UniSDTrainer

# With all weights trained, completions are written in every unusual way at once.
SAMPLING = {
    "num_generations": 2,
    "mask_truncated_completions": True,
    "source": "teacher",
    "teacher_draws": "each_step",
    "top_k": 100,
    "repetition_penalty": 1.1,
    "log_completions_steps": 2,
}
REUSED = {
    "max_steps": 6,
    "save_strategy": "steps",
    "save_steps": 3,
    "reuse": {"steps": 2},
    "divergence": {"clip_quantile": 0.9, "skip_tokens": 3, "top_k": 20},
}


MIXED = {"source": "mix", "mix": 1.0, "mix_schedule": "readable", "mix_start": 0.4, "max_completion_length": 40}


class Reader:
    """A grader that reads of some texts whether they hold an answer."""

    def __call__(self, ids: list[str], texts: list[str]) -> list[float]:
        return [1.0 for _ in texts]

    def readable(self, ids: list[str], texts: list[str]) -> list[bool]:
        return [len(text) % 3 > 0 for text in texts]


def shortened(trainer: UniSDTrainer) -> None:
    """Cut most items' completions to tokens without loss, so that a rank, or a whole step, has none that counts."""
    sample = trainer.sampler.sample

    def written(requests, params, progress=None):
        done = sample(requests, params, progress)
        kept = ("item-0", "item-1", "item-2")
        return [d if r.key[1] in kept else replace(d, ids=d.ids[:3]) for r, d in zip(requests, done, strict=True)]

    trainer.sampler.sample = written


def main(folder: Path, batch: int, kind: str) -> None:
    torch.set_num_threads(1)
    # How processes exchange what they know leaves the results, with every setting away from its default.
    exchange = {
        "ddp_backend": "gloo",
        "ddp_timeout": 120,
        "ddp_bucket_cap_mb": 1,
        "ddp_broadcast_buffers": False,
        "ddp_find_unused_parameters": True,
    }
    reused = kind in ("reused", "resumed")
    changes = {"max_steps": 3, "save_strategy": "no", "divergence": {"clip_quantile": 0.9}}
    full, model = kind == "full", tiny.model()
    if full:
        # Few completions end: those of all ranks are left out at first, then those of one.
        model.generation_config.eos_token_id = list(range(0, tiny.VOCABULARY, 30))
    args = UniSDConfig(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        learning_rate=1e-2,
        disable_tqdm=True,
        tokens_per_row=200,
        rollout={"max_completion_length": 8} | (SAMPLING if full else MIXED if kind == "adapter" else {}),
        contexts={"layout": "turn", "count": 2},
        teacher={"kind": "ema", "decay": 0.5, "every": 1},
        agreement={"granularity": "token", "gamma": 2.0},
        contrast={"weight": 0.1},
        features={"weight": 0.1},
        **(exchange if "RANK" in os.environ else {}),
        **(REUSED if reused else changes),
    )
    trainer = UniSDTrainer(
        model,
        args,
        train_dataset=tiny.rows(),
        processing_class=tiny.tokenizer(),
        peft_config=None if full else tiny.lora_config(),
        grader=Reader(),
    )
    if reused:
        shortened(trainer)
    seen = []
    plan = trainer.planner.plan

    def watched(rows, step):
        made = plan(rows, step)
        seen.append([[name, list(s.completion_ids)] for name, s in zip(made.step.items, made.sequences, strict=True)])
        return made

    trainer.planner.plan = watched
    trainer.train(resume_from_checkpoint=str(folder / "checkpoints/checkpoint-3") if kind == "resumed" else None)
    rank = int(os.environ.get("RANK", 0))
    (folder / f"completions-{rank}.json").write_text(json.dumps(seen))
    if rank == 0:
        trained = {n: p.detach() for n, p in trainer.model.named_parameters() if p.requires_grad}
        torch.save({"student": trained, "ema": trainer.teacher._shadow}, folder / "weights.pt")
    wrapper, destroy = weakref.ref(trainer.model_wrapped), torch.distributed.destroy_process_group

    def watched_destroy():
        # A wrapper that outlives the group destroys it under the interpreter's lock, which can hang for good.
        assert wrapper() is None
        destroy()

    torch.distributed.destroy_process_group = watched_destroy
    trainer.leave_ranks()
    assert not torch.distributed.is_initialized()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
