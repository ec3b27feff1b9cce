import json

import pytest

import tiny
from unisd.cli.main import main


@pytest.fixture
def demo(tmp_path, tokenizer, capsys):
    tiny.model().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    changes = {
        "model.name": tmp_path / "model", "training.max_steps": 2, "training.per_device_train_batch_size": 2,
        "training.use_cpu": "true", "task.limit": 8, "rollout.max_completion_length": 8, "lora.r": 2,
        "contexts.max_prompt_length": 1900, "contrast.weight": 0,
    }  # fmt: skip
    words = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    code = main(["demo", "--output", str(tmp_path / "run"), "--items", "4", "--headroom-items", "3", "--json", *words])
    return code, tmp_path / "run", json.loads(capsys.readouterr().out)["result"]


def test_measures_trains_and_measures_again(demo):
    code, folder, found = demo
    assert code == 0
    assert len(found["evaluations"]) == 4
    assert found["evaluations"]["held-out questions: before"]["n"] == 4
    assert {"agreement (token)", "ema teacher", "features", "clipping"} == {m["mechanism"] for m in found["mechanisms"]}
    assert found["chance"] == pytest.approx(1 / 3)
    assert any("format" in line.lower() for line in found["verdict"])
    for part in ("before", "after", "headroom-student", "headroom-turn"):
        assert (folder / f"evaluation/cos_e-{part}.jsonl").is_file()


def test_page_is_one_self_contained_file(demo):
    _, folder, _ = demo
    text = (folder / "report.html").read_text()
    assert "<svg" in text
    assert "before" in text
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
