import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lightning_regimes.landscape import contour_tree_gaps, merge_tree, smad

DATA = Path(__file__).parent / "data"


def quadratic(eigenvalues: tuple[float, ...], *, half_width: float = 1.0, length: int = 21) -> np.ndarray:
    axes = np.meshgrid(*([np.linspace(-half_width, half_width, length)] * len(eigenvalues)), indexing="ij")
    return sum(value * axis**2 / 2 for value, axis in zip(eigenvalues, axes, strict=True))


def test_surfaces_of_networks(reference):
    _, values, expected = reference
    assert smad(values) == pytest.approx(expected["level_sweep"]["smad"], rel=1e-9)
    assert smad(values, normalize=True) == pytest.approx(expected["level_sweep"]["smad_normalized"], rel=1e-9)
    persistence = expected["gudhi"]["mean_h0_persistence_vertices"]
    assert smad(values, "persistence") == pytest.approx(persistence, rel=1e-12)
    assert smad(merge_tree(values), "persistence") == pytest.approx(persistence, rel=1e-12)


def test_ties_count_as_in_the_level_sweep():
    # Landscaper's tree parts the plateaus and comes to 0.012620.
    assert smad(np.load(DATA / "plateau_2d.npy")) == pytest.approx(0.011749962306, rel=1e-9)


def test_landscaper_on_the_same_surfaces():
    expected = json.loads((DATA / "reference.json").read_text())
    noisy, smooth = (np.load(DATA / f"{name}_2d.npy") for name in ("noisy", "mlp"))
    theirs = expected["noisy_2d"]["landscaper"]
    assert smad(noisy) == pytest.approx(theirs["smad"], rel=1e-9)
    weighted = smad(noisy, normalize=True, weight="landscaper")
    assert weighted == pytest.approx(theirs["smad_normalized_weighted"], rel=1e-9)
    # The release reads the contour tree.
    theirs = expected["mlp_2d"]["landscaper"]["this_version_smad()"]
    assert smad(smooth, "contour_tree") == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("variant", ["merge_tree", "persistence"])
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_one_basin_is_zero(variant, offset):
    for bowl in (quadratic((1.0, 1.0)), quadratic((1e-3, 5.0)), quadratic((1.0, 2.0, 3.0), length=9), np.zeros(7)):
        assert smad(offset + bowl, variant) == 0.0
        assert smad(offset + bowl, variant, normalize=True, weight="volume") == 0.0


@pytest.mark.parametrize(
    ("eigenvalues", "half_width", "depth"),
    [
        ((3.0,), 2.0, 3.0 * 2**2 / 2),
        ((1.0, 1.0), 1.0, 0.5),
        ((1.0, 5.0), 1.0, 0.5),
        ((3.0, 7.0), 1.0, 1.5),
        ((3.0, 7.0), 2.0, 6.0),
        ((1.0, 2.0, 5.0), 1.0, 1.5),
        ((4.0, 4.5, 5.0), 0.5, 8.5 / 8),
    ],
)
def test_contour_tree_measures_the_curvature_of_one_basin(eigenvalues, half_width, depth):
    values = quadratic(eigenvalues, half_width=half_width)
    assert smad(values, "contour_tree") == pytest.approx(depth, rel=1e-3)
    assert smad(1e4 + values, "contour_tree") == pytest.approx(depth, rel=1e-3)


def test_contour_tree_on_a_ramp_a_flat_and_two_wells():
    ramp = np.add.outer(np.arange(5.0), 2 * np.arange(4.0))
    assert smad(ramp, "contour_tree") == 10.0
    assert smad(np.ones((3, 4)), "contour_tree") == 0.0
    x, y = np.meshgrid(np.linspace(-1.5, 1.5, 31), np.linspace(-0.5, 0.5, 11), indexing="ij")
    # The passes of the upper set, at x = ±1 and y = ±1/2, are above the saddle at 0 for a steep valley, below else.
    steep, shallow = ((x**2 - 1) ** 2 + width * y**2 for width in (8.0, 2.0))
    np.testing.assert_allclose(contour_tree_gaps(merge_tree(steep)), [1.0, 1.0])
    np.testing.assert_allclose(contour_tree_gaps(merge_tree(shallow)), [0.5, 0.5])


def test_weights_by_hand():
    values = [0.0, 2.0, 5.0, 1.0, 3.0, 1.5, 3.0]
    tree = merge_tree(values)
    assert tree.gaps.tolist() == [5.0, 2.0, 1.5]
    assert tree.volumes.tolist() == [2, 3, 2]
    assert smad(tree) == pytest.approx(8.5 / 3)
    assert smad(tree, normalize=True) == pytest.approx(8.5 / 15)
    assert smad(tree, weight="volume") == pytest.approx((10 + 6 + 3) / 7)
    assert smad(tree, weight="landscaper") == pytest.approx((10 + 6 + 3) / 7 / 3)
    assert smad(tree, "persistence") == pytest.approx((4 + 1.5) / 2)
    assert smad(tree, "persistence", weight="volume") == pytest.approx((3 * 4 + 2 * 1.5) / 5)


def test_without_pairs_that_are_not_persistent():
    values = [0.0, 2.0, 5.0, 1.0, 3.0, 1.5, 3.0]
    for surface in (values, merge_tree(values)):
        assert smad(surface, min_persistence=1.5) == pytest.approx((5 + 4) / 2)
        assert smad(surface, "persistence", min_persistence=1.5) == 4.0
        assert smad(surface, min_persistence=4.0) == 0.0
    coarse = merge_tree(values, min_persistence=1.5)
    assert smad(coarse) == smad(coarse, min_persistence=1.0) == 4.5


@settings(deadline=None)
@given(
    arrays.arrays(np.int16, arrays.array_shapes(min_dims=1, max_dims=3, max_side=6)),
    st.sampled_from(["merge_tree", "persistence", "contour_tree"]),
    st.sampled_from([None, "volume", "landscaper"]),
)
def test_scaling_and_shifting_the_loss(values, variant, weight):
    value = smad(values, variant, weight=weight)
    assert smad(4.0 * values + 1024, variant, weight=weight) == pytest.approx(4 * value, rel=1e-12)
    normalized = smad(values, variant, weight=weight, normalize=True)
    assert smad(4.0 * values + 1024, variant, weight=weight, normalize=True) == pytest.approx(normalized, rel=1e-12)
    assert 0 <= normalized <= 1


@settings(deadline=None)
@given(st.integers(0, 1000), st.permutations(range(3)), st.tuples(*[st.sampled_from([1, -1])] * 3))
def test_turning_the_axes(seed, axes, signs):
    values = np.random.default_rng(seed).standard_normal((5, 4, 3))
    turned = values[tuple(slice(None, None, sign) for sign in signs)].transpose(axes)
    for variant in ("merge_tree", "persistence", "contour_tree"):
        for weight in (None, "volume", "landscaper"):
            expected = smad(values, variant, weight=weight)
            assert smad(turned, variant, weight=weight) == pytest.approx(expected, rel=1e-12)


def test_walled_minima_are_left_out_with_a_warning():
    values = [3.0, 0.0, 3.0, np.nan, 1.0, 2.0, 0.5, 2.0, np.inf, 4.0]
    with pytest.warns(UserWarning, match="2 of 4 minima are walled in"):
        assert smad(values) == pytest.approx((1.0 + 1.5) / 2)
    with pytest.warns(UserWarning, match="2 of 4 minima"):
        assert smad(values, "persistence") == 1.0
    for variant in ("merge_tree", "persistence"):
        with pytest.warns(UserWarning, match="minima are walled in"):
            assert smad([0.0, np.nan, 1.0], variant) == np.inf


def test_a_diverged_border_changes_nothing():
    inner = np.load(DATA / "noisy_2d.npy")
    values = np.pad(inner, 1, constant_values=np.nan)
    for variant in ("merge_tree", "persistence", "contour_tree"):
        for weight in (None, "volume", "landscaper"):
            arguments = {"variant": variant, "weight": weight, "normalize": True}
            assert smad(values, **arguments) == pytest.approx(smad(inner, **arguments), rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "morse"}, "`variant` is one of merge_tree, persistence, contour_tree, got 'morse'"),
        ({"weight": "basin"}, "`weight` is None or one of volume, landscaper, got 'basin'"),
        ({"min_persistence": -1.0}, "`min_persistence` must not be negative"),
    ],
)
def test_wrong_arguments(arguments, message):
    for surface in ([0.0, 1.0], merge_tree([0.0, 1.0])):
        with pytest.raises(ValueError, match=message):
            smad(surface, **arguments)
    with pytest.raises(ValueError, match="must hold a finite number"):
        smad(np.full((3, 3), np.nan))
