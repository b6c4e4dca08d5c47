import pytest
import torch
from torch import nn

from lightning_regimes.callbacks.weight_trajectory import WeightTrajectory


class Weights(nn.Module):
    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))
        self.rotation = nn.Parameter(torch.tensor([1 + 2j]))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)


def test_points_are_copies_of_what_is_trained_with_complex_numbers_as_pairs():
    module = Weights([3.0, 4.0])
    path = WeightTrajectory(4)
    path.offer(0, module, None)
    with torch.no_grad():
        module.values.zero_()
    assert path.points[0].tolist() == [3.0, 4.0, 1.0, 2.0]
    path = WeightTrajectory(4)
    path.offer(0, module, "values")
    assert path.points[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("steps", [3, 8, 100, 1000])
def test_points_stay_evenly_spread_and_few(steps):
    path = WeightTrajectory(8)
    module = Weights([0.0])
    for step in range(steps):
        path.offer(step, module, "values")
    assert path.steps[0] == 0
    assert len({b - a for a, b in zip(path.steps, path.steps[1:], strict=False)}) <= 1
    assert len(path.steps) <= 8
    if steps > 8:
        assert len(path.steps) >= 4
        assert steps - path.steps[-1] <= path.steps[1]


def test_a_step_counts_once_and_no_capacity_keeps_nothing():
    module = Weights([0.0])
    path = WeightTrajectory(4)
    path.offer(3, module, None)
    path.offer(3, module, None)
    path.offer(2, module, None)
    assert path.steps == [3]
    nothing = WeightTrajectory(0)
    nothing.offer(0, module, None)
    assert nothing.points == []
    for capacity in (-1, 1):
        with pytest.raises(ValueError, match="`trajectory` is 0 or at least 2 points"):
            WeightTrajectory(capacity)


def test_coordinates_are_the_nearest_in_the_plane_and_say_how_near():
    path = WeightTrajectory(8)
    for step, values in enumerate(([1.0, 2.0, 0.0], [0.0, 3.0, 4.0], [1.0, 1.0, 1.0])):
        path.offer(step, Weights(values), "values")
    origin = torch.tensor([1.0, 1.0, 1.0])
    # Oblique axes in the plane of the first two coordinates.
    vectors = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    coordinates, share = path.coordinates(origin, vectors)
    expected = torch.tensor([[-1.0, 1.0], [-3.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(coordinates, expected)
    assert share == pytest.approx((1 + 1 + 4) / (1 + 1 + 1 + 4 + 9))


def test_a_training_that_has_not_moved_lies_in_any_plane():
    path = WeightTrajectory(8)
    path.offer(0, Weights([1.0, 2.0]), "values")
    coordinates, share = path.coordinates(torch.tensor([1.0, 2.0]), torch.eye(2))
    assert coordinates.tolist() == [[0.0, 0.0]]
    assert share == 1.0
