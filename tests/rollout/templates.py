"""Chat templates that behave like those of widely used families, written for these tests, on a byte-level tokenizer."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from contexts.families import GEMMA_FOLDS, GEMMA_RAISES, make


@dataclass(frozen=True)
class Family:
    """What a tokenizer of the family has."""

    template: str | dict[str, str] | None
    special: str
    """Special tokens, by white space; the first is the end of the text."""
    bos: str | None = None
    eos: str | None = None
    """None: the first special token."""
    adds_bos: bool = False

    def tokenizer(self) -> PreTrainedTokenizerFast:
        special = self.special.split()
        return make(special, self.template, self.bos, self.eos or special[0], self.adds_bos)


_IM = "<|endoftext|> <|im_start|> <|im_end|>"
_THINK = f"{_IM} <think> </think> <tool_call> </tool_call>"
_TOOLS = "{% if tools %}{{ '\n# Tools\n' }}{% for t in tools %}{{ t | tojson + '\n' }}{% endfor %}{% endif %}"
_OPEN = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
_CALLS = (
    "{% for call in m.tool_calls or [] %}{% set call = call.function or call %}"
    "{{ '<tool_call>' + call | tojson + '</tool_call>' }}{% endfor %}"
)
_CUT = "{% set said = m.content.split('</think>')[-1].lstrip('\n') if '</think>' in m.content else m.content %}"

# A default system prompt; tools in the system turn; what a tool answers is a user's turn.
QWEN25 = (
    "{% set led = messages[0].role == 'system' %}"
    "{{ '<|im_start|>system\n' + (messages[0].content if led else 'You are helpful.') }}"
    + _TOOLS
    + "{{ '<|im_end|>\n' }}"
    "{% for m in (messages[1:] if led else messages) %}"
    "{% if m.role == 'tool' %}{{ '<|im_start|>user\n<r>' + m.content + '</r><|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content }}" + _CALLS + "{{ '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}" + _OPEN
)
# Thoughts of replies before the last question are cut; the last reply has a block, empty where nothing was thought;
# without thinking the generation prompt has the empty block.
QWEN3 = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% if tools or messages[0].role == 'system' %}{{ '<|im_start|>system\n' }}"
    "{{ messages[0].content if messages[0].role == 'system' else '' }}" + _TOOLS + "{{ '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}"
    "{% elif m.role == 'tool' %}{{ '<|im_start|>user\n<r>' + m.content + '</r><|im_end|>\n' }}"
    "{% elif m.role == 'assistant' %}"
    "{% set thought = m.reasoning_content or (m.content.split('</think>')[0].split('<think>')[-1].strip('\n')"
    " if '</think>' in m.content else '') %}" + _CUT + "{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + said.lstrip('\n') }}{% else %}{{ said }}{% endif %}"
    + _CALLS
    + "{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}{% endif %}"
)
# The generation prompt opens a thought; replies are written without theirs. It asks for a user's message.
QWQ = (
    "{% if messages | selectattr('role', 'equalto', 'user') | list | length == 0 %}{{ raise_exception('no query') }}"
    "{% endif %}{% for m in messages %}"
    + _CUT
    + "{{ '<|im_start|>' + m.role + '\n' + said + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
# The generation prompt opens a thought, and the last reply is written with one.
QWEN3_THINKING = QWEN3.replace(
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}",
    "{{ '<think>\n' }}",
)
_R1_TURNS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}"
    "{% elif m.role == 'assistant' %}"
    + _CUT
    + "{{ '<｜Assistant｜>' + CLOSED + said + eos_token }}{% endif %}{% endfor %}"
)
R1 = _R1_TURNS.replace("CLOSED", "''") + "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
V31 = _R1_TURNS.replace("CLOSED", "'</think>'") + (
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' + ('<think>' if thinking else '</think>') }}{% endif %}"
)
# It trims, opens the document, and prints a date.
LLAMA3 = (
    "{{ bos_token }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{% set led = messages[0].role == 'system' %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '\n\n' }}"
    "{{ messages[0].content | trim if led else '' }}" + _TOOLS + "{{ '<|eot_id|>' }}"
    "{% for m in (messages[1:] if led else messages) %}"
    "{{ '<|start_header_id|>' + ('ipython' if m.role == 'tool' else m.role) + '<|end_header_id|>\n\n' }}"
    "{{ m.content | tojson if m.role == 'tool' else m.content | trim }}" + _CALLS + "{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# No generation prompt; roles must take turns; the system message is a part of the first question, or of the last.
_INST = (
    "{{ bos_token }}{% set led = messages[0].role == 'system' %}{% set rest = messages[1:] if led else messages %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
)
LLAMA2 = (
    _INST + "{% if m.role == 'user' %}{{ '[INST] ' + ('<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' "
    "if led and loop.first else '') + m.content | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    _INST + "{% if m.role == 'user' %}{% if tools and loop.last %}"
    "{{ '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{{ '[INST]' + (messages[0].content + '\n\n' if led and loop.last else '') + m.content + '[/INST]' }}"
    "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{{ '<|assistant|>\n' if add_generation_prompt else eos_token }}"
)
PHI4 = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
SMOLLM2 = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}"
    "{{ '<|im_start|>system\nYou are SmolLM.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}" + _OPEN
)
# A system turn with the date and the mode; without thinking, replies and the generation prompt have an empty block.
SMOLLM3 = (
    "{% set think = enable_thinking | default(true) %}{% set led = messages[0].role == 'system' %}"
    "{{ '<|im_start|>system\nToday Date: ' + strftime_now('%d %B %Y') }}"
    "{{ '\nMode: ' + ('/think' if think else '/no_think') }}"
    "{{ '\n\n' + (messages[0].content if led else 'You are SmolLM.') + '\n' }}" + _TOOLS + "{{ '<|im_end|>\n' }}"
    "{% for m in (messages[1:] if led else messages) %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and not think %}{{ '<think>\n\n</think>\n' }}{% endif %}"
    "{{ m.content.lstrip('\n') + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' + ('' if think else '<think>\n\n</think>\n') }}{% endif %}"
)
# Channels; a system message is the developer's, behind the model's own; the last reply ends in another token.
GPT_OSS = (
    "{{ '<|start|>system<|message|>You are a model.\nReasoning: ' + (reasoning_effort or 'medium') + '<|end|>' }}"
    "{% set led = messages[0].role in ('system', 'developer') %}"
    "{% if led or tools %}{{ '<|start|>developer<|message|>' }}{{ messages[0].content if led else '' }}"
    + _TOOLS
    + "{{ '<|end|>' }}"
    "{% endif %}{% for m in (messages[1:] if led else messages) %}"
    "{% if m.role == 'user' %}{{ '<|start|>user<|message|>' + m.content + '<|end|>' }}"
    "{% elif m.role == 'assistant' %}{% if m.thinking and loop.last %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
    "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
# Two tokens open the document; nothing ends a turn but the next one.
GLM4 = (
    "{{ '[gMASK]<sop>' }}{% if tools %}{{ '<|system|>\n' }}" + _TOOLS + "{% endif %}"
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
GLM45 = (
    "{{ '[gMASK]<sop>' }}{% if tools %}{{ '<|system|>\n' }}" + _TOOLS + "{% endif %}"
    "{% set off = enable_thinking is defined and not enable_thinking %}{% for m in messages %}"
    "{{ '<|' + m.role + '|>' }}{% if m.role == 'assistant' %}"
    + _CUT
    + "{{ '\n<think>' + (m.reasoning_content or '') + '</think>\n' + said.strip() }}"
    "{% else %}{{ '\n' + m.content + ('/nothink' if off and m.role == 'user' else '') }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' + ('\n<think></think>' if off else '') }}{% endif %}"
)
GRANITE = (
    "{% set led = messages[0].role == 'system' %}{{ '<|start_of_role|>system<|end_of_role|>' }}"
    "{{ messages[0].content if led else 'Today: ' + strftime_now('%B %d, %Y') + '.' }}"
    "{{ ' Think first.' if thinking else '' }}{{ '<|end_of_text|>\n' }}"
    "{% for m in (messages[1:] if led else messages) %}"
    "{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)
OLMO2 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}"
    "{{ eos_token if m.role == 'assistant' else '' }}{{ '' if loop.last and m.role == 'assistant' else '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
# A reply ends in two tokens.
COMMAND = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|START_OF_TURN_TOKEN|><|' + ('CHATBOT' if m.role == 'assistant' else m.role | upper) + '_TOKEN|>' }}"
    "{{ '<|START_RESPONSE|>' + m.content + '<|END_RESPONSE|>' if m.role == 'assistant' else m.content }}"
    "{{ '<|END_OF_TURN_TOKEN|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
)
# It takes system messages and leaves them out; and it knows no generation prompt.
SILENT = (
    "{% for m in messages if m.role != 'system' %}{{ '<turn>' + m.role + '\n' + m.content + '<end>\n' }}{% endfor %}"
)

_COMMAND_TOKENS = (
    "<|END_OF_TURN_TOKEN|> <BOS_TOKEN> <|START_OF_TURN_TOKEN|> <|CHATBOT_TOKEN|> <|USER_TOKEN|> <|SYSTEM_TOKEN|> "
    "<|START_RESPONSE|> <|END_RESPONSE|>"
)
_LLAMA = "<|end_of_text|> <|begin_of_text|> <|eot_id|> <|start_header_id|> <|end_header_id|>"
_DEEPSEEK = "<｜end▁of▁sentence｜> <｜begin▁of▁sentence｜> <｜User｜> <｜Assistant｜> <think> </think>"
_GEMMA = "<eos> <pad> <bos> <start_of_turn> <end_of_turn>"
_GLM = "<|endoftext|> [gMASK] <sop> <|system|> <|user|> <|assistant|> <|observation|> <think> </think>"

FAMILIES = {
    "ChatML, Qwen2.5": Family(QWEN25, _IM, None, "<|im_end|>"),
    "Qwen2.5 base": Family(QWEN25, _IM),
    "Qwen3": Family(QWEN3, _THINK, None, "<|im_end|>"),
    "Qwen3 Thinking": Family(QWEN3_THINKING, _THINK, None, "<|im_end|>"),
    "QwQ": Family(QWQ, _THINK, None, "<|im_end|>"),
    "DeepSeek-R1": Family(R1, _DEEPSEEK, "<｜begin▁of▁sentence｜>", adds_bos=True),
    "DeepSeek-V3.1": Family(V31, _DEEPSEEK, "<｜begin▁of▁sentence｜>", adds_bos=True),
    "Llama 2": Family(LLAMA2, "</s> <s>", "<s>", adds_bos=True),
    "Llama 3": Family(LLAMA3, _LLAMA, "<|begin_of_text|>", adds_bos=True),
    "Mistral": Family(MISTRAL, "</s> <s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS]", "<s>", adds_bos=True),
    "Gemma 2": Family(GEMMA_RAISES, _GEMMA, "<bos>", adds_bos=True),
    "Gemma 3": Family(GEMMA_FOLDS, _GEMMA, "<bos>", adds_bos=True),
    "Phi-3": Family(PHI3, "<|endoftext|> <s> <|system|> <|user|> <|assistant|> <|end|>", "<s>"),
    "Phi-4": Family(PHI4, f"{_IM} <|im_sep|>", "<|endoftext|>", "<|im_end|>"),
    "SmolLM2": Family(SMOLLM2, _IM, "<|im_start|>", "<|im_end|>"),
    "SmolLM3": Family(SMOLLM3, _THINK, None, "<|im_end|>"),
    "gpt-oss": Family(GPT_OSS, "<|return|> <|start|> <|message|> <|channel|> <|end|> <|call|>", "<|start|>"),
    "GLM-4": Family(GLM4, _GLM),
    "GLM-4.5": Family(GLM45, _GLM),
    "Granite 3": Family(GRANITE, "<|end_of_text|> <|start_of_role|> <|end_of_role|>", "<|end_of_text|>"),
    "OLMo 2": Family(OLMO2, "<|endoftext|> <|system|> <|user|> <|assistant|>", "<|endoftext|>"),
    "Command A": Family(COMMAND, _COMMAND_TOKENS, "<BOS_TOKEN>", adds_bos=True),
    "system left out": Family(SILENT, "<eos> <turn> <end>"),
    "base, none": Family(None, "</s> <s>", "<s>", adds_bos=True),
}
