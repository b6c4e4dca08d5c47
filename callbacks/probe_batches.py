"""The training batches on which a diagnostic looks at the loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_regimes.batches import captured, same_tensors, tensors_of

# Batches up to this size travel in checkpoints, so that a resumed run measures on the same ones.
_MAX_SAVED_BYTES = 4 * 2**20


class ProbeBatches:
    """Copies of the first batches of a training; one that is shown again, as in full-batch training, is kept once.

    Args:
        num_batches: how many batches to look at.
    """

    def __init__(self, num_batches: int) -> None:
        self.num_batches = num_batches
        #: The batches kept.
        self.kept: list[Any] = []
        self._num_seen = 0

    @property
    def is_complete(self) -> bool:
        """Whether all batches have been seen."""
        return self._num_seen >= self.num_batches

    def offer(self, batch: Any) -> bool:
        """Take the next batch; whether it is kept."""
        self._num_seen += 1
        if any(same_tensors(batch, earlier) for earlier in self.kept):
            return False
        self.kept.append(captured(batch))
        return True

    def state_dict(self) -> dict[str, Any]:
        """The batches, where they are small and plain enough for a checkpoint; otherwise nothing."""
        if not _is_plain(self.kept) or _num_bytes(self.kept) > _MAX_SAVED_BYTES:
            return {}
        return {"kept": self.kept, "num_seen": self._num_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the batches of a checkpoint, or start anew if it has none."""
        self.kept = state_dict.get("kept", [])
        self._num_seen = state_dict.get("num_seen", 0)


def _is_plain(batch: Any) -> bool:
    """Whether a checkpoint that holds it can be loaded without trusting it."""
    if isinstance(batch, dict):
        return type(batch) is dict and all(isinstance(key, str) and _is_plain(value) for key, value in batch.items())
    if isinstance(batch, list | tuple):
        return type(batch) in (list, tuple) and all(_is_plain(value) for value in batch)
    return batch is None or type(batch) in (Tensor, str, int, float, bool)


def _num_bytes(batch: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(batch))
