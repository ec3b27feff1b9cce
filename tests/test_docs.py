"""The pages: generated ones are fresh, links and anchors lead somewhere, and every code block is what it says.

Commands of `unisd` are read by its real parser, settings in them are assembled, make's targets and files must exist;
Python compiles, and runs where `<!-- run -->` stands above it; YAML is a run file, a part of one, a task, or a study.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from unisd.cli.main import parser
from unisd.errors import UsageError
from unisd.studies.arms import study_arms
from unisd.studies.settings import Study, read_study
from unisd.tasks.custom import load_custom
from unisd.training.runfile import all_groups, assemble

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
COMMANDS = r"(?:\.venv/bin/)?unisd|(?:\.venv/bin/)?torchrun|(?:\.venv/bin/)?python3?|make|pip|docker"
OTHERS = ("hf", "lm_eval", "pre-commit", ".", "cd", "git", "export", "source")
"""What a page may call besides, which no parser here knows."""
VALUES = {"MODEL": "smollm2-135m", "HUB_ID": "owner/name", "RUN": "runs/first", "FOLDER": "data", "…": "x"}


@dataclass(frozen=True)
class Block:
    """A block of code on a page."""

    page: Path
    line: int
    language: str
    """As the page says; empty for an indented block."""
    text: str
    marked: bool
    """Whether the page asks for it to be run."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page, fenced and indented."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found, at = [], 0
    while at < len(lines):
        line, before = lines[at], lines[at - 1].strip() if at else ""
        if fence := re.match(r"(\s*)(```+|~~~+)\s*(\S*)", line):
            end = next(n for n in range(at + 1, len(lines)) if lines[n].strip() == fence[2])
            text = "\n".join(inner.removeprefix(fence[1]) for inner in lines[at + 1 : end])
            found.append(Block(page, at + 1, fence[3], text, before == "<!-- run -->"))
            at = end
        elif line.startswith("    ") and not before and not re.match(r"\s*(?:[*-]|\d+\.) ", _paragraph(lines, at)):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            found.append(Block(page, at + 1, "", "\n".join(inner[4:] for inner in lines[at:end]).rstrip(), False))
            at = end - 1
        at += 1
    return found


def _paragraph(lines: list[str], at: int) -> str:
    """Return the first line above that is not indented: an indented block below an item of a list belongs to it."""
    return next((lines[n] for n in range(at - 1, -1, -1) if lines[n].strip() and not lines[n].startswith(" ")), "")


BLOCKS = [block for page in PAGES for block in blocks(page)]


def commands(block: Block) -> list[str]:
    """Return the commands of a block of shell lines, continued lines joined, without comments."""
    joined = re.sub(r"\\\n\s*", " ", block.text).splitlines()
    return [re.sub(r"\s+# .*$", "", line).strip() for line in joined if line.strip() and not line.startswith("#")]


def is_shell(block: Block) -> bool:
    starts = [line for line in block.text.splitlines() if re.match(rf"(?:{COMMANDS})\b", line)]
    return block.language in ("bash", "sh", "shell", "console") or (not block.language and bool(starts))


def spans() -> list[Block]:
    """Return the commands in running text: `unisd …` between single backquotes, where nothing is left out."""
    found = []
    for page in PAGES:
        text = re.sub(r"^(```|~~~).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for span in re.findall(r"(?<!`)`((?:unisd|make) [^`]+)`(?!`)", text):
            one = " ".join(span.split())
            if not re.search(r"…|<|\.\.\.|NAME|COMMAND|\bX\b", one):
                found.append(Block(page, 0, "bash", one, False))
    return found


def check_unisd(words: list[str], whole: bool) -> None:
    """Parse the words after `unisd` as the command line does, and assemble the settings that they name."""
    words = [VALUES.get(word, word) for word in words]
    if words == [] or words[0].startswith("--"):
        assert words in ([], ["--version"], ["--help"]), words
        return
    if words[-1] in ("--help", "-h"):
        words = words[:-1]
        assert words[0] in parser()._subparsers._group_actions[0].choices, words
        return
    try:
        chosen = parser().parse_args(words)
    except UsageError as error:
        # In a sentence a command may stand without all that it needs; whatever else is wrong is wrong.
        if whole or "arguments are required" not in str(error):
            raise
        return
    if hasattr(chosen, "set"):
        file = getattr(chosen, "file", None)
        if file is not None and not (ROOT / file).is_file():
            file = None  # my_run.yaml: a reader's own
        recipe = getattr(chosen, "recipe", None) or ("core" if file is None else None)
        assemble(recipe, ROOT / file if file else None, chosen.set)
    if words[0] == "study" and (ROOT / chosen.file).is_file():
        study_arms(read_study(ROOT / chosen.file))
    for task in [getattr(chosen, "task", None) or []]:
        for name in [task] if isinstance(task, str) else task:
            if name.startswith("examples/"):
                load_custom(ROOT / name)


def check_command(line: str, whole: bool = True) -> None:
    """Check one line of shell.

    Raises:
        AssertionError: it names something that is not there.
    """
    words = shlex.split(line.replace("[--", "--").replace("]", ""))
    words = words[: next((n for n, word in enumerate(words) if word in (">", ">>", "|", "&&", "2>")), len(words))]
    while words and re.match(r"[A-Z_]+=", words[0]):  # variables before a command
        words = words[1:]
    if words[:1] in (["|"], []):
        return
    program = words[0].removeprefix(".venv/bin/")
    if program == "unisd":
        check_unisd(words[1:], whole)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert [w for w in words[1:] if "=" not in w and not w.startswith("-") and w not in targets] == [], line
    elif program in ("python", "python3", "torchrun"):
        rest = [word for word in words[1:] if not word.startswith("--nproc") and not word.startswith("--nnodes")]
        if rest[:2] == ["-m", "unisd.cli.main"]:
            check_unisd(rest[2:], whole)
        elif rest[0] not in ("-m", "-c"):
            assert (ROOT / rest[0]).is_file() or rest[0].startswith("your_"), line
            if rest[0] == "examples/free_text/task.py":
                check_unisd(rest[1:], whole)
    elif program == "pip":
        for extra in re.findall(r"unisd\[([\w,]+)\]", line):
            assert [name for name in extra.split(",") if name not in EXTRAS] == [], line
    elif program == "docker":
        if "unisd" in words and words[1] == "run":
            check_unisd(words[words.index("unisd") + 1 :], whole)
    else:
        assert program in OTHERS or words[0] in OTHERS, f"no test knows this command: {line}"


# -- what is generated ------------------------------------------------------------------------------------------------


def test_settings_page_is_up_to_date():
    page = runpy.run_path(str(ROOT / "docs/make_settings.py"))["settings_page"]()
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == page
    assert page.count("\n| `") > 40


def test_compatibility_page_is_up_to_date():
    page = runpy.run_path(str(ROOT / "docs/make_compatibility.py"))["compatibility_page"]()
    assert (ROOT / "docs/compatibility.md").read_text(encoding="utf-8") == page


# -- links ------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as sites make them of their words."""
    text = re.sub(r"^(```|~~~).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        plain = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).lower()
        found.add(re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", plain).strip()))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^(```|~~~).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", text):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{page.name}: {target}#{anchor}"


def test_every_page_stands_in_the_sites_navigation():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = set(re.findall(r"[\w/.-]+\.md", str(site["nav"])))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert named == pages


# -- blocks of code ---------------------------------------------------------------------------------------------------


def test_the_blocks_of_a_page_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "a\n\n    unisd doctor\n    make test\n\n* item\n\n    none\n\nb\n\n<!-- run -->\n```python\n1\n```\n"
    )
    found = blocks(page)
    assert [(block.language, block.text, block.marked) for block in found] == [
        ("", "unisd doctor\nmake test", False),
        ("python", "1", True),
    ]
    assert [is_shell(block) for block in found] == [True, False]
    assert len(BLOCKS) > 50


@pytest.mark.parametrize("block", [block for block in BLOCKS if is_shell(block)], ids=str)
def test_commands_are_what_the_command_line_takes(block):
    for line in commands(block):
        check_command(line)


def test_commands_in_sentences_are_what_the_command_line_takes():
    found = spans()
    for span in found:
        check_command(span.text, whole=False)
    assert len(found) > 30


@pytest.mark.parametrize(
    "line",
    [
        "unisd evaluate runs/a --taks cos_e",
        "unisd trian --recipe core",
        "unisd train --recipe cor --output x",
        "unisd train --recipe core --set teacher.kin=ema --output x",
        "unisd train --recipe core --set teacher.kind=emma --output x",
        "python -m unisd.cli.main train --recipe core --outptu x",
        "make tset",
        "python examples/no_such.py",
        "pip install 'unisd[vllm]'",
        "docker run --rm unisd demoo",
        "rmdir x",
    ],
)
def test_the_check_sees_what_is_wrong(line):
    with pytest.raises((AssertionError, UsageError)):
        check_command(line)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_python_compiles_and_runs_where_it_is_marked(block, tmp_path):
    compile(block.text, str(block), "exec")
    if block.marked:
        environment = os.environ | {"UNISD_CACHE": str(tmp_path)}
        subprocess.run([sys.executable, "-c", block.text], cwd=ROOT, env=environment, check=True, capture_output=True)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in ("yaml", "yml")], ids=str)
def test_yaml_is_a_task_a_study_or_settings(block, tmp_path):
    values = yaml.safe_load(block.text)
    file = tmp_path / "block.yaml"
    file.write_text(block.text, encoding="utf-8")
    if "answer" in values and "prompt" in values:
        load_custom(file)
    elif set(values) & {"tasks", "designs", "arms", "select"}:
        study_arms(Study({"tasks": {"cos_e": {"validation": 5}}, "designs": ["one-at-a-time"]} | values))
    elif set(values) & {*all_groups(), "recipe"}:
        assemble("core" if "recipe" not in values else None, file)
    elif set(values) <= {"data", "prompt", "answer", "system", "on_error", "rationale", "demonstration", "id", "name"}:
        whole = {"name": "x", "data": {"train": "a.jsonl"}, "prompt": "{q}", "answer": {"type": "exact", "column": "a"}}
        file.write_text(yaml.safe_dump(whole | values), encoding="utf-8")
        load_custom(file)
    else:
        assert set(values) <= {"base", "description", *all_groups()}, f"{block}: neither a task, a study nor settings"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in ("toml", "json")], ids=str)
def test_toml_and_json_can_be_read(block):
    (tomllib.loads if block.language == "toml" else yaml.safe_load)(block.text)


def test_every_language_is_known():
    known = {"", "python", "yaml", "toml", "json", "bash", "text", "bibtex"}
    assert sorted({f"{block}: {block.language}" for block in BLOCKS if block.language not in known}) == []


def test_public_names():
    import unisd

    assert unisd.UniSDTrainer.__name__ == "UniSDTrainer"
    assert unisd.UniSDConfig.__name__ == "UniSDConfig"
