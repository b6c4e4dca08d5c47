"""Pages that follow from the code: the vocabulary of keys, and the reference of each package."""

from __future__ import annotations

import ast
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "callbacks",
    "modules",
    "datamodules",
    "optim",
    "regimes",
    "curvature",
    "landscape",
    "spectral",
    "graph",
    "theory",
    "metrics",
    "networks",
    "pde",
    "sweep",
    "recording",
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages where the navigation names their folder."""
    (more,) = (entry["More"] for entry in config.nav if "More" in entry)  # type: ignore[union-attr]
    more[-1] = {"API reference": [{name: f"api/{name}.md"} for name in PACKAGES]}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    from lightning_regimes.recording.vocabulary_page import vocabulary_page

    files.append(File.generated(config, "vocabulary.md", content=vocabulary_page()))
    for name in PACKAGES:
        files.append(File.generated(config, f"api/{name}.md", content=reference(name)))
    return files


def reference(name: str) -> str:
    """Return the page that documents the public names of a package."""
    tree = ast.parse((ROOT / "lightning_regimes" / name / "__init__.py").read_text())
    (exported,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    members = "".join(f"\n        - {member}" for member in exported)
    return f"# lightning_regimes.{name}\n\n::: lightning_regimes.{name}\n    options:\n      members:{members}\n"
