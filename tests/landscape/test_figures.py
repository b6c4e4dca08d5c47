from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

from lightning_regimes.landscape import LossSurface, merge_tree, persistence
from lightning_regimes.landscape.basin_boundaries import basin_boundaries
from lightning_regimes.landscape.loss_scale import loss_scale, plain, spans_decades
from lightning_regimes.landscape.smad_history_figure import draw_smad_history
from lightning_regimes.landscape.surface_figure import draw_contour, draw_line, draw_surface
from lightning_regimes.landscape.topology_figure import draw_merge_tree, draw_persistence_diagram, draw_profile
from lightning_regimes.landscape.tree_layout import leaf_positions
from lightning_regimes.landscape.tree_simplification import most_persistent

DATA = Path(__file__).parent / "data"


def surface_of(function: Callable[..., Any], *axes: np.ndarray, **options: Any) -> LossSurface:
    values = np.asarray(function(*np.meshgrid(*axes, indexing="ij")), dtype=np.float64)
    defaults: dict[str, Any] = {
        "unit": "norm",
        "names": tuple(f"eigenvector {index + 1}" for index in range(len(axes))),
        "center_loss": float(function(*[0.0] * len(axes))),
        "metadata": {"directions": {"kind": "hessian", "eigenvalues": [100.0, 0.6]}},
    }
    return LossSurface(values=values, axes=axes, **(defaults | options))


def of_file(name: str, half_width: float) -> LossSurface:
    values = np.load(DATA / f"{name}.npy")
    axes = tuple(half_width * (2 * np.arange(n) - (n - 1)) / (n - 1) for n in values.shape)
    center = float(values[tuple(n // 2 for n in values.shape)])
    return LossSurface(values, axes, "norm", ("eigenvector 1", "eigenvector 2"), center)


def bowl() -> LossSurface:
    x = np.linspace(-1, 1, 41)
    return surface_of(lambda x, y: 1e-4 + 50 * x**2 + 0.3 * y**2, x, x)


def two_valleys() -> LossSurface:
    return surface_of(lambda x, y: (x**2 - 0.25) ** 2 + 0.1 * x + y**2, np.linspace(-1, 1, 21), np.linspace(-1, 1, 21))


def drawn(figure: Figure) -> Figure:
    FigureCanvasAgg(figure).draw()
    return figure


def contours(figure: Figure) -> tuple[ContourSet, ContourSet]:
    filled, lines = (found for found in figure.axes[0].collections if isinstance(found, ContourSet))
    return filled, lines


def line(figure: Figure, label: str) -> Any:
    (found,) = (line for line in figure.axes[0].lines if str(line.get_label()).startswith(label))
    return found


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_levels_are_logarithmic_above_the_minimum_where_the_loss_spans_decades() -> None:
    figure = drawn(draw_contour(bowl()))
    filled, lines = contours(figure)
    mantissas = filled.levels / 10.0 ** np.floor(np.log10(filled.levels) + 1e-9)
    assert np.isin(np.round(mantissas, 9), [1, 2, 5]).all()
    assert filled.levels[-2] < 50.3 <= filled.levels[-1]
    assert np.array_equal(filled.levels, lines.levels)
    assert filled.norm(filled.levels[-1]) == 1.0
    bar = figure.axes[1]
    assert bar.get_ylabel() == "loss above its minimum, 0.0001"
    assert [label.get_text() for label in bar.get_yticklabels()] == [plain(level) for level in filled.levels]
    assert bar.get_yticks().tolist() == filled.levels.tolist()


def test_levels_are_the_loss_itself_where_it_does_not() -> None:
    surface = of_file("mlp_2d", 0.01)
    figure = drawn(draw_contour(surface))
    filled, _ = contours(figure)
    steps = np.diff(filled.levels)
    assert np.allclose(steps, steps[0])
    assert filled.levels[0] <= surface.values.min() < surface.values.max() <= filled.levels[-1]
    assert figure.axes[1].get_ylabel() == "loss"


def test_scale_tells_an_isotropic_bowl_from_a_narrow_valley_and_takes_any_offset() -> None:
    x, y = np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-1, 1, 41), indexing="ij")
    for offset in (0.0, -3.0, 1e4):
        assert not loss_scale(offset + x**2 + y**2).is_logarithmic
        narrow = loss_scale(offset + x**2 + 1e-3 * y**2)
        assert narrow.is_logarithmic
        assert narrow.offset == offset
    assert loss_scale(0.1 + 20 * (x**2 + y**2)).is_logarithmic, "the loss rises from 0.1 to 40"
    assert not loss_scale(np.where(x**2 + y**2 == 0, 1e-3, 1.0 + 1e-2 * x)).is_logarithmic, "no levels would be left"
    flat = loss_scale(np.full((3, 3), 2.0))
    assert flat.levels[0] <= 2.0 <= flat.levels[-1]
    with pytest.raises(ValueError, match="finite nowhere"):
        loss_scale(np.full(3, np.nan))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=40))
def test_levels_ascend_and_reach_to_the_top(values: list[float]) -> None:
    scale = loss_scale(values)
    heights = scale.heights(values)
    assert (np.diff(scale.levels) > 0).all()
    assert heights.max() <= scale.levels[-1]
    assert scale.is_logarithmic or scale.levels[0] <= heights.min()
    slack = 1e-6 * np.ptp(values)
    assert heights.max() == pytest.approx(max(values) - scale.offset, abs=slack)
    if not scale.is_logarithmic:
        assert np.allclose(heights, values, rtol=0, atol=slack)


def test_the_first_direction_runs_to_the_right() -> None:
    surface = surface_of(lambda x, y: 3 * x + 0 * y, np.linspace(-1, 1, 5), np.linspace(-1, 1, 7))
    figure = drawn(draw_contour(surface))
    _, lines = contours(figure)
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        assert np.allclose(path.vertices[:, 0], level / 3)
    axes = figure.axes[0]
    assert axes.get_xlabel() == "eigenvector 1 (λ = 100), units of ‖θ‖"
    assert axes.get_ylabel() == "eigenvector 2 (λ = 0.6), units of ‖θ‖"
    assert axes.get_aspect() == 1.0
    assert line(figure, "weights, loss 0").get_xydata().tolist() == [[0.0, 0.0]]


def test_axes_keep_their_eigenvalues_in_another_plane_and_name_their_unit() -> None:
    x = np.linspace(-1, 1, 3)
    metadata = {"directions": {"eigenvalues": [3.0, 2.0, 1.0]}}
    solid = surface_of(lambda x, y, z: x**2 + y**2 + z**2, x, x, x, metadata=metadata)
    axes = draw_contour(solid.plane(0, 2)).axes[0]
    assert axes.get_ylabel() == "eigenvector 3 (λ = 1), units of ‖θ‖"
    components = {"directions": {"explained_variance_ratio": [0.75, 0.2]}}
    names = ("principal component 1", "principal component 2")
    plane = surface_of(lambda x, y: x + y, x, x, metadata=components, names=names, unit="absolute")
    assert draw_contour(plane).axes[0].get_xlabel() == "principal component 1 (75 % of the variance), multiples of it"


def test_minima_are_marked_where_they_are_with_the_boundary_between_their_basins() -> None:
    surface = two_valleys()
    tree = merge_tree(surface.values)
    figure = draw_contour(surface)
    marks = line(figure, "2 minima of the grid, with basins")
    i, j = np.unravel_index(tree.minima, surface.values.shape)
    assert np.array_equal(marks.get_xydata(), np.column_stack([surface.axes[0][i], surface.axes[1][j]]))
    assert np.allclose(np.sort(marks.get_xdata()), [-0.5, 0.4], atol=0.1)
    (sides,) = (found for found in figure.axes[0].collections if isinstance(found, LineCollection))
    ends = np.array(sides.get_segments())
    assert np.unique(ends[:, :, 0]).size == 1, "the valleys part along x"
    assert np.sort(ends[:, :, 1].ravel())[[0, -1]].tolist() == [-1.0, 1.0]


def test_boundaries_lie_between_different_basins_and_not_at_walls() -> None:
    basins = np.array([[0, 0, 1], [0, -1, 1]])
    sides = basin_boundaries(basins, (np.array([0.0, 1.0]), np.array([0.0, 2.0, 4.0])))
    assert sides.tolist() == [[[0.0, 3.0], [0.5, 3.0]]]


def test_what_is_not_finite_stays_blank_and_hatched() -> None:
    surface = bowl()
    values = surface.values.copy()
    values[10, 30], values[11, 30] = np.nan, np.inf
    figure = drawn(draw_contour(replace(surface, values=values)))
    filled, _ = contours(figure)
    x, y = surface.axes
    paths = filled.get_paths()

    def is_covered(point: tuple[float, float]) -> bool:
        return any(path.contains_point(point) for path in paths)

    for point in ((x[10], y[30]), (x[10] - 0.04, y[30] + 0.04), (x[11] + 0.04, y[30] - 0.04)):
        assert not is_covered(point)
    assert is_covered((x[10] - 0.07, y[30]))
    assert figure.axes[0].patch.get_hatch() == "////"
    assert "not finite at 2 points" in legend(figure)
    assert not draw_contour(surface).axes[0].patch.get_hatch()


def test_path_of_the_training_is_drawn_as_it_came() -> None:
    path = np.array([[0.9, 0.8, 5.0], [0.3, -0.2, 5.0], [0.0, 0.0, 0.0]])
    figure = draw_contour(bowl(), trajectory=path, steps=[0, 5, 10])
    found = line(figure, "training, steps 0 to 10 (○ start, ● end)")
    assert np.array_equal(found.get_xydata(), path[:, :2])
    outside = draw_contour(bowl(), trajectory=path * 2)
    assert "training (starts outside, ● end)" in legend(outside)
    assert outside.axes[0].get_xlim() == (-1.0, 1.0), "the path does not move the view"


def test_of_many_minima_the_most_persistent_are_marked_and_the_legend_says_so() -> None:
    surface = of_file("noisy_2d", 0.5)
    assert "40 most persistent of 126 minima, with basins" in legend(draw_contour(surface))


def test_surface_has_a_face_for_every_square_without_a_hole() -> None:
    surface = two_valleys()
    values = surface.values.copy()
    values[5, 5] = np.nan
    figure = drawn(draw_surface(replace(surface, values=values)))
    (faces,) = figure.axes[0].collections
    corners = np.asarray(faces._faces)
    assert len(corners) == 20 * 20 - 4
    assert corners[:, :, 2].min() == np.nanmin(values)
    assert np.array_equal(corners[0], [[-1, -1, values[0, 0]], [-0.9, -1, values[1, 0]], *corners[0, 2:]])
    assert legend(figure) == ["weights, loss 0.0625"]


def test_surface_is_logarithmic_where_the_loss_spans_decades() -> None:
    figure = drawn(draw_surface(bowl()))
    axes: Any = figure.axes[0]
    assert axes.get_zlim() == pytest.approx((-4.0, np.log10(50.3001)))
    assert "10⁻⁴" in [label.get_text() for label in axes.get_zticklabels()]


def test_line_is_broken_where_the_loss_is_not_finite() -> None:
    values = np.load(DATA / "interp_1d.npy")
    values[150:] = np.nan
    positions = np.linspace(-0.5, 1.5, 201)
    surface = LossSurface(values, (positions,), "absolute", ("towards point 1",), float(values[50]))
    figure = drawn(draw_line(surface))
    assert np.array_equal(figure.axes[0].lines[0].get_ydata(), values, equal_nan=True)
    # The minimum of the left valley, and the end of the line as it falls towards the right one.
    assert line(figure, "2 minima").get_xdata().tolist() == positions[[np.nanargmin(values), 149]].tolist()
    assert line(figure, "not finite at 51 points").get_xdata().tolist() == positions[150:].tolist()
    assert line(figure, "weights").get_xydata().tolist() == [[0.0, values[50]]]
    assert figure.axes[0].get_yscale() == "log"


def test_figures_refuse_what_they_cannot_draw() -> None:
    line_surface = surface_of(lambda x: x**2, np.linspace(-1, 1, 5))
    with pytest.raises(ValueError, match="must have 2 directions, got 1"):
        draw_contour(line_surface)
    with pytest.raises(ValueError, match="must have 2 directions, got 1"):
        draw_surface(line_surface)
    with pytest.raises(ValueError, match="must have 1 direction, got 2"):
        draw_line(bowl())
    with pytest.raises(ValueError, match="finite nowhere"):
        draw_contour(replace(bowl(), values=np.full((41, 41), np.inf)))
    with pytest.raises(ValueError, match="at least 1"):
        most_persistent(merge_tree(np.arange(3.0)), 0)


def test_points_of_the_diagram_are_its_intervals_and_the_endless_class_is_on_the_upper_edge() -> None:
    diagram = persistence(of_file("noisy_2d", 0.5).values)
    figure = drawn(draw_persistence_diagram(diagram))
    assert np.array_equal(line(figure, "125 components (H₀)").get_xydata(), diagram.intervals[0])
    loops = line(figure, "60 loops (H₁)")
    assert np.array_equal(loops.get_xydata(), diagram.intervals[1])
    assert loops.get_marker() != line(figure, "125").get_marker()
    top = figure.axes[0].get_ylim()[1]
    assert line(figure, "1 component without end").get_xydata().tolist() == [[diagram.essential[0][0], top]]
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim()
    assert top > diagram.intervals[1].max()


def test_empty_diagram_is_drawn() -> None:
    figure = drawn(draw_persistence_diagram(persistence(np.array([[0.0, 0.0], [0.0, 0.0]]))))
    assert legend(figure) == ["0 components (H₀)", "1 component without end", "0 loops (H₁)"]


def test_branches_reach_from_each_minimum_to_its_first_pass() -> None:
    tree = merge_tree(two_valleys().values)
    figure = drawn(draw_merge_tree(tree))
    (branches,) = (found for found in figure.axes[0].collections if isinstance(found, LineCollection))
    segments = np.array(branches.get_segments())
    lengths = segments[:2, 1, 1] - segments[:2, 0, 1]
    assert np.allclose(lengths, tree.gaps)
    assert segments[2, :, 1].tolist() == [tree.heights[2], tree.values.max()]
    (dots,) = (found for found in figure.axes[0].collections if not isinstance(found, LineCollection))
    assert np.array_equal(dots.get_offsets()[:, 1], tree.heights[:2])
    sizes = dots.get_sizes() - 12
    assert np.allclose(sizes / sizes.sum(), tree.volumes / tree.volumes.sum())
    assert figure.axes[0].get_title(loc="left") == "2 minima"


def test_leaves_that_are_left_out_are_the_least_persistent_and_are_told() -> None:
    tree = merge_tree(of_file("noisy_2d", 0.5).values)
    shown = most_persistent(tree, 40)
    assert shown.num_minima == 40
    kept = np.sort(tree.persistences)[-39:]
    assert np.allclose(np.sort(shown.persistences), kept)
    title = f"40 of 126 minima: persistence above {plain(np.sort(tree.persistences)[-40])}"
    for figure in (draw_merge_tree(tree), draw_profile(tree)):
        assert figure.axes[0].get_title(loc="left") == title
    (dots,) = (found for found in draw_merge_tree(tree).axes[0].collections if not isinstance(found, LineCollection))
    assert len(dots.get_offsets()) == 40


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 2))
def test_no_branches_cross(seed: int, dim: int) -> None:
    values = np.random.default_rng(seed).integers(0, 9, size=(7,) * dim).astype(float)
    tree = merge_tree(values)
    positions = leaf_positions(tree)
    assert sorted(positions[: tree.num_minima]) == list(range(tree.num_minima))
    for node in range(tree.num_minima, len(positions)):
        below = {node}
        for child in reversed(range(node)):
            if tree.parents[child] in below:
                below.add(child)
        leaves = np.sort([positions[leaf] for leaf in below if leaf < tree.num_minima])
        assert np.array_equal(leaves, np.arange(leaves[0], leaves[-1] + 1)), "the leaves below a pass are neighbours"
        assert leaves[0] <= positions[node] <= leaves[-1]


def test_profile_is_as_wide_as_the_basins_hold_points() -> None:
    tree = merge_tree(two_valleys().values)
    figure = drawn(draw_profile(tree))
    (valleys,) = (found for found in figure.axes[0].collections if isinstance(found, PolyCollection))
    outlines = [path.vertices for path in valleys.get_paths()]
    assert len(outlines) == 3
    pass_height = tree.heights[2]
    for leaf in range(2):
        below = np.count_nonzero((tree.basins == leaf) & (tree.values < pass_height))
        assert np.ptp(outlines[leaf][:, 0]) == pytest.approx(100 * below / tree.values.size, abs=100 / tree.values.size)
        assert outlines[leaf][:, 1].min() == tree.heights[leaf]
        assert outlines[leaf][:, 1].max() == pass_height
    assert outlines[2][:, 0].min() == pytest.approx(0.0)
    assert outlines[2][:, 0].max() == pytest.approx(100.0)


def entry(step: int, full: float, half: float, aliased: float) -> tuple[int, dict[str, float]]:
    names = {"merge_tree": full, "merge_tree_half": half, "persistence": full / 2}
    return step, {f"landscape/smad_{name}": value for name, value in names.items()} | {"landscape/aliased": aliased}


def test_history_draws_what_was_recorded_and_marks_the_steps_that_the_grid_decides() -> None:
    figure = drawn(draw_smad_history([entry(0, 2.0, 2.1, 0.0), entry(50, 1.0, 2.0, 1.0), (90, {})]))
    assert np.array_equal(line(figure, "persistence").get_xydata(), [[0, 1], [50, 0.5], [90, np.nan]], equal_nan=True)
    half = line(figure, "merge tree, every second point")
    assert half.get_ydata()[:2].tolist() == [2.1, 2.0]
    assert half.get_linestyle() == "--"
    assert line(figure, "the grid decides").get_xdata().tolist() == [50]
    assert legend(figure) == ["merge tree", "merge tree, every second point", "persistence", "the grid decides"]
    assert figure.axes[0].get_yscale() == "linear"


def test_history_of_zeros_and_decades() -> None:
    assert drawn(draw_smad_history([entry(0, 0.0, 0.0, 0.0)])).axes[0].get_ylim() == (-0.05, 1.0)
    axes = drawn(draw_smad_history([entry(0, 100.0, 90.0, 0.0), entry(1, 0.1, 0.1, 0.0), entry(2, 0, 0, 0)])).axes[0]
    assert axes.get_yscale() == "symlog"
    assert "0" in [label.get_text() for label in axes.get_yticklabels()]
    drawn(draw_smad_history([]))


def test_labels_need_no_mathematics() -> None:
    surface = of_file("noisy_2d", 0.5)
    tree = merge_tree(surface.values)
    with matplotlib.rc_context({"text.parse_math": False}):
        figures = [
            draw_contour(surface),
            draw_surface(surface),
            draw_merge_tree(tree),
            draw_profile(tree),
            draw_persistence_diagram(persistence(surface.values)),
        ]
        for figure in map(drawn, figures):
            for axes in figure.axes:
                texts = [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
                assert not [text for text in texts if "$" in text or "math" in text]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.02, "0.02"), (1500.0, "1500"), (3e-5, "3×10⁻⁵"), (-0.5, "−0.5"), (1e6, "10⁶"), (0.0, "0"), (-2e7, "−2×10⁷")],
)
def test_numbers_are_plain(value: float, text: str) -> None:
    assert plain(value) == text


def test_decades_are_those_of_positive_values() -> None:
    assert spans_decades([0.01, 1.0, np.nan])
    assert not spans_decades([0.011, 1.0])
    assert not spans_decades([0.0, 1.0])
    assert not spans_decades([np.nan])


def test_results_draw_themselves() -> None:
    assert two_valleys().figure().axes[0].get_xlabel().startswith("eigenvector 1")
    tree = merge_tree(two_valleys().values)
    assert tree.figure().axes[0].get_title(loc="left") == "2 minima"
    assert persistence(tree.values).figure().axes[0].get_xlabel() == "birth (loss)"
