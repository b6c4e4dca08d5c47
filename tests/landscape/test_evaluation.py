"""Surfaces against closed forms, against the loss of copies of the network, and of one backend against the other."""

from __future__ import annotations

import copy
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_regimes import LossProbe, ProbeError
from lightning_regimes.datamodules import Collocation
from lightning_regimes.landscape import Directions, directions, evaluate_surface
from lightning_regimes.landscape.evaluation_loop import needed_derivatives
from lightning_regimes.modules import PINN
from lightning_regimes.networks import MLP
from lightning_regimes.pde import Convection


class Quadratic(nn.Module):
    """½ θᵀ A θ + bᵀ θ + c."""

    def __init__(self, size: int = 6) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        root = torch.randn(size, size, generator=generator, dtype=torch.float64)
        self.register_buffer("matrix", root @ root.T - torch.eye(size, dtype=torch.float64))
        self.register_buffer("slope", torch.randn(size, generator=generator, dtype=torch.float64))
        self.point = nn.Parameter(torch.randn(size, generator=generator, dtype=torch.float64))

    def diagnostic_loss(self, batch: Any) -> Tensor:
        return 0.5 * self.point @ self.matrix @ self.point + self.slope @ self.point + 3


def cross_entropy(module: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(module(batch[0]), batch[1])


def classification_batches(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 5, generator=generator), torch.randint(0, 3, (size,), generator=generator)) for size in sizes
    ]


def classifier(*, batch_norm: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(5, 7), nn.BatchNorm1d(7) if batch_norm else nn.Identity(), nn.ReLU(), nn.Linear(7, 3)
    )
    network(torch.randn(64, 5) * 2 + 1)
    return network


def classifier_probe(**options: Any) -> LossProbe:
    return LossProbe(classifier(), classification_batches(20, 11, 3), loss=cross_entropy, **options)


@pytest.mark.parametrize("backend", ["loop", "vmap", "auto"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_quadratic_loss_has_its_closed_form(backend: Any, dim: int) -> None:
    module = Quadratic()
    probe = LossProbe(module, [torch.zeros(1)])
    axes = directions(probe, "random", dim)
    points, span = (21, 8, 5)[:dim], (0.5, 0.2, 1.0)[:dim]
    surface = evaluate_surface(probe, axes, span=span, points=points, backend=backend)
    theta, V = module.point.detach().numpy(), axes.vectors.numpy()
    A, b = module.matrix.numpy(), module.slope.numpy()
    scale = np.linalg.norm(theta)
    assert surface.values.shape == points
    assert surface.unit == "norm"
    assert surface.scale == pytest.approx(scale)
    for index in np.ndindex(points):
        x = np.array([axis[i] for axis, i in zip(surface.axes, index, strict=True)])
        position = theta + scale * V @ x
        assert surface.values[index] == pytest.approx(0.5 * position @ A @ position + b @ position + 3, rel=1e-12)
    assert surface.center_loss == pytest.approx(float(probe.loss()), rel=1e-14)
    assert [axis[-1] for axis in surface.axes] == list(span)


def test_the_center_is_the_loss_itself() -> None:
    probe = classifier_probe()
    surface = evaluate_surface(probe, directions(probe, "random", 2), points=(5, 7), backend="loop")
    assert surface.center == (2, 3)
    assert surface.values[2, 3] == surface.center_loss == float(probe.loss())
    even = evaluate_surface(probe, directions(probe, "random", 2), points=4, backend="loop")
    assert even.center is None
    assert even.center_loss == float(probe.loss())
    assert even.metadata["num_evaluations"] == 17


def test_each_point_is_the_loss_of_a_moved_copy() -> None:
    probe = classifier_probe()
    axes = directions(probe, "random", 2, normalize="filter")
    surface = evaluate_surface(probe, axes, span=(1.0, 0.5), points=(3, 5), backend="loop")
    assert (surface.unit, surface.scale) == ("absolute", 1.0)
    for index in np.ndindex(3, 5):
        x = torch.tensor([axis[i] for axis, i in zip(surface.axes, index, strict=True)])
        moved = classifier().double()
        nn.utils.vector_to_parameters(probe.point().double() + axes.vectors.double() @ x, moved.parameters())
        inputs, targets = (torch.cat(parts) for parts in zip(*classification_batches(20, 11, 3), strict=True))
        expected = cross_entropy(moved.eval(), (inputs.double(), targets)).item()
        assert surface.values[index] == pytest.approx(expected, rel=1e-6)


def test_an_interpolation_ends_at_the_other_checkpoint() -> None:
    probe = classifier_probe(dtype=torch.float64)
    torch.manual_seed(5)
    other = classifier()
    for parameter in other.parameters():
        parameter.data.normal_()
    there = LossProbe(other, classification_batches(20, 11, 3), loss=cross_entropy, dtype=torch.float64)
    line = evaluate_surface(probe, directions(probe, "interpolation", points=[there.point()]), span=[(-0.5, 1.5)])
    assert line.unit == "absolute"
    at = {round(x, 6): value for x, value in zip(line.axes[0], line.values, strict=True)}
    assert at[0.0] == pytest.approx(float(probe.loss()), rel=1e-12)
    assert at[1.0] == pytest.approx(float(there.loss()), rel=1e-12)


@pytest.mark.parametrize("distance", [0.9995, 1.0, 1.0005])
def test_an_interpolation_over_about_one_unit_ends_at_the_other_point_too(distance: float) -> None:
    module = Quadratic()
    probe = LossProbe(module, [torch.zeros(1)])
    step = torch.full((6,), distance / 6**0.5, dtype=torch.float64)
    axes = directions(probe, "interpolation", points=[probe.point() + step])
    surface = evaluate_surface(probe, axes, span=1.0, points=3)
    assert surface.unit == "absolute"
    with probe.moved([probe.point() + step]):
        assert surface.values[-1] == pytest.approx(float(probe.loss()), rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "options", "unit"),
    [
        ("hessian", {}, "norm"),
        ("random", {}, "norm"),
        ("random", {"normalize": "filter"}, "absolute"),
        ("random", {"normalize": "layer"}, "absolute"),
        ("gradient", {}, "norm"),
        ("pca", {"points": [2 * torch.eye(66)[index] for index in range(4)]}, "norm"),
        ("interpolation", {"points": [torch.ones(66)]}, "absolute"),
        ("interpolation", {"points": [torch.ones(66), torch.eye(66)[0]]}, "absolute"),
    ],
)
def test_the_unit_is_that_of_the_directions(kind: Any, options: dict[str, Any], unit: str) -> None:
    probe = classifier_probe()
    axes = directions(probe, kind, **options)
    surface = evaluate_surface(probe, axes, points=2)
    assert axes.unit == surface.unit == unit
    norm = float(torch.cat([parameter.detach().flatten() for parameter in classifier().parameters()]).double().norm())
    assert axes.scale(probe) == surface.scale == pytest.approx(norm if unit == "norm" else 1.0, rel=1e-12)


def test_without_a_norm_the_unit_is_absolute() -> None:
    network = nn.Linear(5, 3)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    probe = LossProbe(network, classification_batches(20), loss=cross_entropy)
    axes = directions(probe, "random", 1)
    surface = evaluate_surface(probe, axes, points=3)
    assert (surface.unit, surface.scale, axes.scale(probe)) == ("absolute", 1.0, 1.0)
    with pytest.raises(ValueError, match="needs parameters that are not all zero"):
        evaluate_surface(probe, axes, points=3, unit="norm")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk_size", [None, 1, 5])
def test_backends_agree_to_rounding(dtype: torch.dtype, chunk_size: int | None) -> None:
    probe = classifier_probe(dtype=dtype)
    axes = directions(probe, "random", 2)
    loop, vmap = (
        evaluate_surface(probe, axes, points=9, backend=backend, chunk_size=chunk_size)  # type: ignore[arg-type]
        for backend in ("loop", "vmap")
    )
    assert loop.metadata["backend"] == "loop"
    assert vmap.metadata["backend"] == "vmap"
    np.testing.assert_allclose(vmap.values, loop.values, rtol=30 * torch.finfo(dtype).eps)


def test_the_fastest_backend_has_the_values_that_it_has_by_name() -> None:
    probe = classifier_probe()
    axes = directions(probe, "random", 2)
    surface = evaluate_surface(probe, axes, points=15)
    named = evaluate_surface(
        probe, axes, points=15, backend=surface.metadata["backend"], chunk_size=surface.metadata["chunk_size"]
    )
    np.testing.assert_array_equal(surface.values, named.values)


class Spectral(nn.Module):
    """A complex weight at an odd place among the parameters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bias = nn.Parameter(torch.randn(3))
        self.weight = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64))

    def forward(self, inputs: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(inputs[:, :4])[:, :, None] * self.weight
        return torch.fft.irfft(spectrum.sum(-1), n=3) + self.bias


@pytest.mark.parametrize("backend", ["loop", "vmap"])
def test_complex_parameters_move_by_their_real_views(backend: Any) -> None:
    probe = LossProbe(Spectral(), classification_batches(8), loss=cross_entropy)
    step = torch.linspace(-1, 1, 15)
    surface = evaluate_surface(
        probe, Directions(step[:, None], ("line",)), unit="absolute", span=1.0, points=3, backend=backend
    )
    for value, sign in zip(surface.values, (-1, 0, 1), strict=True):
        moved = Spectral()
        moved.bias.data += sign * step[:3]
        moved.weight.data += sign * torch.view_as_complex(step[3:].reshape(3, 2, 2).clone())
        assert value == pytest.approx(cross_entropy(moved, classification_batches(8)[0]).item(), rel=1e-6)


def test_losses_that_are_not_finite_stay() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([0.5]))

        def diagnostic_loss(self, batch: Any) -> Tensor:
            return self.weight.sqrt().sum() + 1 / self.weight.sum()

    probe = LossProbe(Root(), [torch.zeros(1)])
    axes = Directions(torch.ones(1, 1), ("weight",))
    surface = evaluate_surface(probe, axes, unit="absolute", span=1.0, points=5)
    np.testing.assert_allclose(surface.values, [np.nan, np.inf, 0.5**0.5 + 2, 2.0, 1.5**0.5 + 1 / 1.5], rtol=1e-6)
    assert surface.num_nonfinite == 2


def penalized(module: Any, batch: Any) -> Tensor:
    value = cross_entropy(module, batch)
    gradients = torch.autograd.grad(value, list(module.parameters()), create_graph=True)
    return value + sum((gradient.square().sum() for gradient in gradients), torch.zeros(()))


def of_own_points(module: Any, batch: Any) -> Tensor:
    inputs = batch[0].requires_grad_()
    (slope,) = torch.autograd.grad(module(inputs).sum(), inputs, create_graph=True)
    return slope.square().mean()


@pytest.mark.parametrize(("loss", "needed"), [(cross_entropy, "none"), (of_own_points, "inner"), (penalized, "all")])
def test_losses_with_derivatives_inside(loss: Any, needed: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    probe = LossProbe(network, classification_batches(6, 9), loss=loss)
    with probe.isolated():
        assert needed_derivatives(probe) == needed
    axes = directions(probe, "random", 1)
    surface = evaluate_surface(probe, axes, points=5)
    assert surface.center_loss == float(probe.loss())
    for x, value in zip(surface.axes[0], surface.values, strict=True):
        moved = copy.deepcopy(network)
        nn.utils.vector_to_parameters(probe.point() + surface.scale * x * axes.vectors[:, 0], moved.parameters())
        expected = LossProbe(moved, classification_batches(6, 9), loss=loss).loss()
        assert value == pytest.approx(float(expected), rel=1e-5)


def test_the_loss_of_a_differential_equation() -> None:
    torch.manual_seed(0)
    module = PINN(Convection(beta=2.0), MLP(2, 1, hidden_sizes=(6, 6)))
    batch = Collocation(module.problem, num_interior=32).training_batch()
    probe = LossProbe(module, [batch], dtype=torch.float64)
    axes = directions(probe, "hessian", 2)
    surface = evaluate_surface(probe, axes, points=(3, 5))
    assert surface.center_loss == float(probe.loss())
    # To second order, the surface along eigenvectors is a sum of parabolas.
    near = evaluate_surface(probe, axes, points=3, span=1e-4)
    step = near.scale * 1e-4
    for axis, (row, value) in enumerate(
        zip((near.values[:, 1], near.values[1]), axes.metadata["eigenvalues"], strict=True)
    ):
        assert (row[2] - 2 * row[1] + row[0]) / step**2 == pytest.approx(value, rel=1e-3)
        slope = float(probe.gradient() @ axes.vectors[:, axis])
        assert (row[2] - row[0]) / (2 * step) == pytest.approx(slope, rel=1e-5)


def test_random_numbers_are_the_same_at_each_point() -> None:
    def noisy(module: Any, batch: Any) -> Tensor:
        inputs, targets = batch
        noise = torch.rand_like(inputs) + float(np.random.rand()) + random.random()
        return cross_entropy(module, (inputs + noise, targets))

    probe = LossProbe(classifier(), classification_batches(6), loss=noisy)
    constant = Directions(torch.zeros(probe.num_parameters, 1), ("nowhere",))
    surface = evaluate_surface(probe, constant, points=40, backend="loop")
    assert set(surface.values.tolist()) == {float(probe.loss())}


@pytest.mark.parametrize("changed", ["buffer", "replaced buffer", "batch"])
def test_changes_by_the_loss_are_undone_between_points(changed: str) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.register_buffer("count", torch.zeros(1))

        def diagnostic_loss(self, batch: Any) -> Tensor:
            if changed == "buffer":
                self.count += 1
            elif changed == "replaced buffer":
                self.count = self.count + 1
            else:
                batch["points"].data += 1  # leaves no mark in the version
            return (self.count.sum() + batch["points"].sum()) * self.weight.sum()

    module = Counting()
    batch = {"points": torch.ones(3)}
    probe = LossProbe(module, [batch])
    surface = evaluate_surface(probe, Directions(torch.zeros(1, 1), ("nowhere",)), points=40, backend="loop")
    assert set(surface.values.tolist()) == {6.0 if changed == "batch" else 4.0}
    assert module.count == 0
    assert torch.equal(batch["points"], torch.ones(3))


def test_a_count_in_the_batch_starts_anew_at_each_point() -> None:
    def counting(module: Any, batch: dict[str, Any]) -> Tensor:
        batch["calls"].append(1)
        return cross_entropy(module, batch["pair"]) * len(batch["calls"])

    batch = {"pair": classification_batches(6)[0], "calls": [1]}
    probe = LossProbe(classifier(), [batch], loss=counting)
    constant = Directions(torch.zeros(probe.num_parameters, 1), ("nowhere",))
    surface = evaluate_surface(probe, constant, points=40, backend="loop")
    assert set(surface.values.tolist()) == {float(probe.loss())}
    assert batch["calls"] == [1]


class Stateful(nn.Module):
    """A squared norm, times something that is another number at each evaluation."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.arange(1.0, 5.0))
        self.generator = torch.Generator().manual_seed(0)
        self.random = np.random.default_rng(0)
        self.scale = torch.ones(())
        self.calls = 0

    def diagnostic_loss(self, batch: Any) -> Tensor:
        value = self.weight.square().sum()
        self.calls += 1
        if self.kind == "torch generator":
            return value * torch.rand((), generator=self.generator)
        if self.kind == "numpy generator":
            return value * self.random.random()
        if self.kind == "adaptive weight":
            self.scale = 0.9 * self.scale + 0.1 * value.detach()
            return value * self.scale
        if self.kind == "counter":
            return value * (1 + self.calls / 500)
        if self.kind == "slow counter":
            return value * (1 + self.calls // 30)
        return value


STATES = ["torch generator", "numpy generator", "adaptive weight", "counter"]


@pytest.mark.parametrize("backend", ["loop", "vmap", "auto"])
@pytest.mark.parametrize("kind", STATES)
def test_a_loss_with_state_of_its_own_is_refused(kind: str, backend: Any) -> None:
    module = Stateful(kind)
    probe = LossProbe(module, [torch.zeros(1), torch.zeros(2)])
    states = module.generator.get_state(), module.random.bit_generator.state
    with pytest.raises(ProbeError, match=r"changes from one evaluation to the next .* `diagnostic_loss\(batch\)`"):
        evaluate_surface(probe, directions(probe, "random", 2), points=13, backend=backend)
    assert torch.equal(module.generator.get_state(), states[0])
    assert module.random.bit_generator.state == states[1]
    assert (module.calls, float(module.scale)) == (0, 1.0)


@pytest.mark.parametrize("backend", ["loop", "vmap", "auto"])
def test_state_that_the_loss_does_not_look_at_is_no_harm(backend: Any) -> None:
    probe = LossProbe(Stateful("none"), [torch.zeros(1)])
    surface = evaluate_surface(probe, directions(probe, "random", 2), points=13, backend=backend)
    assert surface.center_loss == pytest.approx(30.0, rel=1e-6)


def test_state_that_shows_late_leaves_no_values(tmp_path: Path) -> None:
    probe = LossProbe(Stateful("slow counter"), [torch.zeros(1)])
    axes = directions(probe, "random", 2)
    for _ in range(2):
        with pytest.raises(ProbeError, match="state of its own"):
            evaluate_surface(probe, axes, points=13, backend="loop", resume=tmp_path / "surface.npz")


def test_the_memory_of_a_surface_is_counted() -> None:
    def flat(module: Any, batch: Any) -> Tensor:
        return module.bias.sum()

    probe = LossProbe(nn.Linear(1, 1), [torch.zeros(1)], loss=flat)
    axes = directions(probe, "random", 2)
    options: dict[str, Any] = {"backend": "vmap", "chunk_size": 1000}
    evaluate_surface(probe, axes, points=50, **options)
    tracemalloc.start()
    surface = evaluate_surface(probe, axes, points=300, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The tensor of the values, which Python does not see, and what a chunk takes.
    assert surface.values.nbytes < peak + 8 * 300**2 < 33 * 300**2 + 2**18
    with pytest.raises(ValueError, match="takes 2970000 bytes"):
        evaluate_surface(probe, axes, points=300, max_bytes=33 * 300**2 - 1)


def test_nothing_is_left_behind() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Dropout(), nn.Linear(7, 3)).train()
    cross_entropy(network, classification_batches(20)[0]).backward()
    probe = LossProbe(network, classification_batches(20, 11), loss=cross_entropy)
    before = copy.deepcopy(network.state_dict())
    gradients = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    kept = [(id(parameter), parameter._version) for parameter in network.parameters()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]
    point = probe.point()
    axes = directions(probe, "hessian", 2)
    for options in ({"backend": "loop"}, {"backend": "vmap"}, {}, {"batch_norm": "recompute"}):
        evaluate_surface(probe, axes, points=13, **options)  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [(id(parameter), parameter._version) for parameter in network.parameters()] == kept
    assert all(
        torch.equal(a, p.grad) for a, p in zip(gradients, network.parameters(), strict=True) if p.grad is not None
    )
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # type: ignore[index]
    assert random.getstate() == states[2]
    assert all(module.training for module in network.modules())
    assert torch.equal(probe.point(), point)


def test_statistics_are_recomputed_at_each_point() -> None:
    batches = classification_batches(20, 11)
    probe = LossProbe(classifier(batch_norm=True), batches, loss=cross_entropy)
    axes = directions(probe, "random", 1)
    surface = evaluate_surface(probe, axes, span=0.5, points=3, batch_norm="recompute")
    frozen = evaluate_surface(probe, axes, span=0.5, points=3)
    for i, x in enumerate(surface.axes[0]):
        moved = classifier(batch_norm=True).eval()
        nn.utils.vector_to_parameters(probe.point() + surface.scale * x * axes.vectors[:, 0], moved.parameters())
        layer = moved[1]
        losses = []
        for recompute in (False, True):
            if recompute:
                hidden = [moved[0](inputs).detach() for inputs, _ in batches]
                layer.running_mean = (20 * hidden[0].mean(0) + 11 * hidden[1].mean(0)) / 31
                layer.running_var = (20 * hidden[0].var(0) + 11 * hidden[1].var(0)) / 31
            each = [cross_entropy(moved, batch).item() for batch in batches]
            losses.append((20 * each[0] + 11 * each[1]) / 31)
        assert frozen.values[i] == pytest.approx(losses[0], rel=1e-5)
        assert surface.values[i] == pytest.approx(losses[1], rel=1e-5)
    assert surface.metadata["batch_norm"] == "recompute"
    assert frozen.center_loss == float(probe.loss()) != surface.center_loss


def test_statistics_of_the_batch_are_those_of_each_point() -> None:
    probe = LossProbe(classifier(batch_norm=True), classification_batches(20), loss=cross_entropy, mode="train")
    axes = directions(probe, "random", 2)
    surface = evaluate_surface(probe, axes, points=13)
    assert surface.metadata["backend"] == "loop"
    assert surface.center_loss == float(probe.loss())
    moved = classifier(batch_norm=True)
    corner = surface.scale * torch.tensor([0.1, 0.1]) @ axes.vectors.T
    nn.utils.vector_to_parameters(probe.point() + corner, moved.parameters())
    expected = cross_entropy(moved.train(), classification_batches(20)[0]).item()
    assert surface.values[-1, -1] == pytest.approx(expected, rel=1e-5)


def test_a_loss_without_derivatives_has_a_surface() -> None:
    def error_rate(module: Any, batch: Any) -> Tensor:
        return (module(batch[0]).argmax(1) != batch[1]).float().mean()

    probe = LossProbe(classifier(), classification_batches(20, 11), loss=error_rate)
    surface = evaluate_surface(probe, directions(probe, "random", 1), span=2.0, points=9)
    np.testing.assert_allclose(surface.values * 31, np.round(surface.values * 31), atol=1e-5)
    assert len(set(surface.values)) > 2


def test_a_loss_that_vmap_cannot_follow_takes_the_loop() -> None:
    def with_item(module: Any, batch: Any) -> Tensor:
        value = cross_entropy(module, batch)
        return value * 2 if value.item() > 1e9 else value

    probe = LossProbe(classifier(), classification_batches(20), loss=with_item)
    axes = directions(probe, "random", 2)
    assert evaluate_surface(probe, axes, points=13).metadata["backend"] == "loop"
    with pytest.raises(ProbeError, match=r"cannot be evaluated by vmap .* use the backend 'loop'"):
        evaluate_surface(probe, axes, points=13, backend="vmap")


def test_a_loss_of_which_vmap_computes_another_takes_the_loop() -> None:
    def other_under_vmap(module: Any, batch: Any) -> Tensor:
        value = cross_entropy(module, batch)
        return value + 1 if torch._C._functorch.maybe_get_level(module[0].weight) > 0 else value

    probe = LossProbe(classifier(), classification_batches(20), loss=other_under_vmap)
    axes = directions(probe, "random", 2)
    assert evaluate_surface(probe, axes, points=13).metadata["backend"] == "loop"
    with pytest.raises(ProbeError, match="does not compute the same"):
        evaluate_surface(probe, axes, points=13, backend="vmap")


def test_a_loss_through_a_stale_reference_is_refused() -> None:
    network = classifier()
    stale = network[0].weight
    probe = LossProbe(
        network, classification_batches(9), loss=lambda module, batch: cross_entropy(module, batch) + stale.sum()
    )
    with pytest.raises(ProbeError, match="through a reference beside the module's attribute"):
        evaluate_surface(probe, Directions(torch.ones(probe.num_parameters, 1), ("a",)))


def test_wrong_arguments_are_refused() -> None:
    probe = classifier_probe()
    axes = directions(probe, "random", 2)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"points": 1}, "`points` is an integer and at least 2 on each axis, got 1"),
        ({"points": (3, 3, 3)}, "`points` is one number or one for each of 2 directions"),
        ({"points": 3.0}, "`points` is an integer and at least 2 on each axis, got 3.0"),
        ({"span": 0.0}, "`span` is positive and finite, got 0.0"),
        ({"span": float("inf")}, "`span` is positive and finite, got inf"),
        ({"span": (0.1, 0.2, 0.3)}, "`span` is one number or one for each of 2 directions"),
        ({"span": [(0.5, -0.5), 0.1]}, "two ascending and finite ones"),
        ({"span": [None, 0.1]}, "two ascending and finite ones, got None"),
        ({"span": [("a", "b"), 0.1]}, "two ascending and finite ones"),
        (
            {"points": 20_000},
            "20000 × 20000 points takes 13200000000 bytes, more than `max_bytes`=1073741824; lower `points`",
        ),
        ({"backend": "fast"}, "`backend` is one of auto, loop, vmap"),
        ({"batch_norm": "bn"}, "`batch_norm` is 'frozen' or 'recompute'"),
        ({"batch_norm": "recompute", "backend": "vmap"}, "needs the loop"),
        ({"chunk_size": 0}, "`chunk_size` is at least 1"),
        ({"points": 9, "backend": "vmap", "chunk_size": 9, "max_bytes": 4000}, "lower `chunk_size`"),
        ({"unit": "percent"}, "`unit` is 'norm' or 'absolute'"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            evaluate_surface(probe, axes, **options)
    for name in ("span", "points"):
        with pytest.raises(TypeError, match=f"`{name}` is one number or one for each of 2 directions, got None"):
            evaluate_surface(probe, axes, **{name: None})
    with pytest.raises(ValueError, match="`directions` have 5 entries, but the probe has 66 parameters"):
        evaluate_surface(probe, Directions(torch.ones(5, 1), ("a",)))
    with pytest.raises(ValueError, match="`unit`='norm' is for unit vectors"):
        evaluate_surface(probe, directions(probe, "random", 2, normalize="filter"), unit="norm")
    with pytest.raises(ValueError, match="for a probe with `mode`='eval'"):
        evaluate_surface(classifier_probe(mode="train"), axes, batch_norm="recompute")


def test_the_progress_bar_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    probe = classifier_probe()
    axes = directions(probe, "random", 1)
    quiet = evaluate_surface(probe, axes, points=9, backend="loop")
    assert capsys.readouterr().out == ""
    shown = evaluate_surface(probe, axes, points=9, backend="loop", progress=True)
    np.testing.assert_array_equal(shown.values, quiet.values)
