"""What is read from a chat template: for templates that behave like those of two dozen families, and for odd ones."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import tiny
from compatibility import TABLES, observed
from contexts import families
from rollout.templates import FAMILIES, LLAMA2, MISTRAL, QWEN3, QWEN25, QWQ, Family
from said import warned
from unisd.contexts import Context, PromptBuilder
from unisd.errors import UsageError
from unisd.rollout.chat import Chat, template_ends
from unisd.rollout.torch_sampler import TorchSampler
from unisd.tasks.turns import reply_of

QUESTION, ANSWER = "How many are 1 and 1?", "1 and 1 make 2.\nAnswer: 2"
THOUGHT = f"<think>\nOne more than one.\n</think>\n\n{ANSWER}"
TOOL = {"type": "function", "function": {"name": "add_up", "parameters": {"type": "object", "properties": {}}}}
SWITCHES = {"enable_thinking": (True, False), "thinking": (True, False), "reasoning_effort": ("high", "low")}

every_family = pytest.mark.parametrize("name", FAMILIES)
quiet = pytest.mark.filterwarnings("ignore::UserWarning")


def chat(name, variables=None):
    return Chat(FAMILIES[name].tokenizer(), variables)


def text(made, ids):
    return made.tokenizer.decode(ids)


def tokenizer_with(template):
    made = tiny.tokenizer()
    made.chat_template = template
    return made


def own_rendering(made, messages, **more):
    """What the tokenizer's own function gives, dates apart."""
    given = {"chat_template": made.chat_template, "tokenize": True, "return_dict": False}
    return made.tokenizer.apply_chat_template(messages, **given, **more)


def asked(*said):
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": content} for n, content in enumerate(said)]


@quiet
@every_family
def test_what_a_template_does(name):
    """A row of the table: what holds for each family."""
    made = chat(name)
    prompt, completion = made.student_ids(QUESTION), made.completion_ids(ANSWER, QUESTION)
    whole = own_rendering(made, asked(QUESTION, ANSWER), add_generation_prompt=False)
    opened, end = made.opened(prompt), text(made, [made.end_of_turn_id])
    exact = whole[: len(prompt) + len(completion)] == prompt + completion
    if not exact:  # the end of text in place of what the template does not write, or the end of the opened thought
        ends = end not in text(made, whole[-3:])
        assert ends or opened
        assert not ends or whole[: len(prompt) + len(completion) - 1] == (prompt + completion)[:-1]
    switches = [
        key
        for key, values in SWITCHES.items()
        if len({tuple(made.student_ids(QUESTION, {key: value})) for value in values}) > 1
    ]
    thinking = ["the prompt opens it"] * bool(opened) + [f"`{key}`" for key in switches]
    tools = TOOL["function"]["name"] in text(made, made.student_ids(QUESTION, {"tools": [TOOL]}))
    observed(
        "templates",
        name,
        **{
            "system message": made.system_turn,
            "thinking": ", ".join(thinking) or "none",
            "gold completion": "`"
            + json.dumps(text(made, completion).replace(ANSWER, "…"), ensure_ascii=False)[1:-1]
            + "`",
            "as the template writes it": "exactly" if exact else "closes the thought" if opened else "but for the end",
            "end of turn": f"`{end}`",
            "tools": "shown" if tools else "not shown",
        },
    )


def test_the_table_holds_what_is_tested_and_no_more():
    rows = json.loads((TABLES / "templates.json").read_text(encoding="utf-8"))["rows"]
    assert sorted(rows) == sorted(FAMILIES)


@quiet
@every_family
@pytest.mark.parametrize("said", [ANSWER, THOUGHT, "def f():\n    return 1", "\n 2 \n"])
def test_a_completion_goes_on_from_the_prompt_and_ends_once(name, said):
    made = chat(name)
    prompt, ids = made.student_ids(QUESTION), made.completion_ids(said, QUESTION)
    end = made.end_of_turn_id
    assert ids[-1] == end
    assert ids.count(end) == 1
    shown = made.opened(prompt) + text(made, ids)
    assert reply_of(said).strip() in shown
    # The thought is there where the template leaves room for one, and once.
    assert shown.count("One more than one.") == (
        said == THOUGHT and not text(made, prompt).rstrip().endswith("</think>")
    )
    # What opens the document is in the prompt alone.
    assert not made.opening_ids or made.opening_ids[0] == end or made.opening_ids[0] not in ids


@quiet
@every_family
def test_what_opens_a_document_stands_once_in_every_prompt(name):
    made = PromptBuilder(FAMILIES[name].tokenizer(), "paper")
    opening = made.opening_ids
    if FAMILIES[name].adds_bos:
        assert opening == [made.tokenizer.bos_token_id]
    for layout in ("paper", "system"):
        ids = made.in_layout(layout).teacher_ids(QUESTION, Context("gold", ANSWER))
        assert ids[: len(opening)] == opening
        assert all(ids.count(token) == 1 for token in opening)
    assert text(made, ids).endswith(text(made, made.student_ids(QUESTION)[len(opening) :]))
    assert text(made, ids).count(ANSWER) == 1


@quiet
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("Qwen3", "Qwen3 Thinking", "QwQ")])
def test_a_sampled_reply_and_a_gold_one_stand_alike_in_later_turns(name):
    """Prompt and completion, joined, are the beginning of the conversation that goes on."""
    made = chat(name)
    if made.opened(made.student_ids(QUESTION)) or name in ("gpt-oss", "Phi-3", "DeepSeek-V3.1"):
        pytest.skip("replies are written otherwise in later turns")
    joined = made.student_ids(QUESTION) + made.completion_ids(ANSWER, QUESTION)[:-1]
    later = made.student_ids(asked(QUESTION, ANSWER, "And 2 and 2?"))
    assert later[: len(joined)] == joined


# Thinking


def test_thinking_can_be_switched():
    on, off = chat("Qwen3"), chat("Qwen3", {"enable_thinking": False})
    block = "<think>\n\n</think>\n\n"
    assert text(off, off.student_ids(QUESTION)) == text(on, on.student_ids(QUESTION)) + block
    assert text(on, on.completion_ids("2", QUESTION)) == f"{block}2<|im_end|>"
    assert text(off, off.completion_ids("2", QUESTION)) == "2<|im_end|>"
    # For one row alone, whichever way.
    assert on.student_ids(QUESTION, {"enable_thinking": False}) == off.student_ids(QUESTION)
    assert off.student_ids(QUESTION, {"enable_thinking": True}) == on.student_ids(QUESTION)
    assert on.completion_ids("2", QUESTION, {"enable_thinking": False}) == off.completion_ids("2", QUESTION)


@pytest.mark.parametrize("name", ["QwQ", "Qwen3 Thinking", "DeepSeek-R1"])
def test_a_thought_that_the_prompt_opens_is_closed_or_filled(name):
    made = chat(name)
    assert made.opened(made.student_ids(QUESTION)) == "<think>\n"
    end = text(made, [made.end_of_turn_id])
    assert text(made, made.completion_ids("2", QUESTION)) == f"\n</think>\n\n2{end}"
    for thought in ("<think>\nHm.\n</think>\n\n2", "<think>Hm.</think>2", "Hm.\n</think>\n\n2"):
        assert text(made, made.completion_ids(thought, QUESTION)) == f"Hm.\n</think>\n\n2{end}"


def test_a_template_that_writes_the_end_of_the_thought_itself():
    made = chat("DeepSeek-V3.1", {"thinking": True})
    assert text(made, made.student_ids(QUESTION)).endswith("<｜Assistant｜><think>")
    assert text(made, made.completion_ids("2", QUESTION)) == "</think>2<｜end▁of▁sentence｜>"
    assert text(made, made.completion_ids("<think>Hm.</think>2", QUESTION)) == "Hm.\n</think>2<｜end▁of▁sentence｜>"


def test_a_thought_goes_where_the_template_wants_it():
    made = chat("gpt-oss")
    analysis = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>2<|return|>"
    assert text(made, made.completion_ids("<think>Hm.</think>2", QUESTION)) == analysis
    cuts = "{% for m in messages %}<turn>{{ m.content.split('</think>')[-1] }}<end>{% endfor %}"
    made = Chat(Family(cuts, "<end> <turn>").tokenizer())
    assert text(made, made.completion_ids("<think>Hm.</think>\n2", QUESTION)) == "<think>Hm.</think>\n2<end>"


def test_what_a_template_does_not_read_is_said_once():
    with warned(r"template_kwargs: .* does not read 'enable_thinking'.*\(it reads: none\)"):
        made = chat("ChatML, Qwen2.5", {"enable_thinking": False})
    with warned(r"chat_template_kwargs and tools: .* does not show tools"):
        chat("Phi-3").student_ids(QUESTION, {"tools": [TOOL]})
    with warned("thinking") as said:
        for _ in range(3):
            made.student_ids(QUESTION, {"thinking": True})
    assert len(said) == 1
    with warned(r"\(it reads: date_string\)"):
        chat("Llama 3", {"enable_thinking": False})
    with warned(None):
        chat("Qwen3", {"enable_thinking": False})
        made = chat("Llama 3", {"date_string": "1 Jan 2025"})
        made.student_ids(QUESTION, {"tools": [TOOL]})
    assert "Today Date: 1 Jan 2025" in text(made, made.student_ids(QUESTION))


@pytest.mark.parametrize("name", ["add_generation_prompt", "tokenize", "messages"])
def test_what_is_set_here_is_no_variable(name):
    with pytest.raises(UsageError, match=f"contexts.template_kwargs: '{name}' is no variable"):
        chat("Qwen3", {name: True})


# Ends


@quiet
def test_a_base_model_stops_where_its_template_ends_a_turn(model):
    tokenizer = FAMILIES["Qwen2.5 base"].tokenizer()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.eos_token == "<|endoftext|>"
    phi = FAMILIES["Phi-3"].tokenizer()
    assert template_ends(tokenizer) == {end}
    assert phi.convert_tokens_to_ids("<|end|>") in TorchSampler(model, phi).end_tokens
    assert template_ends(FAMILIES["base, none"].tokenizer()) == frozenset()
    both = Family({"a": QWEN25, "b": FAMILIES["Phi-3"].template}, "<|endoftext|> <|im_end|> <|end|>").tokenizer()
    assert {both.decode([token]) for token in template_ends(both)} == {"<|im_end|>", "<|end|>"}
    assert TorchSampler(model, tiny.tokenizer()).end_tokens == {2}


def test_an_end_that_is_no_token_is_said():
    made = Chat(Family(QWEN25, "</s> <|im_start|>").tokenizer())  # a template of another model
    with warned(r"ends a reply with '<\|im_end\|>', which is no token .*'</s>' instead"):
        ids = made.completion_ids("2", QUESTION)
    assert text(made, ids) == "2</s>"


# System messages


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Gemma 2", "refuses system messages"),
        ("Gemma 3", "into the user's turn"),
        ("Mistral", "into the user's turn"),
        ("Llama 2", "into the user's turn"),
        ("system left out", "leaves out system messages"),
    ],
)
def test_layout_system_says_where_there_is_no_system_turn(name, said):
    tokenizer = FAMILIES[name].tokenizer()
    with warned(rf"contexts.layout=system: .*{said}.*layout=turn or paper"):
        made = PromptBuilder(tokenizer, "system")
    assert ANSWER in text(made, made.teacher_ids(QUESTION, Context("gold", ANSWER)))
    with warned(None):
        PromptBuilder(tokenizer, "turn").in_layout("paper")


@pytest.mark.parametrize("name", ["ChatML, Qwen2.5", "QwQ", "DeepSeek-R1", "Phi-3", "gpt-oss", "GLM-4", "Llama 3"])
def test_layout_system_is_a_turn_of_its_own_elsewhere(name):
    with warned(None):
        made = PromptBuilder(FAMILIES[name].tokenizer(), "system")
    seen = text(made, made.teacher_ids(QUESTION, Context("gold", ANSWER)))
    before = seen.partition(ANSWER)[2].rpartition(QUESTION)[0]
    assert before.rstrip("\n").endswith(made.user_header)
    assert "<|endoftext|>" not in seen
    assert seen.endswith(text(made, made.student_ids(QUESTION)[len(made.opening_ids) :]))


def test_a_system_message_that_would_be_left_out_is_refused():
    with pytest.raises(UsageError, match="leaves out system messages; put the text into the user's message"):
        chat("system left out").student_ids([{"role": "system", "content": "Be brief."}, *asked(QUESTION)])
    merged = chat("Mistral")
    assert "Be brief." in text(
        merged, merged.student_ids([{"role": "system", "content": "Be brief."}, *asked(QUESTION)])
    )
    odd = chat("Qwen3")
    with pytest.raises(UsageError, match="leaves out narrator messages"):
        odd.student_ids([{"role": "narrator", "content": "Once."}, *asked(QUESTION)])


# Conversations


@pytest.mark.parametrize("name", ["ChatML, Qwen2.5", "Llama 3", "Gemma 3", "Mistral", "Phi-3"])
def test_a_last_message_of_the_assistants_goes_on(name):
    made = chat(name)
    ids = made.student_ids(asked(QUESTION, "1 and 1"))
    assert text(made, ids) == text(made, made.student_ids(QUESTION)) + "1 and 1"
    end = text(made, [made.end_of_turn_id])
    assert text(made, made.completion_ids(" make 2.", asked(QUESTION, "1 and 1"))) == f" make 2.{end}"


def test_tools_and_their_calls_are_shown():
    made = chat("ChatML, Qwen2.5")
    call = {"type": "function", "function": {"name": "add_up", "arguments": '{"a": 1, "b": null}'}}
    messages = [
        *asked(QUESTION),
        {"role": "assistant", "content": None, "tool_calls": [call | {"id": None}]},
        {"role": "tool", "content": "2", "tool_calls": None},
    ]
    seen = text(made, made.student_ids(messages, {"tools": [TOOL]}))
    assert json.dumps(TOOL) in seen
    assert '<tool_call>{"name": "add_up", "arguments": {"a": 1, "b": null}}</tool_call>' in seen
    assert "<r>2</r>" in seen
    assert seen.endswith("<|im_start|>assistant\n")
    for layout in ("paper", "turn", "system"):
        builder = PromptBuilder(made.tokenizer, layout)
        told = text(made, builder.teacher_ids(messages, Context("gold", ANSWER), {"tools": [TOOL]}))
        assert told.count("# Tools") == 1
        assert "<r>2</r>" in told


def test_thoughts_that_the_template_cuts_from_demonstrations_are_said():
    builder = PromptBuilder(FAMILIES["Qwen3"].tokenizer(), "turn")
    with warned("layout=turn: .*cuts thoughts.*layout=paper"):
        seen = text(builder, builder.teacher_ids(QUESTION, Context("gold", THOUGHT)))
    assert ANSWER in seen
    assert "One more" not in seen
    with warned(None):
        paper = builder.in_layout("paper")
        assert "One more" in text(paper, paper.teacher_ids(QUESTION, Context("gold", THOUGHT)))
        builder.teacher_ids(QUESTION, Context("gold", ANSWER))


def test_the_teacher_may_have_variables_of_its_own():
    tokenizer = FAMILIES["Qwen3"].tokenizer()
    builder = PromptBuilder(tokenizer, "paper", None, {"enable_thinking": False}, {"enable_thinking": True})
    block = "<think>\n\n</think>\n\n"
    gold = Context("gold", ANSWER)
    assert text(builder, builder.student_ids(QUESTION)).endswith(block)
    assert text(builder, builder.teacher_ids(QUESTION, gold)).endswith("assistant\n")
    assert text(builder, builder.teacher_ids(QUESTION, gold, {"enable_thinking": False})).endswith(block)
    same = PromptBuilder(tokenizer, "paper", None, {"enable_thinking": False})
    assert text(same, same.teacher_ids(QUESTION, gold)).endswith(block)
    with pytest.raises(UsageError, match=r"contexts\.teacher_template_kwargs: 'tokenize'"):
        PromptBuilder(tokenizer, "paper", None, None, {"tokenize": False})


# Odd templates


def test_one_of_several_templates_is_chosen_by_name_or_for_tools():
    named = {"rag": "R{{ messages[0].content }}", "tool_use": "T{{ messages[0].content }}{{ tools }}"}
    tokenizer = Family(named, "</s>").tokenizer()
    with pytest.raises(UsageError, match=r"no default \(\['rag', 'tool_use'\]\).*template_kwargs"):
        Chat(tokenizer)
    made = Chat(tokenizer, {"chat_template": "rag"})
    assert text(made, made.student_ids("q")) == "Rq"
    with pytest.raises(UsageError, match="no chat_template 'rags'; the tokenizer has rag, tool_use"):
        Chat(tokenizer, {"chat_template": "rags"})
    tokenizer.chat_template = [{"name": name, "template": text} for name, text in (named | {"default": QWEN3}).items()]
    made = Chat(tokenizer)
    assert made.chat_template == QWEN3
    assert text(made, made.student_ids("q", {"tools": [TOOL]})).startswith("Tq")


@pytest.mark.parametrize("shown", ["part.text", "('' if part.type != 'text' else part.text + '')"])
def test_a_template_that_reads_parts_alone_gets_them(shown):
    parts = "{% for part in m['content'] %}{{ " + shown + " }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    template = tiny.CHATML.replace(" + m['content'] + '<|im_end|>\n' }}{% endfor %}", " }}" + parts)
    made, plain = PromptBuilder(tokenizer_with(template), "system"), PromptBuilder(tiny.tokenizer(), "system")
    for prompt in (QUESTION, asked(QUESTION, ANSWER, "Why?"), asked(QUESTION, "It is")):
        assert made.student_ids(prompt) == plain.student_ids(prompt)
        assert made.completion_ids(ANSWER, prompt) == plain.completion_ids(ANSWER, prompt)
        assert made.teacher_ids(prompt, Context("gold", ANSWER)) == plain.teacher_ids(prompt, Context("gold", ANSWER))


def test_a_template_that_shows_no_question_is_refused():
    with pytest.raises(UsageError, match=r"does not show what the user says; set tokenizer.chat_template"):
        Chat(tokenizer_with("{{ 'Hello' }}")).student_ids(QUESTION)


def test_a_template_that_writes_no_replies_leaves_them_as_they_are():
    asking = "{% for m in messages if m.role == 'user' %}" + tiny.CHATML.partition("%}")[2]
    made = Chat(tokenizer_with(asking))
    assert text(made, made.completion_ids(ANSWER, QUESTION)) == f"{ANSWER}<|im_end|>"


def test_a_template_that_always_begins_a_reply_ends_turns_as_others_do():
    asking = tiny.CHATML.replace("{% if add_generation_prompt %}", "").removesuffix("{% endif %}")
    made = Chat(tokenizer_with(asking))
    assert text(made, [made.end_of_turn_id]) == "<|im_end|>"
    assert text(made, made.completion_ids(ANSWER, QUESTION)) == f"{ANSWER}<|im_end|>"


def test_a_thought_that_only_closes_was_opened_by_the_prompt():
    made = chat("QwQ")
    for closed in ("Hm.</think>", "Hm.\n</think>\n"):
        assert text(made, made.completion_ids(f"{closed}\n{ANSWER}", QUESTION)).startswith("Hm.\n</think>\n\n1 and 1")


@pytest.mark.parametrize("layout", ["turn", "system", "paper"])
def test_a_template_that_refuses_to_be_without_tools(layout):
    needs = "{% if not tools %}{{ raise_exception('no tools') }}{% endif %}{{ tools | tojson }}" + tiny.CHATML
    row = PromptBuilder(tokenizer_with(needs), layout)
    run = PromptBuilder(tokenizer_with(needs), layout, template_kwargs={"tools": [TOOL]})
    assert row.student_ids(QUESTION, {"tools": [TOOL]}) == run.student_ids(QUESTION)
    context = Context("gold", ANSWER)
    assert row.teacher_ids(QUESTION, context, {"tools": [TOOL]}) == run.teacher_ids(QUESTION, context)
    assert text(row, row.completion_ids(ANSWER, QUESTION, {"tools": [TOOL]})) == f"{ANSWER}<|im_end|>"
    with pytest.raises(UsageError, match="no tools"):
        row.student_ids(QUESTION)


def test_a_template_without_a_generation_prompt_still_begins_the_reply():
    made = chat("system left out")
    assert text(made, made.student_ids("q")).endswith("<turn>assistant\n")
    assert text(made, made.completion_ids("2", "q")) == "2<end>"
    assert text(chat("Llama 2"), chat("Llama 2").student_ids("q")) == "<s>[INST] q [/INST]"


def test_tokens_across_the_border_leave_the_prompt_as_it_is():
    """Behind a line's end the reply's own first line's end would make one token of both."""
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["\n\n"])
    made = Chat(tokenizer)
    prompt, ids = made.student_ids("q"), made.completion_ids("\n2", "q")
    assert text(made, prompt + ids).endswith("assistant\n\n2<|im_end|>")
    assert tokenizer.convert_tokens_to_ids("\n\n") not in ids
    assert made.completion_ids("2", "q") == made.completion_ids("\n2", "q")[1:]


@settings(max_examples=60, deadline=None)
@given(st.text("a \n<>/think|_", min_size=1).filter(str.strip), st.sampled_from(["ChatML, Qwen2.5", "Qwen3", "QwQ"]))
def test_no_reply_is_lost_or_breaks_anything(said, name):
    made = chat(name)
    prompt, ids = made.student_ids(QUESTION), made.completion_ids(said, QUESTION)
    assert ids[-1] == made.end_of_turn_id
    answer = reply_of(said).strip() or said.strip()
    assert answer in made.opened(prompt) + text(made, ids)


def test_dates_of_every_notation_are_fixed():
    dated = "{{ strftime_now('%d %B %Y, %A %H:%M') + strftime_now('%Y-%m-%d') }}{{ messages[0].content }}"
    made = Chat(families.make(["<e>"], dated, None, "<e>"))
    assert text(made, made.student_ids("a")) == "26 July 2024, Friday 00:002024-07-26a"


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
@pytest.mark.parametrize("template", [LLAMA2, MISTRAL, QWEN3, QWQ])
def test_tokenizers_that_put_a_space_before_a_text(template, scheme):
    """As sentencepiece does; a thought's mark is no token of its own here, and two ends of a line are one."""
    special = ["</s>", "<s>", "<|im_start|>", "<|im_end|>", "<unk>"]
    letters = [chr(code) for code in range(33, 127)] + ["▁", "\n", "▁A", "\n\n"]
    merges = [("▁", "A"), ("\n", "\n")]
    backend = Tokenizer(models.BPE({t: n for n, t in enumerate(special + letters)}, merges, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.chat_template = template
    made = Chat(tokenizer)
    prompt, ids = made.student_ids(QUESTION), made.completion_ids("A 2", QUESTION)
    whole = own_rendering(made, asked(QUESTION, "A 2"), add_generation_prompt=False)
    if template != QWQ:
        assert whole[: len(prompt) + len(ids)] == prompt + ids
    elif scheme != "always":
        assert tokenizer.convert_ids_to_tokens(ids)[:3] == ["\n", "<", "/"]


# What a template does not write

ALPACA = "{{ '### Instruction:\n' + messages[0]['content'] + '\n\n### Response:\n' }}"
ONE_REPLY = ALPACA + "{% if messages|length > 1 %}{{ messages[1]['content'] + eos_token }}{% endif %}"
LAST_ALONE = "{% for m in messages[-1:] %}" + tiny.CHATML.partition("%}")[2]
# It writes the assistant's turns, and nothing in them.
MUTE = tiny.CHATML.replace("m['content']", "(m['content'] if m['role'] != 'assistant' else '')")
FIRST_WORDS = tiny.CHATML.replace("m['content']", "m['content'][:12]")
CONVERSATION = asked("hello", "hi", QUESTION)


@pytest.mark.parametrize("template", [ALPACA, ONE_REPLY, LAST_ALONE, MUTE, tiny.CHATML])
@pytest.mark.parametrize("said", ["It is 4.", "E", "<think>Hm.</think>It is 4."])
def test_a_completion_is_whole_whatever_the_template_does_with_replies(template, said):
    made = Chat(tokenizer_with(template))
    ids = made.completion_ids(said, QUESTION)
    assert text(made, ids) == f"{said}<|im_end|>"


def test_a_template_that_cuts_replies_is_not_followed_in_it():
    made = Chat(tokenizer_with(FIRST_WORDS))
    long = "It is 4, for 2 and 2 are 4."
    assert text(made, made.completion_ids(long, "2 + 2?")) == f"{long}<|im_end|>"
    assert text(made, made.completion_ids("4", "2 + 2?")) == "4<|im_end|>"


@pytest.mark.parametrize("end", ["<|im_end|>", "<|im_end|>\n", "<|im_end|>\n<|im_end|>"])
@pytest.mark.parametrize("template", [tiny.CHATML, ALPACA, None])
def test_a_completion_that_ends_already_ends_once(end, template):
    made = Chat(tokenizer_with(template))
    assert text(made, made.completion_ids(f"It is 4.{end}", QUESTION)) == "It is 4.<|im_end|>"


def test_the_tokenizers_own_end_is_cut_too_where_the_template_has_another():
    made = chat("Qwen2.5 base")
    assert text(made, made.completion_ids("2<|endoftext|>", QUESTION)) == "2<|im_end|>"


def test_a_completion_that_goes_on_behind_its_end_is_refused():
    with pytest.raises(UsageError, match=r"goes on behind '<\|im_end\|>', which ends a reply; cut it there"):
        Chat(tokenizer_with(tiny.CHATML)).completion_ids("2<|im_end|>\n<|im_start|>user\nAnd 3?", QUESTION)


@pytest.mark.parametrize(
    ("template", "lost"),
    [
        (ALPACA, r"2 \(assistant\), 3 \(user\) of the 3"),
        (ONE_REPLY, r"3 \(user\) of the 3"),
        (LAST_ALONE, r"1 \(user\), 2 \(assistant\) of the 3"),
        (MUTE, r"2 \(assistant\) of the 3"),
        ("{% for m in messages if m.role != 'tool' %}" + tiny.CHATML.partition("%}")[2], r"3 \(tool\) of the 3"),
    ],
)
def test_messages_that_a_template_leaves_out_are_named(template, lost):
    made = PromptBuilder(tokenizer_with(template), "paper")
    prompt = [*CONVERSATION[:2], {"role": "tool", "content": "4"}] if "tool" in lost else CONVERSATION
    for write in (made.student_ids, lambda p: made.teacher_ids(p, Context("gold", ANSWER))):
        with pytest.raises(UsageError, match=f"leaves out message {lost}, so the prompt is not whole; write"):
            write(prompt)
    assert made.left_out(asked(QUESTION), {}) == ()


@pytest.mark.parametrize(
    ("template", "lost"), [(ALPACA, "the question"), (ONE_REPLY, "the question"), (LAST_ALONE, "the context")]
)
def test_a_layout_whose_context_the_template_leaves_out_is_refused(template, lost):
    made = PromptBuilder(tokenizer_with(template), "turn")
    with pytest.raises(UsageError, match=rf"contexts\.layout=turn: .* leaves out {lost}; use contexts\.layout=paper"):
        made.teacher_ids(QUESTION, Context("gold", ANSWER))
    shown = text(made, made.in_layout("paper").teacher_ids(QUESTION, Context("gold", ANSWER)))
    assert ANSWER in shown
    assert QUESTION in shown


def test_a_leading_block_without_its_context_is_refused():
    bare = "{% for m in messages %}{{ '<|im_start|>' + (m.content if add_generation_prompt else '') }}{% endfor %}"
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    made = PromptBuilder(tokenizer_with(refuses + bare), "system")
    with pytest.raises(UsageError, match=r"contexts\.layout=system: .* leaves the context out of a leading block; use"):
        made.teacher_ids(QUESTION, Context("gold", ANSWER))


def test_what_a_template_changes_in_a_text_is_no_loss():
    """It trims, cuts thoughts, or writes JSON: the message is there."""
    changes = tiny.CHATML.replace("m['content']", "(m['content'].split('</think>')[-1] | trim | upper)")
    made = Chat(tokenizer_with(changes))
    said = asked(" hello ", "<think>Hm.</think>hi", QUESTION)
    assert "HI<|im_end|>" in text(made, made.student_ids(said))


def test_the_end_of_a_reply_is_found_where_earlier_replies_are_not_written():
    with warned(None):
        assert Chat(tokenizer_with(LAST_ALONE)).end_of_turn_id == 2
