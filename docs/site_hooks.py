"""What mkdocs needs to know of this repository: files outside of docs/ that pages link to are in the site, too."""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = "repository"
"""The site's folder of files that lie outside of docs/."""
_LINK = re.compile(r"(?<!!)(\[[^\]\[]*\]\()([^)\s#:]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add every file outside of docs/ that a page, or a page so added, links to."""
    from mkdocs.structure.files import File

    waiting = [ROOT / "docs" / file.src_uri for file in files if file.src_uri.endswith(".md")]
    seen: set[Path] = set()
    while waiting:
        page = waiting.pop()
        for _, target, _ in _LINK.findall(page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            inside = path.is_relative_to(ROOT / "docs") or not path.is_relative_to(ROOT)
            if inside or path in seen or not path.exists():
                continue
            seen.add(path)
            if path.is_dir():
                listed = "\n".join(f"* [{each.name}]({path.name}/{each.name})" for each in sorted(path.iterdir()))
                files.append(File.generated(config, _uri(path), content=f"# {path.name}\n\n{listed}\n"))
                waiting += [each for each in sorted(path.iterdir()) if each.suffix == ".md"]
                for each in sorted(path.iterdir()):
                    if each.is_file() and each not in seen:
                        seen.add(each)
                        files.append(File.generated(config, _uri(each), content=each.read_text(encoding="utf-8")))
            else:
                files.append(File.generated(config, _uri(path), content=path.read_text(encoding="utf-8")))
                waiting += [path] if path.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files of the repository into links of the site."""
    at = page.file.src_uri
    here = ROOT / at.removeprefix(f"{OUTSIDE}/") if at.startswith(f"{OUTSIDE}/") else ROOT / "docs" / at

    def moved(found: re.Match[str]) -> str:
        path = (here.parent / found[2]).resolve()
        if not path.exists() or not path.is_relative_to(ROOT):
            return found[0]
        uri = str(path.relative_to(ROOT / "docs")) if path.is_relative_to(ROOT / "docs") else _uri(path)
        return f"{found[1]}{posixpath.relpath(uri, posixpath.dirname(at) or '.')}{found[3] or ''})"

    return _LINK.sub(moved, markdown)


def _uri(path: Path) -> str:
    """Return where a file of the repository lies in the site; a folder is a page that lists it."""
    uri = f"{OUTSIDE}/{path.relative_to(ROOT)}"
    return f"{uri}.md" if path.is_dir() else uri
