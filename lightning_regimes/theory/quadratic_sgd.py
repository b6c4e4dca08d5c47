"""One step of SGD on a quadratic: which step sizes align it with the dominant eigenvectors, which lower the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Values = Tensor | Sequence[float]


@dataclass(frozen=True)
class SubspaceMoments:
    r"""Sums over the eigenvectors of a subspace S, with the eigenvalues λ, coordinates c and noise variances κ².

    Attributes:
        gradient: :math:`s = \sum \lambda^2 c^2`, squared norm of the gradient in S.
        third: :math:`\tau = \sum \lambda^3 c^2`, curvature along it.
        fourth: :math:`q = \sum \lambda^4 c^2`.
        noise_curvature: :math:`n = \sum \lambda \kappa^2`.
        noise_gradient: :math:`e = \sum \lambda^2 \kappa^2`.
    """

    gradient: float
    third: float
    fourth: float
    noise_curvature: float
    noise_gradient: float

    @property
    def critical_loss_step_size(self) -> float:
        r""":math:`\eta^{\text{loss}}_S = 2 s / (\tau + n)`; smaller steps within S lower the loss (Theorem 10)."""
        return 2 * self.gradient / (self.third + self.noise_curvature)

    def expected_loss_change(self, step_size: float) -> float:
        r"""Expected change by a step within S, :math:`-\eta s + \frac12 \eta^2 (\tau + n)`."""
        return -step_size * self.gradient + step_size**2 / 2 * (self.third + self.noise_curvature)

    def expected_next_gradient(self, step_size: float) -> float:
        r"""Expected s after a step within S, :math:`s - 2 \eta \tau + \eta^2 (q + e)`."""
        return self.gradient - 2 * step_size * self.third + step_size**2 * (self.fourth + self.noise_gradient)


@dataclass(frozen=True)
class QuadraticSGD:
    r"""What the next step of SGD does in expectation.

    Attributes:
        dominant: moments of the k leading eigenvectors, D.
        bulk: moments of the others, B.
        low_alignment: :math:`g_{\text{gap}}`; at or below it, steps above ``critical_step_size`` raise the alignment
            (Theorem 3).
        high_alignment: θ*; at or above it, steps of any size lower the alignment (Theorem 4).
    """

    dominant: SubspaceMoments
    bulk: SubspaceMoments
    low_alignment: float
    high_alignment: float

    @property
    def alignment(self) -> float:
        r""":math:`\theta = s_D / (s_D + s_B)`, the dominant share of the squared norm of the gradient."""
        return self.dominant.gradient / (self.dominant.gradient + self.bulk.gradient)

    @property
    def chi(self) -> float:
        r""":math:`\chi = \sqrt\theta`, the dominant share of the norm of the gradient."""
        return math.sqrt(self.alignment)

    @property
    def critical_step_size(self) -> float:
        r"""The step size below which the alignment falls; infinite if it falls at any (Equation 2).

        .. math:: \eta^* = 2 \frac{s_B \tau_D - s_D \tau_B}{s_B (q_D + e_D) - s_D (q_B + e_B)}
        """
        numerator = self.bulk.gradient * self.dominant.third - self.dominant.gradient * self.bulk.third
        denominator = self.bulk.gradient * (self.dominant.fourth + self.dominant.noise_gradient)
        denominator -= self.dominant.gradient * (self.bulk.fourth + self.bulk.noise_gradient)
        return 2 * numerator / denominator if denominator > 0 else math.inf

    @property
    def critical_alignment(self) -> float:
        r"""The alignment below which :math:`\eta^{\text{loss}}_D < \eta^{\text{loss}}_B` (Theorem 11).

        Step sizes between the two raise the expected loss within D and lower it within B. The value is the root in
        (0, 1) of :math:`\alpha \theta^2 + (n_B + n_D - \alpha) \theta - n_D` with
        :math:`\alpha = (s_D + s_B)(\tau_D / s_D - \tau_B / s_B)`.
        """
        total = self.dominant.gradient + self.bulk.gradient
        slope = total * (self.dominant.third / self.dominant.gradient - self.bulk.third / self.bulk.gradient)
        noise = self.bulk.noise_curvature + self.dominant.noise_curvature
        return _positive_root(slope, noise - slope, self.dominant.noise_curvature)

    def expected_next_alignment(self, step_size: float) -> float:
        r"""Ratio of expectations :math:`E[s_D] / E[s_D + s_B]` after a step, the limit of E[θ] in many dimensions."""
        dominant = self.dominant.expected_next_gradient(step_size)
        return dominant / (dominant + self.bulk.expected_next_gradient(step_size))

    def expected_loss_change(self, step_size: float) -> float:
        """Expected change of the loss by an unprojected step."""
        return self.dominant.expected_loss_change(step_size) + self.bulk.expected_loss_change(step_size)


def quadratic_sgd(
    eigenvalues: Values, coordinates: Values, noise_variances: Values | float, *, num_dominant: int
) -> QuadraticSGD:
    r"""Analyse the next step of SGD on a quadratic, :math:`x \leftarrow x - \eta (A x + \xi)`.

    The loss is :math:`\frac12 x^T A x` with eigenpairs :math:`(\lambda_i, u_i)` and :math:`x = \sum c_i u_i`; the
    noise has mean zero and variances :math:`\kappa_i^2` along :math:`u_i`. The thresholds are, with
    :math:`\psi_S = \sum_S \lambda^2` and the alignment's odds r,

    .. math:: g_{\text{gap}} &= \left(1 + \frac{\max \kappa^2}{\min \kappa^2} \frac{d - k}{k}
                                \frac{\lambda_{k+1}^2}{\lambda_k^2}\right)^{-1} \\
              \theta^* &= \frac{r}{1 + r}, \quad a r^2 + (a - M - h) r - h = 0, \quad
              a = \min \kappa^2\, \psi_B,\; h = \max \kappa^2\, \psi_D,\; M = s (\lambda_1^2 - \lambda_d^2).

    Extreme variances stand for the extreme eigenvalues of the noise's covariance, which they are if the noise is
    uncorrelated between eigenvectors. Everything else is exact with correlations too.

    Args:
        eigenvalues: positive, descending, :math:`\lambda_k > \lambda_{k+1}`; shape (d,).
        coordinates: shape (d,), with a gradient in both subspaces.
        noise_variances: positive; shape (d,), or one number.
        num_dominant: k, from 1 to d − 1.

    Raises:
        ValueError: an argument is not as described.

    References:
        Deng, Liao, Ouyang, Pang, Song, Yang, Suspicious Alignment of SGD: A Fine-Grained Step Size Condition Analysis,
        arXiv:2601.11789, Equation 2 and Theorems 3, 4, 10, 11.
    """
    lam, variances = require_one_quadratic(eigenvalues, noise_variances, num_dominant)
    place = require_one_state(coordinates, lam)
    dominant = _moments(lam[:num_dominant], place[:num_dominant], variances[:num_dominant])
    bulk = _moments(lam[num_dominant:], place[num_dominant:], variances[num_dominant:])
    if dominant.gradient == 0 or bulk.gradient == 0:
        raise ValueError("`coordinates` must have a gradient in both subspaces, got none in one of them")

    low, high = float(variances.min()), float(variances.max())
    size = len(lam)
    spread = (high / low) * (size - num_dominant) / num_dominant
    from_bulk = low * float(lam[num_dominant:].square().sum())
    from_dominant = high * float(lam[:num_dominant].square().sum())
    mean = (dominant.gradient + bulk.gradient) * float(lam[0] ** 2 - lam[-1] ** 2)
    odds = _positive_root(from_bulk, from_bulk - mean - from_dominant, from_dominant)
    return QuadraticSGD(
        dominant=dominant,
        bulk=bulk,
        low_alignment=1 / (1 + spread * float(lam[num_dominant] / lam[num_dominant - 1]) ** 2),
        high_alignment=odds / (1 + odds),
    )


def require_quadratic(eigenvalues: Values, noise_variances: Values | float, num_dominant: int) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and noise variances in float64, the latter of shape (..., d), or say what is wrong."""
    lam = torch.as_tensor(eigenvalues, dtype=torch.float64).detach().cpu()
    if lam.ndim == 0 or lam.shape[-1] < 2 or not bool((torch.isfinite(lam) & (lam > 0)).all()):
        raise ValueError(f"`eigenvalues` must be at least two positive finite numbers, got {eigenvalues}")
    if bool((lam.diff(dim=-1) > 0).any()):
        raise ValueError("`eigenvalues` must be in descending order; sort them together with what belongs to them")
    if not 1 <= num_dominant < lam.shape[-1]:
        raise ValueError(f"`num_dominant` must be from 1 to {lam.shape[-1] - 1}, got {num_dominant}")
    if bool((lam[..., num_dominant - 1] == lam[..., num_dominant]).any()):
        raise ValueError(f"`num_dominant` {num_dominant} cuts through equal eigenvalues; choose it at a gap")
    variances = torch.as_tensor(noise_variances, dtype=torch.float64).detach().cpu()
    if not bool((torch.isfinite(variances) & (variances > 0)).all()):
        raise ValueError(f"`noise_variances` must be positive and finite, got {noise_variances}")
    if variances.ndim and variances.shape[-1] != lam.shape[-1]:
        raise ValueError(
            f"`noise_variances` must be one number or one for each of {lam.shape[-1]} eigenvalues, "
            f"got shape {tuple(variances.shape)}"
        )
    return lam, variances.expand(torch.broadcast_shapes(lam.shape, variances.shape))


def require_coordinates(coordinates: Values, eigenvalues: Tensor) -> Tensor:
    """Return coordinates in float64, shape (..., d), or say what is wrong."""
    place = torch.as_tensor(coordinates, dtype=torch.float64).detach().cpu()
    if place.ndim == 0 or place.shape[-1] != eigenvalues.shape[-1] or not bool(torch.isfinite(place).all()):
        raise ValueError(
            f"`coordinates` must be finite, one for each of {eigenvalues.shape[-1]} eigenvalues, "
            f"got shape {tuple(place.shape)}"
        )
    return place


def require_one_quadratic(
    eigenvalues: Values, noise_variances: Values | float, num_dominant: int
) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and noise variances in float64, both of shape (d,), or say what is wrong."""
    lam, variances = require_quadratic(eigenvalues, noise_variances, num_dominant)
    if variances.ndim != 1:
        raise ValueError(
            f"`eigenvalues` and `noise_variances` must be those of one quadratic, "
            f"got shape {tuple(variances.shape)} together"
        )
    return lam, variances


def require_one_state(coordinates: Values, eigenvalues: Tensor) -> Tensor:
    """Return coordinates in float64, shape (d,), or say what is wrong."""
    place = require_coordinates(coordinates, eigenvalues)
    if place.ndim != 1:
        raise ValueError(f"`coordinates` must be one state, got shape {tuple(place.shape)}")
    return place


def _moments(lam: Tensor, place: Tensor, variances: Tensor) -> SubspaceMoments:
    gradient = (lam * place) ** 2
    return SubspaceMoments(
        gradient=float(gradient.sum()),
        third=float((lam * gradient).sum()),
        fourth=float((lam**2 * gradient).sum()),
        noise_curvature=float((lam * variances).sum()),
        noise_gradient=float((lam**2 * variances).sum()),
    )


def _positive_root(a: float, b: float, c: float) -> float:
    """Positive root of a x² + b x − c with positive a and c, without cancellation."""
    discriminant = math.sqrt(b * b + 4 * a * c)
    return 2 * c / (b + discriminant) if b > 0 else (discriminant - b) / (2 * a)
