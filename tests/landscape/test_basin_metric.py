import numpy as np
import pytest

from lightning_regimes.landscape import basin_metric, merge_tree


def test_two_basins_by_hand():
    tree = merge_tree([0.0, 2.0, 5.0, 1.0, 3.0])
    traces = [1.0, 2.0, 3.0, 4.0, 8.0]
    assert basin_metric(traces, tree).tolist() == [1.5, 5.0]
    assert basin_metric(traces, tree, np.max).tolist() == [2.0, 8.0]
    assert basin_metric(traces, tree, np.max, np.min) == 2.0
    assert basin_metric(traces, tree, len, list) == [2.0, 3.0]


def test_values_are_gathered_in_the_order_of_the_points():
    generator = np.random.default_rng(0)
    surface, values = generator.standard_normal((2, 6, 7, 5))
    tree = merge_tree(surface)
    gathered = []
    basin_metric(values, tree, lambda inside: gathered.append(inside) or 0.0)
    for basin, inside in enumerate(gathered):
        np.testing.assert_array_equal(inside, values[tree.basins == basin])
    sums = basin_metric(values, tree, np.sum)
    assert sums.sum() == pytest.approx(values.sum())
    np.testing.assert_array_equal(basin_metric(surface, tree, np.min), surface.flat[tree.minima])
    np.testing.assert_array_equal(basin_metric(values, tree, len), tree.volumes)


def test_walls_do_not_count():
    surface = np.array([0.0, 1.0, np.nan, 2.0, 1.0])
    tree = merge_tree(surface)
    assert basin_metric([1.0, 2.0, np.nan, 3.0, 5.0], tree).tolist() == [1.5, 4.0]


def test_another_grid():
    with pytest.raises(ValueError, match=r"`values` must have the shape \(2, 2\) of the tree's grid, got \(4,\)"):
        basin_metric([0.0] * 4, merge_tree(np.zeros((2, 2))))
