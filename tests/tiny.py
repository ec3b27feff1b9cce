"""Makers of tiny random models, a byte-level tokenizer and training rows."""

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from unisd.training.arguments import UniSDConfig

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
VOCABULARY = 259


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, ChatML."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(SPECIAL + alphabet)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token="<|im_start|>"
    )
    made.add_special_tokens({"additional_special_tokens": SPECIAL})
    made.chat_template = CHATML
    return made


_SHARED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_SHARED, tie_word_embeddings=True)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**_SHARED, tie_word_embeddings=False)),
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            **_SHARED,
            head_dim=8,
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention"],
            query_pre_attn_scalar=8,
        )
    ),
}


def model(family: str = "llama", seed: int = 0) -> torch.nn.Module:
    """A random model whose attention and logits are wide enough that contexts make a difference."""
    torch.manual_seed(seed)
    made = FAMILIES[family]().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(15.0)
    return made


def lora(base: torch.nn.Module, dropout: float = 0.0, trained: bool = False) -> torch.nn.Module:
    """The model with a LoRA adapter; ``trained`` gives it non-zero weights, as after some steps."""
    torch.manual_seed(1)
    adapted = get_peft_model(base, lora_config(dropout))
    if trained:
        move(adapted, 0.2)
    return adapted


@torch.no_grad()
def move(adapted: torch.nn.Module, std: float) -> None:
    """Move an adapter off its start, where it changes nothing."""
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.normal_(std=std)


def arguments(folder, **changes) -> UniSDConfig:
    """The trainer's arguments for a few large steps of a tiny model."""
    values = {
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        "rollout": {"max_completion_length": 8},
        "contexts": {"layout": "turn"} | ({"count": 2} if "agreement" in changes else {}),
    }
    return UniSDConfig(output_dir=str(folder), **(values | changes))


def lora_config(dropout: float = 0.0) -> LoraConfig:
    return LoraConfig(
        r=4, lora_alpha=8, lora_dropout=dropout, target_modules=["q_proj", "v_proj", "up_proj"], task_type="CAUSAL_LM"
    )


def rows(n: int = 8, probes: int = 2, negative: bool = True) -> list[dict]:
    """Training rows of questions whose answer is a word, each with every context."""
    return [
        {
            "id": f"item-{i}",
            "prompt": f"What is {i} plus {i}?",
            "privileged_context": f"Adding gives {2 * i}.\nAnswer: {2 * i}",
            "completion": f"Adding gives {2 * i}.\nAnswer: {2 * i}",
            "auxiliary_contexts": [f"Another example {k}: {k + i} and so on." for k in range(probes)],
            "negative_context": f"Adding gives {2 * i + 1}.\nAnswer: {2 * i + 1}" if negative else None,
        }
        for i in range(n)
    ]
