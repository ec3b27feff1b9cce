"""What makes TRL's SDFTTrainer do what recipe `core` does, for whoever times one beside the other."""

from typing import Any

from unisd.training.arguments import UniSDConfig


def same_work(core: UniSDConfig, new_tokens: int) -> dict[str, Any]:
    """Return fields of TRL's SDFTConfig: forward KL to a static teacher, so many new tokens a completion, in fp32."""
    return {
        "bf16": False,
        "disable_dropout": False,
        "shuffle_dataset": False,
        "num_generations": 1,
        "max_prompt_length": None,
        "max_completion_length": new_tokens,
        "temperature": core.rollout.temperature,
        "generation_kwargs": {"min_new_tokens": new_tokens},
        "distillation_mode": "full_logits",
        "distillation_topk": None,
        "distillation_alpha": 0.0,
        "distillation_is_clip": None,
        "teacher_model_kind": "base",
        "teacher_prompt_template": "{prompt}{privileged_context}",
    }
