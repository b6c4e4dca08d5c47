"""Surfaces on disk, every second point of them, slices, and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightning_regimes.landscape import LossSurface
from lightning_regimes.landscape.surface_grid import SurfaceGrid, grid_axes


def surface_of(*axes: np.ndarray) -> LossSurface:
    grids = np.meshgrid(*axes, indexing="ij")
    values = sum((index + 1) * grid**2 + index * grid for index, grid in enumerate(grids))
    center = float(sum(0.0 for _ in axes))
    names = tuple(f"axis {index}" for index in range(len(axes)))
    return LossSurface(
        values, axes, "norm", names, center, 3.5, {"backend": "loop", "directions": {"eigenvalues": [0.1]}}
    )


def symmetric(*counts: int) -> tuple[np.ndarray, ...]:
    return grid_axes(0.3, counts, len(counts), max_bytes=2**20)


@given(
    arrays(np.float64, (3, 4), elements=st.floats(allow_nan=True, allow_infinity=True)), st.floats(), st.floats(0, 9)
)
def test_a_file_gives_back_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, center: float, scale: float
) -> None:
    path = tmp_path_factory.mktemp("surface") / "folder" / "surface"
    axes = (np.array([-1.0, 0.0, 1 / 3]), np.arange(4) / 7)
    surface = LossSurface(values, axes, "absolute", ("a", "ü"), center, scale, {"seed": 1, "list": [0.1, None, "x"]})
    surface.save(path)
    again = LossSurface.load(path)
    assert again.values.tobytes() == values.tobytes()
    assert [axis.tobytes() for axis in again.axes] == [axis.tobytes() for axis in axes]
    assert (again.unit, again.names, again.scale, again.metadata) == (
        surface.unit,
        surface.names,
        scale,
        surface.metadata,
    )
    assert np.array_equal(again.center_loss, center, equal_nan=True)
    assert [file.name for file in path.parent.iterdir()] == ["surface"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    with pytest.raises(ValueError, match="does not hold a loss surface"):
        LossSurface.load(tmp_path / "other.npz")


@pytest.mark.parametrize(("counts", "shape"), [((21, 11), (11, 5)), ((5,), (3,)), ((9, 9, 7), (5, 5, 3))])
def test_every_second_point_keeps_the_center(counts: tuple[int, ...], shape: tuple[int, ...]) -> None:
    surface = surface_of(*symmetric(*counts))
    half = surface.subsample(2)
    assert half.values.shape == shape
    assert half.center is not None
    assert surface.center is not None
    assert half.values[half.center] == surface.values[surface.center]
    np.testing.assert_array_equal(half.values, surface_of(*half.axes).values)


def test_every_second_point_needs_a_center() -> None:
    with pytest.raises(ValueError, match="use odd numbers of points"):
        surface_of(*symmetric(4, 5)).subsample(2)
    with pytest.raises(ValueError, match="leaves a single point"):
        surface_of(*symmetric(3)).subsample(2)
    with pytest.raises(ValueError, match="at least 1"):
        surface_of(*symmetric(3)).subsample(0)


def test_a_slice_goes_through_the_center() -> None:
    surface = surface_of(*symmetric(5, 7, 9))
    plane = surface.plane(2, 0)
    assert plane.names == ("axis 2", "axis 0")
    np.testing.assert_array_equal(plane.values, surface.values[:, 3, :].T)
    np.testing.assert_array_equal(plane.axes[0], surface.axes[2])
    with pytest.raises(ValueError, match="two different axes from 0 to 2"):
        surface.plane(1, 1)


def test_pictures_are_for_one_or_two_directions() -> None:
    pytest.importorskip("lightning_regimes.landscape.surface_figure")
    from matplotlib.figure import Figure

    assert isinstance(surface_of(*symmetric(5)).figure(), Figure)
    assert isinstance(surface_of(*symmetric(5, 7)).figure(), Figure)
    with pytest.raises(ValueError, match=r"take a slice, `plane\(0, 1\)`"):
        surface_of(*symmetric(3, 3, 3)).figure()


def test_shapes_have_to_fit() -> None:
    axis = np.arange(3.0)
    with pytest.raises(ValueError, match="the axes have"):
        LossSurface(np.zeros((3, 2)), (axis, axis), "norm", ("a", "b"), 0.0)
    with pytest.raises(ValueError, match="1 names for 2 axes"):
        LossSurface(np.zeros((3, 3)), (axis, axis), "norm", ("a",), 0.0)


@given(st.floats(1e-6, 1e6), st.integers(2, 60))
def test_axes_are_symmetric_to_the_last_bit(span: float, count: int) -> None:
    (axis,) = grid_axes(span, count, 1, max_bytes=2**20)
    np.testing.assert_array_equal(axis, -axis[::-1])
    assert axis[-1] == span
    assert bool((axis == 0).any()) == (count % 2 == 1)
    np.testing.assert_allclose(np.diff(axis), 2 * span / (count - 1), rtol=1e-9)


def test_points_are_in_the_order_of_the_grid() -> None:
    axes = grid_axes([0.5, (-0.5, 1.5)], [3, 5], 2, max_bytes=2**20)
    grid = SurfaceGrid(axes, 2.0)
    expected = [(2 * x, 2 * y) for x in axes[0] for y in axes[1]]
    np.testing.assert_array_equal(grid.coefficients(0, 15), expected)
    np.testing.assert_array_equal(grid.coefficients(4, 9), expected[4:9])
    assert (grid.center, grid.num_evaluations) == (6, 15)
    even = SurfaceGrid(grid_axes(1.0, [2, 3], 2, max_bytes=2**20), 1.0)
    assert (even.center, even.num_evaluations) == (6, 7)
    np.testing.assert_array_equal(even.coefficients(5, 7), [[1, 1], [0, 0]])
