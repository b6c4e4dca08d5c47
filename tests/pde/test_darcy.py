"""The Darcy solver against closed forms, a manufactured solution, and the properties of the equation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve

from lightning_regimes.pde import DarcyFlow, darcy


def poisson_centre() -> float:
    """u(1/2, 1/2) of −Δu = 1 on the unit square, from its double sine series summed in one dimension."""
    total = 0.0
    for k in range(1, 2000, 2):
        sign = (-1) ** ((k - 1) // 2)
        total += sign * 4 / (math.pi * k) ** 3 * (1 - 1 / math.cosh(min(k * math.pi / 2, 700)))
    return total


def test_constant_coefficient_is_of_second_order() -> None:
    exact = poisson_centre()
    assert exact == pytest.approx(0.0736714, abs=1e-7)
    errors = []
    for size in (17, 33, 65):
        solution = DarcyFlow().solve(torch.ones(size, size))
        errors.append(abs(solution[size // 2, size // 2].item() - exact))
    assert errors == pytest.approx([2.26e-4, 5.66e-5, 1.42e-5], rel=5e-3)
    assert np.log2(np.divide(errors[:-1], errors[1:])) == pytest.approx([2, 2], abs=0.02)


@pytest.mark.parametrize("face_average", ["harmonic", "arithmetic"])
def test_random_media(face_average: str) -> None:
    problem = DarcyFlow(face_average=face_average)  # type: ignore[arg-type]
    for size in (17, 33, 65):
        coefficient = problem.coefficient(range(4), resolution=size)
        assert set(coefficient.unique().tolist()) == {3.0, 12.0}
        solution = problem.solve(coefficient)
        assert problem.residual(coefficient, solution).abs().max() <= 1e-11
        assert solution.min() >= 0
        assert solution[:, 1:-1, 1:-1].min() > 0
        # The mean falls as the coefficient grows (Dirichlet's principle): it lies between those of constant ones.
        constant = problem.solve(torch.ones(size, size)).mean()
        means = solution.mean(dim=(1, 2))
        assert bool((means < constant / 3).all())
        assert bool((means > constant / 12).all())


@settings(max_examples=15, deadline=None)
@given(size=st.integers(3, 9), seed=st.integers(0, 2**31), face_average=st.sampled_from(["harmonic", "arithmetic"]))
def test_any_medium_against_a_dense_solve(size: int, seed: int, face_average: str) -> None:
    problem = DarcyFlow(face_average=face_average, forcing=2.0)  # type: ignore[arg-type]
    coefficient = torch.rand(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1

    def inner_residual(values: torch.Tensor) -> torch.Tensor:
        whole = torch.nn.functional.pad(values.view(size - 2, size - 2), (1, 1, 1, 1))
        return problem.residual(coefficient, whole).flatten()

    zero = torch.zeros((size - 2) ** 2, dtype=torch.float64)
    matrix = torch.func.jacrev(inner_residual)(zero)
    torch.testing.assert_close(matrix, matrix.T)
    expected = solve(matrix.numpy(), -inner_residual(zero).numpy(), assume_a="pos")
    found = problem.solve(coefficient)
    np.testing.assert_allclose(found[1:-1, 1:-1].numpy().ravel(), expected, rtol=1e-10)


def test_smooth_medium_is_of_second_order() -> None:
    # −∇·(a ∇u) of u = sin πx sin πy with a = 2 + x y, as the residual of the exact solution against its own forcing.
    errors = []
    for size in (17, 33, 65):
        place = torch.linspace(0, 1, size, dtype=torch.float64)
        x, y = torch.meshgrid(place, place, indexing="ij")
        a = 2 + x * y
        u = torch.sin(math.pi * x) * torch.sin(math.pi * y)
        u_x = math.pi * torch.cos(math.pi * x) * torch.sin(math.pi * y)
        u_y = math.pi * torch.sin(math.pi * x) * torch.cos(math.pi * y)
        forcing = 2 * math.pi**2 * a * u - y * u_x - x * u_y
        residual = DarcyFlow(forcing=0.0).residual(a, u) - forcing[1:-1, 1:-1]
        errors.append(residual.abs().max().item())
    assert np.log2(np.divide(errors[:-1], errors[1:])) == pytest.approx([2, 2], abs=0.1)


def test_harmonic_averages_keep_the_flux_through_layers() -> None:
    # Layers across x, uniform in y far from the ends: a u_x is continuous, and the exact nodal solution of the layered
    # one-dimensional problem follows from harmonic averages.
    size = 5
    a = torch.tensor([1.0, 1.0, 10.0, 10.0, 10.0], dtype=torch.float64).unsqueeze(1).expand(size, size)
    u = torch.tensor([0.0, 1.0, 1.55, 1.65, 1.75], dtype=torch.float64).unsqueeze(1).expand(size, size)
    # Resistances 1, (1 + 1/10)/2, 1/10, 1/10 carry the same flux 1.
    torch.testing.assert_close(
        DarcyFlow(forcing=0.0).residual(a, u), torch.zeros(3, 3, dtype=torch.float64), atol=1e-13, rtol=0
    )


def test_the_residual_carries_gradients_and_channels() -> None:
    problem = DarcyFlow()
    coefficient = problem.coefficient(range(2), resolution=9).unsqueeze(1)
    solution = problem.solve(coefficient).requires_grad_()
    assert solution.shape == (2, 1, 9, 9)
    assert torch.autograd.gradcheck(lambda u: problem.residual(coefficient, u), (solution,))
    single = problem.residual(coefficient.float(), solution.detach().float())
    assert single.dtype == torch.float32
    assert single.shape == (2, 1, 7, 7)


def test_both_factorizations_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = DarcyFlow(contrast=100.0)
    coefficient = problem.coefficient(range(2), resolution=33)
    banded = problem.solve(coefficient)
    monkeypatch.setattr(darcy, "_LARGEST_BANDED", 0)
    torch.testing.assert_close(problem.solve(coefficient), banded, rtol=1e-11, atol=0)


def test_contrast_sets_the_larger_value() -> None:
    coefficient = DarcyFlow(contrast=7.0).coefficient(range(3), resolution=17)
    assert set(coefficient.unique().tolist()) == {3.0, 21.0}
    assert torch.equal(DarcyFlow(contrast=1.0).coefficient([0], resolution=5), torch.full((1, 5, 5), 3.0).double())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"low": 0.0}, "`low` must be positive"),
        ({"contrast": 0.5}, "`contrast` must be at least 1"),
        ({"face_average": "geometric"}, "`face_average` must be"),
        ({"exponent": 0.5}, "`exponent` must be above 1"),
    ],
)
def test_wrong_arguments_raise(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DarcyFlow(**arguments)


@pytest.mark.parametrize(
    ("coefficient", "message"),
    [
        (torch.ones(4, 5), "n, n"),
        (torch.ones(2, 2), "at least 3"),
        (torch.zeros(4, 4), "positive and finite"),
        (torch.full((4, 4), math.nan), "positive and finite"),
    ],
)
def test_wrong_coefficients_raise(coefficient: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DarcyFlow().solve(coefficient)
    with pytest.raises(ValueError, match="shape of `coefficient`"):
        DarcyFlow().residual(torch.ones(4, 4), torch.ones(5, 5))
