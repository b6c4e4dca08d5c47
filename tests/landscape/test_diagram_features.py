import numpy as np
import pytest
from gudhi.representations import BettiCurve
from gudhi.representations import PersistenceImage as GudhiImage
from scipy import ndimage
from scipy.integrate import trapezoid

from lightning_regimes.landscape import PersistenceDiagram, betti_curve, persistence, persistence_image


def test_betti_curve_counts_components():
    values = np.random.default_rng(0).standard_normal((9, 7))
    levels = np.concatenate([[-10.0], np.sort(values, axis=None), [10.0]])
    curve = betti_curve(persistence(values), 0, levels)
    assert curve.tolist() == [ndimage.label(values <= level)[1] for level in levels]


def test_betti_curve_agrees_with_gudhi():
    diagram = persistence(np.random.default_rng(1).standard_normal((12, 12)))
    grid = np.linspace(-3, 3, 50)
    for dim in (0, 1):
        essential = np.column_stack([diagram.essential[dim], np.full(len(diagram.essential[dim]), np.inf)])
        expected = BettiCurve(predefined_grid=grid)(np.concatenate([diagram.intervals[dim], essential]))
        np.testing.assert_array_equal(betti_curve(diagram, dim, grid), expected)
        np.testing.assert_array_equal(betti_curve(diagram, dim, grid.reshape(5, 10)), expected.reshape(5, 10))


def test_persistence_image_agrees_with_gudhi():
    diagram = persistence(np.random.default_rng(2).standard_normal((10, 11)))
    image = persistence_image(diagram, 0, bandwidth=0.3, resolution=(15, 10), birth_range=(-3, 1), length_range=(0, 4))
    theirs = GudhiImage(bandwidth=0.3, weight=lambda point: point[1], resolution=[15, 10], im_range=[-3, 1, 0, 4])
    expected = theirs(diagram.intervals[0]).reshape(10, 15).T
    np.testing.assert_allclose(image.values, expected, rtol=1e-12)
    assert (image.births[[0, -1]].tolist(), image.lengths[[0, -1]].tolist()) == ([-3, 1], [0, 4])


def test_persistence_image_integrates_to_the_total_weight():
    diagram = persistence(np.random.default_rng(3).standard_normal((8, 8)))
    for weight, expected in ((None, diagram.lengths().sum()), (np.ones_like, len(diagram.lengths()))):
        image = persistence_image(
            diagram, bandwidth=0.2, resolution=(200, 200), birth_range=(-6, 6), length_range=(-4, 8), weight=weight
        )
        mass = trapezoid(trapezoid(image.values, image.lengths, axis=1), image.births)
        assert mass == pytest.approx(expected, rel=1e-6)


def test_persistence_image_by_default_covers_the_diagram():
    diagram = PersistenceDiagram(intervals={0: np.array([[0.0, 1.0], [2.0, 7.0]])}, essential={0: np.array([-1.0])})
    image = persistence_image(diagram)
    assert (image.births[0], image.births[-1]) == (0.0, 2.0)
    assert (image.lengths[0], image.lengths[-1]) == (0.0, 5.0)
    assert image.bandwidth == 0.5
    assert image.values.shape == (20, 20)
    assert np.unravel_index(image.values.argmax(), (20, 20)) == (19, 19)


def test_an_empty_diagram():
    diagram = persistence([0.0, 1.0])
    assert betti_curve(diagram, 0, [-1.0, 0.0, 5.0]).tolist() == [0, 1, 1]
    assert betti_curve(diagram, 1, [0.0]).tolist() == [0]
    assert not persistence_image(diagram, birth_range=(0, 1), length_range=(0, 1)).values.any()
    with pytest.raises(ValueError, match="without a class that ends in dimension 0, give `birth_range` and"):
        persistence_image(diagram)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 5}, r"`dim` must be one of the diagram's \(0, 1\), got 5"),
        ({"bandwidth": 0.0}, "`bandwidth` must be positive, got 0"),
        ({"resolution": (0, 3)}, r"`resolution` must be two positive numbers of pixels, got \(0, 3\)"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        persistence_image(persistence([0.0, 2.0, 1.0]), **arguments)
