"""Reports: one page from what lies in the folder of a run, an evaluation, an audit or the demo.

`folder` reads what is there; `outcome`, `curves`, `items` and `about` make blocks of it (`blocks`, `charts`); and
`write` sets them into the one template, and beside it into Markdown, CSV and LaTeX. Whoever has other findings makes a
`Page` of the same blocks.
"""

from collections.abc import Sequence
from pathlib import Path

from unisd.studies.report.about import about_section, audit_section, mechanisms_section
from unisd.studies.report.blocks import Page, Section
from unisd.studies.report.curves import curves_section
from unisd.studies.report.folder import Folder, read_folder
from unisd.studies.report.items import written_browser
from unisd.studies.report.outcome import answer_sections, figures, verdict
from unisd.studies.report.write import FORMATS, write_page

__all__ = ["FORMATS", "page_of", "write_report"]

_TITLES = {"demo": "Demo", "train": "Training run", "evaluate": "Evaluation", "audit": "Audit"}


def write_report(folder: Path, formats: Sequence[str] = ("html",), output: Path | None = None) -> Path:
    """Write the report of a folder: ``report.html`` there, and what else is asked for.

    Args:
        folder: what ``unisd demo``, ``train``, ``evaluate``, ``audit`` or ``study`` wrote.
        formats: which of `FORMATS`.
        output: another folder to write into.

    Returns:
        The page.

    Raises:
        UsageError: nothing lies there that a report could be made of, or an unknown format.
        UniSDError: the report cannot be written.
    """
    from unisd.studies.report.study import study_page
    from unisd.studies.results import read_results
    from unisd.studies.study import STUDY_FILE

    page = study_page(read_results(folder)) if (folder / STUDY_FILE).is_file() else page_of(read_folder(folder))
    return write_page(page, output or folder, formats)


def page_of(folder: Folder) -> Page:
    """Return the page of what lies in a folder: outcome first, then what shows it."""
    name = folder.path.resolve().name
    task = folder.config.get("task")
    model = folder.config.get("model")
    about = [f"{part['name']}" for part in (model, task) if isinstance(part, dict) and part.get("name")]
    about += [str(folder.config["recipe"])] if folder.config.get("recipe") else []
    held_out, training = (answer_sections(folder, asked) for asked in (False, True))
    sections = [*held_out, curves_section(folder.metrics), mechanisms_section(folder), *training, audit_section(folder)]
    if folder.written:
        text = "Completions that were kept while training (rollout.log_completions_steps)."
        found = [written_browser(folder.written)]
        sections.append(Section("written", "What the student wrote while training", found, text))
    sections.append(about_section(folder))
    return Page(
        f"{_TITLES[folder.kind]}: {name}",
        " · ".join(about),
        figures(folder),
        verdict(folder),
        [section for section in sections if section is not None and section.blocks],
    )
