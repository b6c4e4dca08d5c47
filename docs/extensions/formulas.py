"""Formulas as MathML, written into the pages when they are built: browsers draw them without any script."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
# What the converter does not know, in what it does.
_SPELLINGS = {
    r"\tfrac": r"\frac",
    r"\lVert": r"\|",
    r"\rVert": r"\|",
    **{rf"\{size}{side}": "" for size in ("big", "Big", "bigg", "Bigg") for side in ("l", "r", "")},
}


def on_page_content(content: str, **_: object) -> str:
    """Replace what Markdown has marked as a formula."""
    return _FORMULA.sub(_mathml, content)


def _mathml(match: re.Match[str]) -> str:
    formula = html.unescape(match[3]).strip()
    for unknown, known in _SPELLINGS.items():
        formula = re.sub(re.escape(unknown) + r"(?![a-zA-Z])", lambda _, known=known: known, formula)
    try:
        return convert(formula, display="inline" if match[2] == "(" else "block")
    except Exception as error:
        raise ValueError(f"this formula could not be converted: {formula}") from error
