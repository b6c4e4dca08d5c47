import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lightning_regimes import LossProbe
from lightning_regimes.landscape.curve_paths import Curve, straight_curve
from lightning_regimes.landscape.mode_connectivity import mode_connectivity
from lightning_regimes.module_state import ProbeError


class Point(nn.Module):
    def __init__(self, x, y):
        super().__init__()
        self.place = nn.Parameter(torch.tensor([x, y], dtype=torch.float64))


def ring(module, batch):
    """(‖p‖² − 1)², whose minima are the unit circle: the middle of the chord between opposite points is 1 high."""
    return (module.place.square().sum() - 1) ** 2


def hill(module, batch):
    """exp(−‖p‖²), which a path can go around."""
    return torch.exp(-module.place.square().sum())


@pytest.mark.parametrize("path", ["linear", "bezier", "polygonal"])
@pytest.mark.parametrize("num_bends", [1, 3])
def test_straight_curves_are_lines(path, num_bends):
    start, end = torch.randn(2, 6, dtype=torch.float64)
    curve = straight_curve(start, end, path, num_bends=num_bends)
    for t in (0.0, 0.2, 0.5, 0.9, 1.0):
        torch.testing.assert_close(curve.point(t), torch.lerp(start, end, t), rtol=1e-12, atol=1e-12)
    assert torch.equal(curve.point(0.0), start)
    assert torch.equal(curve.point(1.0), end)
    assert len(curve.bends) == (0 if path == "linear" else num_bends)


@given(t=st.floats(0, 1), seed=st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_curves_have_their_published_form(t, seed):
    points = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    first, bend, last = points
    bezier = (1 - t) ** 2 * first + 2 * t * (1 - t) * bend + t**2 * last
    chain = 2 * (t * bend + (0.5 - t) * first) if t <= 0.5 else 2 * ((t - 0.5) * last + (1 - t) * bend)
    torch.testing.assert_close(Curve("bezier", points).point(t), bezier, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(Curve("polygonal", points).point(t), chain, rtol=1e-12, atol=1e-12)


def test_line_over_the_ring_has_its_closed_form():
    probe = LossProbe(Point(-1.0, 0.0), [None], loss=ring)
    result = mode_connectivity(probe, Point(1.0, 0.0))
    assert result.value == -1.0
    assert result.position == 0.5
    assert result.barrier == 1.0
    assert len(result.training_losses) == 0


@given(height=st.floats(0.01, 100), tilt=st.floats(-0.4, 0.4))
@settings(max_examples=30, deadline=None)
def test_a_barrier_is_seen_that_the_smallest_deviation_misses(height, tilt):
    # Two wells at ±1 whose losses differ by `tilt · height`, and a hill at 0 between them.
    def wells(module, batch):
        x = module.place[0]
        return height * ((x**2 - 1) ** 2 + tilt * (1 + x) ** 2 / 4)

    result = mode_connectivity(LossProbe(Point(-1.0, 0.0), [None], loss=wells), Point(1.0, 0.0))
    hill, ends = height * (1 + tilt / 4), height * tilt / 2
    # The place of the largest deviation is the hill, the grid's own or one beside it.
    assert result.value <= -(hill - ends) + 1e-12 * height
    assert result.value == pytest.approx(-(hill - ends), rel=0.02)
    assert result.barrier == -result.value
    # Where the curve differs least from the mean of its ends, it tells nothing of the hill: at the ends themselves
    # the difference is half that of their losses, and 0 where they are equal.
    smallest = np.abs(result.losses - result.losses[[0, -1]].mean()).min()
    assert smallest <= abs(result.losses[0] - result.losses[-1]) / 2 + 1e-12 * height
    assert abs(result.value) > 3 * smallest


def test_sign_is_positive_for_a_path_below_its_ends():
    probe = LossProbe(Point(-2.0, 0.0), [None], loss=lambda module, batch: module.place.square().sum())
    result = mode_connectivity(probe, Point(1.0, 0.0), points=4)
    # t = 0, 1/3, 2/3, 1 are the places −2, −1, 0, 1; the mean of the ends is 2.5.
    assert result.losses == pytest.approx([4, 1, 0, 1], abs=1e-12)
    assert result.value == pytest.approx(2.5)
    assert result.barrier == pytest.approx(1.5)


@pytest.mark.parametrize("path", ["bezier", "polygonal"])
@pytest.mark.parametrize(("optimizer", "learning_rate"), [("adam", 0.05), ("sgd", 0.02)])
def test_trained_curve_reaches_the_least_expected_loss(path, optimizer, learning_rate):
    # Ends at a right angle on the circle, and the bend on their bisector by symmetry: one number is left, whose
    # best value a fine grid gives.
    start, end = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    times = torch.linspace(0, 1, 401, dtype=torch.float64).tolist()

    coefficients = torch.tensor([Curve(path, torch.zeros(3, 2)).coefficients(t) for t in times], dtype=torch.float64)

    def expected_loss(bend):
        places = coefficients @ torch.stack([start, torch.tensor([bend, bend], dtype=torch.float64), end])
        return float(((places.square().sum(dim=1) - 1) ** 2).mean())

    best = min((expected_loss(bend), bend) for bend in np.linspace(0.5, 1.2, 141).tolist())
    probe = LossProbe(Point(1.0, 0.0), [None], loss=ring)
    result = mode_connectivity(
        probe, Point(0.0, 1.0), path, steps=600, learning_rate=learning_rate, optimizer=optimizer
    )
    assert result.curve.bends[0].tolist() == pytest.approx([best[1]] * 2, abs=0.03)
    assert torch.equal(result.curve.points[0], start)
    assert torch.equal(result.curve.points[-1], end)
    assert result.barrier < 0.2 * mode_connectivity(probe, Point(0.0, 1.0)).barrier


def test_one_step_moves_the_bends_along_the_gradient_at_the_drawn_point():
    probe = LossProbe(Point(1.0, 0.5), [None], loss=ring)
    other = Point(-0.2, 1.0)
    result = mode_connectivity(probe, other, "bezier", num_bends=2, steps=1, learning_rate=0.1, optimizer="sgd", seed=5)
    t = float(torch.rand((), generator=torch.Generator().manual_seed(5), dtype=torch.float64))
    bends = straight_curve(probe.point(), other.place.detach(), "bezier", num_bends=2).bends.clone().requires_grad_()
    weights = [math.comb(3, j) * t**j * (1 - t) ** (3 - j) for j in range(4)]
    place = (
        weights[0] * probe.point() + weights[1] * bends[0] + weights[2] * bends[1] + weights[3] * other.place.detach()
    )
    loss = (place.square().sum() - 1) ** 2
    (gradient,) = torch.autograd.grad(loss, bends)
    torch.testing.assert_close(result.curve.bends, (bends - 0.1 * gradient).detach(), rtol=1e-12, atol=1e-12)
    assert result.training_losses == pytest.approx([loss.item()])


def test_seed_decides_the_curve():
    probe = LossProbe(Point(-1.0, 0.1), [None], loss=hill)
    results = [mode_connectivity(probe, Point(1.0, 0.1), "bezier", steps=20, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(results[0].curve.bends, results[1].curve.bends)
    assert not torch.equal(results[0].curve.bends, results[2].curve.bends)


def convolutional(seed):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )
    inputs, labels = image_batches()[0]
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(inputs), labels).backward()
        optimizer.step()
    return net


def image_batches():
    generator = torch.Generator().manual_seed(11)
    labels = torch.randint(3, (60,), generator=generator)
    inputs = torch.randn(60, 1, 6, 6, generator=generator) + 2.0 * (labels - 1)[:, None, None, None]
    return [(inputs, labels)]


@pytest.mark.parametrize("batch_norm", ["recompute", "interpolate", "frozen"])
def test_any_architecture_can_be_connected(batch_norm):
    first, second = convolutional(0), convolutional(1)
    before = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    torch.manual_seed(0)
    state = torch.get_rng_state()
    probe = LossProbe(first, image_batches(), loss=lambda module, batch: F.cross_entropy(module(batch[0]), batch[1]))
    line = mode_connectivity(probe, second, batch_norm=batch_norm)
    curve = mode_connectivity(probe, second, "bezier", steps=150, learning_rate=0.02, batch_norm=batch_norm)
    assert (curve.losses[0], curve.losses[-1]) == (line.losses[0], line.losses[-1])
    assert curve.losses.mean() < line.losses.mean()
    assert all(torch.equal(before[name], tensor) for name, tensor in first.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert first[1].training
    assert all(parameter.grad is not None for parameter in first.parameters())  # of the training, still there


def test_curve_is_trained_on_other_batches_than_it_is_measured_on():
    probe = LossProbe(Point(-1.0, 0.0), [0.0], loss=lambda module, batch: module.place.sum() * 0 + batch)
    training = LossProbe(Point(5.0, 5.0), [1.0], loss=ring)
    apart = mode_connectivity(probe, Point(1.0, 0.0), "bezier", training=training, steps=30)
    together = mode_connectivity(LossProbe(Point(-1.0, 0.0), [None], loss=ring), Point(1.0, 0.0), "bezier", steps=30)
    assert torch.equal(apart.curve.bends, together.curve.bends)
    assert not apart.losses.any()


def test_unequal_batches_give_the_mean_of_the_whole_gradient():
    data = [torch.ones(1, 1), torch.zeros(3, 1)]
    module = nn.Linear(1, 1, bias=False).double()
    probe = LossProbe(module, [batch.double() for batch in data], loss=lambda m, batch: (m(batch) - 1).square().mean())
    result = mode_connectivity(probe, torch.zeros(1), "bezier", steps=400, learning_rate=1e-9)
    # The two batches have the losses (w − 1)² and 1; one in four samples is in the first.
    weights = [result.curve.point(t).item() for t in np.linspace(0, 1, 201).tolist()]
    expected = np.mean([0.25 * (w - 1) ** 2 + 0.75 for w in weights])
    assert result.training_losses.mean() == pytest.approx(expected, abs=0.1)


def test_divergence_says_what_to_do():
    probe = LossProbe(Point(-1.0, 0.1), [None], loss=ring)
    with pytest.raises(ProbeError, match=r"not finite in step .* lower `learning_rate`"):
        mode_connectivity(probe, Point(1.0, 0.1), "bezier", learning_rate=1e3, optimizer="sgd", steps=50)


class Drifting:
    """A squared norm, times the number of evaluations so far over their period, rounded up."""

    def __init__(self, period):
        self.period = period

    def __call__(self, module, batch):
        module.calls = getattr(module, "calls", 0) + 1
        return module.place.square().sum() * math.ceil(module.calls / self.period)


@pytest.mark.parametrize("period", [1, 20])
@pytest.mark.parametrize("role", ["loss", "metric", "training"])
def test_loss_with_state_of_its_own_is_refused(role, period):
    module = Point(-1.0, 0.0)
    steady, drifting = (LossProbe(module, [None], loss=loss) for loss in (ring, Drifting(period)))
    probe = drifting if role == "loss" else steady
    options = {"metric": {"metric": Drifting(period)}, "training": {"training": drifting}}.get(role, {})
    with pytest.raises(ProbeError, match="so that it has state of its own"):
        mode_connectivity(probe, Point(1.0, 0.0), "bezier" if role == "training" else "linear", steps=20, **options)
    assert not hasattr(module, "calls")


def test_progress_is_shown_on_request(capsys):
    probe = LossProbe(Point(-1.0, 0.1), [None], loss=ring)
    mode_connectivity(probe, Point(1.0, 0.1), "bezier", steps=2, progress=True)
    assert "training the curve" in capsys.readouterr().out


def test_figure_shows_the_values():
    probe = LossProbe(Point(-1.0, 0.0), [None], loss=ring)
    figure = mode_connectivity(probe, Point(1.0, 0.0)).figure()
    assert max(figure.axes[0].lines[0].get_ydata()) == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "spline"}, "`path` is one of"),
        ({"num_bends": 0, "path": "bezier"}, "`num_bends` is at least 1"),
        ({"steps": 0}, "`steps` is at least 1"),
        ({"learning_rate": 0.0}, "`learning_rate` is positive"),
        ({"optimizer": "lion"}, "`optimizer` is one of"),
        ({"batch_norm": "none"}, "`batch_norm` is one of"),
        ({"points": 2}, "`points` is at least 3"),
        ({"training": LossProbe(nn.Linear(3, 1), [torch.ones(1, 3)], loss=lambda m, b: m(b).sum())}, "`training`"),
    ],
)
def test_wrong_input_is_named(arguments, message):
    probe = LossProbe(Point(-1.0, 0.0), [None], loss=ring)
    with pytest.raises(ValueError, match=message):
        mode_connectivity(probe, Point(1.0, 0.0), **arguments)
