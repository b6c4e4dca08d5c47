"""The processes that share one loss, and what they must do together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lightning_regimes.module_state import ProbeError

T = TypeVar("T")


class Processes:
    """Sums over processes and agreements between them; a failure in one of them is an error in all.

    All processes must call the same methods in the same order. What a process computes for the others is handed over
    as a function: when it raises there, the process still takes part, so that the others do not wait for it forever.
    That does not cover a process that dies, or that raises between two calls.

    Args:
        group: of ``torch.distributed``; ``None`` is this process alone, for which nothing is communicated.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        #: Number of processes.
        self.count = 1 if group is None else dist.get_world_size(group)
        #: Number of this process, from 0.
        self.rank = 0 if group is None else dist.get_rank(group)

    def sum(
        self, compute: Callable[[], Tensor], *, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """Return the sum of what the processes compute, the same to the last bit in all of them; one all-reduce.

        Args:
            compute: returns the part of this process, of the shape, dtype and device that are given.
            shape: the same in all processes.
            dtype: as above.
            device: as above.

        Raises:
            ProbeError: another process failed; where it did, its own error is raised.
        """
        if self.count == 1:
            return compute()
        size = torch.Size(shape).numel()
        buffer = torch.zeros(size + 1, dtype=dtype, device=device)
        failure: Exception | None = None
        try:
            buffer[:size] = compute().reshape(-1)
        except Exception as error:
            failure = error
            buffer[:size] = 0
            buffer[size] = 1  # travels with the sum: to ask first would take a second message
        dist.all_reduce(buffer, group=self._group)
        if bool(buffer[size] > 0):
            self._raise(failure)
        return buffer[:size].view(shape)

    def collect(self, compute: Callable[[], T]) -> list[T]:
        """Return what each process computes, a plain object, in the order of the processes.

        Raises:
            ProbeError: another process failed; where it did, its own error is raised.
        """
        if self.count == 1:
            return [compute()]
        failure: Exception | None = None
        own: tuple[Any, str | None]
        try:
            own = compute(), None
        except Exception as error:
            failure = error
            own = None, f"{type(error).__name__}: {error}"
        gathered: list[Any] = [None] * self.count
        dist.all_gather_object(gathered, own, group=self._group)
        if any(message is not None for _, message in gathered):
            self._raise_messages(failure, [message for _, message in gathered])
        return [value for value, _ in gathered]

    def broadcast(self, compute: Callable[[], T]) -> T:
        """Return what process 0 computes, a plain object; the others do not compute it.

        Raises:
            ProbeError: process 0 failed; there, its own error is raised.
        """
        if self.count == 1:
            return compute()
        failure: Exception | None = None
        own: list[Any] = [None, None]
        if self.rank == 0:
            try:
                own = [compute(), None]
            except Exception as error:
                failure = error
                own = [None, f"{type(error).__name__}: {error}"]
        dist.broadcast_object_list(own, group=self._group, group_src=0)
        if own[1] is not None:
            self._raise_messages(failure, [own[1]])
        value: T = own[0]
        return value

    def _raise(self, failure: Exception | None) -> NoReturn:
        messages: list[str | None] = [None] * self.count
        own = None if failure is None else f"{type(failure).__name__}: {failure}"
        dist.all_gather_object(messages, own, group=self._group)
        self._raise_messages(failure, messages)

    def _raise_messages(self, failure: Exception | None, messages: list[str | None]) -> NoReturn:
        if failure is not None:
            raise failure
        rank, message = next((rank, message) for rank, message in enumerate(messages) if message is not None)
        raise ProbeError(f"process {rank} failed, and with it all others: {message}")
