"""Folders as commands leave them, made up without a model."""

import json
import random
from dataclasses import asdict
from pathlib import Path

import yaml

from unisd.evaluation.answers import Evaluation, Item, share
from unisd.evaluation.statistics import paired_difference
from unisd.files import write_json, write_jsonl

HOSTILE = [
    "</script><script>document.title='taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "<!--<script>",
    "]]>&amp;&lt;b&gt;{{ 7 * 7 }}{% raw %}",
    "\ud800 half \x00 \x1b[31m \u202e turned \u2028 \ufffe",
    '=HYPERLINK("x")|`*_#$x^2$\\frac',
    "a" * 9000,
    "javascript:alert(1) 'single' \"double\"",
]
LETTERS = "ABC"


def answers(write, count=30, task="choices", **more) -> Evaluation:
    """Answers to ``count`` questions whose keys are A, B, C in turn; ``write`` gives what was read, or None."""
    items = []
    for i in range(count):
        key, read = LETTERS[i % 3], write(i)
        items.append(
            Item(
                id=f"q{i}", sample=0, prompt=f"What is thing {i}?\n\nA. red\nB. green\nC. blue", gold=key,
                output="I cannot say." if read is None else f"Surely.\nAnswer: {read}", parsed=read,
                correct=read == key, finished=True, ids=[i % 7, 3, 4], question=f"What is thing {i}?",
                demonstration=f"Thing {i} is.\nAnswer: {key}", **more,
            )
        )  # fmt: skip
    return Evaluation(task, "accuracy", items)


def call(name: str, **arguments) -> str:
    """A call, in the notation of tasks of tools."""
    return json.dumps([{"name": name, "arguments": arguments}])


def retention(drift: float) -> dict:
    text = {"jsd": drift / 4, "kl_adapted_base": drift, "kl_base_adapted": 1.2 * drift,
            "entropy_base": 1.5, "entropy_adapted": 1.5 - drift,
            "perplexity_base": 4.0, "perplexity_adapted": 3.0, "tokens": 900}  # fmt: skip
    shape = {"mean_tokens": 30.0, "finished": 1.0, "distinct_1": 0.2, "distinct_2": 0.5, "distinct_3": 0.7}
    return {
        "ppl_ret": 4.0 + drift,
        "on_adapted_text": text,
        "on_base_text": text,
        "drift": {"base": shape, "adapted": shape},
        "instructions": instructions(40, 30),
    }


def instructions(before: int, after: int) -> dict:
    def part(was: int, became: int, of: int) -> dict:
        change = asdict(paired_difference([i < was for i in range(of)], [i < became for i in range(of)]))
        return {"base": share(was, of), "adapted": share(became, of), "change": change,
                "gained": 0, "lost": was - became}  # fmt: skip

    return {"asked": 60, "prompts": 60, "all": part(before, after, 60), "kinds": {"bullets": part(3, 2, 7)}}


def metrics(steps: int, seed: int = 0) -> list[dict]:
    draw = random.Random(seed)
    return [
        {
            "step": step, "epoch": step / 30, "loss": 2.4 * 0.96**step + draw.uniform(0, 0.2),
            "grad_norm": 1 + draw.random(),
            "divergence/mean": 2 * 0.96**step, "divergence/p95": 5 * 0.97**step, "divergence/max": 9.0,
            "student/entropy": 1.5 - step / 90, "completions/mean_length": 30 + draw.uniform(-2, 2),
            "completions/unfinished": 0.1 * draw.random(), "completions/repetition": 0.0,
            "clip/rate": draw.uniform(0.05, 0.2),
            "clip/cap": 4.0, "agreement/weight_min": 0.3, "agreement/weight_mean": 0.8 + draw.uniform(-0.02, 0.02),
            "agreement/effective_sample_size": 0.9 + draw.uniform(0, 0.05), "ema/ema_to_student": 0.001 * step**0.5,
            "ema/ema_to_start": 0.0005 * step, "learning_rate": 1e-3, "time/sample": 1 + draw.random(),
            "time/learn": 2 + draw.random(), "memory/peak_bytes": 2.5e9, "mine/strange_thing": draw.random(),
        }
        for step in range(1, steps + 1)
    ]  # fmt: skip


CONFIG = {
    "recipe": "core", "description": "gold context, every token", "task": {"name": "choices", "source": None},
    "model": {"name": "smollm2-135m", "dtype": "float32"}, "lora": {"enabled": True, "r": 16, "alpha": 32},
    "training": {"max_steps": 40, "learning_rate": 1e-3, "lr_scheduler_type": "constant", "seed": 42,
                 "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1},
    "versions": {"unisd": "0.1.0", "torch": "2.13.0"},
}  # fmt: skip
MECHANISMS = [
    {"mechanism": "agreement (token)", "acts": True, "evidence": "weights 0.30 to 0.99", "remedy": "raise it"},
    {"mechanism": "contrast", "acts": False, "evidence": "no token", "remedy": "lower contrast.margin"},
]


def run_folder(folder: Path, steps: int = 40, count: int = 60) -> Path:
    """A run that was evaluated with its base, its drift measured; half of what is read becomes right."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    write_json(folder / "summary.json", {"steps": steps, "seconds": 61.0, "peak_memory_bytes": 2.5e9, "items": 240,
                                         "mechanisms": MECHANISMS})  # fmt: skip
    write_jsonl(folder / "metrics.jsonl", metrics(steps))
    write_jsonl(folder / "completions.jsonl", [
        {"step": step, "id": f"q{step}", "sample": 0, "prompt": "What?", "completion": f"Answer: {step}", "tokens": 5,
         "finished": True, "counted": True, "divergence": 0.5, "grade": float(step % 2)} for step in range(1, 9)
    ])  # fmt: skip
    name, asked = str(folder), {"samples": 1, "temperature": 0.0, "seed": 42, "max_new_tokens": 64, "split": "test"}
    base = answers(lambda i: "A" if i % 10 == 0 else None, count)
    after = answers(lambda i: LETTERS[i % 3] if i % 2 else "B", count)
    more = {"label": "choices", "asked": asked}
    base.write(folder / "evaluation" / "choices-base.json", more | {"model": f"{name} (base)"})
    after.write(folder / "evaluation" / "choices.json", more | {"model": name, "retention": retention(0.3)})
    return folder


def demo_folder(folder: Path, count: int = 100) -> Path:
    """What a demo of two methods may leave: calls of functions, chance 0; one gains much and drifts far."""
    run_folder(folder)
    for file in (folder / "evaluation").iterdir():
        file.unlink()
    functions = ("set_lamp", "play_song", "set_blind", "heat_room", "set_timer")
    draw = random.Random(1)
    keys = [call(functions[i % 5], room=draw.choice(["hall", "attic", "kitchen"]), level=i % 9) for i in range(count)]

    def made(right: float, read: float) -> Evaluation:
        found = []
        for i, key in enumerate(keys):
            spot = random.Random(f"{i}").random()
            parsed = key if spot < right else call(functions[(i + 1) % 5], room="hall") if spot < read else None
            output = "Sure! I will do that for you." if parsed is None else parsed[1:-1]
            found.append(
                Item(f"house-{i}", 0, f"Please do thing {i} in the hall, thank you.\n\nOne call as JSON.", key, output,
                     parsed, parsed == key, True, list(range(i % 5 + 5)))
            )  # fmt: skip
        return Evaluation("house", "accuracy", found)

    place = folder / "evaluation"
    made(0.0, 0.05).write(place / "house-before.json")
    made(0.62, 1.0).write(place / "house-self-distillation.json", {"retention": retention(0.3)})
    made(0.9, 1.0).write(place / "house-sft.json", {"retention": retention(1.3)})
    made(0.0, 0.1).write(place / "house-headroom-student.json")
    made(0.1, 0.8).write(place / "house-headroom-student-shown-the-form.json")
    made(0.8, 0.9).write(place / "house-headroom-teacher-turn.json")
    write_json(
        place / "summary.json", {"verdict": ["0 of 100 right before, 64 after.", "Collapse: no."], "seconds": 250.0}
    )
    return folder


def hostile_folder(folder: Path) -> Path:
    """A run whose questions, keys, answers, names, settings and metrics are what an attacker would write."""
    run_folder(folder, steps=3)
    texts = HOSTILE

    def made(shift: int) -> Evaluation:
        found = [
            Item(f"{texts[i % 8][:50]}{i}", 0, texts[i % 8], texts[(i // 3) % 8], texts[(i + shift) % 8],
                 texts[(i + shift) % 8], i % 3 == shift, False, [1, 2], {texts[1]: 0.5}, texts[2], texts[3], texts[0],
                 texts[5], {})
            for i in range(24)
        ]  # fmt: skip
        return Evaluation("choices", "accuracy", found)

    for shift, stem in ((0, "choices-base"), (1, "choices")):
        path = folder / "evaluation" / f"{stem}.json"
        evaluation = made(shift)
        rows = [vars(item) for item in evaluation.items]
        path.with_suffix(".jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )  # half surrogates, escaped
        more = {
            "model": f"{texts[0]}{' (base)' if shift == 0 else ''}",
            "label": texts[1],
            "asked": {"source": texts[4]},
        }
        path.write_text(json.dumps(evaluation.summary() | more))
    config = CONFIG | {"recipe": texts[0], "description": texts[2], texts[1]: {texts[0]: texts[3]}}
    (folder / "config.yaml").write_text(json.dumps(config))
    summary = {
        "steps": 3,
        "mechanisms": [{"mechanism": texts[0], "acts": False, "evidence": texts[1], "remedy": texts[2]}],
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    rows = [
        {"step": step, "loss": 1.0 / step, texts[1]: step * 1.0, f"{texts[0]}/x": step * 2.0} for step in range(1, 4)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [
        {"step": 1, "id": texts[0], "prompt": texts[i], "completion": texts[-1 - i], "tokens": 3} for i in range(8)
    ]
    (folder / "completions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
