"""How the eigenvalues of a symmetric operator are distributed, from its products with random vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lightning_regimes.curvature.krylov_space import KrylovSpace, RitzPairs
from lightning_regimes.curvature.linear_operator import LinearOperator, held, require_symmetric_shape
from lightning_regimes.curvature.random_signs import rademacher
from lightning_regimes.curvature.trace import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARGIN_IN_WIDTHS = 6.0


@dataclass(frozen=True)
class SpectralDensity:
    r"""Estimate of the density of eigenvalues :math:`\frac{1}{n} \sum_i \delta(x - \lambda_i)`, broadened.

    All tensors are float64 on the CPU. The weight near a value, times n, counts the eigenvalues there.

    Attributes:
        nodes: shape (v, m), ascending; the nodes of the quadrature of each start, in the operator's units.
        weights: shape (v, m); they sum to one for each start. Where a start took fewer steps than others, its last
            nodes have weight zero.
        grid: shape (g,), ascending; eigenvalues, or :math:`\log_{10} |\lambda|` with ``log``.
        density: shape (g,); per unit of the grid, the mean over the starts.
        standard_error: shape (g,); estimated standard deviation of ``density`` over the choice of starts. It does not
            know what too few steps leave unresolved.
        width: standard deviation of the Gaussian in place of each node, in units of the grid.
        log: whether the grid is logarithmic.
        num_matvecs: products with the operator that were spent.
    """

    nodes: Tensor
    weights: Tensor
    grid: Tensor
    density: Tensor
    standard_error: Tensor
    width: float
    log: bool
    num_matvecs: int

    @property
    def mass(self) -> float:
        """Integral of the density over the grid: one, where that covers the spectrum and resolves the width."""
        return float(torch.trapezoid(self.density, self.grid))

    def moment(self, power: int) -> Estimate:
        r"""Return the moment :math:`\operatorname{tr}(H^p) / n` of the nodes, without broadening.

        It is unbiased up to p = 2 m - 1 for m steps, the degree of the quadrature.

        Args:
            power: p ≥ 0.

        Raises:
            ValueError: a negative power.
        """
        if power < 0:
            raise ValueError(f"`power` must not be negative, got {power}")
        samples = (self.weights * self.nodes**power).sum(1)
        return Estimate(float(samples.mean()), float(_standard_error(samples)), self.num_matvecs)

    def figure(self) -> Figure:
        """Draw the density, on a logarithmic axis, with a band of two standard errors."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        floor = 1e-6 * float(self.density.max())
        grid, density, error = self.grid.numpy(), self.density.numpy(), self.standard_error.numpy()
        axes.fill_between(grid, np.maximum(density - 2 * error, floor), density + 2 * error, alpha=0.3, linewidth=0)
        axes.plot(grid, density, linewidth=1)
        axes.set_yscale("log")
        axes.set_ylim(bottom=floor)
        axes.set_xlabel("log10 of the magnitude of the eigenvalue" if self.log else "eigenvalue")
        axes.set_ylabel("density per decade" if self.log else "density")
        return figure


def spectral_density(
    operator: LinearOperator,
    *,
    num_vectors: int = 10,
    num_steps: int = 80,
    grid: int | Tensor | Sequence[float] = 1000,
    width: float | None = None,
    log: bool = False,
    basis_device: torch.device | str | None = None,
    seed: int = 0,
) -> SpectralDensity:
    r"""Estimate the spectral density by stochastic Lanczos quadrature with full reorthogonalisation.

    .. math:: \phi(x) = \frac{1}{v} \sum_{l=1}^{v} \sum_{j=1}^{m} \tau_{lj}^2 \, \mathcal N(x; \theta_{lj}, \sigma^2)

    where :math:`\theta_{lj}` are the Ritz values of m Lanczos steps from a vector of random signs :math:`z_l`, and
    :math:`\tau_{lj}` the first components of their vectors in the Lanczos basis. A start that has found an invariant
    subspace stops there: its quadrature is exact.

    Args:
        operator: symmetric n × n operator.
        num_vectors: v, number of starts, at least 2.
        num_steps: m, products a start, at most n of which are made.
        grid: number of points, which then cover all nodes and six widths beyond; or the points, ascending.
        width: σ, in units of the grid. Default: the extent of the nodes over m, about the finest that m nodes fill
            without ripples; where all nodes are one value, its magnitude (or 1 for zero, or for a logarithm) over m.
        log: take the density of :math:`\log_{10} |\lambda|`, which shows the many eigenvalues near zero apart.
            Magnitudes below what the dtype of the operator resolves, :math:`32 \, \epsilon \, \|H\|`, count as that.
        basis_device: where the basis of m + 1 vectors lives, if not with the operator.
        seed: of the private generator of random vectors.

    Raises:
        ValueError: an argument is out of its range, or the logarithm of a zero operator is asked for.
        ProbeError: a product is not finite.

    References:
        S. Ubaru, J. Chen, Y. Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature, SIAM J. Matrix Anal.
        Appl. 38 (2017), doi:10.1137/16M1104974; B. Ghorbani, S. Krishnan, Y. Xiao, An investigation into neural net
        optimization via Hessian eigenvalue density, arXiv:1901.10159.
    """
    size = require_symmetric_shape(operator)
    if num_vectors < 2:
        raise ValueError(f"`num_vectors` must be at least 2, for a standard error, got {num_vectors}")
    if num_steps < 1:
        raise ValueError(f"`num_steps` must be at least 1, got {num_steps}")
    if width is not None and not 0 < width < math.inf:
        raise ValueError(f"`width` must be positive and finite, got {width}")
    points = _checked_grid(grid)

    generator = torch.Generator().manual_seed(seed)
    device = torch.device(basis_device or operator.device)
    with held(operator):
        starts = [
            _ritz_pairs(operator, rademacher(operator, (size,), generator), min(num_steps, size), device)
            for _ in range(num_vectors)
        ]
    nodes, weights = _quadrature(starts)
    epsilon = 32 * float(torch.finfo(operator.dtype).eps)
    positions = _logarithms(nodes, epsilon) if log else nodes
    if width is None:
        extent = float(positions.max() - positions.min())
        largest = float(positions.abs().max())
        # A density on an interval that is no normal number across would be infinite: such a spectrum is null.
        null = float(torch.finfo(torch.float64).tiny) / epsilon
        if extent <= max(epsilon * largest, null):
            extent = 1.0 if log or largest <= null else largest
        width = extent / num_steps
    if isinstance(points, int):
        margin = _MARGIN_IN_WIDTHS * width
        points = torch.linspace(
            float(positions.min()) - margin, float(positions.max()) + margin, points, dtype=torch.float64
        )
    samples = torch.stack([_broadened(*start, points, width) for start in zip(positions, weights, strict=True)])
    return SpectralDensity(
        nodes=nodes,
        weights=weights,
        grid=points,
        density=samples.mean(0),
        standard_error=_standard_error(samples),
        width=width,
        log=log,
        num_matvecs=sum(len(pairs.values) for pairs in starts),
    )


def _checked_grid(grid: int | Tensor | Sequence[float]) -> int | Tensor:
    if isinstance(grid, int):
        if grid < 2:
            raise ValueError(f"`grid` must have at least 2 points, got {grid}")
        return grid
    points = torch.as_tensor(grid, dtype=torch.float64).detach().cpu()
    if points.ndim != 1 or len(points) < 2 or not bool(torch.isfinite(points).all() and (points.diff() > 0).all()):
        raise ValueError(f"`grid` must be a number of points, or at least 2 finite points that ascend, got {grid}")
    return points


def _ritz_pairs(operator: LinearOperator, start: Tensor, num_steps: int, device: torch.device) -> RitzPairs:
    # One row more than is multiplied, for the row that the last product leaves pending.
    space = KrylovSpace(operator, min(num_steps + 1, operator.shape[0]), device, seed=0)
    space.begin(start)
    while space.has_pending and space.num_multiplied < num_steps:
        space.multiply()
    return space.ritz_pairs()


def _quadrature(starts: Sequence[RitzPairs]) -> tuple[Tensor, Tensor]:
    """Return nodes and weights, shape (v, m), filled up with the largest node at weight zero."""
    longest = max(len(pairs.values) for pairs in starts)
    nodes = [np.pad(pairs.values, (0, longest - len(pairs.values)), mode="edge") for pairs in starts]
    weights = [np.pad(pairs.coefficients[0] ** 2, (0, longest - len(pairs.values))) for pairs in starts]
    return torch.from_numpy(np.stack(nodes)), torch.from_numpy(np.stack(weights))


def _logarithms(nodes: Tensor, epsilon: float) -> Tensor:
    largest = float(nodes.abs().max())
    if largest == 0:
        raise ValueError("`log` needs an eigenvalue other than zero, and the operator has none; use `log=False`")
    return nodes.abs().clamp(min=epsilon * largest).log10()


def _broadened(positions: Tensor, weights: Tensor, grid: Tensor, width: float) -> Tensor:
    distances = (grid[:, None] - positions) / width
    return torch.exp(-0.5 * distances**2) @ weights / (width * math.sqrt(2 * math.pi))


def _standard_error(samples: Tensor) -> Tensor:
    return samples.std(0) / math.sqrt(len(samples))
