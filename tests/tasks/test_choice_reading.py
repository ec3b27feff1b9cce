"""What a person would read in an output: a table of outputs, then properties that hold for every string."""

import re
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from unisd.tasks.choice import demonstration, letters_for, prompt
from unisd.tasks.reading import extract_choice

LANTERN = ("antique shop", "house", "dark place")
NEWLINE = "\n"
ECHO = "A. antique shop\nB. house\nC. dark place"
VITAMINS = ("Vitamin A", "Vitamin B12", "Vitamin C", "Vitamin D")
KEYS = ("A major", "C major", "G minor")
BLOOD = ("B", "A", "AB")
NUMBERS = ("-5", "5", "5.2")
NINE = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# The format that is asked for, and small departures from it.
DECLARED = [
    ("Answer: B", "B"),
    ("It is not for sale, so it is in use.\nAnswer: B", "B"),
    ("Reason.\r\nAnswer: B\r\n", "B"),
    ("answer: b", "B"),
    ("ANSWER: B", "B"),
    ("Answer:B", "B"),
    ("Answer : B", "B"),
    ("Answer = B", "B"),
    ("Answer -> B", "B"),
    ("Answer is B", "B"),
    ("Answer B", "B"),
    ("Final answer (B)", "B"),
    ("Final Answer - C", "C"),
    ("**Final Answer: (B)**", "B"),
    ("Answer: (b)", "B"),
    ("Answer: b)", "B"),
    ("Answer: [B]", "B"),
    ('Answer: "B"', "B"),
    ("Answer: **B**", "B"),
    ("**Answer:** B", "B"),
    ("**Answer**: B", "B"),
    ("Answer: __B__", "B"),
    ("Answer: `B`", "B"),
    ("The answer is <b>B</b>.", "B"),
    ("### Answer\n\nB", "B"),
    ("Answer:\nB", "B"),
    ("Answer:\n\n(B) house", "B"),
    ("Final answer:\nAnswer: B", "B"),
    ("Answer: B.", "B"),
    ("Answer: B?", "B"),
    ("Answer: B. house", "B"),
    ("Answer: B house", "B"),
    ("Answer: B (house)", "B"),
    ("Answer: house (B)", "B"),
    ("Answer: option B", "B"),
    ("Answer: The letter B", "B"),
    ("Answer: It is B.", "B"),
    ("Answer: I think B", "B"),
    ("Answer: I think it is B.", "B"),
    ("Answer: The lantern would be in the house (B).", "B"),
    ("Answer: B, because lanterns are used at home.", "B"),
    ("Answer: B because a lantern is used at home.", "B"),
    ("Answer: B\n\nExplanation: A sells lanterns, and C hides them.", "B"),
    ("Answer: B\nA is not correct, since a shop sells things.", "B"),
    ("Answer: B. A dark place is too vague.", "B"),
    ("Answer: B. C is too vague.", "B"),
    ("Answer: B, C is too vague.", "B"),
    ("Answer: A", "A"),
    ("Answer: a", "A"),
    ("Answer: A.", "A"),
    ("Answer: A is the one.", "A"),
    ("Answer: A because it sells lanterns", "A"),
    ("Answer (letter): C", "C"),
    ("Option A is a shop.\nAnswer: It would be in the house (B).", "B"),
    ("Answer: C, dark place\nA. antique shop: no. B. house: no.", "C"),
    ("Answer: not sure, maybe option B.", "B"),
    ("Answer: <B>", "B"),
    ("Answer: ~~A~~ B", "B"),
    ("Answer: It could be B", "B"),
    ("Answer:\n- B", "B"),
    ("Answer:\n* **B. house**", "B"),
    ("Answer: Dark Place (C)", "C"),
    ("Answer: C. dark place\n\nNote that A and B are also possible.", "C"),
    ("Correct answer: B\nIncorrect answers: A, C", "B"),
    ("Is this the final answer? Yes.\nAnswer: C", "C"),
    ("The option that best fits is B.", "B"),
    ("Selected answer: B", "B"),
    ("Ans: C", "C"),
    ("Ans. C", "C"),
    ("Correct option: B", "B"),
    ("Correct answer: (B)", "B"),
    ("The correct answer is option B", "B"),
    ("The correct answer is B) house.", "B"),
    ("the correct answer is (b)", "B"),
    ("The answer is: C. dark place", "C"),
    ("The answer is therefore most likely C.", "C"),
    ("The answer would be C.", "C"),
    ("The answer must be C!", "C"),
    ("The answer to the question is B.", "B"),
    ("The answer that makes the most sense is B.", "B"),
    ("The correct answer choice is B.", "B"),
    ("The best option is (C)", "C"),
    ("The most likely option is C.", "C"),
    ("My choice: C", "C"),
    ("The wrong answer is A. The right answer is B.", "B"),
    ("The wrong answer is A.", None),
    # Where letter and text disagree, the letter was asked for.
    ("Answer: B. dark place", "B"),
    ("Q: Where is it?\nA: B", "B"),
    ("A: house", "B"),
    ("A: antique shop", "A"),
    ("Answer: C instead of B", "C"),
    ("Answer: C (not B)", "C"),
    ("Answer: B (A is a shop)", "B"),
    ("Answer: Option A is incorrect. Option B is correct.", "B"),
    ("Answer is option number B", "B"),
    ("Question: If a lantern is not for sale, where is it?\nAnswer: B", "B"),
]

# Other notations and languages.
NOTATIONS = [
    (r"\boxed{B}", "B"),
    (r"$\boxed{\text{B}}$", "B"),
    (r"The answer is $\boxed{\textbf{(C)}}$.", "C"),
    (r"Answer: \boxed{B}", "B"),
    (r"Answer: \(B\)", "B"),
    ('{"answer": "C"}', "C"),
    ('{"reasoning": "A shop sells it.", "answer": "b"}', "B"),
    ("{'correct_answer': 'B'}", "B"),
    ("{'answer': ['B']}", "B"),
    ('{"answer": "house"}', "B"),
    ('```json\n{"answer": "B"}\n```', "B"),
    ("Final Answer: The final answer is $\\boxed{B}$. I hope it is correct.", "B"),
    ("<answer> A </answer> No. <answer>B</answer>", "B"),
    ("【答案】B", "B"),
    ("回答：选项 B", "B"),
    ("B。", "B"),
    ("Answer: \U0001d401", "B"),
    ("\ufeffAnswer:\u00a0B\u200b", "B"),
    ("Réponse : la lettre C", "C"),
    ("<answer>C</answer>", "C"),
    ("<reasoning>A shop sells.</reasoning>\n<answer>\nC\n</answer>", "C"),
    ("<final_answer>(c)</final_answer>", "C"),
    ("Antwort: B", "B"),
    ("Die richtige Antwort ist B.", "B"),
    ("答案：B", "B"),
    ("答案是B。", "B"),
    ("正确答案是 C", "C"),
    ("答えはBです", "B"),
    ("정답: B", "B"),
    ("La réponse est B", "B"),
    ("Réponse : B", "B"),
    ("Respuesta: B", "B"),
    ("La respuesta correcta es la B.", "B"),
    ("A resposta é C.", "C"),
    ("Ответ: B", "B"),
    ("Ａｎｓｗｅｒ：Ｂ", "B"),
    ("Answer: Ｂ．", "B"),
    ("Ⓑ", "B"),
]

# The option's text instead of its letter.
TEXTS = [
    ("Answer: house", "B"),
    ("Answer: House.", "B"),
    ("Answer: 'house'", "B"),
    ("Answer: the house", "B"),
    ("Answer: In a house.", "B"),
    ("Answer: house, because it is not sold.", "B"),
    ("Answer: house because it is not sold", "B"),
    ("Answer: A house", "B"),
    ("Answer: A dark place is where one needs light.", "C"),
    ("Answer: A antique shop", "A"),
    ("The answer is house.", "B"),
    ("The answer is a dark place.", "C"),
    ("house", "B"),
    ("House.", "B"),
    ("It is a house.", "B"),
    ("It is not for sale.\nHouse", "B"),
    ("house\nIt is used there.", "B"),
    (f"{ECHO}\n\nhouse", "B"),
    (f"{ECHO.replace(NEWLINE, ' ')}\nhouse", "B"),
    ("Answer: houseboat", None),
    ("Answer: not house", None),
    ("Answer: house or dark place", None),
    ("Answer: the dark house", None),
    ("Answer: A lantern is kept in use.", None),
    ("A lantern is used in a house.", None),
]

# Several answers: a correction counts, a hedge does not.
SEVERAL = [
    ("Answer: A\nWait, a shop sells it.\nAnswer: B", "B"),
    ("Answer: A. Wait, no: B.", "B"),
    ("Answer: A? No, B.", "B"),
    ("Answer: A\nActually, it should be B.", "B"),
    ("Answer: A\nNo, A is right.", "A"),
    ("Answer: B. No wait, C.", "C"),
    ("Answer: B... Actually C is better.", "C"),
    ("Answer: A\nCorrection: C", "C"),
    ("Answer: A. Wait, no. It's C.", "C"),
    ("Answer: A... no wait, it's C.", "C"),
    ("Answer: A\n\nHmm, actually it's C.", "C"),
    ("Answer: A\n\nI apologize for the confusion. The correct letter is C.", "C"),
    ("Answer: A\n\nOops, I meant C.", "C"),
    ("Answer: A\nLet me correct that: it's C.", "C"),
    ("Answer: It could be A, but I think B", "B"),
    ("Answer: It might be A, but more likely it is C.", "C"),
    ("Answer: It could be A", "A"),
    ("Answer: It could be A, but a shop is vague.", "A"),
    ("Answer: A, no doubt", "A"),
    ("Answer: A\nNo, C is not right.", "A"),
    ("Answer: A\nHmm, no one would pick C.", "A"),
    ("Answer: A. Let me think again. The answer should be C.", "C"),
    ("Answer: B or C. No, B.", "B"),
    ("The answer is C, but B is also possible.", "C"),
    ("The answer is either A or C, but A is more likely.", "A"),
    ("Answer: B\nNo, I am sure.", "B"),
    ("The answer is A. On second thought, the answer is C.", "C"),
    ("If it were for sale, the answer would be A. It is not.\nAnswer: B", "B"),
    ("Answer: B\nAnswer: X", "B"),
    ("Answer: B\nAnswer:", "B"),
    ("Answer: A\nAnswer: B or C", None),
    ("Answer: B\nAnswer: D", None),
    ("Answer: A\nWait, the answer is not A.", None),
    ("The answer is B.\nNote: the answer is not A.", "B"),
    ("Answer: B or C", None),
    ("Answer: B and C", None),
    ("Answer: B/C", None),
    ("Answer: B, C", None),
    ("Answer: (B) or (C)", None),
    ("Answer: option B or option C", None),
    ("Answer: either B or C", None),
    ("Answer: Both A and B", None),
    ("Answer: A, B or C", None),
    ("The answer is B or C.", None),
    ("Answer: B or C is possible.", None),
    ("A is likely. But C is the best.", "C"),
    ("People say the answer is A or B. Houses have lanterns, so B.", "B"),
    ("Both B and C could work, but B is the best.", "B"),
    # A further question that the model asks itself is no correction.
    ("Answer: B\n\nQuestion: Where do fish live?\nA. sea\nB. sky\nAnswer: A", "B"),
    ("Answer: B<|im_end|>\n<|im_start|>user\nAnswer: C", "B"),
    ("Answer: B\nUser: And now?\nAssistant: Answer: C", "B"),
]

DENIED = [
    ("Answer: not B", None),
    ("The answer is not B.", None),
    ("The answer is not A but B.", "B"),
    ("Answer: B, not A", "B"),
    ("Answer: B and not A", "B"),
    ("The answer isn't A; it's C.", "C"),
    ("Answer: B is incorrect", None),
    ("Answer: B is not right.", None),
    ("Option A is not the correct answer.", None),
    ("I can't choose A.", None),
    ("If A is correct, the lantern is for sale.", None),
    ("not B", None),
    ("It is neither A nor C.", None),
    ("B isn't the best choice.", None),
    ("So A is out.", None),
    ("A. antique shop is wrong because it is not for sale.", None),
    ("It's not A. It's not C. So it's B.", "B"),
    ("Not A, not C. B.", "B"),
]

PROSE = [
    ("So B is the best choice.", "B"),
    ("Therefore, B.", "B"),
    ("Hence C!", "C"),
    ("B is correct.", "B"),
    ("B. house is the correct answer.", "B"),
    ("B is the answer.", "B"),
    ("A is wrong and B is right.", "B"),
    ("It must be C.", "C"),
    ("I would go with (C).", "C"),
    ("I pick B, since it is used there.", "B"),
    ("I choose B over C.", "B"),
    ("I'd say (C).", "C"),
    ("I'm not sure, but I think B.", "B"),
    ("Thus, option C (dark place) is the best answer.", "C"),
    ("It's A dog", None),
    ("We can rule out A and C, leaving B.", "B"),
    ("We can eliminate A. We can eliminate C. The remaining option is B.", "B"),
    ("It's between B and C. I lean towards C.", "C"),
    ("Choice B is wrong, choice C is right.", "C"),
    ("Option A sells things. Option C is vague. I choose option B.", "B"),
    ("A is a shop, where things are for sale. B is a house. C is a dark place. So the answer must be B.", "B"),
    ("A is a shop. B is a house. C is a dark place.", None),
    ("The lantern would be in the house (B).", "B"),
    ("The lantern would be in the house (b).", "B"),
    ("It is found in option b.", "B"),
    ("It is a, so to say.", None),
    ("Wait, A sells it.", None),
    ("Actually, A is a shop.", None),
    ("It is found in option C.", "C"),
    ("Lanterns (B) are lit in houses", None),
    ("Option A is a shop, which sells old things.", None),
    ("The shop (A) and the house (B).", None),
    ("<think>A sells it, so the answer is A. No.</think>\nAnswer: B", "B"),
    ("<think>So the answer is A.</think>\nI hope this helps.", None),
    ("<think>A is a shop. B is a house.</think>\nB", "B"),
    ("<think>So the answer is A.</think>\nB", "B"),
    ("<think>Answer: A</think> <think>Answer: C</think>\nSo B.", "B"),
]

LONE = [
    ("B", "B"),
    ("b", "B"),
    ("A", "A"),
    ("B.", "B"),
    ("(B)", "B"),
    ("**B**", "B"),
    (" B \n", "B"),
    ("B. house", "B"),
    ("B) house", "B"),
    ("(B) house", "B"),
    ("b) house", "B"),
    ("B - house", "B"),
    ("B: house", "B"),
    ("Option B", "B"),
    ("Option B: house", "B"),
    ("B, because it is used there.", "B"),
    ("B because it is used there.", "B"),
    ("[B]", "B"),
    ("<B>", "B"),
    ("It is used there. B", "B"),
    ("Sure!\nB\nIt is used there.", "B"),
    ("It is not for sale.\nB. house", "B"),
    ("It is not for sale.\n\n**C) dark place**", "C"),
    ("A\nHmm, it is not for sale.\nB", "B"),
    ("A\nor\nC\nI do not know.", None),
    ("B. house, rather than A. antique shop.", "B"),
    ("A. antique shop: it sells things.\nThere is also the house.\nC. dark place: it hides things.", None),
    ("Let us see.\nA. antique shop: it sells things.", None),
    ("The house is a place to live.\nA. antique shop: it sells things.", None),
    ("B\n\nBecause it is not for sale.", "B"),
    ("B\nB\nB", "B"),
    ("It is not for sale.\n\nB", "B"),
    ("It is not for sale.\n(B)", "B"),
    ("D", None),
    ("X", None),
    ("2", None),
]

NOTHING = [
    ("", None),
    (" \n\t", None),
    ("?!", None),
    ("Answer:", None),
    ("Answer: ?", None),
    ("Answer: X", None),
    ("Answer: D", None),
    ("Answer: 2", None),
    ("Answer: [letter]", None),
    ("Answer: <letter>", None),
    ("Answer: None of the above", None),
    ('End with a last line "Answer: X", where X is the letter of your choice.', None),
    # Articles, pronouns, and letters that are part of a name.
    ("A solid choice is hard to make here.", None),
    ("A lantern gives light.", None),
    ("I think a dog", None),
    ("Vitamin C is good for you.", None),
    ("vitamin C", None),
    ("The answers A and C are no places.", None),
    # Echoes of the options.
    (ECHO, None),
    (ECHO.replace("\n", " "), None),
    (ECHO.replace(". ", ") "), None),
    (ECHO.replace(". ", ": "), None),
    (ECHO.replace(". ", " - "), None),
    (ECHO.lower().replace(". ", ") "), None),
    (ECHO.replace("\n", "\n\n"), None),
    (ECHO.replace("\n", ", "), None),
    ("- " + ECHO.replace("\n", "\n- "), None),
    ("\n".join(LANTERN), None),
    (", ".join(LANTERN), None),
    ("A\nB\nC", None),
    ("A B C", None),
    ("B, C", None),
    ("The options are A, B and C.", None),
    ("Which option is best? A, B, or C?", None),
    ("All of them.", None),
    ("Answer: I don't know", None),
    ("Answer: none of A, B, C", None),
    ("Reasoning: B\nAnswer:", None),
    (f"{ECHO}\nThe best one is B.", "B"),
    ("(A) antique shop (B) house (C) dark place", None),
    (f"{ECHO}\n\nI hope this helps!", None),
    (f"{ECHO}\nD. dark place", None),
    (f"Answer:\n{ECHO}", None),
    (f"Answer: {ECHO}", None),
    (f"Answer: {ECHO.replace(NEWLINE, ' ')}", None),
    ("Answer choices: A. antique shop B. house C. dark place", None),
    ("A. antique shop\nB. house", None),
    (f"{ECHO}\n" + "\n".join(f"{letter}. dark place" for letter in "DEFGH"), None),
    ("The poker dealer spread the flop of cards across the table, and the answer is X.", None),
    (f"{ECHO}\n\nB", "B"),
    (f"{ECHO}\n\nB. house", "B"),
    (f"{ECHO}\n\nThe answer is A. antique shop", "A"),
    (f"{ECHO}\n\nAnswer: C", "C"),
]

OTHER_OPTIONS = [
    ("Answer: Vitamin C", VITAMINS, "C"),
    ("Answer: Vitamin A", VITAMINS, "A"),
    ("The answer is vitamin D.", VITAMINS, "D"),
    ("Vitamin D deficiency causes rickets.", VITAMINS, None),
    ("Answer: C major", KEYS, "B"),
    ("Answer: A major", KEYS, "A"),
    ("Answer: C", KEYS, "C"),
    ("Answer: A", BLOOD, "A"),
    ("Answer: AB", BLOOD, "C"),
    ("Answer: 5", NUMBERS, "B"),
    ("Answer: -5", NUMBERS, "A"),
    ("Answer: 5.2", NUMBERS, "C"),
    ("Answer: 5, as it is whole.", NUMBERS, "B"),
    ("Answer: I", NINE, "I"),
    ("Answer: (i)", NINE, "I"),
    ("Answer: I think it is C", NINE, "C"),
    ("I would say C.", NINE, "C"),
    ("I think it is dark.", NINE, None),
    ("I", NINE, "I"),
    ("Answer: X", tuple(f"option number {i}" for i in range(26)), "X"),
    ("Answer: same", ("same", "same", "other"), None),
    ("Answer: in the pool", ("at the pool", "in the pool", "on land"), "B"),
    ("Answer: by the pool", ("at the pool", "in the pool", "on land"), None),
    ("Answer: dark", ("dark place", "dark", "place"), "B"),
    ("Answer: dark place, as it is", ("dark", "dark place", "place"), "B"),
    ("Answer: B", ("same", "same", "other"), "B"),
    ("Answer: B", None, "B"),
    ("Answer: house", None, None),
    ("B. house", None, "B"),
]

TABLE = [
    (text, LANTERN, expected)
    for rows in (DECLARED, NOTATIONS, TEXTS, SEVERAL, DENIED, PROSE, LONE, NOTHING)
    for text, expected in rows
] + OTHER_OPTIONS


@pytest.mark.parametrize(("text", "options", "expected"), TABLE, ids=[repr(row[0])[:60] for row in TABLE])
def test_reads_as_a_person_would(text, options, expected):
    letters = letters_for(len(options)) if options else ["A", "B", "C"]
    assert extract_choice(text, letters, options) == expected


# One sentence for each way of saying it: all of them say B.
SAY_B = """
Lösung: B | Reponse: B | Risposta: B | Antwoord: B | Svar: B | Cevap: B | Jawaban: B | Odpowiedź: B | Đáp án: B
Ответ: B | الجواب: B | उत्तर: B | 正解：B | 답: B | 答案为B | 정답은 B | 答案는 B | La risposta è B | Svaret: B
A resposta é B | Svar är B | Svar er B | La respuesta es B | La risposta corretta è B
La réponse correcte est B | Antwort ist die B | The correct choice is B | The right option is B
The best pick is B | The final selection is B | The true option is B | The most sensible solution is B
The only valid option is B | The logical choice is B | The likely choice is B | The suitable option is B
The appropriate option is B | The remaining option is B | My pick is B | My solution is B
The choice that fits is B | The option which fits is B | Choice: B | Option: B | Selection: B | Solution: B
Conclusion: B | Answer key: B | The answer option is B | The answer letter is B | The answer here is B
The answer for this is B | The answer which fits is B | The answer was B | The answer should be B
The answer must be B | The answer will be B | The answer has to be B | The answer would have to be B
Answer: C. Wait, B. | Answer: C. Sorry, B. | Answer: C. I mean B. | Answer: C. Make that B.
Answer: C. On second thought, B. | Answer: the choice B | Answer: the letter B | Answer: answer B
Answer: the correct one is (B) | Answer: best B | Answer: right, B | Answer: final B | Answer: most probably B
Answer: indeed B | Answer: clearly B | Answer: therefore B | Answer: thus B | Answer: so B | Answer: it's B
Answer: this is B | Answer: that is B | Answer: it would be B | Answer: it must be B | Answer: it should be B
Answer: it might be B | Answer: it may be B | Answer: just B | Answer: choose B | Answer: pick B
Answer: select B | Answer: I think B | Answer: I believe B | Answer: I guess B | Answer: I say B
Answer: I'd go with B | Answer: I'll go with B | Answer: I'm going with B | Answer: actually B | Answer: die B
Answer: der Buchstabe (B) | Réponse: la lettre B | Respuesta: la letra B | Respuesta: el B | Réponse: le B
Answer: never A but B | Answer: isn't A but B | Answer: neither A nor C but B | I chose B. | I picked B.
I select B. | I selected B. | So, B. | Thus B. | Hence B. | It's B. | That's B. | I would say B. | I believe B.
I guess B. | This leaves B. | It is B. | That is B. | This is B. | It must be B. | It should be B.
It has to be B. | I go with B. | I went with B. | I stick with B. | I opt for B. | I settle on B.
I lean toward B. | Therefore, the B. | B seems right. | B appears likely. | B makes sense. | B fits best.
B works best. | B looks suitable. | B must be appropriate. | B would be better. | B is reasonable. | B is valid.
B is true. | B is plausible. | B is accurate. | B is sensible. | B is the logical choice.
B is the best option. | So B, as it is used. | So B since it is used. | So B because it is used.
So B due to its use. | So B rather than C. | Answer: It's a house. | Answer: is a house
Answer: would be a house | Answer: at the house | Answer: on the house | Answer: to the house
Answer: house since it is | Answer: house as it is | Answer: house which is | Answer: house for sure
Answer: house due to it | Answer: house so | Answer: house - it is | $\\mathrm{B}$ | $\\mbox{B}$
Answer: $\\mathbf{B}$ | The false answer is A. The answer is B. | The worst answer is A. Answer: B
Another answer is A. Answer: B
"""
# And none of these says anything.
SAY_NOTHING = """
The false answer is A. | The incorrect answer is A. | A possible answer is A. | Another answer is A.
The worst answer is A. | It cannot be A. | It is never A. | It is neither A. | It is less than A.
Anything except A. | All without A. | We eliminate A. | Instead of (A). | The least of all is A.
B is less likely. | Whether A is right. | If A is right. | B isn't right. | B wasn't the best.
Answer: B isn't right. | Answer: B wasn't right. | Answer: B was wrong. | Answer: B is incorrect.
Answer: B is false. | Answer: B is unlikely. | Answer: B oder C | Réponse: B ou C | Antwort: B und C
Réponse: B et C | Risposta: B o C | Respuesta: B y C | Ответ: B и C | Ответ: B или C | Answer: B & C
"""


def sentences(table: str) -> list[str]:
    return [sentence.strip() for line in table.strip().split("\n") for sentence in line.split(" | ")]


@pytest.mark.parametrize("text", sentences(SAY_B))
def test_every_way_of_saying_it_is_read(text):
    assert read(text) == "B"


@pytest.mark.parametrize("text", sentences(SAY_NOTHING))
def test_ways_of_not_saying_it_are_not_read(text):
    assert read(text) is None


@pytest.mark.parametrize(
    "turn",
    [
        "Question: Next?",
        "Question 2: Next?",
        "**Question:** Next?",
        "Q: Next?",
        "User: Thanks.",
        "Human: Thanks.",
        "Instruction: Go on.",
        "Problem 3: Next?",
        "<|im_start|>user",
        "<|endoftext|>",
        "<end_of_turn>",
        "<start_of_turn>user",
    ],
)
def test_what_follows_a_new_turn_does_not_count(turn):
    assert read(f"Answer: B\n{turn}\nAnswer: C") == "B"
    assert read(f"{turn}\nAnswer: C") == "C"


LETTERS = st.sampled_from(["A", "B", "C"])
PIECES = st.sampled_from(
    [
        "Answer",
        ":",
        "answer is",
        "not",
        "B",
        "b",
        "(b)",
        "A",
        "a",
        "C",
        "X",
        "I",
        "or",
        "and",
        "no",
        "wait",
        "so",
        "isn't",
        "option",
        "house",
        "the",
        "dark place",
        "best",
        ".",
        ",",
        "\n",
        "\n\n",
        "**",
        "$",
        "\\boxed{",
        "}",
        "<answer>",
        "~~",
        "'",
        "</think>",
        "<|im_end|>",
        "答案",
        "：",
        "Antwort",
        "Question:",
        "A.",
        "B.",
        "C.",
        '"',
        "correct",
        "-",
        "because",
        "is",
    ]
)
quick = settings(deadline=None)


def read(text: str) -> str | None:
    return extract_choice(text, ["A", "B", "C"], LANTERN)


@given(st.text())
@quick
def test_any_text_is_read_without_an_error(text):
    assert read(text) in {None, "A", "B", "C"}


@given(st.lists(PIECES, max_size=40).map(" ".join))
@settings(max_examples=300, deadline=None)
def test_any_mix_of_telling_pieces_is_read_without_an_error(text):
    assert read(text) in {None, "A", "B", "C"}
    assert read(text) == read(text)


@given(st.text(), LETTERS)
@quick
def test_a_last_answer_line_decides(text, letter):
    # Text in which a new question begins is another matter: there the first answer counts.
    assume(not re.search(r"question|user|human|instruction|problem|q|<|answer", text, re.IGNORECASE))
    assert read(f"{text}\nAnswer: {letter}") == letter


@given(LETTERS, LETTERS, st.sampled_from(["", "**", "(", "$"]))
@quick
def test_letter_case_and_marks_do_not_matter(letter, other, mark):
    close = {"(": ")"}.get(mark, mark)
    for one in (letter, letter.lower()):
        assert read(f"Answer: {other}\nWait.\nAnswer: {mark}{one}{close}") == letter


@given(st.lists(st.text(alphabet="abcdefgh ", min_size=1, max_size=12), min_size=2, max_size=26))
@quick
def test_the_prompt_itself_holds_no_answer(options):
    assume(all(option.strip() for option in options))
    letters = letters_for(len(options))
    asked = prompt("Where is it?", options)
    assert extract_choice(asked, letters, options) is None
    assert extract_choice(f"{asked}\n\nAnswer: {letters[-1]}", letters, options) == letters[-1]


@given(st.integers(2, 26), st.data())
@quick
def test_every_letter_of_every_size_is_read(count, data):
    letters = letters_for(count)
    letter = data.draw(st.sampled_from(letters))
    assert extract_choice(demonstration("It fits.", letter), letters, ["same"] * count) == letter


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "A ",
        "B is ",
        "answer ",
        "answer: ",
        "answer (",
        "((((B",
        "\\boxed{",
        "<a",
        "~~",
        "\n",
        " ",
        "\t",
        "question ",
        "not ",
        "no, ",
        "most x ",
        "A. ",
        "A. x\n",
        "B or ",
        "B's",
        "[",
        "答案",
        "answer to a a a a a ",
        "i ",
        "<|im_end|>",
        '"',
        "</think>",
        "house or ",
        "option B ",
        "B is the very of ",
        "so B ",
        "it is ",
    ],
)
def test_time_is_in_proportion_to_length(piece):
    def seconds(length: int) -> float:
        text = (piece * length)[:length]
        start = time.process_time()
        read(text)
        return time.process_time() - start

    # Quadratic work would take 100 times as long for 10 times the text, and minutes for 100,000 characters.
    assert seconds(100_000) < 40 * seconds(10_000) + 0.5
