"""The history of L-BFGS: the latest steps and changes of the gradient, in two matrices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Rows to begin with; and, once all pairs are there, the share of rows by which the oldest ones are moved out together.
_FEWEST_ROWS = 8
_SPARE_ROWS = 4


class CurvaturePairs:
    r"""The latest pairs of steps s and changes of the gradient y, and the inverse Hessian that they make.

    The two loops of L-BFGS go through the pairs one by one, four products of vectors each. What they do in order is to
    solve two triangular systems in :math:`R_{ij} = s_i^\top y_j, i \le j`: with the rows of S and Y, γ the factor of
    the last pair and D the diagonal of R,

    .. math::
        R a = S q, \qquad r = \gamma (q - Y^\top a), \qquad R^\top c = D a - Y r, \qquad H q = r + S^\top c.

    These are four products with a matrix, however many pairs there are, and one more for each pair that comes.

    Args:
        size: how many pairs are kept.
        steps: (rows, n), of a state; likewise the others.
        changes: (rows, n).
        products: (rows, rows), R with zeros elsewhere in the columns of pairs.
        first: row of the oldest pair.
        count: number of pairs.

    References:
        R. H. Byrd, J. Nocedal, R. B. Schnabel, "Representations of quasi-Newton matrices and their use in limited
        memory methods", Mathematical Programming 63, 1994, section 2.
    """

    def __init__(
        self,
        size: int,
        *,
        steps: Tensor | None = None,
        changes: Tensor | None = None,
        products: Tensor | None = None,
        first: int = 0,
        count: int = 0,
    ) -> None:
        self.size = size
        self._steps, self._changes, self._products = steps, changes, products
        self._first, self._count = first, count

    def __len__(self) -> int:
        """Return the number of pairs."""
        return self._count

    def state(self) -> dict[str, Any]:
        """Return the arguments that make the same history again; its tensors are not copied."""
        names = ("steps", "changes", "products", "first", "count")
        return {name: getattr(self, f"_{name}") for name in names}

    def append(self, step: Tensor, change: Tensor) -> None:
        """Add a pair, and drop the oldest one where there are too many.

        Args:
            step: s, (n,).
            change: y, (n,), with :math:`s^T y > 0`.
        """
        if self._count == self.size:
            self._first, self._count = self._first + 1, self._count - 1
        self._make_room(step)
        steps, changes, products = self._matrices()
        row = self._first + self._count
        steps[row], changes[row] = step, change
        self._count += 1
        window = slice(self._first, row + 1)
        products[window, row] = steps[window] @ change

    def inverse_hessian_product(self, vector: Tensor) -> Tensor:
        """Return the product of the approximate inverse Hessian with a vector, (n,); without pairs the vector.

        Args:
            vector: q, (n,).
        """
        if not self._count:
            return vector.clone()
        window = slice(self._first, self._first + self._count)
        steps, changes, products = (matrix[window] for matrix in self._matrices())
        triangle = products[:, window].triu()
        diagonal = triangle.diagonal()
        scale = diagonal[-1] / changes[-1].dot(changes[-1])
        first = _solve(triangle, steps @ vector, upper=True)
        product = scale * torch.addmv(vector, changes.T, first, alpha=-1)
        second = _solve(triangle.T, diagonal * first - changes @ product, upper=False)
        return product.addmv_(steps.T, second)

    def _make_room(self, like: Tensor) -> None:
        end = self._first + self._count
        rows = 0 if self._steps is None else self._steps.shape[0]
        if end < rows:
            return
        most = self.size + max(1, self.size // _SPARE_ROWS)
        if rows < most:
            rows = min(max(2 * rows, _FEWEST_ROWS), most)
            kept = self._steps, self._changes, self._products
            self._steps, self._changes = like.new_zeros(rows, like.numel()), like.new_zeros(rows, like.numel())
            self._products = like.new_zeros(rows, rows)
            for new, old in zip(self._matrices(), kept, strict=True):
                if old is not None:
                    new[: old.shape[0], : old.shape[1]] = old
        if end >= rows:
            for matrix in self._matrices():
                matrix[: self._count] = matrix[self._first : end].clone()
            products = self._matrices()[2]
            products[:, : self._count] = products[:, self._first : end].clone()
            self._first = 0

    def _matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        assert self._steps is not None
        assert self._changes is not None
        assert self._products is not None
        return self._steps, self._changes, self._products


def _solve(triangle: Tensor, right: Tensor, *, upper: bool) -> Tensor:
    solved: Tensor = torch.linalg.solve_triangular(triangle, right[:, None], upper=upper)
    return solved[:, 0]
