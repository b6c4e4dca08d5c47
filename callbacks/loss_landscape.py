"""The loss on a grid around the weights, and the topology of that surface, while training goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import lightning as L
import numpy as np

from lightning_regimes.callbacks.diagnostic import Diagnostic
from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.callbacks.product_time import seconds_of_product
from lightning_regimes.callbacks.shared_eigenpairs import EigenpairsNeeded, dominant_eigenpairs, forget_eigenpairs
from lightning_regimes.callbacks.topology_measurement import TopologyHistory, measure_topology
from lightning_regimes.callbacks.training_clock import training_clock
from lightning_regimes.callbacks.weight_trajectory import WeightTrajectory
from lightning_regimes.curvature import HessianOperator
from lightning_regimes.landscape import Directions, LossSurface, MergeTree, directions, evaluate_surface, merge_tree
from lightning_regimes.landscape.contour_figure import draw_contour
from lightning_regimes.landscape.direction_normalization import Normalization
from lightning_regimes.landscape.smad import Variant
from lightning_regimes.landscape.surface_figure import draw_line, draw_surface
from lightning_regimes.landscape.surface_grid import grid_axes
from lightning_regimes.probe import LossProbe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["hessian", "random", "gradient", "pca"]

# Products for the first eigenvectors, beyond the three that each of them takes, as measured.
_PRODUCTS = 14
# Half-width of the grid as a share of the norm of the weights.
_SPAN = 0.1
# Of a grid, before training.
_MAX_BYTES = 2**30
# How much further than the path the grid reaches.
_MARGIN = 1.15
# What is tried where the budget does not cover the grid that was asked for.
_SMALLER_GRIDS = (15, 11)


class LossLandscape(Diagnostic):
    r"""Records the loss on a grid through the weights, with the minima of that surface and how deep they are.

    The axes are the first eigenvectors of the Hessian by default: on axes that cross the valleys at an angle, a grid
    shows minima that the loss does not have. The topology is that of all grid points with their neighbours along the
    axes: number of minima, SMAD (the average depth of a minimum below its lowest saddle, in the variants that are
    named in the keys), persistence, and distances to the diagram before. The same on every second point tells what the
    grid itself makes of it: where the two differ by more than 30 %, ``landscape/aliased`` is 1.

    SMAD depends on directions, span, resolution, batches and the scale of the loss; compare runs only where all of
    these agree. Of a smooth classifier it is usually 0 in a small neighbourhood. Beside a ``HessianSpectrum`` with the
    same schedule, ``num_batches``, ``loss``, ``parameters``, ``mode`` and precision, one search for eigenvectors serves
    both.

    Args:
        dim: number of axes, 1 to 5.
        points: on each axis; odd, so that the weights are one of them.
        span: half-width of the grid as a share of the norm of the weights, or, for normalised directions, in multiples
            of these. By default 0.1; for ``"pca"`` just enough on each axis to hold the path.
        directions: ``"hessian"``, ``"random"`` (the same ones in the whole run), ``"gradient"`` first and random ones
            next, or ``"pca"``, the principal components of the training's path.
        normalize: ``"filter"`` or ``"layer"`` scales random directions to the norms of the weights.
        variants: of SMAD, each under a key of its own: ``"merge_tree"``, ``"persistence"``, ``"contour_tree"``.
        trajectory: how many points of the training's path to keep for the picture, on the CPU; 0 for none. A resumed
            run draws its path from where it was resumed.
        batch_norm: ``"frozen"`` leaves the running statistics, ``"recompute"`` takes those of each point.
        backend: ``"loop"``, ``"vmap"`` or ``"auto"``, the faster one.
        tol: relative residual at which eigenvectors count as converged.
        seed: of random directions.
        at_end: measure when training ends.
        options: as for :class:`~lightning_regimes.callbacks.diagnostic.Diagnostic`. Where ``overhead_budget`` does not
            cover the grid in the time that is left, a smaller one is taken, with a warning.

    Raises:
        ValueError: an option is out of range.

    References:
        Landscaper and SMAD, arXiv:2602.07135; Li et al., Visualizing the loss landscape of neural nets,
        arXiv:1712.09913 (filter normalisation).
    """

    name: ClassVar[str] = "landscape"

    def __init__(
        self,
        dim: int = 2,
        *,
        points: int = 21,
        span: float | None = None,
        directions: Kind = "hessian",
        normalize: Normalization = "none",
        variants: Variant | Sequence[Variant] = ("merge_tree", "persistence"),
        trajectory: int = 0,
        batch_norm: Literal["frozen", "recompute"] = "frozen",
        backend: Literal["auto", "loop", "vmap"] = "auto",
        tol: float = 1e-3,
        seed: int = 0,
        at_end: bool = True,
        **options: Any,
    ) -> None:
        if not 1 <= dim <= 5:
            raise ValueError(f"`dim` is between 1 and 5, got {dim}")
        if points < 5 or points % 2 == 0:
            raise ValueError(f"`points` is odd and at least 5, so that the weights are on the grid, got {points}")
        if span is not None and not 0 < span < float("inf"):
            raise ValueError(f"`span` is positive, got {span}")
        if directions not in ("hessian", "random", "gradient", "pca"):
            raise ValueError(f"`directions` is 'hessian', 'random', 'gradient' or 'pca', got {directions!r}")
        if normalize != "none" and directions != "random":
            raise ValueError(f"`normalize` is for random directions, which {directions!r} are not")
        if normalize not in get_args(Normalization):
            raise ValueError(f"`normalize` is one of {', '.join(get_args(Normalization))}, got {normalize!r}")
        if batch_norm not in ("frozen", "recompute"):
            raise ValueError(f"`batch_norm` is 'frozen' or 'recompute', got {batch_norm!r}")
        if backend not in ("auto", "loop", "vmap"):
            raise ValueError(f"`backend` is 'auto', 'loop' or 'vmap', got {backend!r}")
        if batch_norm == "recompute" and (backend == "vmap" or options.get("mode") == "train"):
            raise ValueError("`batch_norm`='recompute' goes with neither `backend`='vmap' nor `mode`='train'")
        variants = (variants,) if isinstance(variants, str) else tuple(variants)
        if not variants or not set(variants) <= {"merge_tree", "persistence", "contour_tree"}:
            raise ValueError(f"`variants` are of 'merge_tree', 'persistence', 'contour_tree', got {variants!r}")
        if directions == "pca" and trajectory <= 2 * dim:
            raise ValueError(f"directions 'pca' need `trajectory` of more than {2 * dim} points, got {trajectory}")
        if not 0 < tol < 1:
            raise ValueError(f"`tol` lies between 0 and 1, got {tol}")
        self.dim = dim
        self.points = points
        self.span = span
        self.directions = directions
        self.normalize = normalize
        self.variants = variants
        self.trajectory = trajectory
        self.batch_norm = batch_norm
        self.backend = backend
        self.tol = tol
        self.seed = seed
        super().__init__(at_end=at_end, **options)

    def reset(self) -> None:
        """Forget everything about a training."""
        super().reset()
        self._path = WeightTrajectory(self.trajectory)
        self._topology = TopologyHistory()
        self._points = self.points
        self._products_in_points = 0

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule, num_parameters: int) -> None:
        """Require as many parameters as axes."""
        if self.dim > num_parameters:
            raise ValueError(f"`dim`={self.dim} axes do not fit into {num_parameters} parameters; lower `dim`")
        if self.batch_norm == "recompute" and self._processes.count > 1:
            raise ValueError("`batch_norm`='recompute' needs a single process; use 'frozen', or `mode`='train'")
        grid_axes(_SPAN, self.points, self.dim, max_bytes=_MAX_BYTES)

    @property
    def eigenpairs_needed(self) -> EigenpairsNeeded | None:
        """What other diagnostics may search for in passing."""
        return EigenpairsNeeded(self.dim, self.tol) if self.directions == "hessian" else None

    def expected_units(self) -> int:
        """Evaluations of the loss, with the products that the eigenvectors take expressed in them."""
        return int(self._points**self.dim) + self._products_in_points

    def try_unit(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        """Return the time of an evaluation, and note what the eigenvectors take in these."""
        probe.loss()
        start = time.perf_counter()
        probe.loss()
        seconds = time.perf_counter() - start
        if self.directions == "hessian":
            products = _PRODUCTS + 3 * self.dim
            self._products_in_points = round(products * seconds_of_product(probe) / seconds)
        return seconds

    def settle(self, trainer: L.Trainer, unit: float) -> None:
        """Take a smaller grid if the budget will not cover this one, the same in all processes."""
        if not self.at_end:
            self._shrink(trainer, unit)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the path at the initial weights."""
        super().on_train_start(trainer, pl_module)
        self._follow(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let go of the eigenpairs that were shared at the last step."""
        forget_eigenpairs(trainer, unless_current=True)
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Go on with the path; measure if it is time."""
        self._follow(trainer, pl_module)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let go of the last eigenpairs."""
        super().teardown(trainer, pl_module, stage)
        forget_eigenpairs(trainer)

    def measure(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> Measurement:
        """Evaluate the surface and look at its topology."""
        axes, searched_by = self._axes(probe, trainer)
        path, share = self._path_in_plane(probe, axes)
        span = self._span_of(path)
        surface = evaluate_surface(
            probe,
            axes,
            span=span,
            points=self._points,
            backend=self.backend,
            batch_norm=self.batch_norm,
        )
        if surface.num_nonfinite and math.isfinite(surface.center_loss):
            self.warn(
                f"{type(self).__name__}: the loss is not finite at {surface.num_nonfinite} of {surface.num_points} "
                f"points around step {trainer.global_step}; they count as infinitely high. Lower `span`.",
                once="nonfinite",
            )
        tree = merge_tree(surface.values)
        topology = measure_topology(surface, tree, self.variants, self._topology, step=trainer.global_step)
        scalars = {
            "landscape/center_loss": surface.center_loss,
            "landscape/num_nonfinite": surface.num_nonfinite,
            "landscape/span": max(span),
            "landscape/points": self._points,
            "landscape/num_evaluations": surface.num_points,
            "landscape/num_matvecs": axes.metadata.get("num_matvecs", 0),
        }
        for index, value in enumerate(axes.metadata.get("eigenvalues", ()), start=1):
            scalars[f"landscape/direction_{index}"] = float(value)
        arrays = {"landscape/values": surface.values}
        arrays |= {f"landscape/axis_{index}": axis for index, axis in enumerate(surface.axes, start=1)}
        if path is not None:
            arrays |= {"landscape/trajectory": path, "landscape/trajectory_steps": np.array(self._path.steps)}
        return Measurement(
            scalars={**scalars, **topology.scalars},
            arrays={**arrays, **topology.arrays},
            context={
                "names": list(surface.names),
                "unit": surface.unit,
                "scale": surface.scale,
                "directions": self.directions,
                "normalize": self.normalize,
                "eigenpairs": searched_by,
                "backend": surface.metadata["backend"],
                "batch_norm": self.batch_norm,
                "trajectory_share": share,
                "explained_variance_ratio": axes.metadata.get("explained_variance_ratio"),
                "mode": self.mode,
                "loss_source": probe.loss_source,
                **topology.context,
            },
            figures={**_surface_figures(surface, tree, path, list(self._path.steps)), **topology.figures},
        )

    def state_dict(self) -> dict[str, Any]:
        """The schedule, the grid, and the topology so far."""
        grid = {"points_asked": self.points, "points": self._points}
        return super().state_dict() | grid | {"topology": self._topology.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        super().load_state_dict(state_dict)
        if state_dict["points_asked"] == self.points:
            self._points = state_dict["points"]
        self._topology.load_state_dict(state_dict["topology"])

    def _axes(self, probe: LossProbe, trainer: L.Trainer) -> tuple[Directions, str | None]:
        if self.directions != "hessian":
            if self.directions == "pca" and self._path.names != tuple(probe.parameters):
                raise ValueError("other parameters are trained than when the path began; name them by `parameters`")
            points = self._path.points if self.directions == "pca" else None
            return (
                directions(probe, self.directions, self.dim, normalize=self.normalize, seed=self.seed, points=points),
                None,
            )
        with HessianOperator(probe) as operator:
            pairs, searched_by = dominant_eigenpairs(self, trainer, operator)
        return directions(probe, "hessian", self.dim, eigenpairs=pairs), searched_by

    def _path_in_plane(self, probe: LossProbe, axes: Directions) -> tuple[np.ndarray | None, float | None]:
        """Return the path in the coordinates of the grid, and the share of it that lies in their plane."""
        if not self._path.points:
            return None, None
        if self._path.names != tuple(probe.parameters):
            self.warn(
                f"{type(self).__name__}: other parameters are trained than when the training's path began, so that it "
                "is left out; name those to look at by `parameters`",
                once="path",
            )
            return None, None
        coordinates, share = self._path.coordinates(probe.point(), axes.vectors)
        return (coordinates / axes.scale(probe)).numpy(), share

    def _span_of(self, path: np.ndarray | None) -> list[float]:
        if self.span is not None or self.directions != "pca" or path is None:
            return [_SPAN if self.span is None else self.span] * self.dim
        reach = np.abs(path).max(axis=0)
        if not reach.max() > 0:
            raise ValueError("the weights have not moved yet, so that there is no path to look along")
        # An axis along which nothing moved has no scale of its own.
        return list(_MARGIN * np.maximum(reach, 1e-3 * reach.max()))

    def _follow(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._enabled or not self.trajectory:
            return
        start = time.perf_counter()
        with training_clock(trainer).paused(pl_module.device):
            is_followed = False
            with self._tolerated("stops following the path"):
                self._path.offer(trainer.global_step, pl_module, self._sources["parameters"])
                is_followed = True
            if not is_followed:
                self._path = WeightTrajectory(0)
        self.budget.spent += time.perf_counter() - start

    def _shrink(self, trainer: L.Trainer, seconds: float) -> None:
        affordable = self.affordable_seconds(trainer)
        asked = self._points

        def affordable_points() -> int:
            for points in (asked, *(smaller for smaller in _SMALLER_GRIDS if smaller < asked)):
                self._points = points
                if self.expected_units() * seconds <= affordable:
                    break
            return self._points

        # The clocks of several processes differ, and their grids must not.
        self._points = self._processes.broadcast(affordable_points)
        if self._points != asked and trainer.is_global_zero:
            self.warn(
                f"{type(self).__name__} takes {self._points} points an axis in place of {asked}: the budget grants "
                f"{affordable:.2g} s until training ends, and each point takes {seconds:.2g} s. Raise "
                "`overhead_budget`, or set a period, for the grid that was asked for.",
                once="shrink",
            )


def _surface_figures(
    surface: LossSurface, tree: MergeTree, path: np.ndarray | None, steps: list[int]
) -> dict[str, Callable[[], Figure]]:
    """Return what draws the surface, in as many dimensions as can be drawn."""
    if surface.dim == 1:
        return {"landscape/surface": lambda: draw_line(surface)}
    if surface.dim == 2:
        return {
            "landscape/surface": lambda: draw_surface(surface),
            "landscape/contour": lambda: draw_contour(surface, trajectory=path, steps=steps, tree=tree),
        }
    plane = surface.plane(0, 1)
    return {"landscape/surface": lambda: draw_surface(plane), "landscape/contour": lambda: draw_contour(plane)}
