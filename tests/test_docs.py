import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_settings_page_is_up_to_date():
    page = runpy.run_path(str(ROOT / "docs/make_settings.py"))["settings_page"]()
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == page
    assert page.count("\n| `") > 40


def test_compatibility_page_is_up_to_date():
    page = runpy.run_path(str(ROOT / "docs/make_compatibility.py"))["compatibility_page"]()
    assert (ROOT / "docs/compatibility.md").read_text(encoding="utf-8") == page


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_public_names():
    import unisd

    assert unisd.UniSDTrainer.__name__ == "UniSDTrainer"
    assert unisd.UniSDConfig.__name__ == "UniSDConfig"
