"""What all parts work on: a tokenizer made on the spot, random models of known shapes, rows, and trainers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from unisd.training.runfile import RunSettings, assemble
from unisd.training.trainer import UniSDTrainer

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_TOKEN = -1
"""No model writes this id: as the only end of a turn it makes all completions equally long."""
_TINY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_TINY |= {"num_key_value_heads": 2, "vocab_size": 259, "tie_word_embeddings": False}
_HALF = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14}
_HALF |= {"num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True}
_ONE_AND_A_HALF = {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12}
_ONE_AND_A_HALF |= {"num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True}
SHAPES: dict[str, dict[str, Any]] = {"tiny": _TINY, "Qwen2.5-0.5B": _HALF, "Qwen2.5-1.5B": _ONE_AND_A_HALF}
"""Shapes of Qwen2 models by name; weights are random."""


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token a byte and ChatML as its template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(SPECIAL + alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token="<|im_start|>"
    )
    made.add_special_tokens({"additional_special_tokens": SPECIAL})
    made.chat_template = TEMPLATE
    return made


def config(shape: str) -> Qwen2Config:
    """Return the configuration of a shape of `SHAPES`."""
    ids = {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
    return Qwen2Config(**SHAPES[shape], **ids, max_position_embeddings=8192)


def model(shape: str = "tiny", dtype: torch.dtype = torch.float32, device: str = "cpu") -> torch.nn.Module:
    """Return a random model: a tiny one has the same weights on every device, large ones are drawn where they stay."""
    torch.manual_seed(0)
    if shape != "tiny":
        with torch.device(device):
            return AutoModelForCausalLM.from_config(config(shape), dtype=dtype).eval()
    made = AutoModelForCausalLM.from_config(config(shape), dtype=torch.float32).eval()
    with torch.no_grad():  # wide enough that contexts make a difference, sharp enough that caps are reached
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(15.0)
        made.lm_head.weight.mul_(1.5)
    return made.to(dtype)


def lora(rank: int = 4, dropout: float = 0.0) -> LoraConfig:
    """Return a LoRA configuration over all linear layers of a block."""
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=dropout, target_modules=layers, task_type="CAUSAL_LM")


def rows(count: int = 8, length: int = 0) -> list[dict[str, Any]]:
    """Return training rows with every context; ``length`` fills prompts up to about so many tokens."""
    filler = "".join(chr(ord("a") + i * i % 26) for i in range(length))
    made = []
    for i in range(count):
        right, wrong = (f"Adding gives {2 * i + k}.\nAnswer: {2 * i + k}" for k in (0, 1))
        made.append(
            {
                "id": f"item-{i}",
                "prompt": f"{filler}What is {i} plus {i}?",
                "privileged_context": right,
                "completion": right,
                "auxiliary_contexts": [f"Another example {k}: {k + i} and so on." for k in range(3)],
                "negative_context": wrong,
            }
        )
    return made


def settings(recipe: str, device: str, new_tokens: int = 40, **training: Any) -> RunSettings:
    """Return a recipe's settings for a few steps of a random model; ``training`` changes the trainer's arguments."""
    made = assemble(recipe)
    made.training |= {
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "lr_scheduler_type": "constant",
        "use_cpu": device == "cpu",
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
    } | training
    made.groups["rollout"] |= {"max_completion_length": new_tokens}
    made.groups["teacher"]["every"] = 1
    return made


def trainer(
    made: RunSettings,
    folder: str | Path,
    base: torch.nn.Module,
    adapter: LoraConfig | None,
    data: Sequence[dict[str, Any]] | None = None,
    **more: Any,
) -> UniSDTrainer:
    """Return a trainer of these settings; every second completion is graded as right."""
    return UniSDTrainer(
        base,
        made.config(folder),
        train_dataset=rows() if data is None else data,
        processing_class=tokenizer(),
        peft_config=adapter,
        grader=lambda ids, texts: [float(number % 2) for number in range(len(ids))],
        **more,
    )


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def recorded(inner: Callable[..., Any], kept: dict[Any, Any]) -> Callable[..., Any]:
    """Return a sampler's ``sample`` that keeps each completion by its request's key."""

    def sample(requests: Sequence[Any], *args: Any, **kwargs: Any) -> list[Any]:
        done = inner(requests, *args, **kwargs)
        kept.update(zip([request.key for request in requests], done, strict=True))
        return done

    return sample


def replayed(kept: dict[Any, Any]) -> Callable[..., Any]:
    """Return a ``sample`` that gives what was kept: two devices then learn from the very same completions."""
    return lambda requests, *args, **kwargs: [kept[request.key] for request in requests]
