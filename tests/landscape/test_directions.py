"""Directions against dense eigenvectors, singular value decompositions and formulas a filter at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_regimes import LossProbe, ProbeError
from lightning_regimes.curvature import HessianOperator, eigsh
from lightning_regimes.landscape import Directions, directions


def squared_error(module: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.mse_loss(module(batch[0]), batch[1])


def dense_probe(dtype: torch.dtype = torch.float32) -> LossProbe:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    return LossProbe(network, [(torch.randn(40, 6), torch.randn(40, 3))], loss=squared_error, dtype=dtype)


def convolutional_probe(dtype: torch.dtype = torch.float32) -> LossProbe:
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(12, 2)
    )
    network(torch.randn(50, 1, 6, 6))  # running statistics
    return LossProbe(network, [(torch.randn(30, 1, 6, 6), torch.randn(30, 2))], loss=squared_error, dtype=dtype)


class Spectral(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(3))
        self.weight = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64))
        self.shift = nn.Parameter(torch.randn(2, dtype=torch.complex64))

    def forward(self, inputs: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(inputs)[:, :, None] * self.weight + self.shift
        return torch.fft.irfft(spectrum, n=2, dim=1).sum(-1) + self.bias[:2]


def spectral_probe() -> LossProbe:
    torch.manual_seed(2)
    return LossProbe(Spectral(), [(torch.randn(10, 4), torch.randn(10, 2))], loss=squared_error)


def cosines(vectors: Tensor) -> Tensor:
    unit = functional.normalize(vectors.double(), dim=0)
    return (unit.T @ unit).abs() - torch.eye(vectors.shape[1], dtype=torch.float64)


@pytest.mark.parametrize("make", [dense_probe, convolutional_probe, spectral_probe])
def test_random_directions_are_orthonormal_and_repeat_with_the_seed(make: Any) -> None:
    probe = make()
    found = directions(probe, "random", 5, seed=3)
    assert float(cosines(found.vectors).max()) < 1e-6
    torch.testing.assert_close(found.vectors.norm(dim=0), torch.ones(5))
    assert torch.equal(found.vectors, directions(probe, "random", 5, seed=3).vectors)
    assert not torch.equal(found.vectors, directions(probe, "random", 5, seed=4).vectors)
    assert found.names == tuple(f"random direction {index}" for index in range(1, 6))


def test_as_many_random_directions_as_parameters() -> None:
    probe = LossProbe(nn.Linear(2, 1), [(torch.randn(4, 2), torch.randn(4, 1))], loss=squared_error)
    assert float(cosines(directions(probe, "random", 3).vectors).max()) < 1e-6


@pytest.mark.parametrize("make", [dense_probe, convolutional_probe])
def test_hessian_directions_are_eigenvectors(make: Any) -> None:
    found = directions(make(), "hessian", 3)
    exact = make(torch.float64)
    hessian = HessianOperator(exact) @ torch.eye(exact.num_parameters, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(hessian)
    values, vectors = values.flip(0)[:3], vectors.flip(1)[:, :3]
    ours = found.vectors.double()
    assert float((ours * vectors).sum(0).abs().min()) > 0.999
    rayleigh = (ours * (hessian @ ours)).sum(0) / ours.square().sum(0)
    torch.testing.assert_close(rayleigh, values, rtol=1e-3, atol=0)
    torch.testing.assert_close(torch.tensor(found.metadata["eigenvalues"]).double(), values, rtol=1e-3, atol=0)
    assert bool((found.vectors.gather(0, found.vectors.abs().argmax(0, keepdim=True)) > 0).all())
    assert found.metadata["converged"] is True
    assert found.names == ("eigenvector 1", "eigenvector 2", "eigenvector 3")


def test_given_eigenpairs_are_taken_as_they_are() -> None:
    probe = dense_probe()
    pairs = eigsh(HessianOperator(probe), 4)
    found = directions(probe, "hessian", 2, eigenpairs=pairs)
    assert torch.equal(found.vectors, pairs.vectors[:, :2])
    assert found.metadata["num_matvecs"] == pairs.num_matvecs


def test_filters_get_the_norms_of_their_weights() -> None:
    probe = convolutional_probe()
    plain, scaled = (directions(probe, "random", 2, normalize=how).vectors for how in ("none", "filter"))
    for column in range(2):
        raw, got = (probe.unflatten(vectors[:, column].contiguous()) for vectors in (plain, scaled))
        for weight, d, result in zip(probe.parameters.values(), raw, got, strict=True):
            if weight.ndim < 2:
                assert not result.any()
                continue
            for j in range(len(weight)):
                expected = d[j] * (weight[j].detach().norm() / d[j].norm())
                torch.testing.assert_close(result[j], expected, rtol=1e-5, atol=1e-7)


def test_layers_get_the_norms_of_their_weights() -> None:
    probe = spectral_probe()
    bias, weight, shift = probe.unflatten(directions(probe, "random", 1, normalize="layer").vectors[:, 0])
    assert not bias.any()
    assert not shift.any()  # one complex dimension
    torch.testing.assert_close(weight.norm(), probe.parameters["weight"].detach().norm())


def test_a_filter_of_a_complex_weight_is_one_of_its_rows() -> None:
    probe = spectral_probe()
    _, weight, _ = probe.unflatten(directions(probe, "random", 1, normalize="filter").vectors[:, 0])
    torch.testing.assert_close(
        weight.flatten(1).norm(dim=1), probe.parameters["weight"].detach().flatten(1).norm(dim=1)
    )


def test_the_first_axis_is_the_gradient() -> None:
    probe = dense_probe()
    found = directions(probe, "gradient", 3)
    torch.testing.assert_close(found.vectors[:, 0], functional.normalize(probe.gradient(), dim=0))
    assert float(cosines(found.vectors).max()) < 1e-6
    assert found.names[0] == "gradient"
    assert found.metadata["gradient_norm"] == pytest.approx(float(probe.gradient().norm()))


def test_principal_components_are_singular_vectors() -> None:
    probe = dense_probe()
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([3.0, 2.0, 1.0, 0.3, 0.1, 0.03, 0.01])
    points = list(torch.randn(7, probe.num_parameters, generator=generator) * scales[:, None] + 5)
    found = directions(probe, "pca", 3, points=points)
    matrix = torch.stack(points).double().numpy()
    _, singular, right = np.linalg.svd(matrix - matrix.mean(0), full_matrices=False)
    ours = found.vectors.double().numpy()
    np.testing.assert_allclose(np.abs((ours * right[:3].T).sum(0)), 1, atol=1e-9)
    np.testing.assert_allclose(found.metadata["explained_variance"], singular[:3] ** 2 / 6, rtol=1e-9)
    np.testing.assert_allclose(
        found.metadata["explained_variance_ratio"], singular[:3] ** 2 / (singular**2).sum(), rtol=1e-9
    )


def test_an_interpolation_reaches_the_other_points() -> None:
    probe = dense_probe()
    generator = torch.Generator().manual_seed(0)
    points = [torch.randn(probe.num_parameters, generator=generator) for _ in range(2)]
    line = directions(probe, "interpolation", points=points[:1])
    torch.testing.assert_close(probe.point() + line.vectors[:, 0], points[0])
    assert line.metadata["anchors"] == [[0.0], [1.0]]
    plane = directions(probe, "interpolation", points=points)
    for anchor, point in zip(plane.metadata["anchors"], [probe.point(), *points], strict=True):
        torch.testing.assert_close(probe.point() + plane.vectors @ torch.tensor(anchor), point, rtol=1e-5, atol=1e-5)
    assert float(cosines(plane.vectors).max()) < 1e-6
    torch.testing.assert_close(plane.vectors[:, 0].norm(), plane.vectors[:, 1].norm())


def test_wrong_combinations_are_refused() -> None:
    probe = dense_probe()
    point = torch.ones(probe.num_parameters)
    pairs = eigsh(HessianOperator(probe), 1)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"kind": "normal"}, "`kind` is one of hessian"),
        ({"normalize": "filter"}, "`normalize` is for random directions only"),
        ({"kind": "random", "normalize": "weight"}, "`normalize` is one of"),
        ({"kind": "pca"}, "needs `points`"),
        ({"kind": "interpolation"}, "needs `points`"),
        ({"kind": "random", "points": [point]}, "no use for `points`"),
        ({"kind": "random", "eigenpairs": pairs}, "`eigenpairs` are for"),
        ({"eigenpairs": pairs}, "`eigenpairs` are 1, fewer than `n`=2"),
        ({"n": 0}, "`n` must be between 1 and the number of parameters, 83, got 0"),
        ({"n": 84}, "got 84"),
        ({"kind": "pca", "points": [point, point]}, "`points` must be more than `n`=2, got 2"),
        ({"kind": "pca", "points": [point, 2 * point, 3 * point]}, "vary in 1 directions only"),
        ({"kind": "interpolation", "points": [point[:-1]]}, r"shape \(83,\), .* got \(82,\) at 0"),
        ({"kind": "interpolation", "points": [point * float("nan")]}, "are finite"),
        ({"kind": "interpolation", "points": [point] * 3}, "one, for a line, or two"),
        ({"kind": "interpolation", "n": 2, "points": [point]}, "`n` is the number of points"),
        ({"kind": "interpolation", "points": [probe.point()]}, "the same at 0"),
        ({"kind": "interpolation", "points": [point, 2 * point - probe.point()]}, "on one line"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            directions(probe, **options)


def test_normalisation_that_leaves_nothing_is_refused() -> None:
    network = nn.BatchNorm1d(3)
    probe = LossProbe(network, [(torch.randn(9, 3), torch.randn(9, 3))], loss=squared_error)
    with pytest.raises(ValueError, match="leaves nothing of the direction"):
        directions(probe, "random", 1, normalize="filter")


def test_a_vanishing_gradient_is_no_direction() -> None:
    network = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(network.weight)
    probe = LossProbe(network, [(torch.randn(9, 2), torch.zeros(9, 1))], loss=squared_error)
    with pytest.raises(ProbeError, match="the norm of the gradient is 0"):
        directions(probe, "gradient", 1)


def test_directions_of_ones_own_are_checked() -> None:
    with pytest.raises(ValueError, match="one direction a column"):
        Directions(torch.ones(3), ("a",))
    with pytest.raises(ValueError, match="2 names for 1 directions"):
        Directions(torch.ones(3, 1), ("a", "b"))
    with pytest.raises(ValueError, match="not finite"):
        Directions(torch.full((3, 1), float("inf")), ("a",))
    with pytest.raises(ValueError, match="`unit` is 'norm' or 'absolute', got 'percent'"):
        Directions(torch.ones(3, 1), ("a",), unit="percent")  # type: ignore[arg-type]
