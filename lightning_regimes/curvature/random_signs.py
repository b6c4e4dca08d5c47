"""Random vectors of signs, which estimate traces, diagonals and densities."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.curvature.linear_operator import LinearOperator


def rademacher(operator: LinearOperator, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return independent signs ±1 for products with the operator, the same on every device."""
    signs = torch.randint(0, 2, shape, generator=generator, dtype=torch.int8)
    return signs.to(operator.device, operator.dtype).mul_(2).sub_(1)
