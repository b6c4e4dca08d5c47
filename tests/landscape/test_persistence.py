import itertools
from pathlib import Path

import numpy as np
import pytest
from gudhi import CubicalComplex
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from lightning_regimes.landscape import (
    PersistenceDiagram,
    betti_curve,
    bottleneck,
    merge_tree,
    persistence,
    wasserstein,
)

DATA = Path(__file__).parent / "data"


def diagram_of(*intervals: tuple[float, float]) -> PersistenceDiagram:
    return PersistenceDiagram(intervals={0: np.reshape(intervals, (-1, 2)).astype(float)}, essential={0: np.zeros(1)})


def euler_characteristic(values: np.ndarray, level: float) -> int:
    """Alternating count of the cubes all of whose vertices are at most at the level."""
    below = values <= level
    total = 0
    for sides in itertools.product((0, 1), repeat=values.ndim):
        cubes = below
        for axis, side in enumerate(sides):
            if side:
                cubes = np.logical_and(
                    cubes.take(range(1, cubes.shape[axis]), axis), cubes.take(range(cubes.shape[axis] - 1), axis)
                )
        total += (-1) ** sum(sides) * int(cubes.sum())
    return total


def matching_costs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Costs of matching points to points and, in the border blocks, to the diagonal."""
    costs = np.zeros((len(a) + len(b),) * 2)
    costs[: len(a), : len(b)] = np.abs(a[:, None] - b[None]).max(axis=2)
    costs[: len(a), len(b) :] = (a[:, 1] - a[:, 0])[:, None] / 2
    costs[len(a) :, : len(b)] = (b[:, 1] - b[:, 0])[None] / 2
    return costs


def test_surfaces_of_networks(reference):
    _, values, expected = reference
    diagram = persistence(values)
    assert list(map(tuple, diagram.intervals[0])) == sorted(map(tuple, expected["gudhi"]["h0_vertices_finite"]))
    assert diagram.essential[0].tolist() == [expected["gudhi"]["h0_vertices_essential_birth"]]
    assert len(diagram.intervals[1]) == expected["gudhi"]["n_h1_vertices"]


def test_values_at_the_top_cells_would_give_another_diagram():
    values = np.load(DATA / "noisy_2d.npy")
    complex_ = CubicalComplex(top_dimensional_cells=values)
    complex_.compute_persistence()
    bars = complex_.persistence_intervals_in_dimension(0)
    lengths = np.diff(bars[np.isfinite(bars[:, 1])], axis=1)
    assert (len(lengths), lengths.mean()) == (69, pytest.approx(0.011534674, rel=1e-7))
    ours = persistence(values).lengths()
    assert (len(ours), ours.mean()) == (125, pytest.approx(0.015851808, rel=1e-7))


@pytest.mark.parametrize("seed", range(4))
def test_components_agree_with_the_merge_tree(seed, rough_grids):
    for values in rough_grids(seed, 60):
        tree, diagram = merge_tree(values), persistence(values)
        pairs = tree.values.flat[tree.pairs].reshape(-1, 2)
        np.testing.assert_array_equal(diagram.intervals[0], pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))])
        assert len(diagram.essential[0]) == tree.num_minima - len(tree.pairs)


@settings(deadline=None)
@given(arrays.arrays(np.int8, arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)))
def test_alternating_betti_numbers_are_the_euler_characteristic(values):
    diagram = persistence(values, dims=(0, 1, 2))
    levels = np.unique(values)
    curves = [betti_curve(diagram, dim, levels) for dim in range(3)]
    expected = [euler_characteristic(values, level) for level in levels]
    assert (curves[0] - curves[1] + curves[2]).tolist() == expected


def test_a_ring_is_a_loop():
    x, y = np.meshgrid(np.arange(-3.0, 4), np.arange(-3.0, 4), indexing="ij")
    diagram = persistence(np.abs(np.maximum(np.abs(x), np.abs(y)) - 2))
    assert diagram.intervals[1].tolist() == [[0.0, 2.0]]
    assert diagram.intervals[0].tolist() == []
    assert diagram.essential[0].tolist() == [0.0]
    assert diagram.essential[1].tolist() == []


def test_a_loop_around_a_wall_never_ends():
    values = np.ones((4, 4))
    values[1:3, 1:3] = np.nan
    diagram = persistence(values)
    assert diagram.essential[1].tolist() == [1.0]
    assert diagram.intervals[1].shape == (0, 2)


@settings(deadline=None)
@given(arrays.arrays(np.float64, (5, 4), elements={"min_value": -1, "max_value": 1}))
def test_diagrams_are_no_farther_apart_than_surfaces(values):
    noise = 0.1 * np.random.default_rng(0).uniform(-1, 1, values.shape)
    for dim in (0, 1):
        assert bottleneck(persistence(values), persistence(values + noise), dim) <= 0.1 + 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_those_of_the_best_matching(seed):
    generator = np.random.default_rng(seed)
    a, b = (persistence(generator.standard_normal((9, 8))) for _ in range(2))
    for dim in (0, 1):
        costs = matching_costs(a.intervals[dim], b.intervals[dim])
        for order in (1.0, 2.0):
            rows, columns = linear_sum_assignment(costs**order)
            expected = (costs[rows, columns] ** order).sum() ** (1 / order)
            found = wasserstein(a, b, dim, order, relative_error=1e-4)
            assert found == pytest.approx(expected, rel=1e-3)
            assert wasserstein(a, b, dim, order) == pytest.approx(expected, rel=0.011)
        thresholds = np.unique(costs)
        perfect = next(
            threshold
            for threshold in thresholds
            if (maximum_bipartite_matching(csr_array((costs <= threshold).astype(int))) >= 0).all()
        )
        assert bottleneck(a, b, dim) == pytest.approx(perfect, abs=1e-12)


def test_distances_by_hand():
    a, b = diagram_of((0, 4), (1, 2)), diagram_of((1, 4.5))
    assert bottleneck(a, b) == pytest.approx(1.0)
    assert wasserstein(a, b, relative_error=1e-6) == pytest.approx(1.5, rel=1e-5)
    assert bottleneck(a, a) == pytest.approx(0.0, abs=1e-300)
    assert wasserstein(a, a) == 0.0
    assert bottleneck(a, diagram_of()) == pytest.approx(2.0)
    assert bottleneck(diagram_of(), diagram_of()) == 0.0


def test_no_class_beyond_the_axes_of_the_grid():
    diagram = persistence([0.0, 2.0, 1.0], dims=(0, 1, 2))
    assert diagram.intervals[0].tolist() == [[1.0, 2.0]]
    assert diagram.lengths(0).tolist() == [1.0]
    for dim in (1, 2):
        assert diagram.intervals[dim].shape == (0, 2)
        assert diagram.essential[dim].shape == (0,)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="must hold a finite number"):
        persistence(np.full((2, 2), np.inf))
    with pytest.raises(ValueError, match=r"`dims` must not be negative, got \(-1,\)"):
        persistence([0.0, 1.0], dims=(-1,))
    a = diagram_of((0, 1))
    for distance in (bottleneck, wasserstein):
        with pytest.raises(ValueError, match=r"`dim` must be one of the diagram's \(0,\), got 1"):
            distance(a, a, 1)
    with pytest.raises(ValueError, match="`order` must be finite and at least 1, got 0"):
        wasserstein(a, a, order=0)
    with pytest.raises(ValueError, match="`relative_error` must be positive, got 0"):
        wasserstein(a, a, relative_error=0)
