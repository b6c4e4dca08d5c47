"""Extreme eigenpairs with the memory of a few vectors."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_regimes.curvature.krylov import Eigenpairs, eigsh
from lightning_regimes.curvature.linear_operator import LinearOperator, held, require_symmetric_shape
from lightning_regimes.spectral.spectral_probe import SpectralProbe, lanczos_probe

Method = Literal["auto", "lanczos", "chebyshev"]

_PROBE_STEPS = 5


def topk(
    operator: LinearOperator,
    k: int,
    *,
    method: Method = "auto",
    tol: float = 1e-3,
    start: Tensor | None = None,
    probe: SpectralProbe | None = None,
    degree: int = 10,
    num_extra: int | None = None,
    max_bytes: int | None = None,
    max_iterations: int = 100,
    seed: int = 0,
) -> Eigenpairs:
    r"""Return the k largest eigenvalues and their vectors.

    ``"lanczos"`` is :func:`~lightning_regimes.curvature.eigsh`, which needs the fewest products, and the memory of
    about k + 31 vectors or more. ``"chebyshev"`` is subspace iteration, filtered by a Chebyshev polynomial that is
    small on the unwanted part of the spectrum: two to five times as many products with about 2 (k + extra) vectors. It
    is for models so large that more do not fit. ``"auto"`` takes it where the basis of the other exceeds ``max_bytes``.

    An iteration filters the k + extra vectors of the subspace in d products each, makes them orthonormal, and takes
    the Ritz pairs in it, until :math:`\|H v - \theta v\| \le \mathrm{tol} \, \max(|\theta|, 10^{-3} \|H\|)` for k.

    Args:
        operator: symmetric n × n operator.
        k: number of eigenpairs.
        method: see above.
        tol: relative residual.
        start: vectors to begin with, shape (n, p), such as those of an earlier spectrum nearby.
        probe: of the operator; default five Lanczos steps, which take five vectors.
        degree: d of the filter.
        num_extra: vectors that are kept beyond k; default k/4 + 2.
        max_bytes: memory for the basis of ``"auto"``; default one half of what the device has free, or 4 GiB on a CPU.
        max_iterations: stop there, converged or not.
        seed: of the random vectors.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Y. Zhou, Y. Saad, M. Tiago, J. Chelikowsky, Self-consistent-field calculations using Chebyshev-filtered subspace
        iteration, J. Comput. Phys. 219 (2006), doi:10.1016/j.jcp.2006.03.017.
    """
    size = require_symmetric_shape(operator)
    if method not in get_args(Method):
        raise ValueError(f"`method` is one of {', '.join(get_args(Method))}, got {method!r}")
    if not 1 <= k <= size:
        raise ValueError(f"`k` must be between 1 and the size of the operator, {size}, got {k}")
    if method == "auto":
        needed = max(k + 31, 2 * k + 20) * size * torch.finfo(operator.dtype).bits // 8
        allowed = _free_bytes(operator.device) // 2 if max_bytes is None else max_bytes
        method = "lanczos" if needed <= allowed else "chebyshev"
    if method == "lanczos":
        return eigsh(operator, k, tol=tol, start=start, seed=seed)
    if degree < 2 or max_iterations < 1 or (num_extra is not None and num_extra < 0):
        raise ValueError(
            "`degree` is at least 2, `max_iterations` at least 1 and `num_extra` not negative, got "
            f"{degree}, {max_iterations} and {num_extra}"
        )
    width = min(size, k + (k // 4 + 2 if num_extra is None else num_extra))
    with held(operator):
        known = lanczos_probe(operator, num_steps=_PROBE_STEPS, seed=seed) if probe is None else probe
        spent = 0 if probe is not None else min(_PROBE_STEPS, size)
        return _Subspace(operator, k, width, known, start, seed, spent).converge(degree, tol, max_iterations)


def _free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 8 << 30


class _Subspace:
    """Orthonormal vectors, their images, and the Ritz values in their span."""

    def __init__(
        self,
        operator: LinearOperator,
        k: int,
        width: int,
        probe: SpectralProbe,
        start: Tensor | None,
        seed: int,
        num_matvecs: int,
    ) -> None:
        self.operator = operator
        self.k = k
        self.probe = probe
        self.num_matvecs = num_matvecs
        size = operator.shape[0]
        generator = torch.Generator().manual_seed(seed + 1)
        vectors = torch.randn(width, size, generator=generator, dtype=operator.dtype).to(operator.device)
        if start is not None:
            given = start.reshape(size, -1).T[:width].to(vectors)
            vectors[: len(given)] = given
        self.lower = float((probe.ritz - probe.residuals).min())
        self.upper = float(probe.upper)
        self.scale = max(abs(self.lower), abs(self.upper))
        self.rows = torch.linalg.qr(vectors.T).Q.T.contiguous()
        self.rotate()

    def rotate(self) -> None:
        """Take the Ritz pairs in the span; the values descend."""
        images = self._products(self.rows)
        matrix = (self.rows @ images.T).double().cpu()
        values, coefficients = torch.linalg.eigh((matrix + matrix.T) / 2)
        transform = coefficients.flip(1).T.to(self.rows)
        self.values = values.flip(0)
        self.rows = transform @ self.rows
        images = transform @ images
        differences = images - self.values.to(images)[:, None] * self.rows
        self.residuals = torch.linalg.vector_norm(differences, dim=1).double().cpu()

    def converge(self, degree: int, tol: float, max_iterations: int) -> Eigenpairs:
        """Filter and rotate until the residuals are small."""
        converged = self._is_converged(tol)
        iteration = 0
        while not converged and iteration < max_iterations:
            self._filter(degree)
            self.rows = torch.linalg.qr(self.rows.T).Q.T.contiguous()
            self.rotate()
            converged = self._is_converged(tol)
            iteration += 1
        rows = self.rows[: self.k]
        rows = rows * torch.where(rows.amax(1) >= -rows.amin(1), 1.0, -1.0).to(rows)[:, None]
        return Eigenpairs(
            values=self.values[: self.k].to(rows),
            vectors=rows.T,
            residuals=self.residuals[: self.k].to(rows),
            num_matvecs=self.num_matvecs,
            converged=converged,
            opposite_value=float(self.probe.ritz[0]),
            opposite_residual=float(self.probe.residuals[0]),
        )

    def _is_converged(self, tol: float) -> bool:
        allowed = tol * self.values[: self.k].abs().clamp(min=1e-3 * self.scale)
        return bool((self.residuals[: self.k] <= allowed).all())

    def _filter(self, degree: int) -> None:
        """Multiply the vectors by the Chebyshev polynomial of the part of the spectrum below the lowest Ritz value."""
        cut = float(self.values[-1])
        # A subspace that fills the space, or lies below the probe's values, has no unwanted part.
        lower = min(self.lower, cut - 1e-3 * self.scale)
        middle, half = (cut + lower) / 2, (cut - lower) / 2
        top = (float(self.values[0]) - middle) / half
        # Scaled so that the wanted end stays of the size that it has, as in the reference.
        ratio = 1 / top
        previous, current = self.rows, (self._products(self.rows) - middle * self.rows) * (ratio / half)
        for _ in range(degree - 1):
            following = 1 / (2 * top - ratio)
            image = (self._products(current) - middle * current) * (2 * following / half)
            previous, current = current, image - ratio * following * previous
            ratio = following
        self.rows = current

    def _products(self, rows: Tensor) -> Tensor:
        self.num_matvecs += len(rows)
        return (self.operator @ rows.T.contiguous()).T
