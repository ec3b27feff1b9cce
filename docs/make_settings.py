"""Writes docs/settings.md from the declarations of the settings: python docs/make_settings.py after a change."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    "src/unisd/training/settings.py": {"TaskSettings": "task", "ModelSettings": "model"},
    "src/unisd/models/lora.py": {"LoraSettings": "lora"},
    "src/unisd/training/config.py": {
        "DivergenceConfig": "divergence",
        "TeacherConfig": "teacher",
        "AgreementConfig": "agreement",
        "ContrastConfig": "contrast",
        "FeaturesConfig": "features",
        "RolloutConfig": "rollout",
        "ContextsConfig": "contexts",
        "UniSDConfig": "training",
    },
}
LEAD = """# Settings

Every setting with its default. Change one with `--set group.field=value`, in a run file (YAML), or in Python as
`UniSDConfig(group={"field": value})`. `training` takes every field of transformers' `TrainingArguments`, too.
"""


def rows(group: ast.ClassDef) -> list[str]:
    """One table row per documented field."""
    found = []
    for node, following in zip(group.body, [*group.body[1:], None], strict=True):
        documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(node, ast.AnnAssign) and node.value is not None and documented:
            default = ast.unparse(node.value)
            if default.startswith("field(default_factory=lambda:"):
                default = default.removeprefix("field(default_factory=lambda: ").removesuffix(")")
            text = " ".join(following.value.value.split()).replace("|", "\\|")
            found.append(f"| `{node.target.id}` | `{default}` | {text} |")
    return found


def settings_page() -> str:
    """The whole page."""
    parts = [LEAD]
    for source, groups in SOURCES.items():
        for node in ast.parse((ROOT / source).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in groups:
                lead = (ast.get_docstring(node) or "").split("\n")[0]
                table = "\n".join(["| field | default | meaning |", "|---|---|---|", *rows(node)])
                parts.append(f"## `{groups[node.name]}`\n\n{lead}\n\n{table}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (ROOT / "docs/settings.md").write_text(settings_page(), encoding="utf-8")
