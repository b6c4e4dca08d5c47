"""Bytes as tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Tokenizer(Protocol):
    """What turns documents into token ids, and back."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""

    def encode(self, documents: Sequence[str]) -> npt.NDArray[np.unsignedinteger]:
        """Return the ids of all documents in a row, each with a token at its end."""

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of token ids."""


class ByteTokenizer:
    """The 256 bytes of UTF-8 as tokens; 0, which text doesn't contain, ends a document."""

    vocab_size = 256

    def encode(self, documents: Sequence[str]) -> npt.NDArray[np.unsignedinteger]:
        """Return the bytes of all documents in a row, uint16, each with a 0 at its end."""
        joined = b"".join(document.encode() + b"\0" for document in documents)
        return np.frombuffer(joined, dtype=np.uint8).astype(np.uint16)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of bytes; those that are none in UTF-8 are replaced."""
        return bytes(int(token) for token in tokens).decode(errors="replace")
