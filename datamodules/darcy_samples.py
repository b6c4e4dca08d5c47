"""Samples of Darcy flow, each from its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lightning_regimes.datamodules.field_cache import Fields
from lightning_regimes.datamodules.nested_grids import subsampled
from lightning_regimes.pde import DarcyFlow


@dataclass(frozen=True)
class DarcySamples:
    """Coefficients and solutions of a Darcy flow on several grids, computed from the number of a sample.

    Attributes:
        problem: the equation.
        resolutions: of the grids.
        solver_resolution: of the grid on which all are solved; None solves each on its own.
        num_modes: one-dimensional modes of the field behind the coefficient.
        seed: whole numbers.
    """

    problem: DarcyFlow
    resolutions: tuple[int, ...]
    solver_resolution: int | None
    num_modes: int
    seed: tuple[int, ...]

    def __call__(self, indices: Sequence[int]) -> Fields:
        """Return ``{"x_<n>": (N, 1, n, n), "y_<n>": (N, 1, n, n)}`` for each resolution ``n``."""
        fields = {}
        if self.solver_resolution is not None:
            coefficient, solution = self._solved(indices, self.solver_resolution)
        for resolution in self.resolutions:
            if self.solver_resolution is None:
                coefficient, solution = self._solved(indices, resolution)
            fields[f"x_{resolution}"] = subsampled(coefficient, resolution, ends=True)
            fields[f"y_{resolution}"] = subsampled(solution, resolution, ends=True)
        return {name: field.unsqueeze(1) for name, field in fields.items()}

    def _solved(self, indices: Sequence[int], resolution: int) -> tuple[Tensor, Tensor]:
        coefficient = self.problem.coefficient(indices, resolution=resolution, seed=self.seed, num_modes=self.num_modes)
        return coefficient, self.problem.solve(coefficient)
