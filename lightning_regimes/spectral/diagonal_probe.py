"""Probes of many diagonal operators at once."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.spectral.spectral_probe import SpectralProbe


def diagonal_probe(eigenvalues: Tensor, start: Tensor, *, num_steps: int = 10) -> SpectralProbe:
    """Return what Lanczos steps with full reorthogonalisation say about diagonal operators.

    The same numbers as of :func:`lanczos_probe`, for a batch that is computed together.

    Args:
        eigenvalues: shape (..., n).
        start: shape (..., n).
        num_steps: m, at most n.

    Raises:
        ValueError: the shapes differ, or there are more steps than eigenvalues.
    """
    if eigenvalues.shape != start.shape or not 1 <= num_steps <= eigenvalues.shape[-1]:
        raise ValueError(
            "`eigenvalues` and `start` have one shape (..., n) with n ≥ num_steps ≥ 1, got "
            f"{tuple(eigenvalues.shape)}, {tuple(start.shape)} and {num_steps}"
        )
    shape, size = eigenvalues.shape[:-1], eigenvalues.shape[-1]
    # One operator after the other: its basis fits into a fast cache, that of a batch does not.
    pairs = [
        _tridiagonal(values, vector, num_steps)
        for values, vector in zip(eigenvalues.reshape(-1, size), start.reshape(-1, size), strict=True)
    ]
    diagonal, couplings = (torch.stack(parts).reshape(*shape, num_steps) for parts in zip(*pairs, strict=True))
    inner = couplings[..., :-1]
    matrix = torch.diag_embed(diagonal) + torch.diag_embed(inner, 1) + torch.diag_embed(inner, -1)
    values, vectors = torch.linalg.eigh(matrix)
    residuals = couplings[..., -1:] * vectors[..., -1, :].abs()
    return SpectralProbe.from_ritz(values, vectors[..., 0, :].square(), residuals, dimension=size)


def _tridiagonal(eigenvalues: Tensor, start: Tensor, num_steps: int) -> tuple[Tensor, Tensor]:
    """Return the diagonal and the couplings of a Lanczos matrix, both of shape (m,), of one operator."""
    least = 1e-14 * eigenvalues.abs().amax()
    basis = eigenvalues.new_empty(num_steps, len(eigenvalues))
    diagonal, couplings = eigenvalues.new_empty(num_steps), eigenvalues.new_zeros(num_steps)
    basis[0] = start / torch.linalg.vector_norm(start)
    for step in range(num_steps):
        image = eigenvalues * basis[step]
        diagonal[step] = image.dot(basis[step])
        known = basis[: step + 1]
        for _ in range(2):
            image -= known.mT @ (known @ image)
        norm = torch.linalg.vector_norm(image)
        if norm <= least:
            # Beyond an invariant space there is nothing: a value inside the spectrum that couples to no other.
            diagonal[step + 1 :] = diagonal[0]
            break
        couplings[step] = norm
        if step + 1 < num_steps:
            torch.div(image, norm, out=basis[step + 1])
    return diagonal, couplings
