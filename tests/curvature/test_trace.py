"""Trace estimates against matrices with known traces."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_regimes.curvature import Estimate, eigsh, trace


def matrix_with(spectrum: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.linalg.qr(torch.randn(len(spectrum), len(spectrum), generator=generator, dtype=torch.float64)).Q
    return (vectors * spectrum) @ vectors.T


#: Outliers over a decaying indefinite bulk, as the Hessian of a network has them.
SPECTRUM = torch.cat(
    [
        torch.tensor([40.0, 25.0, 12.0, 8.0, 5.0]),
        torch.logspace(0.3, -3, 400),
        -torch.logspace(-0.3, -3, 200),
    ]
).double()
MATRIX = matrix_with(SPECTRUM)
TRACE = float(SPECTRUM.sum())


def estimates(method: str, count: int, num_samples: int) -> list[Estimate]:
    pairs = eigsh(MATRIX, 5) if method == "deflated" else None
    return [
        trace(MATRIX, method=method, num_samples=num_samples, eigenpairs=pairs, seed=seed)  # type: ignore[arg-type]
        for seed in range(count)
    ]


@pytest.mark.parametrize("method", ["deflated", "hutchinson", "hutch++", "xtrace"])
def test_unbiased_with_an_honest_standard_error(method: str) -> None:
    found = estimates(method, 200, 15)
    errors = np.array([estimate.value - TRACE for estimate in found])
    assert abs(errors.mean()) <= 4 * errors.std() / math.sqrt(len(errors))
    # The root mean square of the claimed errors is that of the errors made.
    claimed = math.sqrt(np.mean([estimate.standard_error**2 for estimate in found]))
    assert claimed == pytest.approx(math.sqrt(np.mean(errors**2)), rel=0.25)
    assert {estimate.num_matvecs for estimate in found} == {14 if method == "xtrace" else 15}


def test_known_eigenpairs_bring_the_error_below_three_percent() -> None:
    def relative_error(method: str) -> float:
        return math.sqrt(np.mean([(found.value / TRACE - 1) ** 2 for found in estimates(method, 60, 15)]))

    assert relative_error("deflated") <= 0.03
    assert relative_error("deflated") < relative_error("xtrace") < relative_error("hutch++")
    assert relative_error("hutch++") < relative_error("hutchinson")


def test_unbiased_even_with_eigenpairs_that_have_not_converged() -> None:
    pairs = eigsh(MATRIX, 5, max_matvecs=6)
    assert not pairs.converged
    errors = np.array([trace(MATRIX, eigenpairs=pairs, seed=seed).value - TRACE for seed in range(300)])
    assert abs(errors.mean()) <= 4 * errors.std() / math.sqrt(len(errors))


def test_exact_where_nothing_is_left_to_chance() -> None:
    diagonal = torch.diag(torch.linspace(-1, 3, 50).double())
    assert trace(diagonal, method="hutchinson").value == pytest.approx(50)
    assert trace(diagonal, method="hutchinson").standard_error == pytest.approx(0, abs=1e-12)
    low_rank = matrix_with(torch.cat([torch.tensor([3.0, -2.0]), torch.zeros(40)]).double())
    assert trace(low_rank, method="hutch++", num_samples=12).value == pytest.approx(1)
    assert trace(low_rank, eigenpairs=eigsh(low_rank, 2, which="LM", tol=1e-8)).value == pytest.approx(1)
    for operator, tolerance in ((low_rank, 1e-12), (low_rank.float(), 1e-5)):
        found = trace(operator, method="xtrace", num_samples=12)
        assert found.value == pytest.approx(1, abs=tolerance)
        assert found.standard_error == pytest.approx(0, abs=tolerance)
    whole = eigsh(low_rank, 42)
    assert trace(low_rank, eigenpairs=whole).standard_error == pytest.approx(0, abs=1e-12)


def test_leaving_one_out_equals_one_basis_for_each_vector() -> None:
    # The definition, with a factorisation for each vector.
    matrix, count = MATRIX[:40, :40], 5
    vectors = torch.randn(40, count, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    samples = []
    for index in range(count):
        others = [other for other in range(count) if other != index]
        basis = torch.linalg.qr(matrix @ vectors[:, others]).Q
        outside = vectors[:, index] - basis @ (basis.T @ vectors[:, index])
        quotient = outside @ matrix @ outside / (outside @ outside)
        samples.append(float(torch.trace(basis.T @ matrix @ basis) + (40 - count + 1) * quotient))
    found = trace(matrix, method="xtrace", num_samples=2 * count, seed=3)
    assert found.value == pytest.approx(np.mean(samples), rel=1e-10)
    assert found.standard_error == pytest.approx(np.std(samples, ddof=1) / math.sqrt(count), rel=1e-8)


def test_xtrace_of_degenerate_operators() -> None:
    def found(matrix: Tensor) -> Estimate:
        return trace(matrix, method="xtrace", num_samples=12)

    assert found(torch.zeros(30, 30)) == Estimate(0.0, 0.0, 12)
    assert found(2 * torch.eye(30)).value == pytest.approx(60)
    assert found(torch.diag(torch.tensor([1.0] + 28 * [0.0] + [5.0]))).value == pytest.approx(6)
    assert found(torch.diag(torch.tensor([1.0, 2.0, -5.0]))) == Estimate(-2.0, 0.0, 3)
    assert found(torch.full((1, 1), 3.0)) == Estimate(3.0, 0.0, 1)


def test_default_method_and_seed() -> None:
    pairs = eigsh(MATRIX, 5)
    assert trace(MATRIX, eigenpairs=pairs) == trace(MATRIX, method="deflated", eigenpairs=pairs)
    assert trace(MATRIX) == trace(MATRIX, method="hutch++")
    assert trace(MATRIX, seed=1) != trace(MATRIX, seed=2)
    state = torch.get_rng_state()
    trace(MATRIX)
    assert torch.equal(torch.get_rng_state(), state)


def test_arguments_are_checked() -> None:
    pairs = eigsh(MATRIX, 2)
    with pytest.raises(ValueError, match=r"`method` is one of deflated, hutchinson, hutch\+\+, xtrace"):
        trace(MATRIX, method="exact")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`eigenpairs` go with method 'deflated'"):
        trace(MATRIX, method="deflated")
    with pytest.raises(ValueError, match="`eigenpairs` go with method 'deflated'"):
        trace(MATRIX, method="hutchinson", eigenpairs=pairs)
    with pytest.raises(ValueError, match=r"at least 6 for method 'hutch\+\+', got 5"):
        trace(MATRIX, num_samples=5)
    with pytest.raises(ValueError, match="at least 4 for method 'xtrace', got 3"):
        trace(MATRIX, method="xtrace", num_samples=3)
    with pytest.raises(ValueError, match="at least 2"):
        trace(MATRIX, eigenpairs=pairs, num_samples=1)
