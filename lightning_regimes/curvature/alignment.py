"""Gradient and update beside the dominant eigenvectors of the Hessian: alignment, and what step sizes do about it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regimes.curvature.krylov import Eigenpairs
from lightning_regimes.curvature.linear_operator import LinearOperator, held, require_symmetric_shape


@dataclass(frozen=True)
class SubspaceTerms:
    r"""What a gradient g and its noise ξ meet in one invariant subspace S of the Hessian H, projected by P.

    Attributes:
        gradient: :math:`\|P g\|^2`.
        curvature: :math:`(P g)^T H (P g)`.
        squared_curvature: :math:`\|H P g\|^2`.
        noise_curvature: :math:`E[(P \xi)^T H (P \xi)]`, 0 without noise.
        noise_squared_curvature: :math:`E\|H P \xi\|^2`, 0 without noise.
    """

    gradient: float
    curvature: float
    squared_curvature: float
    noise_curvature: float
    noise_squared_curvature: float

    def expected_loss_change(self, step_size: float) -> float:
        r"""Return :math:`-\eta \|Pg\|^2 + \tfrac12 \eta^2 (g^T P H P g + n)`, of a step within S alone."""
        return -step_size * self.gradient + 0.5 * step_size**2 * (self.curvature + self.noise_curvature)

    @property
    def critical_loss_step_size(self) -> float:
        """The step size below which a step within S lowers the expected loss; infinite without positive curvature."""
        curvature = self.curvature + self.noise_curvature
        return 2 * self.gradient / curvature if curvature > 0 else math.inf


@dataclass(frozen=True)
class AlignmentReport:
    r"""How a gradient lies to the dominant eigenvectors, and which step sizes turn it there.

    Attributes:
        theta: :math:`\theta = \|P_D g\|^2 / \|g\|^2`.
        chance: θ of a random direction, k / n.
        shares: :math:`(u_i^T g)^2 / \|g\|^2` for each dominant eigenvector, shape (k,).
        dominant: terms of the dominant subspace D.
        bulk: terms of its complement B.
        num_matvecs: products with the Hessian that were spent.
    """

    theta: float
    chance: float
    shares: Tensor
    dominant: SubspaceTerms
    bulk: SubspaceTerms
    num_matvecs: int

    @property
    def chi(self) -> float:
        r""":math:`\chi = \|P_D g\| / \|g\|`, the square root of θ."""
        return math.sqrt(self.theta)

    @property
    def critical_step_size(self) -> float:
        """See :func:`critical_step_size`."""
        return critical_step_size(self.dominant, self.bulk)

    @property
    def is_self_correcting(self) -> bool:
        """Whether the expected alignment falls for every step size."""
        return math.isinf(self.critical_step_size)


def dominant_alignment(vector: Tensor, eigenvectors: Tensor) -> float:
    r"""Return :math:`\theta = \|V^T v\|^2 / \|v\|^2`, the share of a vector in the span of orthonormal columns.

    Args:
        vector: shape (n,), not zero.
        eigenvectors: shape (n, k), orthonormal.

    Raises:
        ValueError: the shapes do not fit, or the vector is zero or not finite.

    Example:
        >>> dominant_alignment(torch.tensor([3.0, 4.0]), torch.tensor([[1.0], [0.0]]))
        0.36

    References:
        Gur-Ari, Roberts, Dyer, Gradient descent happens in a tiny subspace, arXiv:1812.04754.
    """
    return float(_shares(vector, eigenvectors).sum())


def subspace_overlap(first: Tensor, second: Tensor) -> float:
    r"""Return :math:`\|V^T V'\|_F^2 / k`, 1 for the same span and k / n for independent ones.

    Args:
        first: shape (n, k), orthonormal columns.
        second: the same shape.

    Raises:
        ValueError: the shapes differ.

    References:
        Gur-Ari, Roberts, Dyer, arXiv:1812.04754, equation 5.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(
            f"`first` and `second` are matrices of one shape, got {tuple(first.shape)}, {tuple(second.shape)}"
        )
    return float((first.T.double() @ second.double()).square().sum() / first.shape[1])


def critical_step_size(dominant: SubspaceTerms, bulk: SubspaceTerms) -> float:
    r"""Return the step size at which SGD leaves the ratio of expected dominant and total gradient norms as it is.

    .. math:: \eta^* = 2\, \frac{s_B \tau_D - s_D \tau_B}{s_B (q_D + e_D) - s_D (q_B + e_B)}

    with s, τ, q, e the ``gradient``, ``curvature``, ``squared_curvature`` and ``noise_squared_curvature`` of either
    subspace. Smaller steps turn the gradient away from the dominant subspace, larger ones towards it.

    Returns:
        :math:`\eta^*`; infinite if every step turns the gradient away.

    References:
        Deng et al., Suspicious Alignment of SGD, arXiv:2601.11789, equation 2, written without coordinates.
    """
    denominator = bulk.gradient * (dominant.squared_curvature + dominant.noise_squared_curvature)
    denominator -= dominant.gradient * (bulk.squared_curvature + bulk.noise_squared_curvature)
    if denominator <= 0:
        return math.inf
    return 2 * (bulk.gradient * dominant.curvature - dominant.gradient * bulk.curvature) / denominator


def alignment_report(
    operator: LinearOperator, eigenpairs: Eigenpairs, gradient: Tensor, *, noise: Tensor | None = None
) -> AlignmentReport:
    """Measure a gradient against the dominant eigenpairs; one product with the Hessian, and one per noise sample.

    Args:
        operator: the Hessian, n × n.
        eigenpairs: its dominant eigenpairs, converged.
        gradient: shape (n,), of the same loss.
        noise: samples of minibatch gradient minus ``gradient``, shape (n, m); none for full-batch descent.

    Raises:
        ValueError: shapes do not fit, or the gradient is zero or not finite.
    """
    size = require_symmetric_shape(operator)
    vectors = eigenpairs.vectors.to(operator.device, operator.dtype)
    values = eigenpairs.values.to(operator.device, operator.dtype)
    if gradient.shape != (size,):
        raise ValueError(f"`gradient` has shape ({size},), got {tuple(gradient.shape)}")
    if noise is not None and (noise.ndim != 2 or noise.shape[0] != size or noise.shape[1] == 0):
        raise ValueError(f"`noise` has shape ({size}, m) with m of at least 1, got {tuple(noise.shape)}")
    shares = _shares(gradient, vectors)
    samples = [] if noise is None else list(noise.unbind(1))
    with held(operator):
        dominant, bulk = _curvatures(operator, vectors, values, gradient)
        noise_terms = [_curvatures(operator, vectors, values, sample) for sample in samples]
    theta = float(shares.sum())
    return AlignmentReport(
        theta=theta,
        chance=vectors.shape[1] / size,
        shares=shares,
        dominant=_terms(dominant, [terms for terms, _ in noise_terms]),
        bulk=_terms(bulk, [terms for _, terms in noise_terms]),
        num_matvecs=1 + len(samples),
    )


@dataclass(frozen=True)
class UpdatePrediction:
    """What the quadratic model says of an update.

    Attributes:
        dominant: change of the loss by the part in the dominant subspace.
        bulk: change of the loss by the rest.
        theta: alignment of the gradient after the update.
    """

    dominant: float
    bulk: float
    theta: float


def predict_update(
    operator: LinearOperator, eigenpairs: Eigenpairs, gradient: Tensor, update: Tensor
) -> UpdatePrediction:
    r"""Return what any optimizer's update Δ does in the quadratic model, split by subspace; one product.

    :math:`\Delta L = g^T \Delta + \tfrac12 \Delta^T H \Delta`, whose mixed term vanishes since the subspaces are
    invariant, and the next gradient :math:`g + H \Delta`.

    Args:
        operator: the Hessian, n × n.
        eigenpairs: its dominant eigenpairs, converged.
        gradient: shape (n,), of the same loss before the update.
        update: shape (n,).

    Raises:
        ValueError: shapes do not fit, or the next gradient is zero.
    """
    size = require_symmetric_shape(operator)
    if gradient.shape != (size,) or update.shape != (size,):
        raise ValueError(
            f"`gradient` and `update` have shape ({size},), got {tuple(gradient.shape)} and {tuple(update.shape)}"
        )
    vectors = eigenpairs.vectors.to(operator.device, operator.dtype)
    with held(operator):
        product = operator @ update
    update_dominant, product_dominant = vectors.T @ update, vectors.T @ product
    slopes = float((vectors.T @ gradient).double() @ update_dominant.double())
    bends = float(update_dominant.double() @ product_dominant.double())
    dominant = slopes + 0.5 * bends
    total = float(gradient.double() @ update.double() + 0.5 * update.double() @ product.double())
    return UpdatePrediction(dominant, total - dominant, dominant_alignment(gradient + product, vectors))


@dataclass(frozen=True)
class _Curvatures:
    norm: float
    curvature: float
    squared_curvature: float


def _curvatures(
    operator: LinearOperator, vectors: Tensor, values: Tensor, vector: Tensor
) -> tuple[_Curvatures, _Curvatures]:
    coordinates = (vectors.T @ vector).double()
    curvatures = values.double()
    # The projection commutes with the Hessian: within the dominant subspace its products are known.
    rest = vector - vectors @ (vectors.T @ vector)
    product = operator @ rest
    dominant = _Curvatures(
        norm=float(coordinates.square().sum()),
        curvature=float((curvatures * coordinates.square()).sum()),
        squared_curvature=float((curvatures * coordinates).square().sum()),
    )
    bulk = _Curvatures(
        norm=float(rest.double().square().sum()),
        curvature=float(rest.double() @ product.double()),
        squared_curvature=float(product.double().square().sum()),
    )
    return dominant, bulk


def _terms(gradient: _Curvatures, noise: list[_Curvatures]) -> SubspaceTerms:
    count = max(len(noise), 1)
    return SubspaceTerms(
        gradient=gradient.norm,
        curvature=gradient.curvature,
        squared_curvature=gradient.squared_curvature,
        noise_curvature=sum(terms.curvature for terms in noise) / count,
        noise_squared_curvature=sum(terms.squared_curvature for terms in noise) / count,
    )


def _shares(vector: Tensor, eigenvectors: Tensor) -> Tensor:
    if eigenvectors.ndim != 2 or vector.shape != eigenvectors.shape[:1]:
        raise ValueError(
            f"`eigenvectors` has shape (n, k) for a vector (n,), got {tuple(eigenvectors.shape)}, {tuple(vector.shape)}"
        )
    total = vector.double().square().sum()
    if not (bool(torch.isfinite(total)) and float(total) > 0):
        raise ValueError("the vector must be finite and not zero: a zero gradient has no direction")
    return (eigenvectors.T @ vector).double().square() / total
