"""The tables of the README next to this file, each between two marks that name it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

README = Path(__file__).with_name("README.md")


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def replace_table(text: str, name: str, table: str) -> str:
    """Return the text with the table between the marks of that name replaced.

    Raises:
        ValueError: the text has no such marks.
    """
    begin, end = f"<!-- table {name} -->", f"<!-- end of table {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the text has no lines {begin!r} and {end!r}")
    return pattern.sub(lambda _: f"{begin}\n{table}\n{end}", text)


def update_readme(name: str, table: str) -> None:
    """Replace a table in the README."""
    README.write_text(replace_table(README.read_text(), name, table))
