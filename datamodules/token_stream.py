"""Documents that arrive one after the other, packed into sequences, and continued exactly where they were left."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_regimes.datamodules.byte_tokenizer import Tokenizer
from lightning_regimes.datamodules.packed_sequences import permutation, sequences

# Documents that are encoded together; what a block doesn't need of them is part of its state.
_DOCUMENTS = 32


class TokenStream:
    """Sequences of T + 1 tokens from a stream of documents, shuffled within blocks.

    Block after block of sequences is read and put in an order that depends on the seed and the block's number only. The
    state at the start of a block, its number and the number of sequences taken from it then say all: after a restart
    the block is read again, and those that were taken are passed over. When the documents end, they begin again.

    Args:
        open_documents: starts the stream: an iterable of ``{"text": str}`` with ``state_dict`` and ``load_state_dict``,
            as an ``IterableDataset`` of the package ``datasets`` is.
        tokenizer: of the text.
        sequence_length: T.
        vocab_size: ids that a network takes; by default the tokenizer's.
        block_size: sequences in a block.
        seed: of the order in blocks.

    Raises:
        ValueError: an id of the text is not below ``vocab_size``, or the stream has no documents.
    """

    def __init__(
        self,
        open_documents: Callable[[], Any],
        tokenizer: Tokenizer,
        *,
        sequence_length: int,
        vocab_size: int | None = None,
        block_size: int = 1024,
        seed: int = 0,
    ) -> None:
        self._open_documents = open_documents
        self._tokenizer = tokenizer
        self.sequence_length = sequence_length
        self.vocab_size = vocab_size or tokenizer.vocab_size
        self.block_size = block_size
        self.seed = seed
        # Where blocks start, by their number; None is the start of the stream.
        self._starts: dict[int, dict[str, Any] | None] = {0: None}

    def sequences(self, start: int = 0) -> Iterator[Tensor]:
        """Return all sequences from the one with number ``start`` on, (T + 1,) int64 each, without end."""
        first_block = start // self.block_size
        known = max((number for number in self._starts if number <= first_block), default=0)
        reader = _Reader(self._open_documents, self._tokenizer, self._starts.get(known))
        for number in itertools.count(known):
            tokens = reader.take(self.block_size * self.sequence_length + 1)
            if int(tokens.max()) >= self.vocab_size:
                raise ValueError(f"the text has the token {int(tokens.max())}, and `vocab_size` is {self.vocab_size}")
            self._starts[number + 1] = reader.state_dict()
            self._starts = {n: state for n, state in self._starts.items() if n >= number}
            if number >= first_block:
                order = permutation(self.block_size, seed=self.seed, index=number)
                yield from sequences(tokens, self.sequence_length, order)[max(0, start - number * self.block_size) :]

    def state_dict(self, position: int) -> dict[str, Any]:
        """Return what another stream needs to go on from the sequence with number ``position``.

        Raises:
            ValueError: the position is before the block that was read last.
        """
        number = position // self.block_size
        if number not in self._starts:
            raise ValueError(f"the stream is at block {max(self._starts)}, and the state of {number} is gone")
        return {"block": number, "block_size": self.block_size, "start": self._starts[number]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: it is one of a stream with other blocks.
        """
        if state["block_size"] != self.block_size:
            raise ValueError(f"`block_size` was {state['block_size']} in the checkpoint, got {self.block_size}")
        self._starts = {state["block"]: state["start"]}


def first_tokens(open_documents: Callable[[], Any], tokenizer: Tokenizer, count: int) -> np.ndarray:
    """Return the first tokens of a stream, (count,) int64; documents begin again when they end."""
    return _Reader(open_documents, tokenizer, None).take(count)


class _Reader:
    """Tokens of documents in a row, with a state between any two calls."""

    def __init__(self, open_documents: Callable[[], Any], tokenizer: Tokenizer, state: dict[str, Any] | None) -> None:
        self._open_documents = open_documents
        self._tokenizer = tokenizer
        self._documents = open_documents()
        self._left = np.empty(0, dtype=np.int64)
        if state is not None:
            self._left = state["left"].numpy()
            if state["documents"] is not None:
                self._documents.load_state_dict(state["documents"])
        self._iterator = iter(self._documents)

    def take(self, count: int) -> np.ndarray:
        """Return the next tokens, of which the last will be the first again."""
        pieces = [self._left]
        missing = count - len(self._left)
        while missing > 0:
            pieces.append(self._tokenizer.encode(self._next_documents()).astype(np.int64))
            missing -= len(pieces[-1])
        tokens = np.concatenate(pieces)
        self._left = tokens[count - 1 :].copy()
        return tokens[:count]

    def state_dict(self) -> dict[str, Any]:
        return {"documents": self._documents.state_dict(), "left": torch.from_numpy(self._left)}

    def _next_documents(self) -> list[str]:
        documents = [entry["text"] for entry in itertools.islice(self._iterator, _DOCUMENTS)]
        if not documents:
            self._documents = self._open_documents()
            self._iterator = iter(self._documents)
            documents = [entry["text"] for entry in itertools.islice(self._iterator, _DOCUMENTS)]
            if not documents:
                raise ValueError("the stream has no documents")
        return documents
