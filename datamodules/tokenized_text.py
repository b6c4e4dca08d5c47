"""The tokens of a text, worked out once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lightning_regimes.datamodules.bpe_tokenizer import BPETokenizer
from lightning_regimes.datamodules.byte_tokenizer import ByteTokenizer, Tokenizer
from lightning_regimes.datamodules.token_file import Tokens, open_token_file, write_atomically

# Changes when the same arguments give other tokens.
_FORMAT = 1


def named_tokenizer(name: str) -> Tokenizer:
    """Return ``"bytes"``, or what :meth:`BPETokenizer.load` finds under another name."""
    return ByteTokenizer() if name == "bytes" else BPETokenizer.load(name)


def tokenized_text(
    documents: Sequence[str],
    *,
    tokenizer: str,
    vocab_size: int = 4096,
    training_share: float = 0.95,
    folder: Path,
) -> tuple[Tokenizer, Tokens]:
    """Return the tokenizer of a text and its tokens, mapped into memory.

    Files are named by a hash of the text and of the arguments, and written so that no other process sees half of one.

    Args:
        documents: the text.
        tokenizer: ``"bytes"``, ``"bpe"`` for one that is trained, or a name for :meth:`BPETokenizer.load`.
        vocab_size: of the one that is trained.
        training_share: part of the text, from its beginning, that it is trained on.
        folder: of the files.
    """
    digest = hashlib.sha256(repr((_FORMAT, tokenizer)).encode())
    if tokenizer == "bpe":
        digest.update(repr((vocab_size, training_share)).encode())
    for document in documents:
        digest.update(document.encode() + b"\0")
    path = folder / f"{digest.hexdigest()[:32]}.npy"
    if tokenizer == "bpe":
        chosen: Tokenizer = _trained(documents, vocab_size, training_share, path.with_suffix(".json"))
    else:
        chosen = named_tokenizer(tokenizer)
    if not path.is_file():
        tokens = chosen.encode(documents)
        write_atomically(path, lambda file: np.save(file, tokens))
    return chosen, open_token_file(path)


def _trained(documents: Sequence[str], vocab_size: int, training_share: float, path: Path) -> Tokenizer:
    if not path.is_file():
        beginning = list(_beginning(documents, int(training_share * sum(map(len, documents)))))
        trained = BPETokenizer.train(beginning, vocab_size)
        write_atomically(path, lambda file: file.write_text(trained.to_json(), encoding="utf-8"))
    return BPETokenizer.load(str(path))


def _beginning(documents: Sequence[str], num_characters: int) -> Iterator[str]:
    for document in documents:
        if num_characters <= 0:
            return
        yield document[:num_characters]
        num_characters -= len(document)
