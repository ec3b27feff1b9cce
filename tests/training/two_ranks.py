"""Run by test_ranks.py under torchrun and alone: trains a tiny model and writes what it did, per rank."""

import json
import os
import sys
import weakref
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


def main(folder: Path, batch: int, kind: str) -> None:
    torch.set_num_threads(1)
    full, model = kind == "full", tiny.model()
    if full:
        # Few completions end: those of all ranks are left out at first, then those of one.
        model.generation_config.eos_token_id = list(range(0, tiny.VOCABULARY, 30))
    args = UniSDConfig(
        output_dir=str(folder),
        max_steps=3,
        per_device_train_batch_size=batch,
        learning_rate=1e-2,
        disable_tqdm=True,
        save_strategy="no",
        tokens_per_row=200,
        rollout={"max_completion_length": 8} | (SAMPLING if full else {}),
        contexts={"layout": "turn", "count": 2},
        divergence={"clip_quantile": 0.9},
        teacher={"kind": "ema", "decay": 0.5, "every": 1},
        agreement={"granularity": "token", "gamma": 2.0},
        contrast={"weight": 0.1},
        features={"weight": 0.1},
    )
    trainer = UniSDTrainer(
        model,
        args,
        train_dataset=tiny.rows(),
        processing_class=tiny.tokenizer(),
        peft_config=None if full else tiny.lora_config(),
    )
    seen = []
    plan = trainer.planner.plan

    def watched(rows, step):
        made = plan(rows, step)
        seen.append([[name, list(s.completion_ids)] for name, s in zip(made.step.items, made.sequences, strict=True)])
        return made

    trainer.planner.plan = watched
    trainer.train()
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
