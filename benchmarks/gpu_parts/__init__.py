"""The parts of the check on a GPU, one file a part; gpu_check.py runs each in a process of its own."""

import importlib
from typing import Any

PARTS = {
    "placement": "Every tensor is where it should be",
    "recipes": "Three steps of every recipe are those of the CPU",
    "resume": "A killed run goes on as if it had not been",
    "memory": "Peak memory is what the plan says",
    "sampling": "Sampling speed, and reads by the host",
    "speed": "Step time, beside TRL's",
    "scale": "A model of 1.5 billion parameters takes a step",
}
"""What each part shows, in the order in which they run."""


def part(name: str) -> Any:
    """Return the module of a part; its ``run(report)`` fills a `Report`."""
    return importlib.import_module(f"gpu_parts.{name}")
