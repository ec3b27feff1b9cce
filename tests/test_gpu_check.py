"""The check on a GPU, without one: what its parts judge, the page, how a part ends, and the exit code."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import gpu_check
from gpu_parts import PARTS, memory, placement, recipes, resume, sampling, setup, speed
from gpu_parts.page import page, read
from gpu_parts.report import FAILED, PASSED, SKIPPED, Report


def report(device="cpu", folder=None):
    return Report("recipes", device, folder, machine=False)


def failed(found):
    return [check["name"] for check in found.checks if not check["ok"]]


# -- a part's findings -------------------------------------------------------------------------------------------------


def test_a_part_passes_that_ended_and_whose_checks_hold(tmp_path):
    found = report(folder=tmp_path)
    found.finish()
    assert found.state == FAILED  # nothing was checked
    found.check("a", True)
    assert found.state == PASSED
    with found.checking("b"):
        raise ValueError("two\nlines")
    assert found.state == FAILED
    assert found.checks[-1] == {"name": "b", "ok": False, "detail": "ValueError: two lines"}
    assert read(tmp_path)["recipes"]["checks"] == found.checks  # kept as it went
    other = report()
    other.check("a", True)
    assert other.state == FAILED  # it did not come to its end
    other.skip("why")
    assert other.state == SKIPPED


def test_the_page_shows_the_machine_failures_and_figures():
    red, white, green = report("cuda"), Report("scale", "cpu", machine=False), Report("resume", "cuda", machine=False)
    red.machine = {"device": "Card X", "memory_gib": 80.0, "cuda": "13.0", "versions": {"torch": "2.11.0"}}
    red.check("core, bf16", False, "worst 0.9 | limit 0.5")
    for number in range(20):
        red.check(f"good {number}", True)
    red.figure("step", 1234.5, "s")
    red.finish()
    white.skip("too large")
    green.check("LoRA", True, "to the bit")
    green.finish()
    made = page({"recipes": red.plain(), "resume": green.plain(), "scale": white.plain()})
    assert f"| recipes | {PARTS['recipes']} | 🔴 failed | 20 of 21 | 0 | 20" in made
    assert f"| resume | {PARTS['resume']} | 🟢 passed | 1 of 1 |" in made
    assert f"| scale | {PARTS['scale']} | ⚪ skipped | 0 of 0 |" in made
    assert "* 🔴 **core, bf16**: worst 0.9 \\| limit 0.5\n* 🟢 20 checks hold\n" in made
    assert "| step | 1,234.5 s |" in made
    assert "recipes: Card X, 80.0 GiB, CUDA 13.0; torch 2.11.0." in made
    assert "Not run: placement, memory, sampling, speed." in made
    assert "too large." in made


# -- processes and exit codes ------------------------------------------------------------------------------------------


def ending(monkeypatch, tmp_path, run):
    monkeypatch.setattr(subprocess, "run", run)
    state = gpu_check.run_part("recipes", "cpu", tmp_path, limit=5)
    return state, read(tmp_path)["recipes"]["checks"], (tmp_path / gpu_check.PAGE).read_text(encoding="utf-8")


def test_a_part_that_dies_or_hangs_has_failed_and_keeps_what_it_found(monkeypatch, tmp_path):
    def dies(command, **how):
        report(folder=tmp_path).check("before", True)
        return SimpleNamespace(returncode=-9)

    state, checks, made = ending(monkeypatch, tmp_path, dies)
    assert (state, [check["name"] for check in checks]) == (FAILED, ["before", "the part came to its end"])
    assert "its process ended with code -9" in made

    def hangs(command, timeout, **how):
        raise subprocess.TimeoutExpired(command, timeout)

    state, checks, made = ending(monkeypatch, tmp_path, hangs)
    assert (state, [check["name"] for check in checks]) == (FAILED, ["the part came to its end"])
    assert "it took longer than 5 s" in made


def test_a_part_that_passes(monkeypatch, tmp_path):
    def passes(command, env, **how):
        assert command[1:4] == [str(gpu_check.HERE / "gpu_check.py"), "--inside", "recipes"]
        assert env["CUDA_VISIBLE_DEVICES"] == ""
        found = report(folder=tmp_path)
        found.check("all", True)
        found.finish()
        return SimpleNamespace(returncode=0)

    state, _, made = ending(monkeypatch, tmp_path, passes)
    assert state == PASSED
    assert "🟢 passed" in made


@pytest.mark.parametrize(
    ("states", "code"), [([PASSED, SKIPPED], 0), ([PASSED, FAILED], 1), ([FAILED, PASSED], 1), ([SKIPPED, SKIPPED], 0)]
)
def test_the_exit_code_says_whether_a_part_failed(monkeypatch, tmp_path, states, code):
    left = iter(states)
    monkeypatch.setattr(gpu_check, "run_part", lambda *given: next(left))
    asked = ["--device", "cpu", "--only", "recipes", "--only", "resume", "--output", str(tmp_path)]
    assert gpu_check.main(asked) == code
    assert next(left, None) is None


def test_where_it_cannot_run_it_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu_check, "_accelerator", lambda: None)
    assert gpu_check.main(["--device", "cuda"]) == 2
    assert "--device cuda: there is none here" in capsys.readouterr().out
    monkeypatch.setattr(gpu_check, "NEEDED", ("torch", "no_such_package"))
    assert gpu_check.main(["--device", "cpu", "--wheels", str(tmp_path)]) == 2
    assert capsys.readouterr().out.startswith("no_such_package: not installed, and not in ")


def test_wheels_stand_in_for_packages_that_are_missing(tmp_path):
    for name in ("pydantic", "carried_package"):
        with zipfile.ZipFile(tmp_path / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "")
    with gpu_check.carried(tmp_path) as (folder,):
        assert [path.name for path in folder.iterdir()] == ["carried_package"]
        assert gpu_check._found("carried_package", [folder])
        assert str(folder) in gpu_check.environment("speed", "cuda", [folder])["PYTHONPATH"]
    assert not folder.exists()
    with gpu_check.carried(tmp_path / "none") as folders:
        assert folders == []


def test_a_part_sees_one_gpu_and_has_deterministic_kernels_where_it_compares(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert gpu_check.environment("resume", "cuda", [])["CUDA_VISIBLE_DEVICES"] == "3"
    assert gpu_check.environment("resume", "cuda", [])["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


# -- what parts work on ------------------------------------------------------------------------------------------------


def test_the_tokenizer_is_that_of_the_tests_and_shapes_have_their_public_sizes():
    chat = [{"role": "user", "content": "Añd?"}]
    render = {"tokenize": False, "add_generation_prompt": True}
    text = tiny.tokenizer().apply_chat_template(chat, **render)
    assert setup.tokenizer().apply_chat_template(chat, **render) == text
    assert setup.tokenizer()(text)["input_ids"] == tiny.tokenizer()(text)["input_ids"]
    for shape, count in (("Qwen2.5-0.5B", 494_032_768), ("Qwen2.5-1.5B", 1_543_714_304)):
        with torch.device("meta"):
            made = AutoModelForCausalLM.from_config(setup.config(shape))
        assert made.num_parameters() == count


def test_every_part_is_there():
    for name in PARTS:
        spec = importlib.util.find_spec(f"gpu_parts.{name}")
        assert spec is not None, name


# -- parts -------------------------------------------------------------------------------------------------------------


def test_steps_are_compared_with_the_cpus_on_the_same_completions(monkeypatch):
    monkeypatch.setattr(recipes, "STEPS", 1)
    kept = {}
    first = recipes.three_steps("core", "cpu", torch.float32, kept, record=True)
    assert len(kept) == 4
    again = recipes.three_steps("core", "cpu", torch.float32, dict(kept), record=False)
    assert set(recipes.differences(again, first).values()) == {0.0}
    kept[next(iter(kept))].ids[:] = [5, 6, 7]  # a device that wrote something else
    assert (
        recipes.differences(recipes.three_steps("core", "cpu", torch.float32, kept, record=False), first)["moved"] > 0
    )


def test_differences_are_relative():
    reference = {"loss": [2.0], "norm": [4.0], "moved": torch.tensor([3.0, 4.0])}
    found = {"loss": [2.5], "norm": [3.0], "moved": torch.tensor([3.0, 4.5])}
    assert recipes.differences(found, reference) == pytest.approx({"loss 1": 0.25, "norm 1": 0.25, "moved": 0.1})


def test_a_difference_beyond_a_limit_or_no_number_fails(monkeypatch):
    monkeypatch.setattr(recipes, "DTYPES", {"bf16": (torch.bfloat16, {"worst": 0.5, "median": 0.05})})
    found = report()
    recipes.judge(found, "near", "bf16", {"a": 0.01, "b": 0.02})
    recipes.judge(found, "far", "bf16", {"a": 0.6, "b": 0.0})
    recipes.judge(found, "none", "bf16", {"a": float("nan"), "b": 0.0})
    recipes.judge_all(found, "bf16", [0.01, 0.02, 0.9])
    assert failed(found) == ["far, bf16", "none, bf16"]
    found = report()
    recipes.judge_all(found, "bf16", [0.1, 0.1, 0.0])
    assert failed(found) == ["median of all, bf16"]


def test_placement_of_a_step():
    found = report()
    placement.one_step(found, "ema", False, torch.float32)
    assert failed(found) == []
    other = report("meta")  # a device on which nothing was
    other_run = SimpleNamespace(
        model=torch.nn.Linear(2, 2), optimizer=None, mechanisms=[SimpleNamespace(shadow=torch.zeros(2))]
    )
    assert placement.misplaced(other_run, other.device) == [".parameter.weight", ".parameter.bias"]


def test_what_a_mechanism_keeps_elsewhere_is_found():
    from unisd.mechanisms.teacher import AverageTeacher

    average = AverageTeacher(torch.nn.Linear(2, 2), 0.9, 1)
    average._shadow["weight"] = average._shadow["weight"].to("meta")
    run = SimpleNamespace(model=torch.nn.Linear(2, 2), optimizer=None, mechanisms=[average])
    assert placement.misplaced(run, "cpu") == [".mechanisms._shadow.weight"]


def test_where_modules_run_is_seen():
    with placement.watched() as seen:
        torch.nn.Linear(2, 2)(torch.zeros(1, 2))
        torch.nn.Linear(2, 2, device="meta")(torch.zeros(1, 2, device="meta"))
    assert placement.elsewhere(seen, "meta") == "Linear on cpu"
    assert placement.elsewhere({"cpu": "Linear"}, "cpu") == ""
    assert placement.elsewhere({}, "cpu") == "no module ran"


def test_a_command_that_fails_or_runs_elsewhere_is_red():
    found = report("meta")
    placement.command(found, "fails", ["audit"], main=lambda given: 1)
    placement.command(found, "elsewhere", ["audit"], main=lambda given: int(torch.nn.Linear(1, 1)(torch.ones(1)) * 0))
    assert [check["detail"] for check in found.checks] == ["exit code 1; its message stands above", "Linear on cpu"]
    assert failed(found) == ["fails", "elsewhere"]


@pytest.mark.parametrize(
    ("found", "again", "good"),
    [
        (1.0, None, True),  # to the bit: no further run
        (1.00005, 1.0001, True),  # kernels are not deterministic, and it is as near as the limit
        (1.00005, 1.0, False),  # they are
        (1.01, 1.01, False),  # too far
    ],
)
def test_a_resumed_run_is_compared_with_a_whole_one(found, again, good):
    noted, asked = report(), []
    whole, start = torch.ones(4), torch.zeros(4)
    resume.compare(noted, "case", whole * found, whole, start, lambda: asked.append(1) or whole * again)
    assert noted.checks[0]["ok"] is good
    assert len(asked) == (again is not None)


def test_memory_is_judged_by_the_plan():
    found = report("cuda")
    memory.judge(found, "near", 110, 100)
    memory.judge(found, "above", 120, 100)
    memory.judge(found, "below", 80, 100)
    assert failed(found) == ["above", "below"]
    skipped = Report("memory", "cpu", machine=False)
    memory.run(skipped)
    assert skipped.state == SKIPPED


def test_host_reads_are_counted_and_judged():
    with sampling.host_reads("cpu") as count:
        torch.ones(1).item()
        float(torch.ones(1) * 2)
    assert count() == 2
    found = report("cuda")
    most = 16 + sampling.OPENING
    for name, reads in {
        "good": (most, 0, 0),
        "sample": (most + 1, 0, 0),
        "score": (1, 1, 0),
        "learn": (1, 0, 1),
    }.items():
        sampling.judge(found, name, dict(zip(("sample", "score", "learn"), reads, strict=True)), 16)
    assert failed(found) == ["host reads, sample", "host reads, score", "host reads, learn"]


def test_step_times_leave_warm_steps_out(monkeypatch):
    clock = iter([0.0, 10.0, 11.0, 13.0])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))

    class Fake:
        def get_batch_samples(self):
            return []

        def train(self):
            for _ in range(4):
                self.get_batch_samples()

    size = speed.Size("tiny", torch.float32, 1, 1, 1, 1, warm=1, steps=2)
    assert speed.step_seconds(lambda folder: Fake(), size, "cpu") == ([1.0, 2.0], [])


def test_the_part_itself_keeps_its_result(tmp_path):
    assert gpu_check.main(["--inside", "scale", "--device", "cpu", "--output", str(tmp_path)]) == 0
    kept = json.loads((tmp_path / "scale.json").read_text(encoding="utf-8"))
    assert (kept["state"], kept["device"]) == (SKIPPED, "cpu")
    assert kept["machine"]["versions"]["torch"] == torch.__version__
