"""The trace of a symmetric operator from its products with random vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_regimes.curvature.krylov import Eigenpairs
from lightning_regimes.curvature.linear_operator import LinearOperator, held, require_symmetric_shape
from lightning_regimes.curvature.random_signs import rademacher

Method = Literal["deflated", "hutchinson", "hutch++", "xtrace"]

_FEWEST_SAMPLES: dict[Method, int] = {"deflated": 2, "hutchinson": 2, "hutch++": 6, "xtrace": 4}


@dataclass(frozen=True)
class Estimate:
    """A random estimate.

    Attributes:
        value: the estimate.
        standard_error: estimated standard deviation of ``value``.
        num_matvecs: products with the operator that were spent.
    """

    value: float
    standard_error: float
    num_matvecs: int


def trace(
    operator: LinearOperator,
    *,
    method: Method | None = None,
    num_samples: int = 15,
    eigenpairs: Eigenpairs | None = None,
    seed: int = 0,
) -> Estimate:
    r"""Estimate the trace with random vectors outside a subspace that is treated exactly.

    With orthonormal columns V and :math:`P = I - V V^T`, and random signs z:

    .. math:: \operatorname{tr} H = \operatorname{tr} V^T H V + \operatorname{E}[(P z)^T H (P z)]

    - ``"hutchinson"``: V is empty.
    - ``"deflated"``: V holds known eigenvectors, whose values make up the first term at no cost. The best at small
      budgets, where a few large eigenvalues dominate the variance.
    - ``"hutch++"``: V is an orthonormal basis of H applied to a third of the samples as random vectors.
    - ``"xtrace"``: half of the samples are normal random vectors; each in turn is the vector z, and V the basis of H
      applied to all others, so that every product serves both terms. The best without eigenpairs where the spectrum
      decays; exact for a rank below half of the samples. Its standard error takes the values of all turns for
      independent, and is low by up to a third. It holds a few times as many vectors as samples in memory.

    All are unbiased for any V, converged eigenvectors or not.

    Args:
        operator: symmetric n × n operator.
        method: default ``"deflated"`` with ``eigenpairs``, ``"hutch++"`` without.
        num_samples: products to spend, at least 2; at least 6 for ``"hutch++"``, and 4 for ``"xtrace"``, which spends
            an even number; where that would be 2 n or more, the n unit vectors serve, and the result is exact.
        eigenpairs: known pairs, for ``"deflated"``.
        seed: of the private generator of random vectors.

    Raises:
        ValueError: an argument is out of its range, or does not go with the method.

    References:
        R. Meyer, C. Musco, C. Musco, D. Woodruff, Hutch++: optimal stochastic trace estimation, arXiv:2010.09649,
        Algorithm 1; E. Epperly, J. Tropp, R. Webber, XTrace: making the most of every sample in stochastic trace
        estimation, arXiv:2301.07825.
    """
    size = require_symmetric_shape(operator)
    method = method or ("hutch++" if eigenpairs is None else "deflated")
    if method not in get_args(Method):
        raise ValueError(f"`method` is one of {', '.join(get_args(Method))}, got {method!r}")
    if (method == "deflated") != (eigenpairs is not None):
        raise ValueError(f"`eigenpairs` go with method 'deflated' and no other, got method {method!r}")
    if num_samples < _FEWEST_SAMPLES[method]:
        raise ValueError(
            f"`num_samples` must be at least {_FEWEST_SAMPLES[method]} for method {method!r}, got {num_samples}"
        )

    generator = torch.Generator().manual_seed(seed)
    with held(operator):
        if method == "xtrace":
            return _leave_one_out(operator, num_samples // 2, generator)
        basis: Tensor | None = None
        known, spent = 0.0, 0
        if eigenpairs is not None:
            basis = eigenpairs.vectors.to(operator.device, operator.dtype)
            known = float(eigenpairs.values.double().sum())
        elif method == "hutch++":
            sketch = rademacher(operator, (size, min(num_samples // 3, size)), generator)
            basis = torch.linalg.qr(operator @ sketch).Q
            known = _inner(basis, operator @ basis)
            spent = 2 * basis.shape[1]
        samples = []
        for _ in range(num_samples - spent):
            vector = rademacher(operator, (size,), generator)
            if basis is not None:
                vector = vector - basis @ (basis.T @ vector)
            samples.append(_inner(vector, operator @ vector))
    mean, standard_error = mean_and_error(samples)
    return Estimate(value=known + mean, standard_error=standard_error, num_matvecs=spent + len(samples))


def mean_and_error(samples: Sequence[float]) -> tuple[float, float]:
    """Return the mean of independent samples, at least two, and its estimated standard deviation."""
    mean = math.fsum(samples) / len(samples)
    variance = math.fsum((sample - mean) ** 2 for sample in samples) / (len(samples) - 1)
    return mean, math.sqrt(variance / len(samples))


def _leave_one_out(operator: LinearOperator, count: int, generator: torch.Generator) -> Estimate:
    r"""Estimate the trace from each vector in turn and the range that the products of all others span.

    With :math:`H \Omega = Q R`, the range without vector i is that of :math:`Q (I - s_i s_i^T)` for the unit vector
    :math:`s_i \propto R^{-T} e_i`, which is orthogonal to all columns of R but its own. So one factorisation and the
    product :math:`H Q` serve all.
    """
    size = operator.shape[0]
    if count >= size:
        images = operator @ torch.eye(size, dtype=operator.dtype, device=operator.device)
        return Estimate(value=float(images.diagonal().sum()), standard_error=0.0, num_matvecs=size)
    vectors = torch.randn(size, count, generator=generator, dtype=operator.dtype).to(operator.device)
    products = operator @ vectors
    basis, factor = torch.linalg.qr(products)
    images = operator @ basis
    left_out = _left_out(factor)
    inside = basis.T @ images
    captured = torch.trace(inside) - (left_out * (inside @ left_out)).sum(0)

    coefficients = basis.T @ vectors
    coefficients -= left_out * (left_out * coefficients).sum(0)
    outside = vectors - basis @ coefficients
    # What is left of a normal vector has a direction that is uniform in the complement of the range, of dimension
    # n - count + 1. With its length taken out, a multiple of the identity adds nothing to the variance.
    squares = outside.square().sum(0, dtype=torch.float64)
    quotients = (outside * (products - images @ coefficients)).sum(0, dtype=torch.float64) / squares
    samples = captured.double() + (size - count + 1) * quotients
    mean, standard_error = mean_and_error(samples.tolist())
    return Estimate(value=mean, standard_error=standard_error, num_matvecs=2 * count)


def _left_out(factor: Tensor) -> Tensor:
    """Return the unit vectors along the columns of the inverse of the transposed triangular factor."""
    # Below the rounding of the products a column has no direction of its own, and any orthonormal one will do.
    diagonal = factor.diagonal()
    floor = torch.finfo(factor.dtype).eps * factor.abs().max() + torch.finfo(factor.dtype).tiny
    raised = torch.where(diagonal.abs() < floor, floor, diagonal)
    factor = factor - torch.diag(diagonal) + torch.diag(raised)
    inverse = torch.linalg.solve_triangular(factor.T.double(), torch.eye(len(factor)).to(factor).double(), upper=False)
    return torch.nn.functional.normalize(inverse, dim=0).to(factor.dtype)


def _inner(left: Tensor, right: Tensor) -> float:
    return float((left * right).sum(dtype=torch.float64))
