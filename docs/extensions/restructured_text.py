"""What docstrings say in reStructuredText, in Markdown: roles, formulas and tables."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

import griffe

_ROLE = re.compile(r":(?:class|func|meth|attr|mod):`(~?)([\w.]+)`")
_INLINE_FORMULA = re.compile(r":math:`([^`]*)`")
_FORMULA = re.compile(r"^( *)\.\. math::(.*(?:\n(?:\1 +\S.*| *(?=\n|\Z)))*)", re.MULTILINE)
_TABLE = re.compile(r"^( *)=+(?: +=+)+\n(.*)\n\1=+(?: +=+)+\n((?:.*\n)*?)\1=+(?: +=+)+$", re.MULTILINE)


class RestructuredText(griffe.Extension):
    """Rewrites all docstrings of the package once it has been read."""

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        """Rewrite the docstrings of the package."""
        for item in _objects(pkg):
            if item.docstring:
                item.docstring.value = markdown(item.docstring.value, item)


def markdown(text: str, scope: griffe.Object) -> str:
    """Return a docstring in Markdown; names are looked up from the object that it belongs to."""
    text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
    text = _TABLE.sub(_table, text)
    text = _FORMULA.sub(_formula, text)
    text = _INLINE_FORMULA.sub(lambda match: rf"\({match[1]}\)", text)
    return _ROLE.sub(lambda match: _reference(match[1], match[2], scope), text)


def _objects(item: griffe.Object) -> Iterator[griffe.Object]:
    yield item
    for member in item.members.values():
        if not member.is_alias:
            yield from _objects(member)  # type: ignore[arg-type]


def _reference(tilde: str, name: str, scope: griffe.Object) -> str:
    shown = name.rpartition(".")[2] if tilde else name
    # Whether the page of the name is there is not known yet, so that the link is optional.
    path = name
    if not name.startswith("lightning_regimes"):
        try:
            path = scope.resolve(name)
        except griffe.NameResolutionError:
            return f"`{shown}`"
    if not path.startswith("lightning_regimes"):
        return f"`{shown}`"
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'


def _formula(match: re.Match[str]) -> str:
    indent, first, *rest = match[1], *match[2].split("\n", 1)
    body = textwrap.dedent(rest[0]) if rest else ""
    formula = " ".join(line.strip() for line in f"{first}\n{body}".splitlines() if line.strip())
    return f"{indent}$${formula}$$\n"


def _table(match: re.Match[str]) -> str:
    indent, head, body = match[1], match[2], match[3]
    rule = match[0].splitlines()[0]
    columns = [column.span() for column in re.finditer("=+", rule)]
    ends = [start for start, _ in columns[1:]] + [None]

    def row(line: str) -> str:
        cells = [line[start:end].strip() for (start, _), end in zip(columns, ends, strict=True)]
        return f"{indent}| " + " | ".join(cells) + " |"

    lines = [row(head), f"{indent}|" + " --- |" * len(columns)]
    lines += [row(line) for line in body.splitlines() if line.strip()]
    return "\n".join(lines)
