"""SGD on a quadratic with a constant step size: how long the alignment falls, where it ends, and a simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regimes.theory.quadratic_sgd import (
    Values,
    require_coordinates,
    require_one_quadratic,
    require_one_state,
    require_quadratic,
)


@dataclass(frozen=True)
class QuadraticTrajectory:
    """A simulated run, the start first.

    Attributes:
        alignment: dominant share of the squared norm of the gradient, shape (steps + 1, ...).
        loss: shape (steps + 1, ...).
        coordinates: at the end, shape (..., d).
    """

    alignment: Tensor
    loss: Tensor
    coordinates: Tensor


def steady_alignment(
    eigenvalues: Values, noise_variances: Values | float, *, num_dominant: int, step_size: float = 0.0
) -> float:
    r"""Return the alignment that SGD with a constant step size settles at.

    .. math:: \theta_\infty = \frac{\sum_D \lambda^2 \beta}{\sum \lambda^2 \beta}, \quad
              \beta_i = \frac{\eta \kappa_i^2}{2 \lambda_i - \eta \lambda_i^2}

    with the stationary second moments β of the coordinates. A ratio of expectations, the limit of E[θ] in many
    dimensions. The step size 0 stands for the limit of small steps, :math:`\sum_D \lambda \kappa^2 / \sum \lambda
    \kappa^2`.

    Args:
        eigenvalues: positive, descending; shape (d,).
        noise_variances: κ², positive; shape (d,), or one number.
        num_dominant: k, from 1 to d − 1.
        step_size: η, below :math:`2 / \lambda_1`.

    Raises:
        ValueError: an argument is not as described.

    References:
        Deng, Liao, Ouyang, Pang, Song, Yang, Suspicious Alignment of SGD: A Fine-Grained Step Size Condition Analysis,
        arXiv:2601.11789, Theorem 16.
    """
    lam, variances = require_one_quadratic(eigenvalues, noise_variances, num_dominant)
    if not 0 <= step_size < 2 / float(lam[0]):
        raise ValueError(f"`step_size` must be in [0, 2/λ_1) = [0, {2 / float(lam[0]):g}), got {step_size}")
    share = lam * variances / (2 - step_size * lam)
    return float(share[:num_dominant].sum() / share.sum())


def falling_steps(
    eigenvalues: Values, coordinates: Values, noise_variances: Values | float, *, num_dominant: int, step_size: float
) -> int:
    r"""Return for how many steps from the start the expected alignment, a ratio of expectations, is sure to fall.

    .. math:: t^* &= \left\lfloor \frac{\log(\varrho / (\delta - \sum_D \beta))}
                                       {-2 \log(1 - \eta \lambda_1)} \right\rfloor, \quad
              \varrho = \sum_D (c_i^2 - \beta_i), \\
              \delta &= \frac{\max \kappa^2 \sum_D \lambda^2}{\lambda_d^2 \lambda_k^2}
                        \frac{\lambda_1^2}{2 (\lambda_k - \lambda_{k+1}) / \eta - (\lambda_1^2 - \lambda_d^2)},

    with β as in `steady_alignment`, or 0 if the start is too near the minimum for a guarantee.

    Args:
        eigenvalues: positive, descending, :math:`\lambda_k > \lambda_{k+1}`; shape (d,).
        coordinates: at the start, with :math:`c_i^2 > \beta_i` in the dominant subspace; shape (d,).
        noise_variances: κ², positive; shape (d,), or one number.
        num_dominant: k, from 1 to d − 1.
        step_size: η, below :math:`1 / \lambda_1` and
            :math:`2 (\lambda_k - \lambda_{k+1}) / (\lambda_1^2 - \lambda_d^2)`.

    Raises:
        ValueError: an argument is not as described.

    References:
        Deng, Liao, Ouyang, Pang, Song, Yang, Suspicious Alignment of SGD: A Fine-Grained Step Size Condition Analysis,
        arXiv:2601.11789, Theorem 15.
    """
    lam, variances = require_one_quadratic(eigenvalues, noise_variances, num_dominant)
    place = require_one_state(coordinates, lam)
    first, last = float(lam[0]), float(lam[-1])
    edge, gap = float(lam[num_dominant - 1]), float(lam[num_dominant - 1] - lam[num_dominant])
    limit = min(1 / first, 2 * gap / (first**2 - last**2))
    if not 0 < step_size < limit:
        raise ValueError(f"`step_size` must be in (0, {limit:g}) for these eigenvalues, got {step_size}")
    dominant = lam[:num_dominant]
    stationary = step_size * variances[:num_dominant] / (2 * dominant - step_size * dominant**2)
    excess = place[:num_dominant] ** 2 - stationary
    if not bool((excess > 0).all()):
        raise ValueError("`coordinates` must exceed their stationary size in the whole dominant subspace at the start")
    psi = float(dominant.square().sum())
    delta = float(variances.max()) * psi * first**2
    delta /= last**2 * edge**2 * (2 * gap / step_size - (first**2 - last**2))
    # Positive below the limit on the step size: 2 (λ_k − λ_{k+1}) λ_d² < λ_k³.
    remaining = delta - float(stationary.sum())
    return max(0, math.floor(math.log(float(excess.sum()) / remaining) / (-2 * math.log1p(-step_size * first))))


def simulate_quadratic_sgd(
    eigenvalues: Values,
    coordinates: Values,
    noise_variances: Values | float,
    *,
    num_dominant: int,
    step_size: float,
    steps: int,
    seed: int = 0,
) -> QuadraticTrajectory:
    r"""Run SGD on quadratics in their eigenbases, :math:`c_i \leftarrow c_i - \eta (\lambda_i c_i + \kappa_i z_i)`.

    The noise z is standard normal, from a private generator, and independent for each of a batch of runs, into which
    the leading dimensions of the arguments broadcast.

    Args:
        eigenvalues: positive, descending; shape (..., d).
        coordinates: at the start, not all zero; shape (..., d).
        noise_variances: κ², positive; shape (..., d), or one number.
        num_dominant: k, from 1 to d − 1.
        step_size: η.
        steps: number of steps.
        seed: of the private generator.

    Raises:
        ValueError: an argument is not as described, or the step size is so large that the run leaves float64.
    """
    lam, variances = require_quadratic(eigenvalues, noise_variances, num_dominant)
    place = require_coordinates(coordinates, lam)
    if not bool((place != 0).any(dim=-1).all()):
        raise ValueError("`coordinates` must not be all zero, where the gradient has no direction")
    if not 0 < step_size < math.inf:
        raise ValueError(f"`step_size` must be positive and finite, got {step_size}")
    if steps < 0:
        raise ValueError(f"`steps` must not be negative, got {steps}")
    place = place.expand(torch.broadcast_shapes(lam.shape, variances.shape, place.shape)).clone()
    generator = torch.Generator().manual_seed(seed)
    contraction, scale = 1 - step_size * lam, step_size * variances.sqrt()
    noise = torch.empty_like(place)
    alignment = torch.empty((steps + 1, *place.shape[:-1]), dtype=torch.float64)
    loss = torch.empty_like(alignment)
    for step in range(steps + 1):
        if step:
            place.mul_(contraction).addcmul_(noise.normal_(generator=generator), scale, value=-1)
        gradient = lam * place
        squares = gradient**2
        alignment[step] = squares[..., :num_dominant].sum(-1) / squares.sum(-1)
        loss[step] = (gradient * place).sum(-1) / 2
    if not bool(torch.isfinite(alignment).all()):
        raise ValueError(f"`step_size` {step_size} makes the run diverge; 2/λ_1 is {2 / float(lam.max()):g}")
    return QuadraticTrajectory(alignment, loss, place)
