"""Conjugate gradients whose preconditioner may be a polynomial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lightning_regimes.curvature.linear_operator import LinearOperator, held, require_operand, require_symmetric_shape


class Preconditioner(Protocol):
    """A symmetric positive definite approximation of the inverse."""

    def __matmul__(self, other: Tensor) -> Tensor:
        """Product with a vector (n,)."""
        ...


@dataclass(frozen=True)
class CGSolution:
    r"""What conjugate gradients have found.

    Attributes:
        solution: shape (n,).
        num_iterations: steps, each with one product of the operator and one of the preconditioner.
        num_matvecs: products with the operator, those inside a polynomial preconditioner included.
        relative_residuals: :math:`\|b - A x_k\| / \|b\|` as the recurrence has it, shape (num_iterations + 1,).
        num_fallbacks: how often the preconditioner turned out not to be positive definite and was made safer.
        converged: whether the last residual is within the tolerance.
    """

    solution: Tensor
    num_iterations: int
    num_matvecs: int
    relative_residuals: Tensor
    num_fallbacks: int
    converged: bool


def cg(
    operator: LinearOperator,
    right_hand_side: Tensor,
    *,
    preconditioner: Preconditioner | None = None,
    start: Tensor | None = None,
    tol: float = 1e-8,
    max_iterations: int | None = None,
    callback: Callable[[int, float], None] | None = None,
) -> CGSolution:
    r"""Solve :math:`A x = b` for a positive definite operator, until :math:`\|b - A x\| \le \mathrm{tol} \, \|b\|`.

    Conjugate gradients find the best solution that their products allow. A polynomial preconditioner of degree d
    therefore lowers the number of iterations by at most d, and not the number of products; what it saves are inner
    products, where these are slow (see :class:`PolynomialPreconditioner`).

    If :math:`r^T M r \le 0` shows that the preconditioner M is not positive definite, its ``widen()``, where it has
    one, makes it safer, and the search begins again from what has been found.

    Args:
        operator: A, symmetric positive definite n × n.
        right_hand_side: b, shape (n,).
        preconditioner: M, multiplied with residuals.
        start: first guess, shape (n,); default zero.
        tol: of the relative residual.
        max_iterations: default 20 n.
        callback: called after each iteration with its number and the relative residual.

    Raises:
        ValueError: an argument does not fit, the operator or a preconditioner without ``widen`` is not positive
            definite, or a product is not finite.

    References:
        M. Hestenes, E. Stiefel, Methods of conjugate gradients for solving linear systems, J. Res. NBS 49 (1952),
        doi:10.6028/jres.049.044.
    """
    size = require_symmetric_shape(operator)
    require_operand(operator, right_hand_side)
    if right_hand_side.ndim != 1:
        raise ValueError(f"`right_hand_side` is a vector ({size},), got shape {tuple(right_hand_side.shape)}")
    if not tol > 0:
        raise ValueError(f"`tol` must be positive, got {tol}")
    limit = 20 * size if max_iterations is None else max_iterations
    norm = float(torch.linalg.vector_norm(right_hand_side))
    solution = torch.zeros_like(right_hand_side) if start is None else start.clone()
    if norm == 0:
        return CGSolution(torch.zeros_like(solution), 0, 0, torch.zeros(1, dtype=torch.float64), 0, True)
    cost = 1 + int(getattr(preconditioner, "num_matvecs_each", 0))
    num_matvecs = num_fallbacks = iteration = 0
    with held(operator):
        residual = right_hand_side.clone()
        if start is not None:
            residual = residual - operator @ solution
            num_matvecs += 1
        history = [float(torch.linalg.vector_norm(residual)) / norm]
        direction, decrease = torch.zeros_like(residual), torch.ones((), dtype=residual.dtype, device=residual.device)
        while history[-1] > tol and iteration < limit:
            conditioned = residual if preconditioner is None else preconditioner @ residual
            following = residual @ conditioned
            if not bool(following > 0):
                num_fallbacks += 1
                num_matvecs += cost - 1
                _make_safer(preconditioner, float(following), num_fallbacks)
                direction, decrease = torch.zeros_like(residual), torch.ones_like(decrease)
                continue
            direction = conditioned + (following / decrease) * direction
            decrease = following
            image = operator @ direction
            curvature = direction @ image
            if not bool(curvature > 0):
                raise ValueError(
                    f"`operator` must be positive definite, got a direction with curvature {float(curvature):.3g}"
                )
            step = decrease / curvature
            solution = solution + step * direction
            residual = residual - step * image
            iteration += 1
            num_matvecs += cost
            history.append(float(torch.linalg.vector_norm(residual)) / norm)
            if callback is not None:
                callback(iteration, history[-1])
    return CGSolution(
        solution, iteration, num_matvecs, torch.tensor(history, dtype=torch.float64), num_fallbacks, history[-1] <= tol
    )


def _make_safer(preconditioner: Preconditioner | None, found: float, num_fallbacks: int) -> None:
    """Widen the preconditioner, or say that it cannot be used."""
    widen = getattr(preconditioner, "widen", None)
    if widen is None or not found <= 0 or num_fallbacks > 50:
        raise ValueError(f"`preconditioner` must be positive definite, got a residual r with r·Mr = {found:.3g}")
    widen()
