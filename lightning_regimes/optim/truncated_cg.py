"""Conjugate gradients that stop where a matrix turns out not to be positive definite."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regimes.optim.nystrom_preconditioner import Product


@dataclass(frozen=True)
class TruncatedSolution:
    """What conjugate gradients have found.

    Attributes:
        solution: shape (n,); its inner product with the right-hand side is positive unless that is zero.
        num_products: products that were spent.
        relative_residual: ‖b − Ax‖ / ‖b‖, as the recurrence has it.
        negative_curvature: whether a direction with pᵀAp ≤ 0 ended the search.
    """

    solution: Tensor
    num_products: int
    relative_residual: float
    negative_curvature: bool


def truncated_cg(
    product: Product, right_hand_side: Tensor, precondition: Product, *, tolerance: float, max_iterations: int
) -> TruncatedSolution:
    r"""Solve :math:`A x = b` by preconditioned conjugate gradients from zero, until something ends them.

    That is :math:`\|b - A x\| \le \mathrm{tolerance} \, \|b\|`, the number of iterations, or a direction p with
    :math:`p^T A p \le 0`. In the last case the solution is what has been found until then, and in the first iteration
    the preconditioned right-hand side.

    Args:
        product: maps v, shape (n,), to Av, with A symmetric.
        right_hand_side: b, shape (n,).
        precondition: maps r to :math:`P^{-1} r`, with P symmetric positive definite.
        tolerance: of the relative residual.
        max_iterations: products to spend at most, at least one.

    References:
        T. Steihaug, The conjugate gradient method and trust regions in large scale optimization, SIAM J. Numer. Anal.
        20 (1983), doi:10.1137/0720042.
    """
    solution, residual = torch.zeros_like(right_hand_side), right_hand_side.clone()
    size = float(torch.linalg.vector_norm(right_hand_side))
    if size == 0:
        return TruncatedSolution(solution, 0, 0.0, False)
    relative = 1.0
    direction = conditioned = precondition(residual)
    decrease = residual @ conditioned
    for iteration in range(1, max_iterations + 1):
        image = product(direction)
        curvature = direction @ image
        if not bool(curvature > 0):
            return TruncatedSolution(direction if iteration == 1 else solution, iteration, relative, True)
        step = decrease / curvature
        solution = solution + step * direction
        residual = residual - step * image
        relative = float(torch.linalg.vector_norm(residual)) / size
        if relative <= tolerance:
            break
        conditioned = precondition(residual)
        following = residual @ conditioned
        direction = conditioned + (following / decrease) * direction
        decrease = following
    return TruncatedSolution(solution, iteration, relative, False)
