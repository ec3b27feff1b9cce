"""What strangers join by: one version, pages whose links and names hold, the same tests here and in the workflow."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import unisd
from unisd.cli.main import main
from unisd.training.card import PAPER, SOFTWARE

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
PAGES += sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def targets() -> dict[str, str]:
    """The commands of every target of the Makefile."""
    found = re.findall(r"^([\w-]+):[^=\n]*\n((?:\t.*\n)*)", text("Makefile"), flags=re.MULTILINE)
    return dict(found)


def test_the_version_stands_in_one_place(capsys):
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PROJECT["project"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "unisd.__version__"}
    defined = [path for path in (ROOT / "src").rglob("*.py") if "__version__ =" in path.read_text(encoding="utf-8")]
    assert defined == [ROOT / "src/unisd/__init__.py"]
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"unisd {unisd.__version__}\n"


def test_the_version_can_be_read_without_the_package():
    """The build reads a plain literal from the source; and importing the package loads no heavy library."""
    body = ast.parse(text("src/unisd/__init__.py")).body
    named = {node.targets[0].id: node.value for node in body if isinstance(node, ast.Assign)}
    assert ast.literal_eval(named["__version__"]) == unisd.__version__
    code = "import sys, unisd; print(unisd.__version__, {'torch', 'transformers', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{unisd.__version__} set()"


def test_citation_names_this_version_and_the_paper():
    cited = yaml.safe_load(text("CITATION.cff"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["title"] == PROJECT["project"]["name"]
    assert cited["version"] == unisd.__version__
    assert cited["license"] == PROJECT["project"]["license"]
    assert cited["authors"] == [{"name": "The unisd authors"}]
    (paper,) = cited["references"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert paper["year"] == 2026
    assert paper["url"].endswith("/2605.06597")


def test_the_card_cites_what_the_citation_file_names():
    cited = yaml.safe_load(text("CITATION.cff"))
    (paper,) = cited["references"]
    assert paper["title"] in PAPER
    names = [f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
    assert re.sub(r"\s+", " ", PAPER).split("author = {")[1].split("},")[0] == " and ".join(names)
    assert cited["authors"][0]["name"] in SOFTWARE
    assert PROJECT["project"]["authors"] == cited["authors"]


def lower_bounds() -> dict[str, str]:
    found = [re.fullmatch(r"([\w-]+)>=([\d.]+)", needed) for needed in PROJECT["project"]["dependencies"]]
    assert all(found)
    return {match[1]: match[2] for match in found}


def test_lower_bounds_are_those_that_are_tested():
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+?)(?:\.0)?$", text("constraints-oldest.txt"), flags=re.MULTILINE))
    assert {"torch", "transformers", "peft", "accelerate"} == pinned.keys()
    bounds = lower_bounds()
    assert {name: bounds[name] for name in pinned} == pinned


def test_every_package_that_the_source_imports_at_the_top_is_asked_for():
    """What stands inside a function may be an extra's; what a module begins with must be there."""
    names = {"pyyaml": "yaml"}
    asked = {names.get(name, name) for name in lower_bounds()} | {"unisd"}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            strange = {name.partition(".")[0] for name in modules} - asked - set(sys.stdlib_module_names)
            assert not strange, f"{path}: {strange}"


def test_extras_are_used_and_make_both_ends():
    extras = PROJECT["project"]["optional-dependencies"]
    assert extras.keys() == {"gguf", "demo", "dense", "math", "bnb", "report", "study", "slurm", "ray", "docs", "dev"}
    for package, module in (("sentence-transformers", "sentence_transformers"), ("math-verify", "math_verify")):
        assert any(needed.startswith(package) for extra in extras.values() for needed in extra)
        assert any(f"from {module}" in path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    for target in ("test-oldest", "test-newest"):
        assert "$(addprefix tests/,$(CORE))" in targets()[target]
        assert "gpu_check.py --device cpu" in targets()[target]
    for needed in extras["docs"]:
        assert f"'{needed}'" in text("Makefile")


def test_the_site_is_built_strictly():
    """`--quiet` counts no warnings, so that nothing would be strict."""
    assert "mkdocs build --strict\n" in targets()["docs"]
    assert set(yaml.safe_load(text("mkdocs.yml"))["validation"]["links"].values()) == {"warn"}


def test_the_source_distribution_has_all_that_is_tracked():
    """By the rules of MANIFEST.in; `make test-wheel` looks into the archive itself."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git here: this is a source distribution")
    rules = [line.split() for line in text("MANIFEST.in").splitlines() if line and not line.startswith("#")]
    grafted = tuple(f"{words[1]}/" for words in rules if words[0] in ("graft", "recursive-include"))
    included = {name for words in rules if words[0] == "include" for name in words[1:]}
    included |= {"README.md", "LICENSE", "pyproject.toml", "MANIFEST.in"}
    lost = [name for name in done.stdout.split() if not name.startswith((*grafted, "src/")) and name not in included]
    assert lost == []
    assert [name for name in included if not (ROOT / name).is_file()] == []


def test_the_image_is_built_from_what_is_here():
    """The Dockerfile by its lines: known instructions, sources that are let through, arguments that are declared."""
    lines = re.sub(r"\\\n\s*", " ", text("Dockerfile")).splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    known = {"ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}
    assert {step for step, _ in steps} == known
    let_through = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    copied = {name for step, rest in steps if step == "COPY" for name in rest.split()[:-1]}
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)
    declared = {rest.partition("=")[0] for step, rest in steps if step == "ARG"}
    used = set(re.findall(r"\$\{(\w+)", " ".join(rest for step, rest in steps if step in ("FROM", "RUN"))))
    assert used == declared == {"PYTHON", "TORCH", "TORCH_VERSION"}
    extras = re.search(r"'\.\[([\w,]+)\]'", text("Dockerfile"))[1].split(",")
    assert set(extras) <= PROJECT["project"]["optional-dependencies"].keys()
    order = [step for step, _ in steps]
    assert order.index("USER") > max(n for n, step in enumerate(order) if step == "RUN")  # who runs it is no root


def test_changelog_has_room_for_what_comes_and_names_this_version():
    sections = re.findall(r"^## \[?([\w.]+)\]?(?: - (\d{4}-\d\d-\d\d))?$", text("CHANGELOG.md"), flags=re.MULTILINE)
    assert sections[0] == ("Unreleased", "")
    assert unisd.__version__ in [name for name, _ in sections]
    assert all(date for _, date in sections[1:])


def test_the_workflow_runs_what_everyone_runs():
    workflow = yaml.safe_load(text(".github/workflows/test.yml"))
    assert workflow[True].keys() == {"push", "pull_request"}  # YAML 1.1 reads the key "on" as true
    steps = workflow["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["make test"]
    (python,) = [step["with"]["python-version"] for step in steps if "python-version" in step.get("with", {})]
    assert PROJECT["project"]["requires-python"] == f">={python}"
    assert text(".ci/run").splitlines()[-1] == "make test"


def test_make_test_leaves_out_what_needs_an_accelerator_and_test_fast_the_slow_ones():
    assert 'pytest -n 2 -m "not gpu"\n' in targets()["test"]
    assert 'pytest -n 2 -m "not slow and not gpu"\n' in targets()["test-fast"]
    marks = [mark.partition(":")[0] for mark in PROJECT["tool"]["pytest"]["ini_options"]["markers"]]
    assert marks == ["slow", "gpu", "engine"]


def test_hooks_call_the_tools_of_the_environment():
    (local,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert local["repo"] == "local"
    assert {hook["language"] for hook in local["hooks"]} == {"system"}
    tools = {shlex.split(hook["entry"])[0] for hook in local["hooks"]}
    assert tools == {"ruff", "mypy"}
    assert all(
        any(needed.startswith(tool) for needed in PROJECT["project"]["optional-dependencies"]["dev"]) for tool in tools
    )
    assert all(f"$(BIN)/{tool}" in targets()["test"] for tool in tools)


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_issue_forms_are_whole(name):
    form = yaml.safe_load(text(f".github/ISSUE_TEMPLATE/{name}.yml"))
    assert {"name", "description", "body"} <= form.keys()
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert all(part["attributes"]["label"] for part in fields)
    ids = [part["id"] for part in fields]
    assert len(set(ids)) == len(ids)
    assert any(part.get("validations", {}).get("required") for part in fields)


def test_issues_without_a_form_are_welcome():
    assert yaml.safe_load(text(".github/ISSUE_TEMPLATE/config.yml"))["blank_issues_enabled"] is True


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)\s]+)\)", text(page))
    files = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
    assert [file for file in files if file and not (ROOT / page).parent.joinpath(file).exists()] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_every_file_and_every_target_that_is_named_exists(page):
    named = re.findall(r"`((?:src|tests|docs|examples|benchmarks)/[\w./]*)`", text(page))
    assert [path for path in named if not (ROOT / path).exists()] == []
    wanted = re.findall(r"(?:`| {4})make ([\w-]+)", text(page))
    assert [target for target in wanted if target not in targets()] == []


def test_the_guide_says_how_to_add_each_kind_of_thing():
    guide = text("CONTRIBUTING.md")
    for link in ("docs/architecture.md", "docs/add_a_mechanism.md", "docs/custom_tasks.md"):
        assert f"({link})" in guide
    for place in ("contexts/kinds/", "contexts/base.py", "tasks/base.py", "rollout/base.py", "recipes/"):
        assert f"`src/unisd/{place}`" in guide
    assert "(CONTRIBUTING.md)" in text("README.md")
