"""Byte-pair tokens of the package ``tokenizers``: trained on a text, or somebody else's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Ends of documents in known vocabularies; the first is that of tokenizers trained here.
_ENDS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "[SEP]")


class BPETokenizer:
    """A tokenizer of the package ``tokenizers``, with a token at the end of each document.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``.

    Raises:
        ValueError: its vocabulary has no token for the end of a document.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        ends = [tokenizer.token_to_id(name) for name in _ENDS]
        known = [end for end in ends if end is not None]
        if not known:
            raise ValueError(f"the tokenizer has no end of document; it is one of {', '.join(_ENDS)}")
        self.end_of_document: int = known[0]

    @classmethod
    def train(cls, documents: Sequence[str], vocab_size: int) -> BPETokenizer:
        """Return a byte-level BPE of a text.

        Args:
            documents: the text.
            vocab_size: number of tokens: 256 bytes, the end of a document, and pairs; fewer if the text has no more.

        Raises:
            ValueError: ``vocab_size`` is too small to hold all bytes.

        References:
            R. Sennrich, B. Haddow, A. Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL 2016.
        """
        if vocab_size < 257:
            raise ValueError(f"`vocab_size` of a byte-level BPE is at least 257, got {vocab_size}")
        tokenizers = require_tokenizers()
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[_ENDS[0]],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(documents, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, name: str) -> BPETokenizer:
        """Return the tokenizer in a ``tokenizer.json``, or that of a model on the Hugging Face hub.

        Args:
            name: a path that ends in ``.json``, or the name of the model, such as ``"t5-base"``.

        Raises:
            FileNotFoundError: there is no such file.
        """
        tokenizers = require_tokenizers()
        if not name.endswith(".json"):
            return cls(tokenizers.Tokenizer.from_pretrained(name))
        if not Path(name).is_file():
            raise FileNotFoundError(f"the tokenizer {name!r} does not exist")
        return cls(tokenizers.Tokenizer.from_file(name))

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return int(self.tokenizer.get_vocab_size())

    def encode(self, documents: Sequence[str]) -> npt.NDArray[np.unsignedinteger]:
        """Return the ids of all documents in a row, each with the token of its end."""
        dtype = np.uint16 if self.vocab_size <= 2**16 else np.uint32
        end = np.array([self.end_of_document], dtype=dtype)
        pieces = [np.empty(0, dtype=dtype)]
        for encoding in self.tokenizer.encode_batch(list(documents), add_special_tokens=False):
            pieces += [np.array(encoding.ids, dtype=dtype), end]
        return np.concatenate(pieces)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of token ids, without ends of documents."""
        return str(self.tokenizer.decode([int(token) for token in tokens]))

    def to_json(self) -> str:
        """Return what :meth:`load` reads from a file."""
        return str(self.tokenizer.to_str())


def require_tokenizers() -> Any:
    """Return the package ``tokenizers``.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "all tokenizers but 'bytes' need the package `tokenizers`: pip install 'lightning-regimes[llm]'"
        ) from None
    return tokenizers
