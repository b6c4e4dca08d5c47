"""Extreme eigenpairs of a symmetric operator from its products with vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_regimes.curvature.krylov_space import Array, KrylovSpace, RitzPairs
from lightning_regimes.curvature.linear_operator import LinearOperator, held, require_symmetric_shape, suggested_start

Which = Literal["LA", "LM", "SA", "BE"]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Eigenpairs:
    r"""Approximate eigenpairs :math:`H v_i \approx \lambda_i v_i`.

    Attributes:
        values: shape (k,); descending for ``"LA"`` and ``"BE"``, ascending for ``"SA"``, by descending magnitude for
            ``"LM"``.
        vectors: shape (n, k), orthonormal columns; the entry of largest magnitude is positive.
        residuals: shape (k,); :math:`\|H v_i - \lambda_i v_i\|`, which bounds the distance of
            :math:`\lambda_i` to the nearest eigenvalue.
        num_matvecs: products with the operator that were spent.
        converged: whether each residual is below the tolerance, and the search was certified if that was asked for.
        opposite_value: the extreme value at the other end of the spectrum from ``values[0]``, found on the way: the
            smallest for ``"LA"``. It lies inside the spectrum, so a smallest value is an upper bound.
        opposite_residual: its residual.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    num_matvecs: int
    converged: bool
    opposite_value: float
    opposite_residual: float


def eigsh(
    operator: LinearOperator,
    k: int,
    *,
    which: Which = "LA",
    tol: float = 1e-3,
    start: Tensor | None = None,
    certify: bool = False,
    resolve_opposite: bool = False,
    max_matvecs: int | None = None,
    basis_size: int | None = None,
    basis_device: torch.device | str | None = None,
    seed: int = 0,
) -> Eigenpairs:
    r"""Return k extreme eigenpairs by a thick-restart Lanczos method with full reorthogonalisation.

    Stops when

    .. math:: \|H v - \theta v\| \le \max(\mathrm{tol} \, |\theta|, \; 32 \, \epsilon \, \|H\|)

    for the k values and one more, a guard (two for ``"BE"``): a value that is not yet in sight shows first in the next
    one. ε is the resolution of the operator's dtype. The relative error of a value is about the square of its relative
    residual.

    A single start vector meets each eigenspace in one direction, so that a multiple eigenvalue counts once, and values
    that differ by less than ``tol`` may count as one. With ``certify`` the search is repeated from a fresh random
    vector in the complement of what was found, until that brings no new value; this finds multiplicities, at about
    two thirds as many products again for simple spectra.

    Args:
        operator: symmetric n × n operator.
        k: number of eigenpairs, 1 ≤ k ≤ n.
        which: ``"LA"`` the largest values, ``"SA"`` the smallest, ``"LM"`` those of largest magnitude, ``"BE"`` from
            both ends, one more from the upper if k is odd.
        tol: relative residual.
        start: vector (n,) or matrix (n, p), such as the vectors of an earlier spectrum nearby. The search begins
            from their sum, to which a random direction is always added, so that an eigenvector that they lack is
            found. Default: what the operator suggests (a Hessian its gradient), except for ``"SA"``.
        certify: search again in the complement, see above.
        resolve_opposite: continue until ``opposite_residual`` is at most :math:`\mathrm{tol} \cdot \|H\|`, too.
        max_matvecs: stop there, converged or not; default 1000 + 20 k.
        basis_size: rows of the basis, each of n numbers; a full basis is restarted from its best half. Default
            max(k + 31, 2 k + 20), or n if that is less.
        basis_device: where the basis lives, if not with the operator; ``vectors`` are returned there.
        seed: of the private generator of random vectors.

    Raises:
        ValueError: an argument is out of its range.
        ProbeError: a product is not finite.

    Example:
        >>> import torch
        >>> from lightning_regimes.curvature import eigsh, from_scipy
        >>> from scipy.sparse import diags_array
        >>> operator = from_scipy(diags_array([1.0, 4.0, 9.0]))
        >>> eigsh(operator, k=2).values
        tensor([9.0000, 4.0000], dtype=torch.float64)

    References:
        K. Wu and H. Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems, SIAM J. Matrix
        Anal. Appl. 22 (2000), doi:10.1137/S0895479898334605.
    """
    size = require_symmetric_shape(operator)
    if which not in get_args(Which):
        raise ValueError(f"`which` is one of {', '.join(get_args(Which))}, got {which!r}")
    if not 1 <= k <= size:
        raise ValueError(f"`k` must be between 1 and the size of the operator, {size}, got {k}")
    if not 0 < tol < 1:
        raise ValueError(f"`tol` must be between 0 and 1, got {tol}")
    budget = 1000 + 20 * k if max_matvecs is None else max_matvecs
    if budget < k:
        raise ValueError(f"`max_matvecs` must be at least `k`={k}, got {budget}")
    capacity = max(k + 31, 2 * k + 20) if basis_size is None else basis_size
    if capacity < min(size, k + 12):
        raise ValueError(f"`basis_size` must be at least k + 12 = {k + 12} (or n = {size}), got {capacity}")
    search = _Search(
        KrylovSpace(operator, min(capacity, size), torch.device(basis_device or operator.device), seed),
        k=k,
        which=which,
        tol=tol,
        budget=budget,
        resolve_opposite=resolve_opposite,
    )
    with held(operator):
        if start is None and which != "SA":
            start = suggested_start(operator)
        search.begin(start)
        search.converge(k + search.num_guards)
        if certify:
            search.certify()
        return search.eigenpairs()


def extreme_indices(values: Array, which: Which, count: int) -> Indices:
    """Return the indices of the ``count`` wanted values, in the order in which they are reported."""
    ascending = np.argsort(values, kind="stable")
    count = min(count, len(values))
    if which == "SA":
        return ascending[:count]
    if which == "LM":
        return np.argsort(-np.abs(values), kind="stable")[:count]
    if which == "LA":
        return ascending[::-1][:count]
    return ascending[::-1][np.r_[: (count + 1) // 2, len(values) - count // 2 : len(values)]]


class _Search:
    """A Krylov space together with what is looked for in it."""

    def __init__(
        self, space: KrylovSpace, *, k: int, which: Which, tol: float, budget: int, resolve_opposite: bool
    ) -> None:
        self.space = space
        self.size = space.operator.shape[0]
        self.k = k
        self.which: Which = which
        self.tol = tol
        self.budget = budget
        self.resolve_opposite = resolve_opposite
        self.num_guards = 2 if which == "BE" else 1
        self.epsilon = float(torch.finfo(space.operator.dtype).eps)
        self.floor = 32 * self.epsilon
        self.scale = 0.0
        self.is_finished = True

    def begin(self, start: Tensor | None) -> None:
        """Set the first row of the basis."""
        vector = self.space.random_vector()
        if start is not None:
            vector = _start_direction(start, self.size).to(vector) + 0.3 * vector / vector.norm()
        self.space.begin(vector)

    def converge(self, count: int, first: int = 0) -> bool:
        """Expand the basis until the ``count`` wanted pairs on its rows from ``first`` on have converged."""
        while self.space.num_multiplied - first < count and self._can_expand:
            self._multiply()
        while True:
            pairs = self._ritz_pairs(first)
            needed = self._needed(pairs, count, first)
            thresholds = self._thresholds(pairs, first)[needed]
            if np.all(pairs.residuals[needed] <= thresholds):
                return True
            if not self._can_expand:
                return self.space.is_invariant
            if self.space.has_pending and np.all(pairs.reducible[needed] <= thresholds):
                return False  # what is left of the residuals comes from the operator itself
            if self.space.is_full:
                self.space.compress(pairs.coefficients[:, self._better_half(pairs, needed, first)], first)
            self._multiply()

    def certify(self) -> None:
        """Search the complement of the pairs found until it holds no further wanted value."""
        self.is_finished = False
        while self._can_expand:
            pairs = self._ritz_pairs()
            found = pairs.values[extreme_indices(pairs.values, self.which, self.k)]
            self.space.compress(pairs.coefficients[:, self._found(pairs)])
            self.space.lock()
            self._multiply()
            is_explored = self.converge(2 if self.which == "BE" else 1, first=self.space.num_locked)
            self.converge(self.k)
            pairs = self._ritz_pairs()
            values = pairs.values[extreme_indices(pairs.values, self.which, self.k)]
            if np.all(np.abs(values - found) <= self.tol * np.abs(found) + self.floor * self.scale):
                self.is_finished = is_explored
                return
        self.is_finished = self.space.is_invariant

    def eigenpairs(self) -> Eigenpairs:
        """Return what has been found."""
        pairs = self._ritz_pairs()
        chosen = extreme_indices(pairs.values, self.which, self.k)
        opposite = self._opposite(pairs)
        # A residual below the rounding of a product cannot be known.
        residuals = np.maximum(pairs.residuals, self.epsilon * self.scale)
        needed = self._needed(pairs, self.k)
        rows = self.space.combine(pairs.coefficients[:, chosen])
        rows.mul_(torch.where(rows.amax(1) >= -rows.amin(1), 1.0, -1.0)[:, None])
        return Eigenpairs(
            values=torch.from_numpy(pairs.values[chosen]).to(rows),
            vectors=rows.T,
            residuals=torch.from_numpy(residuals[chosen]).to(rows),
            num_matvecs=self.space.num_matvecs,
            converged=self.is_finished and bool(np.all(residuals[needed] <= self._thresholds(pairs)[needed])),
            opposite_value=float(pairs.values[opposite]),
            opposite_residual=float(residuals[opposite]),
        )

    @property
    def _can_expand(self) -> bool:
        return not self.space.is_invariant and self.space.num_matvecs < self.budget

    def _multiply(self) -> None:
        while not self.space.has_pending:
            self.space.begin(self.space.random_vector())
        self.space.multiply()

    def _ritz_pairs(self, first: int = 0) -> RitzPairs:
        pairs = self.space.ritz_pairs(first)
        self.scale = max(self.scale, float(np.abs(pairs.values).max(initial=0.0)))
        return pairs

    def _needed(self, pairs: RitzPairs, count: int, first: int = 0) -> Indices:
        wanted = extreme_indices(pairs.values, self.which, count)
        if self.resolve_opposite and first == 0:
            return np.union1d(wanted, [self._opposite(pairs)])
        return wanted

    def _thresholds(self, pairs: RitzPairs, first: int = 0) -> Array:
        smallest = max(self.floor * self.scale, float(np.finfo(np.float64).tiny))
        thresholds = np.maximum(self.tol * np.abs(pairs.values), smallest)
        if self.resolve_opposite and first == 0:
            thresholds[self._opposite(pairs)] = self.tol * self.scale
        return thresholds

    def _opposite(self, pairs: RitzPairs) -> int:
        first = extreme_indices(pairs.values, self.which, 1)[0]
        from_above = self.which in ("LA", "BE") or (self.which == "LM" and pairs.values[first] > 0)
        return int(pairs.values.argmin() if from_above else pairs.values.argmax())

    def _found(self, pairs: RitzPairs) -> Indices:
        """The wanted pairs with guards, the opposite one, and what else has converged, while there is room."""
        needed = self._needed(pairs, self.k + self.num_guards)
        converged = np.flatnonzero(pairs.residuals <= self._thresholds(pairs))
        room = max(0, self.space.capacity // 2 - len(needed))
        order = extreme_indices(pairs.values, self.which, len(pairs.values))
        others = order[np.isin(order, converged) & ~np.isin(order, needed)][:room]
        return np.union1d(np.append(needed, self._opposite(pairs)), others)

    def _better_half(self, pairs: RitzPairs, needed: Indices, first: int) -> Indices:
        spare = self.space.capacity - first - len(needed)
        best = extreme_indices(pairs.values, self.which, len(needed) + spare // 2)
        return np.union1d(np.append(needed, self._opposite(pairs)), best)


def _start_direction(start: Tensor, size: int) -> Tensor:
    """Return the sum of the normalised columns, normalised."""
    matrix = start.detach()[:, None] if start.ndim == 1 else start.detach()
    if matrix.ndim != 2 or matrix.shape[0] != size:
        raise ValueError(f"`start` must have shape ({size},) or ({size}, p), got {tuple(start.shape)}")
    total = torch.nn.functional.normalize(matrix, dim=0).sum(1)
    if not bool(torch.isfinite(total).all()):
        raise ValueError("`start` has entries that are not finite")
    return torch.nn.functional.normalize(total, dim=0)
