"""Token ids in a row, cut into sequences of one length: no padding, each token but the first a target once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lightning_regimes.datamodules.token_file import Tokens

# Beyond it, frequencies no longer move in digits that anybody reads.
_MAX_COUNTED = 2**27


def num_sequences(tokens: Tokens, length: int) -> int:
    """Return how many sequences with T = ``length`` targets there are."""
    return (len(tokens) - 1) // length


def sequences(tokens: Tokens, length: int, indices: Tensor) -> Tensor:
    """Return sequences by their number, ``(B, T + 1)`` int64.

    The last token of a sequence is the first of the next.

    Args:
        tokens: all ids, (N,).
        length: T.
        indices: numbers of sequences, (B,).
    """
    starts = indices.numpy() * length
    return torch.from_numpy(np.stack([tokens[start : start + length + 1] for start in starts]).astype(np.int64))


def permutation(count: int, *, seed: int, index: int) -> Tensor:
    """Return a random order of ``count`` things, the same for the same seed and index."""
    entropy = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
    return torch.randperm(count, generator=torch.Generator().manual_seed(int(entropy[0]) >> 1))


def entropy_of_tokens(tokens: Tokens, vocab_size: int) -> float:
    r"""Return the entropy :math:`-\sum_i f_i \ln f_i` of the tokens' frequencies, in nats.

    It is the loss of a predictor that knows only how often each token occurs. From more than 134 million tokens, the
    first so many are counted.

    Args:
        tokens: ids, (N,).
        vocab_size: number of token ids.

    Raises:
        ValueError: an id is not below ``vocab_size``.
    """
    counts = np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, min(len(tokens), _MAX_COUNTED), 2**22):
        part = np.bincount(tokens[start : start + 2**22], minlength=vocab_size)
        if len(part) > vocab_size:
            raise ValueError(f"the tokens have the id {len(part) - 1}, and `vocab_size` is {vocab_size}")
        counts += part
    frequencies = counts[counts > 0] / counts.sum()
    return float(-(frequencies * np.log(frequencies)).sum())
