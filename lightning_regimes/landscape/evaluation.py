"""The loss on a grid around the point of a probe."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.distributed as dist
from rich.progress import Progress
from torch import Tensor

from lightning_regimes.landscape.directions import Directions
from lightning_regimes.landscape.evaluation_backend import Backend, Evaluator, Plan, planned
from lightning_regimes.landscape.surface import LossSurface, Unit
from lightning_regimes.landscape.surface_grid import Span, SurfaceGrid, grid_axes
from lightning_regimes.landscape.surface_progress import SurfaceProgress, fingerprint
from lightning_regimes.probe import LossProbe, ProbeError
from lightning_regimes.processes import Processes

BatchNorm = Literal["frozen", "recompute"]


def evaluate_surface(
    probe: LossProbe,
    directions: Directions,
    *,
    span: Span = 0.1,
    points: int | Sequence[int] = 21,
    unit: Unit | None = None,
    backend: Backend = "auto",
    batch_norm: BatchNorm = "frozen",
    chunk_size: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    process_group: dist.ProcessGroup | None = None,
    max_bytes: int = 2**30,
    progress: bool = False,
) -> LossSurface:
    r"""Return the loss at :math:`\theta + c \sum_i x_i v_i` for all x on a grid, in any number of directions.

    With ``unit="norm"``, the :math:`v_i` are unit vectors and :math:`c = \|\theta\|`, the norm of the probe's
    parameters: a span of 0.1 reaches 10 % of it in each direction, whatever the network. With ``unit="absolute"``,
    c = 1: a coordinate counts multiples of the vector. Coordinate 1 is then the other point of an interpolation, or the
    whole random direction that was normalised to the filters, whose norm is about that of the weights.

    An odd number of points puts the probe's own point on the grid. There, by the loop, the value is that of
    ``probe.loss()`` to the last bit. NaN and infinity are kept. Losses are summed over batches in float64.

    The loop evaluates one point after another. ``vmap`` evaluates a chunk of them at once, which is faster for small
    networks on small batches and on GPUs, but not possible for every loss; its values differ by rounding. ``"auto"``
    tries both on the first points and keeps the faster one, with the same values as when that is named. As it goes by
    time, repetitions may choose differently: name the backend where each last bit counts.

    Over the processes of a probe with a ``process_group``, each evaluates all points on its own batches, and one
    all-reduce sums them. With a ``process_group`` here, the processes hold the same probe on the same batches, and
    share the points; again there is one all-reduce. ``"auto"`` is decided by the first process.

    Module, buffers, gradients and random generators are left as they are.

    Args:
        probe: the loss and the point.
        directions: the axes.
        span: half-width of the grid about the point, or its two ends (low, high); one number for all axes or a
            sequence of one for each.
        points: number of points on an axis, at least 2; one number or one for each.
        unit: see above; default: that of the directions, or ``"absolute"`` where all parameters are zero.
        backend: see above.
        batch_norm: ``"frozen"`` evaluates with the running statistics of the module; ``"recompute"`` passes the batches
            once more at each point to have those of the point, and takes the loop.
        chunk_size: points that are evaluated together; default 16 for the loop, where it only says how often progress
            is noted, 64 for vmap, and 16 or 64 for ``"auto"``.
        resume: path of an npz file in which the values are kept from time to time. If it is there, only what it lacks
            is evaluated, and the outcome is the same to the last bit. A file of another surface is told by its
            parameters, buffers, batches, directions and grid, not by other attributes of the module. Several processes
            have a file each, with the number of the process in its name.
        process_group: of ``torch.distributed``, see above.
        max_bytes: bound on what the grid takes, 33 bytes a point, and on what the parameters of a chunk take under
            vmap.
        progress: show a progress bar, in the first process.

    Raises:
        ValueError: an argument is out of its range, the arguments do not go together, the directions do not fit the
            probe, or the file to resume from belongs to another surface.
        TypeError: ``span`` or ``points`` is neither a number nor a sequence.
        ProbeError: the loss cannot be evaluated, or not by ``backend="vmap"``; it has state of its own, so that it is
            no function of the parameters; or another process failed.

    References:
        Li, Xu, Taylor, Studer, Goldstein, Visualizing the loss landscape of neural nets, arXiv:1712.09913.
    """
    _check_options(probe, backend, batch_norm, chunk_size, process_group)
    vectors = _checked_vectors(probe, directions)
    norm = float(torch.linalg.vector_norm(probe.point().double()))
    chosen_unit = _checked_unit(vectors, unit, directions.unit, norm)
    axes = grid_axes(span, points, directions.dim, max_bytes=max_bytes)
    grid = SurfaceGrid(axes, norm if chosen_unit == "norm" else 1.0)
    plan = planned(backend, chunk_size, max_bytes, probe, grid.num_evaluations)
    processes = probe.processes if process_group is None else Processes(process_group)
    evaluation = _Evaluation(
        Evaluator(probe, vectors, grid, recompute=batch_norm == "recompute"),
        grid,
        share=(0, 1) if process_group is None else (processes.rank, processes.count),
        path=_own_path(resume, processes),
        fingerprint=lambda: fingerprint(
            probe, vectors, grid, {"backend": backend, "batch_norm": batch_norm, "chunk_size": chunk_size}
        ),
    )
    if plan is None:
        plan = Plan(**processes.broadcast(lambda: asdict(evaluation.decide(chunk_size, max_bytes))))
    with Progress(transient=True, disable=not progress or processes.rank > 0) as bar:
        task = bar.add_task("loss surface", total=None)
        flat = processes.sum(
            lambda: evaluation.values(plan, functools.partial(bar.update, task)).to(probe.device),
            shape=(grid.num_evaluations,),
            dtype=torch.float64,
            device=probe.device,
        )
    values = flat.cpu().numpy()
    metadata = {
        "directions": {"kind": directions.kind, **directions.metadata},
        "backend": plan.backend,
        "chunk_size": plan.chunk_size,
        "batch_norm": batch_norm,
        "mode": probe.mode,
        "dtype": str(probe.dtype).removeprefix("torch."),
        "loss_source": probe.loss_source,
        "num_parameters": probe.num_parameters,
        "parameter_norm": norm,
        "num_batches": len(probe.all_weights),
        "num_evaluations": grid.num_evaluations,
    }
    return LossSurface(
        values=values[: grid.num_points].reshape(grid.shape).copy(),
        axes=grid.axes,
        unit=chosen_unit,
        names=directions.names,
        center_loss=float(values[grid.center]),
        scale=grid.scale,
        metadata=json.loads(json.dumps(metadata)),
    )


class _Evaluation:
    """The points that this process evaluates: of every ``share[1]`` chunks the one with number ``share[0]``."""

    def __init__(
        self,
        evaluator: Evaluator,
        grid: SurfaceGrid,
        *,
        share: tuple[int, int],
        path: Path | None,
        fingerprint: Callable[[], dict[str, str]],
    ) -> None:
        self._evaluator = evaluator
        self._grid = grid
        self._share = share
        self._path = path
        self._fingerprint = fingerprint

    @functools.cached_property
    def _progress(self) -> SurfaceProgress:
        # When it is first needed, where an error of it is one in all processes.
        return SurfaceProgress(
            self._path, self._grid.num_evaluations, {} if self._path is None else self._fingerprint()
        )

    def decide(self, chunk_size: int | None, max_bytes: int) -> Plan:
        """Return the plan of the values that are there already, otherwise that of the fastest backend."""
        if self._progress.plan is not None:
            return Plan(**self._progress.plan)
        plan, found = self._evaluator.fastest(chunk_size, max_bytes)
        self._progress.begin(asdict(plan))
        self._progress.add(0, found)
        return plan

    def values(self, plan: Plan, report: Callable[..., Any]) -> Tensor:
        """Return the losses at the points of this process, 0 at all others, shape (evaluations,), float64."""
        self._progress.begin(asdict(plan))
        total = sum(stop - start for start, stop in self._chunks(plan))
        rest = sum(stop - start for start, stop in self._pending(plan))
        report(total=total, completed=total - rest)
        if rest:
            self._evaluate(plan, lambda count: report(advance=count))
        own = torch.zeros(self._grid.num_evaluations, dtype=torch.float64)
        for start, stop in self._chunks(plan):
            own[start:stop] = torch.from_numpy(self._progress.values[start:stop])
        return own

    def _chunks(self, plan: Plan) -> Iterator[tuple[int, int]]:
        return plan.chunks(self._grid.num_evaluations, self._share)

    def _pending(self, plan: Plan) -> Iterator[tuple[int, int]]:
        return ((start, stop) for start, stop in self._chunks(plan) if not self._progress.done[start:stop].all())

    def _evaluate(self, plan: Plan, report: Callable[[int], None]) -> None:
        try:
            with self._evaluator.isolated():
                center = self._evaluator.center()
                evaluation = self._evaluator.loop() if plan.backend == "loop" else self._evaluator.vmap()
                with evaluation.held():
                    for start, stop in self._pending(plan):
                        self._progress.add(start, self._evaluator.values(evaluation, start, stop))
                        report(stop - start)
                try:
                    center.require()
                except ProbeError:
                    self._progress.forget()
                    raise
        finally:
            self._progress.write()


def _check_options(
    probe: LossProbe,
    backend: str,
    batch_norm: str,
    chunk_size: int | None,
    process_group: dist.ProcessGroup | None,
) -> None:
    if backend not in get_args(Backend):
        raise ValueError(f"`backend` is one of {', '.join(get_args(Backend))}, got {backend!r}")
    if batch_norm not in get_args(BatchNorm):
        raise ValueError(f"`batch_norm` is 'frozen' or 'recompute', got {batch_norm!r}")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"`chunk_size` is at least 1, got {chunk_size}")
    if batch_norm == "recompute":
        if backend == "vmap":
            raise ValueError("`batch_norm`='recompute' changes statistics at each point, so that it needs the loop")
        if probe.mode != "eval":
            raise ValueError("`batch_norm`='recompute' is for a probe with `mode`='eval'; in 'train' none are used")
        if probe.processes.count > 1:
            raise ValueError(
                "`batch_norm`='recompute' needs all batches in each process; make the probe without `process_group`, "
                "and give that to `evaluate_surface`"
            )
    if process_group is not None and probe.processes.count > 1:
        raise ValueError("`process_group` shares out the points of a probe that has none of its own; this one has")


def _checked_vectors(probe: LossProbe, directions: Directions) -> Tensor:
    if len(directions.vectors) != probe.num_parameters:
        raise ValueError(
            f"`directions` have {len(directions.vectors)} entries, but the probe has {probe.num_parameters} parameters"
        )
    # One direction after another in memory, as all products with it want it.
    return directions.vectors.detach().to(probe.device, probe.dtype).T.contiguous().T


def _checked_unit(vectors: Tensor, unit: Unit | None, default: Unit, norm: float) -> Unit:
    if unit not in (None, *get_args(Unit)):
        raise ValueError(f"`unit` is 'norm' or 'absolute', got {unit!r}")
    if unit == "norm" and norm == 0:
        raise ValueError("`unit`='norm' needs parameters that are not all zero; use 'absolute'")
    chosen = unit or (default if norm > 0 else "absolute")
    lengths = torch.linalg.vector_norm(vectors.double(), dim=0)
    if chosen == "norm" and not bool(((lengths - 1).abs() < 1e-3).all()):
        raise ValueError(
            f"`unit`='norm' is for unit vectors, got vectors of length {[round(x, 4) for x in lengths.tolist()]}; use "
            "'absolute'"
        )
    return chosen


def _own_path(resume: str | os.PathLike[str] | None, processes: Processes) -> Path | None:
    if resume is None:
        return None
    path = Path(resume)
    return path if processes.count == 1 else path.with_name(f"{path.stem}-{processes.rank}{path.suffix}")
