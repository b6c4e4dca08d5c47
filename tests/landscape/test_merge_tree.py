import itertools
import sys

import numpy as np
import pytest
from gudhi import CubicalComplex
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from lightning_regimes.landscape import MergeTree, merge_tree, smad


def meshgrid(*lengths: int, half_width: float = 1.0) -> list[np.ndarray]:
    return np.meshgrid(*(np.linspace(-half_width, half_width, length) for length in lengths), indexing="ij")


def gap_heights(tree: MergeTree) -> list[tuple[float, float]]:
    lows = tree.values.flat[tree.minima]
    highs = [np.inf if saddle < 0 else tree.values.flat[saddle] for saddle in tree.saddles]
    return sorted(zip(lows.tolist(), map(float, highs), strict=True))


def pair_heights(tree: MergeTree) -> list[tuple[float, float]]:
    return sorted(map(tuple, tree.values.flat[tree.pairs].tolist()))


def finite_bars(found: np.ndarray) -> list[tuple[float, float]]:
    return sorted(map(tuple, np.reshape(found, (-1, 2))[np.isfinite(np.reshape(found, (-1, 2))).all(axis=1)].tolist()))


@pytest.mark.parametrize("seed", range(4))
def test_random_grids_agree_with_the_level_sweep_and_gudhi(seed, rough_grids, level_sweep):
    for values in rough_grids(seed):
        tree, truth = merge_tree(values), level_sweep(values)
        assert gap_heights(tree) == truth.gaps
        assert pair_heights(tree) == truth.pairs
        complex_ = CubicalComplex(vertices=tree.values)
        complex_.compute_persistence()
        assert pair_heights(tree) == finite_bars(complex_.persistence_intervals_in_dimension(0))


def test_diagonal_neighbours_agree_with_the_level_sweep_and_the_top_cells_of_gudhi(rough_grids, level_sweep):
    for values in rough_grids(4, 80):
        tree, truth = merge_tree(values, connectivity="moore"), level_sweep(values, diagonal=True)
        assert gap_heights(tree) == truth.gaps
        assert pair_heights(tree) == truth.pairs
        complex_ = CubicalComplex(top_dimensional_cells=tree.values)
        complex_.compute_persistence()
        assert pair_heights(tree) == finite_bars(complex_.persistence_intervals_in_dimension(0))


def test_surfaces_of_networks(reference, level_sweep):
    name, values, expected = reference
    tree, truth = merge_tree(values), level_sweep(values)
    assert tree.num_minima == expected["level_sweep"]["n_minima"]
    assert gap_heights(tree) == truth.gaps
    assert pair_heights(tree) == truth.pairs
    np.testing.assert_array_equal(
        np.sort(tree.gaps[tree.saddles >= 0]), np.sort(np.array(expected["level_sweep"]["gaps"]))
    )
    assert pair_heights(tree) == sorted(map(tuple, expected["gudhi"]["h0_vertices_finite"]))
    if name == "noisy_2d":
        saddles = np.column_stack([tree.minima, tree.saddles])
        assert sorted(saddles.tolist()) == sorted(expected["landscaper"]["minimum_saddle_pairs"])
        assert (
            dict(zip(map(str, tree.minima.tolist()), tree.volumes.tolist(), strict=True))
            == (expected["landscaper"]["basin_sizes"])
        )
        # Landscaper's tree has the maximum as a root of its own.
        assert len(tree.parents) + 1 == expected["landscaper"]["merge_tree_nodes"]
        assert len(tree.parents) == expected["landscaper"]["merge_tree_edges"]


@pytest.mark.parametrize("connectivity", ["von_neumann", "moore"])
def test_basins_follow_the_steepest_slope(connectivity):
    values = np.random.default_rng(0).standard_normal((6, 5, 4))
    spacing = np.array([1.0, 0.3, 2.0])
    tree = merge_tree(values, connectivity=connectivity, spacing=spacing.tolist())
    for point in np.ndindex(values.shape):
        steepest, lower = 0.0, None
        for offset in itertools.product((-1, 0, 1), repeat=3):
            neighbour = tuple(np.add(point, offset))
            is_inside = all(0 <= axis < length for axis, length in zip(neighbour, values.shape, strict=True))
            if not is_inside or not any(offset) or (connectivity == "von_neumann" and np.abs(offset).sum() > 1):
                continue
            slope = (values[point] - values[neighbour]) / np.linalg.norm(spacing * offset)
            if slope > steepest:
                steepest, lower = slope, neighbour
        if lower is None:
            assert tree.minima[tree.basins[point]] == np.ravel_multi_index(point, values.shape)
        else:
            assert tree.basins[point] == tree.basins[lower]
    np.testing.assert_array_equal(tree.volumes, np.bincount(tree.basins.ravel()))


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_bowls_have_one_minimum_at_any_offset(offset):
    x, y = meshgrid(31, 22)
    for bowl in (x**2, x**2 + 5 * y**2, 1e-3 * (x**2 + y**2)):
        tree = merge_tree(offset + bowl)
        assert tree.num_minima == 1
        assert tree.gaps.tolist() == [0.0]
        assert tree.saddles.tolist() == [-1]
        assert tree.parents.tolist() == [-1]
        assert tree.pairs.shape == (0, 2)
        assert tree.volumes.tolist() == [31 * 22]


def test_a_flat_grid_is_one_basin():
    tree = merge_tree(np.full((4, 5), 2.0))
    assert (tree.num_minima, tree.gaps.tolist(), tree.volumes.tolist()) == (1, [0.0], [20])


def test_a_barrier_at_the_maximum():
    tree = merge_tree([0.0, 2.0, 5.0, 1.0, 3.0])
    assert tree.minima.tolist() == [0, 3]
    assert tree.saddles.tolist() == [2, 2]
    assert tree.gaps.tolist() == [5.0, 4.0]
    assert tree.pairs.tolist() == [[3, 2]]
    assert tree.parents.tolist() == [2, 2, -1]
    assert tree.merges.tolist() == [2]
    assert tree.basins.tolist() == [0, 0, 1, 1, 1]


def test_three_basins_that_meet_in_one_point_have_one_merge():
    values = np.array([[9.0, 0.0, 9.0], [1.0, 4.0, 2.0], [9.0, 9.0, 9.0]])
    tree = merge_tree(values)
    assert tree.minima.tolist() == [1, 3, 5]
    assert tree.saddles.tolist() == [4, 4, 4]
    assert tree.merges.tolist() == [4]
    assert tree.parents.tolist() == [3, 3, 3, -1]
    assert tree.pairs.tolist() == [[3, 4], [5, 4]]


def test_rotated_valley_has_minima_that_only_the_grid_makes(level_sweep):
    def valley(center):
        x, y = (axis - shift for axis, shift in zip(meshgrid(25, 25), center, strict=True))
        u, v = np.cos(np.pi / 6) * x + np.sin(np.pi / 6) * y, np.cos(np.pi / 6) * y - np.sin(np.pi / 6) * x
        return (100 * u**2 + v**2) / 2

    # Symmetric about a grid point, the count is odd.
    for center, num_minima in (((0.0, 0.0), 15), ((0.05, 0.02), 14)):
        values = valley(center)
        assert len(level_sweep(values).gaps) == num_minima
        tree = merge_tree(values)
        assert tree.num_minima == num_minima
        coarse = smad(values[::2, ::2])
        assert abs(smad(tree) - coarse) > 0.3 * max(smad(tree), coarse)
    x, y = meshgrid(25, 25)
    assert merge_tree((100 * x**2 + y**2) / 2).num_minima == 1


@settings(deadline=None)
@given(arrays.arrays(np.int8, arrays.array_shapes(min_dims=1, max_dims=3, max_side=5)))
def test_the_nodes_count_the_components_at_every_level(values):
    tree = merge_tree(values)
    heights = tree.heights
    for level in np.unique(values):
        tops = np.where(tree.parents < 0, np.inf, heights[tree.parents])
        assert ((heights <= level) & (tops > level)).sum() == ndimage.label(values <= level)[1]
    assert (tree.parents[:-1] > np.arange(len(heights) - 1)).all()
    assert (heights[tree.parents[:-1]] > heights[:-1]).all()


@settings(deadline=None)
@given(arrays.arrays(np.int8, (4, 5)), st.integers(0, 40))
def test_pairs_that_are_not_persistent_are_left_out(values, threshold):
    full, tree = merge_tree(values), merge_tree(values, min_persistence=threshold)
    persistent = full.pairs[full.persistences > threshold]
    np.testing.assert_array_equal(np.sort(tree.persistences), np.sort(full.persistences[full.persistences > threshold]))
    assert sorted(tree.minima.tolist()) == sorted([full.minima[0], *persistent[:, 0]])
    assert tree.volumes.sum() == values.size


def test_walls_part_the_basins():
    values = [3.0, 0.0, 3.0, np.nan, 1.0, 2.0, 0.5, 2.0, np.inf, np.inf, 4.0]
    tree = merge_tree(values)
    assert tree.minima.tolist() == [1, 6, 4, 10]
    assert tree.saddles.tolist() == [-1, 5, 5, -1]
    assert tree.gaps.tolist() == [np.inf, 1.5, 1.0, np.inf]
    assert tree.pairs.tolist() == [[4, 5]]
    assert tree.basins.tolist() == [0, 0, 0, -1, 2, 1, 1, 1, -1, -1, 3]
    assert tree.volumes.tolist() == [3, 3, 1, 1]
    assert tree.parents.tolist() == [-1, 4, 4, -1, -1]
    assert np.isinf(tree.values[3])


def test_basins_meet_in_the_gate_of_a_wall():
    x, y = meshgrid(9, 9)
    values = x**2 + y**2
    values[4, 1:], values[4, 0] = np.nan, 1.5
    tree = merge_tree(values)
    assert tree.num_minima == 2
    assert tree.gaps.tolist() == [1.5 - values[3, 4], 1.5 - values[5, 4]]


def test_profile_is_as_wide_as_the_components_are_large():
    values = np.random.default_rng(1).standard_normal((12, 9))
    values[3, 2:5] = np.nan
    tree = merge_tree(values)
    profile = tree.profile()
    roots = profile.parents < 0
    assert profile.widths[roots].sum() == tree.volumes.sum() == 105
    assert (profile.tops[roots] == np.nanmax(values)).all()
    points = np.concatenate([tree.minima, tree.merges])
    for node, parent in enumerate(profile.parents):
        level = profile.tops[node] if parent >= 0 else np.inf
        labels, _ = ndimage.label(np.where(np.isnan(values), np.inf, values) < level)
        assert profile.widths[node] == (labels == labels.flat[points[node]]).sum()
        if parent >= 0:
            left, right = (profile.centers + sign * profile.widths / 2 for sign in (-1, 1))
            assert abs(profile.centers[node] - profile.centers[parent]) + profile.widths[node] / 2 <= (
                profile.floors[parent] / 2 + 1e-9
            )
            for sibling in np.flatnonzero(profile.parents == parent):
                assert sibling == node or left[sibling] >= right[node] - 1e-9 or right[sibling] <= left[node] + 1e-9
    np.testing.assert_array_equal(profile.depths[: tree.num_minima], tree.gaps)


def test_profile_of_two_basins_by_hand():
    profile = merge_tree([0.0, 2.0, 5.0, 1.0, 3.0, 4.0, 6.0]).profile()
    assert profile.widths.tolist() == [2.0, 3.0, 7.0]
    assert profile.floors.tolist() == [0.0, 0.0, 5.0]
    assert profile.bottoms.tolist() == [0.0, 1.0, 5.0]
    assert profile.tops.tolist() == [5.0, 5.0, 6.0]
    assert profile.centers.tolist() == [5.0, 2.5, 3.5]
    assert profile.outline(0).tolist() == [
        [4.0, 5.0], [4.0, 2.0], [4.5, 0.0], [5.0, 0.0], [5.0, 0.0], [5.5, 0.0], [6.0, 2.0], [6.0, 5.0]
    ]  # fmt: skip


def test_graph_points_from_the_last_merge_to_the_minima():
    networkx = pytest.importorskip("networkx")
    tree = merge_tree(np.random.default_rng(2).standard_normal((7, 6)))
    graph = tree.to_networkx()
    assert networkx.is_arborescence(graph)
    leaves = [node for node, degree in graph.out_degree if degree == 0]
    assert sorted(leaves) == sorted(tree.minima.tolist())
    for minimum, saddle, gap, volume in zip(tree.minima, tree.saddles, tree.gaps, tree.volumes, strict=True):
        assert list(graph.predecessors(minimum)) == [saddle]
        assert graph.edges[saddle, minimum]["gap"] == gap
        assert graph.nodes[minimum]["volume"] == volume
        assert tree.values[graph.nodes[minimum]["position"]] == graph.nodes[minimum]["value"]


def test_graph_needs_networkx(monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ImportError, match="`to_networkx` needs the package networkx"):
        merge_tree([0.0, 1.0]).to_networkx()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((3, 3), np.nan), "must hold a finite number"),
        ([0.0, -np.inf], "bounded from below"),
        (1.0, "at least one point and one axis"),
        ([], "at least one point and one axis"),
        ([1j, 2.0], "real numbers"),
        (["a"], "real numbers"),
    ],
)
def test_what_is_no_surface(values, message):
    with pytest.raises(ValueError, match=message):
        merge_tree(values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"connectivity": "hexagonal"}, "`connectivity` is one of von_neumann, moore, got 'hexagonal'"),
        ({"spacing": 0.0}, "`spacing` must be positive"),
        ({"spacing": (1.0, 2.0, 3.0)}, "one for each of 2 axes"),
        ({"min_persistence": -1.0}, "`min_persistence` must not be negative"),
        ({"min_persistence": np.nan}, "`min_persistence` must not be negative"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        merge_tree(np.zeros((2, 2)), **arguments)
