"""A tiny model on disk, and a small study of it."""

import copy

import pytest

import tiny
from unisd.studies.settings import Study

SMALL = {
    "name": "small",
    "tasks": {"cos_e": {"source": "sample", "items": 8, "validation": 4, "test": 6}},
    "seeds": [0, 1],
    "designs": ["one-at-a-time"],
    "settings": {
        "training": {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 0.01},
        "lora": {"r": 2},
        "contexts": {"max_prompt_length": 1500},
        "rollout": {"max_completion_length": 8},
    },
    "evaluate": {"at": [1], "max_new_tokens": 4},
}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, tokenizer):
    """A tiny random model; nobody writes into it."""
    folder = tmp_path_factory.mktemp("studies") / "model"
    tiny.model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def small(tiny_folder):
    """Values of a study, changed by keywords; None leaves a key out."""

    def make(**changes):
        values = {**copy.deepcopy(SMALL), "models": [tiny_folder], **changes}
        return Study({name: value for name, value in values.items() if value is not None}, "small.yaml")

    return make
