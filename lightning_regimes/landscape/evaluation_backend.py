"""Which way of evaluating a surface is the fastest for a loss."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_regimes.landscape.evaluation_loop import Derivatives, LoopEvaluation, needed_derivatives
from lightning_regimes.landscape.evaluation_vmap import VmapEvaluation
from lightning_regimes.landscape.side_effects import Repetition, batch_values
from lightning_regimes.landscape.surface_grid import SurfaceGrid
from lightning_regimes.probe import LossProbe, ProbeError

Array = NDArray[np.float64]
Backend = Literal["auto", "loop", "vmap"]
Evaluation = LoopEvaluation | VmapEvaluation

_LOOP_CHUNK = 16
_VMAP_CHUNKS = (16, 64)
# A surface of fewer points is there before the backends have been compared.
_MIN_POINTS = 128
# What vmap saves is the time to start operations, little against this for the loss at one point.
_MAX_SECONDS = 0.01
# A loss as short as this is little else than that time, so that the larger chunk comes first.
_SHORT_SECONDS = 3e-4
# How much of the rounding of the dtype may lie between the backends, on the scale of the losses in a chunk.
_ROUNDINGS = 1000


@dataclass(frozen=True)
class Plan:
    """How all points are evaluated: so that each value is the same whichever points a process evaluates when."""

    backend: str
    chunk_size: int

    def chunks(self, num_evaluations: int, share: tuple[int, int] = (0, 1)) -> Iterator[tuple[int, int]]:
        """Yield the first and the last point, not included, of every ``share[1]``-th chunk from number ``share[0]``."""
        first, step = share
        for start in range(first * self.chunk_size, num_evaluations, step * self.chunk_size):
            yield start, min(start + self.chunk_size, num_evaluations)


class Evaluator:
    """Evaluates points of a grid by either backend, and finds out which is the faster one.

    Args:
        probe: the loss and the point.
        vectors: the directions as columns, shape (num_parameters, d), with the probe's device and dtype.
        grid: the points.
        recompute: whether batch normalisation's statistics are recomputed at each point.
    """

    def __init__(self, probe: LossProbe, vectors: Tensor, grid: SurfaceGrid, *, recompute: bool) -> None:
        self._probe = probe
        self._vectors = vectors
        self._grid = grid
        self._recompute = recompute
        self._agreeing: VmapEvaluation | None = None

    def isolated(self) -> AbstractContextManager[None]:
        """Hold the module at the probe's parameters over several evaluations, each of which is then cheaper."""
        return self._probe.isolated()

    def center(self) -> Repetition:
        """Return the losses at the probe's point, which have to come again at the end of :meth:`isolated`."""
        return Repetition(self._probe, lambda: batch_values(self._probe))

    @functools.cached_property
    def derivatives(self) -> Derivatives:
        """Which derivatives the loss needs."""
        with self._probe.isolated():
            return needed_derivatives(self._probe)

    def loop(self) -> LoopEvaluation:
        """Return the evaluation of one point after another."""
        return LoopEvaluation(self._probe, self._vectors, derivatives=self.derivatives, recompute=self._recompute)

    def vmap(self) -> VmapEvaluation:
        """Return the evaluation of many points at once, once it agrees with the loop on the first ones.

        Raises:
            ProbeError: it fails, or it does not agree.
        """
        if self._agreeing is not None:
            return self._agreeing
        expected, _ = self.timed(self.loop(), 0, min(2, self._grid.num_evaluations))
        return self._agreeing_vmap(expected)

    def _agreeing_vmap(self, expected: Array) -> VmapEvaluation:
        evaluation = VmapEvaluation(self._probe, self._vectors, derivatives=self.derivatives)
        try:
            values, _ = self.timed(evaluation, 0, len(expected))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise ProbeError(
                f"the loss cannot be evaluated by vmap ({type(error).__name__}: {error}); use the backend 'loop'"
            ) from error
        self.require_agreement(values, expected)
        self._agreeing = evaluation
        return evaluation

    def values(self, evaluation: Evaluation, start: int, stop: int) -> Array:
        """Return the losses at some points; to be called inside ``evaluation.held()``."""
        coefficients = torch.from_numpy(self._grid.coefficients(start, stop))
        return evaluation.losses(coefficients.to(self._vectors)).cpu().numpy()

    def timed(self, evaluation: Evaluation, start: int, stop: int) -> tuple[Array, float]:
        """Return the losses at some points, and the seconds for one."""
        # On a CPU, time at which other processes run does not count: a chunk takes no longer than they do at a stretch.
        clock = time.thread_time if self._probe.device.type == "cpu" else time.perf_counter
        with evaluation.held():
            began = clock()
            values = self.values(evaluation, start, stop)
            return values, (clock() - began) / (stop - start)

    def fastest(self, chunk_size: int | None, max_bytes: int) -> tuple[Plan, Array]:
        """Return the fastest backend, and what it has found on the first points on the way.

        Chunks grow as long as that pays; for a loss of next to no work, the largest is tried first and taken if it is
        faster than the loop. A chunk that would not fit into ``max_bytes`` is not tried.
        """
        loop_plan = Plan("loop", chunk_size or _LOOP_CHUNK)
        if self._recompute or self._grid.num_points < _MIN_POINTS:
            return loop_plan, np.empty(0)
        with self._probe.isolated():  # once for all that is tried
            found, best_seconds = self.timed(self.loop(), 0, _LOOP_CHUNK)
            best, expected = loop_plan, found
            if best_seconds > _MAX_SECONDS:
                return best, found
            evaluation: VmapEvaluation | None = None
            is_short = best_seconds < _SHORT_SECONDS
            sizes = _VMAP_CHUNKS if chunk_size is None else (chunk_size,)
            for size in sizes[::-1] if is_short else sizes:
                if size > self._grid.num_evaluations or vmap_bytes(self._probe, size) > max_bytes:
                    continue
                try:
                    evaluation = evaluation or self._agreeing_vmap(expected[:2])
                    values, seconds = self.timed(evaluation, 0, size)
                    self.require_agreement(values[:_LOOP_CHUNK], expected[:size])
                except Exception:  # whatever it is, the loop will do without
                    break
                if seconds < best_seconds:
                    best, found, best_seconds = Plan("vmap", size), values, seconds
                    if is_short:
                        break
                elif seconds > 1.2 * best_seconds and not is_short:
                    break
        return best, found

    def require_agreement(self, values: Array, expected: Array) -> None:
        """Raise ProbeError if vmap and the loop differ by more than rounding."""
        finite = np.isfinite(expected)
        scale = np.abs(expected[finite]).max(initial=0.0)
        tolerance = _ROUNDINGS * torch.finfo(self._probe.dtype).eps * scale
        if not np.array_equal(np.isfinite(values), finite) or np.any(np.abs(values - expected)[finite] > tolerance):
            raise ProbeError(
                f"vmap gives the losses {values[:4]} where the loop gives {expected[:4]}, so that it does not compute "
                "the same; use the backend 'loop'"
            )


def planned(
    backend: Backend, chunk_size: int | None, max_bytes: int, probe: LossProbe, num_evaluations: int
) -> Plan | None:
    """Return the plan that the arguments imply, ``None`` for ``"auto"``.

    Raises:
        ValueError: a chunk of parameters takes more than ``max_bytes``.
    """
    if backend == "auto":
        return None
    if backend == "loop":
        return Plan("loop", chunk_size or _LOOP_CHUNK)
    size = chunk_size or min(_VMAP_CHUNKS[-1], num_evaluations, max(1, max_bytes // vmap_bytes(probe, 1)))
    if vmap_bytes(probe, size) > max_bytes:
        raise ValueError(
            f"the parameters at {size} points take {vmap_bytes(probe, size)} bytes, more than `max_bytes`={max_bytes}; "
            "lower `chunk_size` or use the backend 'loop'"
        )
    return Plan("vmap", size)


def vmap_bytes(probe: LossProbe, chunk_size: int) -> int:
    """Return the bytes that the parameters take at all points of a chunk, once as rows and once as leaves."""
    return 2 * chunk_size * probe.num_parameters * probe.dtype.itemsize
