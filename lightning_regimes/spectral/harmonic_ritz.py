"""The inverse that minimises the residual of one vector."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_regimes.spectral.residual_recurrence import ResidualRecurrence
from lightning_regimes.spectral.spectral_probe import SpectralProbe

Array = NDArray[np.float64]


def minres_polynomial(probe: SpectralProbe, degree: int) -> ResidualRecurrence:
    r"""Return the polynomial that MINRES, started from the vector of the probe, ends with after d steps.

    .. math:: r(\lambda) = \prod_{j=1}^{d} (1 - \lambda / \mu_j)

    The roots :math:`\mu_j` are the harmonic Ritz values, the eigenvalues of
    :math:`T + \beta_d^2 \, T^{-1} e_d e_d^T` for the tridiagonal matrix T of d Lanczos steps, which the quadrature
    rule of a probe of d steps or more contains. They are taken in Leja's order, for stability.

    It adapts to the spectrum without a rule, but nothing keeps p positive: see :func:`guarded`.

    Args:
        probe: of one operator, positive definite, with at least d values.
        degree: d.

    Raises:
        ValueError: the degree is out of range, or the probe is of several operators or has values that are not
            positive.

    References:
        J. Loe, R. Morgan, Toward efficient polynomial preconditioning for GMRES, Numer. Linear Algebra Appl. 29 (2022),
        doi:10.1002/nla.2427.
    """
    if probe.ritz.ndim != 1 or not bool((probe.ritz > 0).all()):
        raise ValueError("`probe` is of one positive definite operator, got several or values that are not positive")
    if not 1 <= degree <= probe.size:
        raise ValueError(f"`degree` lies between 1 and the {probe.size} values of the probe, got {degree}")
    ritz, weights, last = (
        part.detach().cpu().double().numpy() for part in (probe.ritz, probe.weights, probe.residuals)
    )
    if degree == len(ritz):
        # In the eigenbasis of T, the last unit vector times the last coupling is what the residuals are.
        matrix = np.diag(ritz) + np.outer(last / ritz, last)
    else:
        tridiagonal, coupling = _tridiagonal(ritz, weights, degree)
        last_column = np.linalg.solve(tridiagonal, np.eye(degree)[:, -1])
        matrix = tridiagonal.copy()
        matrix[:, -1] += coupling**2 * last_column
    roots = leja_order(np.sort(np.linalg.eigvals(matrix).real))
    alpha = torch.from_numpy(1 / roots).to(probe.ritz)
    return ResidualRecurrence(alpha, torch.zeros_like(alpha))


def leja_order(points: Array) -> Array:
    """Return the points so that each is as far as can be, in the product of distances, from those before it."""
    points = np.asarray(points, dtype=np.float64)
    order = [int(np.argmax(np.abs(points)))]
    scale = np.abs(points).max()
    logarithms = np.zeros(len(points))
    while len(order) < len(points):
        with np.errstate(divide="ignore"):
            logarithms += np.log(np.abs(points - points[order[-1]]) / scale)
        logarithms[order] = -np.inf
        order.append(int(np.argmax(logarithms)))
    return points[order]


def _tridiagonal(nodes: Array, weights: Array, size: int) -> tuple[Array, float]:
    """Return the leading part of the Jacobi matrix of a quadrature rule, and the coupling that follows it."""
    basis = np.zeros((size + 1, len(nodes)))
    basis[0] = np.sqrt(weights / weights.sum())
    matrix, coupling = np.zeros((size, size)), 0.0
    for index in range(size):
        image = nodes * basis[index]
        matrix[index, index] = basis[index] @ image
        for _ in range(2):
            image = image - basis[: index + 1].T @ (basis[: index + 1] @ image)
        coupling = float(np.linalg.norm(image))
        if index + 1 < size:
            matrix[index, index + 1] = matrix[index + 1, index] = coupling
        if coupling > 0:
            basis[index + 1] = image / coupling
    return matrix, coupling
