import re

import pytest
from datasets import Dataset
from hypothesis import example, given
from hypothesis import strategies as st

from contexts import families
from contexts.items import Hint, registered
from said import warned
from unisd.contexts import Context, PromptBuilder, messages_of
from unisd.errors import UsageError

QUESTION = "Why is the sky blue today?"
OTHER = "Where do bees live?"
CONTEXTS = {
    "gold": Context("gold", "Light scatters."),
    "negative": Context("negative", "Paint."),
    "retrieval": Context("retrieval", "They live in hives.", OTHER),
    "random": Context("random", "They live in hives.", OTHER),
    "induction": Context("induction", "Think about causes."),
}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello there."},
    {"role": "assistant", "content": "Good day."},
    {"role": "user", "content": QUESTION},
]
LAYOUTS = ["paper", "turn", "system"]

every_family = pytest.mark.parametrize("family", families.FAMILIES)
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
every_kind = pytest.mark.parametrize("kind", CONTEXTS)


def builder(family, layout="turn", words=None):
    return PromptBuilder(families.FAMILIES[family](), layout, words)


def text(made, ids):
    return made.tokenizer.decode(ids)


@every_family
def test_student_ids_are_a_plain_list_of_the_template(family):
    made = builder(family)
    ids = made.student_ids(QUESTION)
    assert type(ids) is list
    assert all(type(token) is int for token in ids)
    assert text(made, ids).count(QUESTION) == 1
    opened = ("<|im_start|>assistant\n", "assistant<|end_header_id|>\n\n", "<start_of_turn>model\n")
    assert text(made, ids).endswith(opened)
    assert ids == made.student_ids([{"role": "user", "content": QUESTION}])


@every_family
@every_layout
@every_kind
def test_question_and_context_are_in_every_teacher_prompt(family, layout, kind):
    made = builder(family, layout)
    seen = text(made, made.teacher_ids(QUESTION, CONTEXTS[kind]))
    assert QUESTION in seen
    assert CONTEXTS[kind].text in seen
    if kind in ("retrieval", "random"):
        assert OTHER in seen
    asked_last = seen.rfind(QUESTION) > seen.rfind(CONTEXTS[kind].text)
    assert asked_last == (layout != "paper")


@every_layout
@every_kind
@pytest.mark.parametrize("family", families.OPENING)
def test_the_opening_token_stands_once(family, layout, kind):
    made = builder(family, layout)
    opening = made.tokenizer.convert_tokens_to_ids(families.OPENING[family])
    chat = [message for message in CHAT if message["role"] != "system"]
    context = CONTEXTS[kind]
    for ids in (made.student_ids(QUESTION), made.teacher_ids(QUESTION, context), made.teacher_ids(chat, context)):
        assert ids[0] == opening
        assert ids.count(opening) == 1


@every_family
@every_layout
def test_gold_and_negative_differ_only_in_the_demonstration(family, layout):
    made = builder(family, layout)
    right, wrong = CONTEXTS["gold"], CONTEXTS["negative"]
    gold = text(made, made.teacher_ids(QUESTION, right))
    negative = text(made, made.teacher_ids(QUESTION, wrong))
    assert gold.count(right.text) == 1
    assert negative == gold.replace(right.text, wrong.text)


@every_family
@every_kind
def test_system_layout_ends_with_exactly_the_students_ids(family, kind):
    made = builder(family, "system")
    prompts = [QUESTION, CHAT[1:]] + ([CHAT] if family != "gemma2" else [])
    for prompt in prompts:
        student = made.student_ids(prompt)
        if family in families.OPENING:
            student = student[1:]
        ids = made.teacher_ids(prompt, CONTEXTS[kind])
        assert ids[-len(student) :] == student
        block = text(made, ids[: -len(student)])
        assert CONTEXTS[kind].text in block
        assert QUESTION not in block
        assert ("system" in block.split(CONTEXTS[kind].text)[0]) == (not family.startswith("gemma"))


def test_the_token_that_opens_every_message_is_not_an_opening_token():
    made = builder("smollm", "system")
    seen = text(made, made.teacher_ids(QUESTION, CONTEXTS["gold"]))
    assert seen.count("<|im_start|>system\n") == 2  # the context's block, and the student's default one, whole
    assert seen.count("<|im_start|>") == 4


def test_an_opening_token_that_the_block_lacks_still_comes_first():
    opening = "{% if messages[0].role == 'user' %}{{ bos_token }}{% endif %}"
    template = opening + "{% for m in messages %}<turn>{{ m.content }}{% endfor %}"
    made = PromptBuilder(families.make(["<bos>", "<turn>"], template, "<bos>", None), "system")
    seen = text(made, made.teacher_ids(QUESTION, CONTEXTS["gold"]))
    assert seen.startswith("<bos><turn>Here")
    assert seen.endswith(f"<turn>{QUESTION}<turn>")  # a reply begins like any turn
    assert seen.count("<bos>") == 1


@every_family
def test_a_completion_ends_as_the_template_ends_a_reply(family):
    made = builder(family)
    ids = made.completion_ids(" Light scatters.\n", QUESTION)
    trimmed = family in families.OPENING
    said = " Light scatters.\n".strip() if trimmed else " Light scatters.\n"
    assert text(made, ids) == said + families.END_OF_TURN[family]
    assert made.end_of_turn_id == ids[-1]
    assert len(ids) == len(said) + 1  # no opening token, one for the end


def test_end_of_turn_falls_back_to_the_end_of_text():
    bare = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    made = PromptBuilder(families.make(["<eos>"], bare, None, "<eos>"), "turn")
    assert text(made, [made.end_of_turn_id]) == "<eos>"
    endless = PromptBuilder(families.make(["<x>"], bare, None, None), "turn")
    with pytest.raises(UsageError, match="eos_token"):
        endless.completion_ids("a", QUESTION)


def test_end_of_turn_is_a_control_token_not_the_words_before_it():
    closed = "{% for m in messages %}{{ m['content'] + ' [/REPLY]<end>\n' }}{% endfor %}"
    made = PromptBuilder(families.make(["<eos>", "<end>"], closed, None, "<eos>"), "turn")
    assert text(made, [made.end_of_turn_id]) == "<end>"


def test_end_of_turn_is_not_the_next_turns_header_nor_white_space():
    spaced = "{% for m in messages %}{{ '<head>' + m['content'] + '\n\n<end>\n' }}{% endfor %}"
    tokenizer = families.make(["<eos>", "<head>", "<end>"], spaced, None, "<eos>")
    tokenizer.add_tokens(["\n\n"])
    made = PromptBuilder(tokenizer, "turn")
    assert text(made, [made.end_of_turn_id]) == "<end>"
    unclosed = "{% for m in messages %}{{ '<head>' + m['content'] }}{% endfor %}"
    made = PromptBuilder(families.make(["<eos>", "<head>"], unclosed, None, "<eos>"), "turn")
    assert text(made, [made.end_of_turn_id]) == "<eos>"


def test_paper_layout_keeps_the_order_of_the_method():
    made = builder("qwen", "paper")
    seen = text(made, made.teacher_ids(QUESTION, CONTEXTS["gold"]))
    turn = seen.split("<|im_start|>user\n")[1].split("<|im_end|>")[0]
    question, reference, instruction = turn.split("\n\n")
    assert question == QUESTION
    assert reference.endswith(":\nLight scatters.")
    assert instruction == "After studying the example, solve the problem in your own way, in the same format."


@every_layout
@every_kind
def test_earlier_messages_are_kept(layout, kind):
    made = builder("llama", layout)
    seen = text(made, made.teacher_ids(CHAT, CONTEXTS[kind]))
    for message in CHAT:
        assert message["content"] in seen
    assert seen.index("Hello there.") < seen.index("Good day.") < seen.rindex(QUESTION)


def turns_of(made, ids):
    return re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", text(made, ids), flags=re.DOTALL)


def test_turn_layout_of_a_conversation():
    made = builder("qwen", "turn")
    system, *earlier, last = [(message["role"], message["content"]) for message in CHAT]
    gold = turns_of(made, made.teacher_ids(CHAT, CONTEXTS["gold"]))
    assert gold == [system, *earlier, last, ("assistant", "Light scatters."), last]
    probe = turns_of(made, made.teacher_ids(CHAT, CONTEXTS["retrieval"]))
    assert probe == [system, ("user", OTHER), ("assistant", "They live in hives."), *earlier, last]
    guided = turns_of(made, made.teacher_ids(CHAT, CONTEXTS["induction"]))
    assert [role for role, _ in guided[1:3]] == ["user", "assistant"]
    assert guided[2][1] == "Think about causes."
    assert guided[3:] == [*earlier, last]


def test_building_prompts_leaves_the_messages_alone():
    chat = [dict(message) for message in CHAT]
    for layout in LAYOUTS:
        builder("qwen", layout).teacher_ids(chat, CONTEXTS["gold"])
    assert chat == CHAT


def test_messages_may_come_from_a_dataset():
    chat = [*CHAT, {"role": "user", "content": QUESTION, "name": "Ann"}]
    stored = Dataset.from_list([{"prompt": chat}])[0]["prompt"]
    assert stored[0]["name"] is None
    assert messages_of(stored) == chat


def test_templates_that_print_the_date_print_the_same_one_every_day():
    made = builder("llama")
    assert "Today Date: 26 Jul 2024\n" in text(made, made.student_ids(QUESTION))
    dated = "{{ strftime_now('%Y-%m-%d') }}{{ messages[0].content }}"
    iso = PromptBuilder(families.make(["<e>"], dated, None, "<e>"), "turn")
    assert text(iso, iso.student_ids("a")) == "2024-07-26a"
    with warned(None):
        assert builder("qwen").chat_template == families.CHATML


@pytest.mark.parametrize("adds_bos", [True, False])
def test_a_base_model_gets_a_plain_format_and_says_so(adds_bos):
    tokenizer = families.make(["<bos>", "<eos>"], None, "<bos>", "<eos>", adds_bos)
    with warned("no chat template"):
        made = PromptBuilder(tokenizer, "turn")
    opening = "<bos>" if adds_bos else ""
    assert text(made, made.student_ids(QUESTION)) == f"{opening}User:\n{QUESTION}\n\nAssistant:\n"
    seen = text(made, made.teacher_ids(CHAT[:1] + CHAT[-1:], CONTEXTS["gold"]))
    asked = f"User:\n{QUESTION}\n\nAssistant:\n"
    assert seen == f"{opening}Be brief.\n\n{asked}Light scatters.<eos>\n\n{asked}"
    assert text(made, made.completion_ids("a", QUESTION)) == "a<eos>"
    assert tokenizer.chat_template is None
    for layout in LAYOUTS:
        with warned("no chat template"):
            other = PromptBuilder(tokenizer, layout)
        assert text(other, other.teacher_ids(QUESTION, CONTEXTS["gold"])).count("<bos>") == adds_bos


def test_several_templates():
    named = {"default": families.CHATML, "tool_use": "never"}
    made = PromptBuilder(families.make(["<|im_start|>", "<|im_end|>"], named, None, "<|im_end|>"), "turn")
    assert QUESTION in text(made, made.student_ids(QUESTION))
    with pytest.raises(UsageError, match=r"no default \(\['rag', 'tool_use'\]\)"):
        PromptBuilder(families.make(["<e>"], {"tool_use": "a", "rag": "b"}, None, "<e>"), "turn")


def test_a_refusal_of_the_template_is_said_in_words():
    with pytest.raises(UsageError, match=r"refuses messages of the roles system, user, .*no system role"):
        builder("gemma2").student_ids(CHAT)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ([], "non-empty list"),
        (None, "NoneType"),
        (3, "int"),
        (["text"], "list of messages"),
        ([{"content": "a"}], "role"),
        ([{"role": "user"}], "content"),
        ([{"role": "user", "content": [{"type": "image"}]}], "only text"),
        ([{"role": "system", "content": "a"}], "must hold a user message"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}], "no text to continue"),
    ],
)
def test_malformed_prompts_are_refused(prompt, said):
    with pytest.raises(UsageError, match=said):
        builder("qwen").student_ids(prompt)


def test_unknown_layouts_are_refused():
    with pytest.raises(UsageError, match="paper, turn, system"):
        builder("qwen", "chat")


# Kinds and words of one's own


def shown(layout, context, words=None, prompt=QUESTION):
    """The turns of the teacher's prompt, less the template's own system turn."""
    made = builder("qwen", layout, words)
    return [turn for turn in turns_of(made, made.teacher_ids(prompt, context)) if turn != ("system", "You help.")]


def test_a_kind_of_ones_own_is_shown_in_every_layout():
    with registered(Hint):
        hint = Context("hint", "Look up.")
        assert shown("paper", hint) == [("user", f"{QUESTION}\n\nA hint:\nLook up.")]
        assert shown("system", hint) == [("system", "A hint for the next question:\nLook up."), ("user", QUESTION)]
        asked = ("user", QUESTION)
        assert shown("turn", hint) == [asked, ("assistant", "Look up."), asked]
        assert shown("turn", hint, {"hint": {"asked": "Help?"}}) == [
            ("user", "Help?"),
            ("assistant", "Look up."),
            asked,
        ]


@pytest.mark.parametrize("about", ["item", "another", "general"])
def test_what_is_not_about_the_item_opens_the_conversation(about):
    with registered(type("Own", (Hint,), {"name": "own", "about": about})):
        context = Context("own", "Look up.", OTHER if about == "another" else None)
        system, *earlier, last = [(message["role"], message["content"]) for message in CHAT]
        exchange = [("user", OTHER if about == "another" else QUESTION), ("assistant", "Look up.")]
        before, after = ([*earlier], []) if about == "item" else ([], [*earlier])
        assert shown("turn", context, prompt=CHAT) == [system, *before, *exchange, *after, last]


TEMPLATES = {"after": "See {text}, after {question}", "before": "{question} {text}", "asked": "Say {question}"}


@pytest.mark.parametrize("kind", ["gold", "retrieval", "induction"])
def test_words_of_ones_own_replace_those_of_the_kind(kind):
    words, context = {kind: TEMPLATES}, CONTEXTS[kind]
    question = OTHER if kind == "retrieval" else QUESTION
    assert shown("paper", context, words) == [("user", f"{QUESTION}\n\nSee {context.text}, after {question}")]
    assert shown("system", context, words) == [("system", f"{question} {context.text}"), ("user", QUESTION)]
    exchange = [("user", f"Say {question}"), ("assistant", context.text)]
    assert shown("turn", context, words) == [*exchange, ("user", QUESTION)]


@every_layout
@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_that_are_not_given_stay_as_they_are(layout, name):
    changed = {"paper": "after", "system": "before", "turn": "asked"}[layout]
    words = {"gold": {name: TEMPLATES[name]}, "retrieval": {}}
    assert (shown(layout, CONTEXTS["gold"], words) != shown(layout, CONTEXTS["gold"])) == (name == changed)
    for kind in ("retrieval", "random", "induction"):
        assert shown(layout, CONTEXTS[kind], words) == shown(layout, CONTEXTS[kind])


@every_family
@every_layout
def test_negative_follows_the_words_of_gold(family, layout):
    made = builder(family, layout, {"gold": TEMPLATES})
    right, wrong = CONTEXTS["gold"], CONTEXTS["negative"]
    gold = text(made, made.teacher_ids(QUESTION, right))
    assert gold.count(right.text) == 1
    assert text(made, made.teacher_ids(QUESTION, wrong)) == gold.replace(right.text, wrong.text)
    assert made.teacher_ids(QUESTION, right) != builder(family, layout).teacher_ids(QUESTION, right)


@every_layout
def test_words_may_be_those_of_another_kind_at_any_distance(layout):
    first, second = (type("Own", (Hint,), {"name": n, "words": w}) for n, w in (("one", "gold"), ("two", "one")))
    with registered(first, second):
        for words in (None, {"gold": TEMPLATES}):
            assert shown(layout, Context("two", "Light scatters."), words) == shown(layout, CONTEXTS["gold"], words)


def test_builders_share_no_words():
    shown("paper", CONTEXTS["gold"], {"gold": TEMPLATES})
    assert "Here is an example response" in shown("paper", CONTEXTS["gold"])[0][1]


filling = st.text(st.sampled_from("{}tequsion xé\\1"), min_size=1).filter(str.strip)


@example("{question}", "{text}", "a", "after")
@given(filling, filling, filling, st.sampled_from(["after", "before"]))
def test_only_the_placeholders_of_a_template_are_filled(value, other, around, name):
    # Braces of code or mathematics stay as they are, in a template and in what fills it.
    around = around.replace("{text}", "").replace("{question}", "")
    template = f"{around}|{{text}}|{{question}}|{{}}{{0}}{{Text}}"
    layout = {"after": "paper", "before": "system"}[name]
    made = builder("qwen", layout, {"random": {name: template}})
    seen = text(made, made.teacher_ids(QUESTION, Context("random", value, other)))
    assert f"{around}|{value}|{other}|{{}}{{0}}{{Text}}" in seen


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"golden": {"after": "{text}"}}, "no kind of context 'golden'; did you mean 'gold'"),
        (
            {"negative": {"after": "{text}"}},
            r"contexts\.words\.negative: .*share the words of 'gold'; set .*words\.gold",
        ),
        ({"negative": {}}, r"contexts\.words\.negative: .*share"),
        ({"gold": "See {text}"}, r"contexts\.words\.gold: templates by name were expected \(after, before, asked\)"),
        ({"gold": None}, r"contexts\.words\.gold: templates by name were expected .*not None"),
        (
            {"gold": {"afterwards": "{text}"}},
            r"contexts\.words\.gold: .*no template 'afterwards'; .*after, before, asked",
        ),
        ({"gold": {"after": "See."}}, r"contexts\.words\.gold\.after: write text with \{text\} .*not 'See\.'"),
        ({"gold": {"before": "{question}"}}, r"contexts\.words\.gold\.before: write text with \{text\}"),
        ({"gold": {"after": None}}, r"contexts\.words\.gold\.after: .*not None"),
        ({"random": {"before": ["{text}"]}}, r"contexts\.words\.random\.before: .*not \["),
        ({"gold": {"asked": " "}}, r"contexts\.words\.gold\.asked: write text, not ' '"),
        ({"induction": {"asked": 3}}, r"contexts\.words\.induction\.asked: write text, not 3"),
        ({"random": {"after": "{text}"}, "gold": {"after": ""}}, r"contexts\.words\.gold\.after: .*not ''"),
    ],
)
def test_words_that_cannot_be_used_are_refused(words, said):
    for layout in LAYOUTS:
        with pytest.raises(UsageError, match=said):
            builder("qwen", layout, words)
