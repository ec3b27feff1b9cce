"""A study's folder with random results: what analysis and report read, without any training."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np

PARTS = ["clipping", "teacher", "agreement", "contrast", "features"]
METRICS = [
    "loss",
    "divergence/mean",
    "divergence/p95",
    "student/entropy",
    "completions/mean_length",
    "completions/unfinished",
    "grad_norm",
    "clip/rate",
    "agreement/weight_mean",
    "time/step",
    "time/sample",
    "time/score",
    "time/learn",
    "completions/tokens",
    "memory/peak_bytes",
]


def answers(rng, item, shift, spread=0.7):
    """Right or wrong for every item: hard items are hard for all."""
    return item + rng.normal(0, spread, len(item)) + shift > 0.8


def write(
    folder: Path,
    arms=14,
    seeds=3,
    items=300,
    steps=(10, 20, 40),
    tasks=("house",),
    effects=None,
    of_seeds=0.05,
    pairs=False,
):
    """Write ``arms`` × ``seeds`` × ``tasks`` runs; ``effects``: what a component adds to the latent score."""
    rng = np.random.default_rng(0)
    named = [("core", []), *((f"core+{p}", [p]) for p in PARTS)]
    named += [(f"unisd-{p}", [q for q in PARTS if q != p]) for p in PARTS]
    named = [*named, ("unisd", PARTS), ("sft", None)]
    if pairs:
        named += [(f"core+{p}+{q}", [p, q]) for p, q in combinations(PARTS, 2)]
        arms = len(named)
    named += [(f"arm {number}", None) for number in range(len(named), arms)]
    index = []

    def put(key, result, **entry):
        place = folder / "jobs" / key
        place.mkdir(parents=True, exist_ok=True)
        (place / "result.json").write_text(json.dumps(result))
        index.append({"phase": "runs", "part": "test", "value": None, "model": "tiny", "key": key, **entry})

    for task in tasks:
        item = rng.normal(0, 1, items)
        gold = [f"answer {i % 5}" for i in range(items)]
        about = {"ids": [f"i{i}" for i in range(items)], "gold": gold, "groups": [""] * items, "chance": [0.2] * items}

        def point(step, right, drift, about=about, gold=gold):
            read = [g if r else "other" if rng.random() < 0.7 else None for g, r in zip(gold, right, strict=True)]
            kept = (
                None
                if drift is None
                else {"on_base_text": {"kl_base_adapted": drift, "entropy_adapted": 1 - drift / 3}}
            )
            right = [int(r) for r in right]
            return {
                "step": step,
                **about,
                "correct": right,
                "parsed": read,
                "mean_tokens": 20.0,
                "finished": 1.0,
                "retention": kept,
            }

        first = {"points": [point(0, item > 1.0, None)], "seconds": 10.0}
        put(f"base-{task}", first, arm="base", task=task, seed=-1, components=None)
        for number, (name, parts) in enumerate(named[:arms]):
            for seed in range(seeds):
                shift = rng.normal(0, of_seeds) + sum((effects or {}).get(part, 0.0) for part in parts or [])
                rate = 4.0 if name == "sft" else 1.0
                points = []
                for k, step in enumerate(steps, start=1):
                    drift = 0.1 * k * rate + 0.01 * rng.random()
                    points.append(point(step, answers(rng, item, shift + 0.3 * k), drift))
                telemetry = {metric: [float(f"{v:.5g}") for v in rng.random(steps[-1])] for metric in METRICS}
                acting = [{"mechanism": part, "acts": True, "evidence": "weights 0.3 to 1.0"} for part in parts or []]
                result = {"points": points, "seconds": 100.0, "acting": acting, "telemetry": telemetry, "run": {}}
                put(f"{task}-{number}-{seed}", result, arm=name, task=task, seed=seed, components=parts)
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "study.yaml").write_text("name: made-up\nreference: [base, sft, core]\ncontrol: core\nfull: unisd\n")
    return folder
