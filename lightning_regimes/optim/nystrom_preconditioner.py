"""A symmetric matrix of low rank from a few products with random vectors, as a preconditioner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from lightning_regimes.optim.not_finite import NotFiniteError

Product: TypeAlias = Callable[[Tensor], Tensor]
"""A symmetric operator as the function that maps a vector (n,) to its product."""


@dataclass(frozen=True)
class NystromApproximation:
    r"""The eigenpairs of :math:`\hat H = U \Lambda U^T`, which stands for a symmetric H.

    Attributes:
        vectors: U, shape (n, r), orthonormal columns, possibly none.
        values: Λ, shape (r,), descending, none negative.
    """

    vectors: Tensor
    values: Tensor

    def precondition(self, x: Tensor, damping: float) -> Tensor:
        r"""Return :math:`P^{-1} x`, by which conjugate gradients solve with :math:`H + \mu I`.

        .. math:: P^{-1} = (\lambda_r + \mu) U (\Lambda + \mu I)^{-1} U^T + (I - U U^T)

        Directions in which :math:`\Lambda + \mu I` is zero are left as they are, and :math:`\lambda_r` is then the
        smallest value that is not.

        Args:
            x: shape (n,).
            damping: μ, not negative.
        """
        damped = self.values + damping
        positive = damped > 0
        if not bool(positive.any()):
            return x.clone()
        factors = torch.where(positive, damped[positive].min() / torch.where(positive, damped, 1), 1)
        result: Tensor = x + self.vectors @ ((factors - 1) * (self.vectors.T @ x))
        return result


def nystrom_approximation(product: Product, like: Tensor, rank: int, *, seed: int = 0) -> NystromApproximation:
    r"""Approximate a symmetric matrix by one of low rank from ``rank`` products with random vectors.

    With Ω (n, r) an orthonormal basis of a random subspace:

    .. math:: Y = H \Omega + \nu \Omega, \qquad \hat H = Y (\Omega^T Y)^{-1} Y^T - \nu I

    restricted to the eigenpairs of the first term, with values that would be negative set to zero. The shift
    :math:`\nu = \epsilon \|H \Omega\|_F` keeps the inverse from amplifying rounding, and is removed again. A positive
    semidefinite H with at most r eigenvalues above zero is found to rounding.

    H may be indefinite. Then the inverse has no such bound, and eigenvectors u = Ωv of the small matrix, with value θ,
    stay in only if they meet what all do where H is semidefinite, with :math:`\max_j \|H u_j\|` for its norm:

    .. math:: \|H u\|^2 \le \|H\| \, \theta

    The other directions are left to the conjugate gradients: the result has fewer columns.

    Args:
        product: maps v, shape (n,), to Hv.
        like: a vector (n,) of the product's dtype and device.
        rank: r; n if it is more than that.
        seed: of the random subspace, which is the same on every device.

    Raises:
        NotFiniteError: a product is not finite.
        ValueError: ``rank`` is less than one.

    References:
        Z. Frangella, J. A. Tropp, M. Udell, Randomized Nyström preconditioning, SIAM J. Matrix Anal. Appl. 44 (2023),
        arXiv:2110.02820, algorithm 2.1. T. Park, Y. Nakatsukasa, Randomized low-rank approximation for symmetric
        indefinite matrices, SIAM J. Matrix Anal. Appl. 44 (2023), arXiv:2212.01127, for why values near zero have to
        go from the inverse.
    """
    if rank < 1:
        raise ValueError(f"`rank` must be at least 1, got {rank}")
    size = like.numel()
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(size, min(rank, size), generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(normal.to(like)).Q
    image = torch.stack([product(column) for column in basis.T.contiguous()], dim=1)
    if not bool(torch.isfinite(image).all()):
        raise NotFiniteError("`product` must return finite numbers, got some that are not")
    # The small matrix in float64: rounding in float32 would make a singular one indefinite.
    core = (basis.T.double() @ image.double()).to("cpu")
    values, rotation = torch.linalg.eigh((core + core.T) / 2)
    shift = torch.finfo(like.dtype).eps * float(torch.linalg.vector_norm(image.double()))
    if shift == 0:
        return NystromApproximation(basis, torch.zeros_like(basis[0]))
    if float(values[0]) < -shift:
        lengths = torch.linalg.vector_norm(image.double() @ rotation.to(image.device), dim=0).to("cpu")
        kept = lengths.square() <= lengths.max() * values
        values, rotation = values[kept], rotation[:, kept]
    root = rotation * (values + shift).clamp(min=shift).rsqrt()
    factor = (image + shift * basis) @ root.to(like)
    vectors, singular, _ = torch.linalg.svd(factor, full_matrices=False)
    return NystromApproximation(vectors, (singular.square() - shift).clamp(min=0))
