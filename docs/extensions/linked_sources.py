"""Files outside the documentation that its pages link to, as pages of their own."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\]\(\.\./([\w./-]+)\)")
_LANGUAGES = {".yaml": "yaml", ".py": "python", ".md": "markdown"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every file that is linked to."""
    linked = {
        target
        for file in files.documentation_pages()
        for target in _LINK.findall(Path(file.abs_src_path).read_text() if file.abs_src_path else "")
    }
    for target in sorted(linked):
        files.append(File.generated(config, _page(target), content=_listing(target)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead links to such files to their pages."""
    up = "../" * page.file.src_uri.count("/")
    return _LINK.sub(lambda match: f"]({up}{_page(match[1])})", markdown)


def _page(target: str) -> str:
    return str(PurePosixPath("source") / (target.rstrip("/") + ".md"))


def _listing(target: str) -> str:
    path = ROOT / target
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith((".", "_")))
        return f"# {target}\n\n" + "\n".join(f"- `{name}`" for name in names) + "\n"
    language = _LANGUAGES.get(path.suffix, "text")
    return f"# {target}\n\n``````{language}\n{path.read_text()}``````\n"
