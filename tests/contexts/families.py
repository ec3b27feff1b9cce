"""Byte-level tokenizers whose chat templates are built like those of three model families, and a fake sampler."""

from collections.abc import Callable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from unisd.rollout.base import Completion, Request, SamplingParams

CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% set rest = messages[1:] if messages[0]['role'] == 'system' else messages %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + strftime_now('%d %b %Y') + '\n\n' }}"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% endif %}{{ '<|eot_id|>' }}"
    "{% for m in rest %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim }}"
    "{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_GEMMA_TURNS = (
    "{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"
    "{{ first if loop.first else '' }}{{ m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GEMMA_RAISES = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% set rest = messages %}{% set first = '' %}" + _GEMMA_TURNS
)
GEMMA_FOLDS = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}" + _GEMMA_TURNS
)


Template = str | dict[str, str] | None


def make(
    special: Sequence[str], template: Template, bos: str | None, eos: str | None, adds_bos: bool = False
) -> PreTrainedTokenizerFast:
    """One token a byte, and the special ones; ``adds_bos``: a plain call of the tokenizer puts ``bos`` in front."""
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, vocabulary[bos])]
        )
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos)
    made.add_special_tokens({"additional_special_tokens": list(special)})
    made.chat_template = template
    return made


def _llama() -> PreTrainedTokenizerFast:
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    return make(special, LLAMA, special[0], special[1], adds_bos=True)


def _gemma(template: str) -> PreTrainedTokenizerFast:
    return make(
        ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"], template, "<bos>", "<eos>", adds_bos=True
    )


_CHATML_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
FAMILIES: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    # SmolLM2 calls the token that opens every message its bos_token; Qwen2.5 has none.
    "smollm": lambda: make(_CHATML_TOKENS, CHATML, "<|im_start|>", "<|im_end|>"),
    "qwen": lambda: make(_CHATML_TOKENS, CHATML, None, "<|endoftext|>"),
    "llama": _llama,
    "gemma2": lambda: _gemma(GEMMA_RAISES),
    "gemma3": lambda: _gemma(GEMMA_FOLDS),
}
OPENING = {"llama": "<|begin_of_text|>", "gemma2": "<bos>", "gemma3": "<bos>"}
END_OF_TURN = {
    "smollm": "<|im_end|>",
    "qwen": "<|im_end|>",
    "llama": "<|eot_id|>",
    "gemma2": "<end_of_turn>",
    "gemma3": "<end_of_turn>",
}


class FakeSampler:
    """Writes what ``write`` says for a request; remembers every request; dies before call number ``dies_at``."""

    def __init__(self, write: Callable[[Request], str], dies_at: int | None = None) -> None:
        self.write = write
        self.dies_at = dies_at
        self.calls: list[list[Request]] = []

    @property
    def asked(self) -> list[Request]:
        return [request for call in self.calls for request in call]

    def sample(
        self, requests: Sequence[Request], params: SamplingParams, progress: str | None = None
    ) -> list[Completion]:
        if len(self.calls) == self.dies_at:
            raise KeyboardInterrupt
        self.calls.append(list(requests))
        return [Completion(list(self.write(request).encode()), True) for request in requests]

    def decode(self, completion: Completion) -> str:
        return bytes(completion.ids).decode()
