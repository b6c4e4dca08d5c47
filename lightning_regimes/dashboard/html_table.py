"""A table of the report: it scrolls where it is wider than the page, and on a phone lists its entries."""

import html
from collections.abc import Sequence


def html_table(titles: Sequence[str], rows: Sequence[str], *, kind: str = "") -> str:
    """Put rows under their titles.

    Args:
        titles: of the columns; ``#`` before one says that the column holds numbers.
        rows: ``<tr>`` elements.
        kind: class of the table, for the style sheet.
    """
    head = "".join(
        f'<th scope="col" class="number">{html.escape(title[1:])}</th>'
        if title.startswith("#")
        else f'<th scope="col">{html.escape(title)}</th>'
        for title in titles
    )
    shown = f' class="{kind}"' if kind else ""
    return (
        f'<div class="scroll" tabindex="0"><table{shown}><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def folded(summary: str, body: str, *, opened: bool = False) -> str:
    """What is shown on demand."""
    return f"<details{' open' if opened else ''}><summary>{html.escape(summary)}</summary>{body}</details>"
