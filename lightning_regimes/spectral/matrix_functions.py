"""Functions of positive definite matrices that polynomials are learned for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

FunctionName = Literal["inverse_sqrt", "sqrt", "inverse", "power", "exp"]
_POWERS: dict[str, float] = {"inverse_sqrt": -0.5, "sqrt": 0.5, "inverse": -1.0}


@dataclass(frozen=True)
class MatrixFunction:
    r"""A function of the eigenvalues of a positive definite operator.

    A power of any operator, :math:`\lambda^s`, or the decay :math:`\exp(-t \lambda / \theta)` in units of its largest
    Ritz value θ. Two more come from a power of :math:`A^T A`: the sign of an indefinite symmetric operator is
    :math:`A \, (A^2)^{-1/2}`, and :math:`U \Sigma^p V^T` is :math:`M \, (M^T M)^{(p - 1)/2}`.

    Attributes:
        name: ``"inverse_sqrt"``, ``"sqrt"``, ``"inverse"``, ``"power"`` or ``"exp"``.
        exponent: s of ``"power"``, or t of ``"exp"``; the others have their own.

    Raises:
        ValueError: an unknown name, or a power outside [−1, 1], or a negative time.
    """

    name: FunctionName = "inverse_sqrt"
    exponent: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in get_args(FunctionName):
            raise ValueError(f"`name` is one of {', '.join(get_args(FunctionName))}, got {self.name!r}")
        if self.name == "power" and not -1 <= self.exponent <= 1:
            raise ValueError(f"`exponent` of a power lies between -1 and 1, got {self.exponent}")
        if self.name == "exp" and not self.exponent > 0:
            raise ValueError(f"`exponent` of a decay is positive, got {self.exponent}")

    @property
    def degree(self) -> float:
        r"""The power of the scale: :math:`f(c \lambda) = c^s f(\lambda)`; 0 for the decay, which is in units of θ."""
        return 0.0 if self.name == "exp" else _POWERS.get(self.name, self.exponent)

    def __call__(self, relative: Tensor) -> Tensor:
        r"""Return f of eigenvalues relative to the largest Ritz value, elementwise."""
        return torch.exp(-self.exponent * relative) if self.name == "exp" else relative**self.degree
