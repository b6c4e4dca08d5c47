"""Where points lie, and what drawing them leaves untouched."""

import pytest
import torch

from lightning_regimes.pde import (
    Convection,
    Helmholtz,
    Wave,
    grid_points,
    heldout_points,
    sobol_sampler,
    uniform_sampler,
)


def test_grid_has_ends_and_order() -> None:
    points = grid_points(((0.0, 1.0), (2.0, 4.0)), (2, 3))
    expected = [[0, 2], [0, 3], [0, 4], [1, 2], [1, 3], [1, 4]]
    assert points.tolist() == [[float(entry) for entry in row] for row in expected]


@pytest.mark.parametrize(("sizes", "message"), [((2,), "one entry"), ((2, 1), "at least 2")])
def test_wrong_grids_raise(sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid_points(((0.0, 1.0), (0.0, 1.0)), sizes)


def test_interior_grid_has_no_point_with_a_condition() -> None:
    # Time starts after 0 and includes 1; both ends in space belong to the boundary.
    points = Convection().interior_grid()
    assert points.shape == (255 * 100, 2)
    assert points[:, 0].min() > 0
    assert points[:, 0].max() < Convection().domain[0][1]
    assert points[:, 1].min() == pytest.approx(0.01)
    assert points[:, 1].max() == 1
    assert Helmholtz().interior_grid().shape == (127 * 127, 2)


def test_condition_points_lie_on_their_faces() -> None:
    by_name = {condition.name: condition for condition in Wave().conditions}
    initial = by_name["initial"].grid((257, 101))
    assert initial.shape == (257, 2)
    assert (initial[:, 1] == 0).all()
    boundary = by_name["boundary"].grid((257, 101))
    assert boundary.shape == (202, 2)
    assert boundary[:, 0].unique().tolist() == [0.0, 1.0]


def test_samplers_are_reproducible_and_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    domain = ((0.0, 2.0), (-1.0, 1.0))
    first, second = (uniform_sampler(torch.Generator().manual_seed(3))(domain, 100) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(sobol_sampler(4)(domain, 64), sobol_sampler(4)(domain, 64))
    heldout_points(Convection())
    assert torch.equal(torch.get_rng_state(), state)
    for points in (first, sobol_sampler(4)(domain, 64)):
        assert points[:, 0].min() >= 0
        assert points[:, 0].max() <= 2
        assert points[:, 1].min() >= -1


def test_sobol_points_integrate_better_than_random_ones() -> None:
    points = sobol_sampler(0)(((0.0, 1.0), (0.0, 1.0)), 2048)
    assert (points[:, 0] * points[:, 1]).mean().item() == pytest.approx(0.25, abs=3e-4)


def test_heldout_points_cover_box_and_faces() -> None:
    points = heldout_points(Wave(), 1024)
    assert {name: len(entry) for name, entry in points.items()} == {
        "interior": 1024,
        "initial": 256,
        "velocity": 256,
        "boundary": 512,
    }
    with pytest.raises(ValueError, match="at least 4"):
        heldout_points(Wave(), 3)
