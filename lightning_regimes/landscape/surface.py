"""The loss on a grid of points around another."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Unit = Literal["norm", "absolute"]


@dataclass(frozen=True, eq=False)
class LossSurface:
    r"""The loss at :math:`\theta + c \sum_i x_i v_i` for the coordinates x on a grid.

    Attributes:
        values: float64, one dimension a direction, in the order of the directions; NaN and infinity as they came.
        axes: the coordinates :math:`x_i` along each direction, ascending.
        unit: ``"norm"``: the directions are unit vectors and :math:`c = \|\theta\|`, so that a coordinate is a share of
            the norm of the parameters. ``"absolute"``: a coordinate is a multiple of its vector, c = 1.
        names: of the axes.
        center_loss: the loss at the point itself, where all coordinates are 0.
        scale: c.
        metadata: how the surface was made, in plain numbers, strings and lists.

    Raises:
        ValueError: the shapes do not fit together.
    """

    values: Array
    axes: tuple[Array, ...]
    unit: Unit
    names: tuple[str, ...]
    center_loss: float
    scale: float = 1.0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.shape != tuple(len(axis) for axis in self.axes):
            raise ValueError(
                f"`values` has shape {self.values.shape}, but the axes have {[len(axis) for axis in self.axes]} points"
            )
        if len(self.names) != len(self.axes):
            raise ValueError(f"`names` holds {len(self.names)} names for {len(self.axes)} axes")
        if self.unit not in ("norm", "absolute"):
            raise ValueError(f"`unit` is 'norm' or 'absolute', got {self.unit!r}")

    @property
    def dim(self) -> int:
        """Number of directions."""
        return self.values.ndim

    @property
    def num_points(self) -> int:
        """Number of points on the grid."""
        return int(self.values.size)

    @property
    def num_nonfinite(self) -> int:
        """Number of points at which the loss is NaN or infinite."""
        return int(np.count_nonzero(~np.isfinite(self.values)))

    @property
    def center(self) -> tuple[int, ...] | None:
        """Index of the point itself, ``None`` if it is not on the grid, as with an even number of points."""
        places = [np.flatnonzero(axis == 0) for axis in self.axes]
        return tuple(int(place[0]) for place in places) if all(len(place) for place in places) else None

    def subsample(self, step: int = 2) -> LossSurface:
        """Return every ``step``-th point along each axis, counted from the center, which is kept.

        What differs between a surface and its half is owed to the grid rather than to the loss.

        Raises:
            ValueError: the center is not on the grid, ``step`` is less than 1, or a single point would be left.
        """
        if step < 1:
            raise ValueError(f"`step` is at least 1, got {step}")
        center = self._require_center("subsample")
        slices = tuple(slice(place % step, None, step) for place in center)
        values = self.values[slices]
        if min(values.shape) < 2:
            raise ValueError(f"`step`={step} leaves a single point of an axis of {self.values.shape}")
        axes = tuple(axis[chosen] for axis, chosen in zip(self.axes, slices, strict=True))
        return replace(self, values=values.copy(), axes=axes)

    def plane(self, i: int, j: int) -> LossSurface:
        """Return the two-dimensional surface along axes i and j, with all other coordinates 0.

        Raises:
            ValueError: the axes are not two of the surface's, or the center is not on the grid.
        """
        if i == j or not (0 <= i < self.dim and 0 <= j < self.dim):
            raise ValueError(f"`i` and `j` are two different axes from 0 to {self.dim - 1}, got {i} and {j}")
        center = self._require_center("plane")
        index = tuple(slice(None) if axis in (i, j) else place for axis, place in enumerate(center))
        values = self.values[index]
        return replace(
            self,
            values=(values if i < j else values.T).copy(),
            axes=(self.axes[i], self.axes[j]),
            names=(self.names[i], self.names[j]),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the surface to an npz file, which holds no pickled objects."""
        header = {
            "unit": self.unit,
            "names": list(self.names),
            "center_loss": self.center_loss,
            "scale": self.scale,
            "metadata": dict(self.metadata),
        }
        arrays = {f"axis_{index}": axis for index, axis in enumerate(self.axes)}
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                np.savez(file, values=self.values, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LossSurface:
        """Read what :meth:`save` has written.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not a surface.
        """
        with np.load(path, allow_pickle=False) as file:
            if "header" not in file or "values" not in file:
                raise ValueError(f"{os.fspath(path)} does not hold a loss surface")
            header = json.loads(str(file["header"]))
            values = file["values"]
            axes = tuple(file[f"axis_{index}"] for index in range(values.ndim))
        header["names"] = tuple(header["names"])
        return cls(values=values, axes=axes, **header)

    def figure(self) -> Figure:
        """Return a picture: a line for one direction, contours for two.

        Raises:
            ValueError: there are more than two directions.
        """
        from lightning_regimes.landscape.surface_figure import draw_contour, draw_line

        if self.dim > 2:
            raise ValueError(f"a surface in {self.dim} directions cannot be drawn; take a slice, `plane(0, 1)`")
        return draw_line(self) if self.dim == 1 else draw_contour(self)

    def _require_center(self, name: str) -> tuple[int, ...]:
        if self.center is None:
            raise ValueError(
                f"`{name}` needs the coordinate 0 on each axis, got a grid of shape {self.values.shape} without it; "
                "use odd numbers of points"
            )
        return self.center
