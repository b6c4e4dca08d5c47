"""Real text that ships with Python: its language reference and the sources of its standard library."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# No sources to read: tests, tables of character sets, the reference that is taken from elsewhere, what is installed.
_LEFT_OUT = {"test", "tests", "idle_test", "encodings", "pydoc_data", "site-packages", "dist-packages", "__pycache__"}
_LEFT_OUT_FILES = ("_sysconfigdata", "__phello__")


def python_text(max_bytes: int = 4_000_000) -> list[str]:
    """Return topics of Python's language reference and modules of its standard library, one document each.

    Their order is that of the hashes of their names: the same in every installation of a version, and mixed, so that
    the end of the text is like its beginning.

    Args:
        max_bytes: of all documents together in UTF-8; the last one is cut there.

    Raises:
        ValueError: ``max_bytes`` isn't positive.
        RuntimeError: the standard library is not there as source files.
    """
    if max_bytes < 1:
        raise ValueError(f"`max_bytes` is positive, got {max_bytes}")
    candidates = sorted(_candidates(), key=lambda item: hashlib.sha256(item[0].encode()).digest())
    if not any(isinstance(document, Path) for _, document in candidates):
        raise RuntimeError(
            f"the standard library has no source files in {sysconfig.get_path('stdlib')}; give `source` a text file"
        )
    documents: list[str] = []
    left = max_bytes
    for _, document in candidates:
        text = document.read_text(encoding="utf-8", errors="ignore") if isinstance(document, Path) else document
        encoded = text.encode()[:left]
        documents.append(encoded.decode(errors="ignore"))
        left -= len(encoded)
        if left <= 0:
            break
    return documents


def _candidates() -> Iterator[tuple[str, str | Path]]:
    import pydoc_data.topics

    for name, text in pydoc_data.topics.topics.items():
        yield f"topics/{name}", text
    library = sysconfig.get_path("stdlib")
    for folder, subfolders, files in os.walk(library):
        subfolders[:] = [name for name in subfolders if name not in _LEFT_OUT]
        for name in files:
            if name.endswith(".py") and not name.startswith(_LEFT_OUT_FILES):
                path = Path(folder, name)
                yield path.relative_to(library).as_posix(), path
