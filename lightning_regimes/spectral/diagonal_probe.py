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
    scale = eigenvalues.abs().amax(-1)
    rows = [start / torch.linalg.vector_norm(start, dim=-1, keepdim=True)]
    diagonal: list[Tensor] = []
    couplings = [torch.ones_like(scale)]
    for _ in range(num_steps):
        image = eigenvalues * rows[-1]
        quotient = (image * rows[-1]).sum(-1)
        # Beyond an invariant space there is nothing: a value inside the spectrum that couples to no other.
        diagonal.append(torch.where(couplings[-1] > 0, quotient, diagonal[0] if diagonal else quotient))
        basis = torch.stack(rows, -2)
        for _ in range(2):
            image = image - (basis.mT @ (basis @ image.unsqueeze(-1))).squeeze(-1)
        norm = torch.linalg.vector_norm(image, dim=-1)
        norm = torch.where(norm > 1e-14 * scale, norm, 0)
        couplings.append(norm)
        rows.append(torch.where(norm > 0, 1 / norm.clamp(min=1e-30), 0).unsqueeze(-1) * image)
    couplings = couplings[1:]
    inner = torch.stack(couplings[:-1], -1) if num_steps > 1 else eigenvalues.new_zeros(*eigenvalues.shape[:-1], 0)
    matrix = torch.diag_embed(torch.stack(diagonal, -1))
    matrix = matrix + torch.diag_embed(inner, 1) + torch.diag_embed(inner, -1)
    values, vectors = torch.linalg.eigh(matrix)
    residuals = couplings[-1].unsqueeze(-1) * vectors[..., -1, :].abs()
    return SpectralProbe.from_ritz(values, vectors[..., 0, :].square(), residuals, dimension=eigenvalues.shape[-1])
