"""How much of the curvature of a weight matrix lies within its rows."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_regimes.curvature.blocks import block_operators
from lightning_regimes.curvature.linear_operator import LinearOperator, held, require_symmetric_shape
from lightning_regimes.curvature.random_signs import rademacher
from lightning_regimes.curvature.trace import Estimate
from lightning_regimes.probe import LossProbe

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class BlockStructure:
    r"""The share of the row blocks in the Hessian block of each weight matrix.

    Attributes:
        names: of the parameters, one a matrix.
        rows: number of rows R of each.
        shares: of the squared Frobenius norm; an estimate may lie a little outside 0 … 1. NaN for a Hessian of zero.
        standard_errors: of ``shares``.
        masses: the squared Frobenius norm of each block of the Hessian.
        total: the share in all blocks together, each weighted by its mass, with its standard error.
    """

    names: tuple[str, ...]
    rows: tuple[int, ...]
    shares: tuple[float, ...]
    standard_errors: tuple[float, ...]
    masses: tuple[float, ...]
    total: Estimate

    @property
    def chance(self) -> tuple[float, ...]:
        """The share 1/R if all R² blocks were equally large."""
        return tuple(1 / rows for rows in self.rows)

    @property
    def dominance(self) -> tuple[float, ...]:
        """Mean squared norm of a block within a row over that of a block between two rows; 1 for equal blocks."""
        return tuple(
            (rows - 1) * share / (1 - share) if share < 1 else math.inf if share >= 1 else math.nan
            for rows, share in zip(self.rows, self.shares, strict=True)
        )

    def figure(self) -> Figure:
        """Draw the share of each matrix with two standard errors, and its chance level."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 1.2 + 0.3 * len(self.names)), layout="constrained")
        axes = figure.subplots()
        positions = range(len(self.names))
        errors = [2 * error for error in self.standard_errors]
        axes.barh(positions, self.shares, xerr=errors, color="#4c72b0", error_kw={"linewidth": 1})
        axes.plot(self.chance, positions, "|", color="k", markersize=12, label="equal blocks")
        axes.set_yticks(positions, labels=self.names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the squared Hessian within rows")
        axes.legend(fontsize="small")
        return figure


def block_structure(
    probe: LossProbe,
    *,
    matrices: str | Sequence[str] | None = None,
    num_groups: int = 4,
    num_samples: int = 4,
    seed: int = 0,
) -> BlockStructure:
    r"""Estimate how far the Hessian in each weight matrix is block diagonal, with a block a row.

    A row is what shares the first index: the weights of one output of a linear or convolutional layer. For the block
    of the Hessian in a matrix of R rows, with :math:`H_{rs}` the derivatives by rows r and s:

    .. math:: \text{share} = \frac{\sum_r \|H_{rr}\|_F^2}{\sum_{rs} \|H_{rs}\|_F^2}

    Where it is near one, the rows are independent in the quadratic model, which is what row-wise preconditioning takes
    for granted. See :func:`row_block_share` for the estimate. It takes ``num_groups`` · ``num_samples`` products a
    matrix, each with that block only. A complex parameter counts as its real view.

    Args:
        probe: the point and the batches.
        matrices: glob patterns on the names of parameters. Default: all with two dimensions or more and two rows or
            more.
        num_groups: groups into which the rows are split, at least 2; no more than rows are used.
        num_samples: splits, at least 2.
        seed: of the private generator of signs and splits.

    Raises:
        ValueError: no such matrix, or too few groups or samples.
        ProbeError: the loss is not finite or cannot be differentiated twice.

    References:
        Deng et al., RMNP: Row-momentum normalized preconditioning for scalable matrix-based optimization,
        arXiv:2603.20527, which observes the structure in transformers.
    """
    patterns = [matrices] if isinstance(matrices, str) else matrices
    names = [
        name
        for name, leaf in probe.parameters.items()
        if leaf.ndim >= 2
        and leaf.shape[0] >= 2
        and (patterns is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
    ]
    if not names:
        raise ValueError(
            "the probe has no parameter with two rows or more" + (f" that matches {matrices!r}" if matrices else "")
        )
    operators = block_operators(probe, {name: _literally(name) for name in names})
    rows = [probe.parameters[name].shape[0] for name in names]
    samples = torch.stack(
        [
            _samples(operator, count, num_groups, num_samples, seed)
            for operator, count in zip(operators.values(), rows, strict=True)
        ]
    )
    estimates = [_ratio(own) for own in samples]
    total, error = _ratio(samples.sum(0))
    return BlockStructure(
        names=tuple(names),
        rows=tuple(rows),
        shares=tuple(share for share, _ in estimates),
        standard_errors=tuple(error for _, error in estimates),
        masses=tuple(samples[:, :, 1].mean(1).tolist()),
        total=Estimate(total, error, sum(operator.num_matvecs for operator in operators.values())),
    )


def row_block_share(
    operator: LinearOperator, rows: int, *, num_groups: int = 4, num_samples: int = 4, seed: int = 0
) -> Estimate:
    r"""Estimate the share of the diagonal blocks in the squared Frobenius norm of an operator.

    The rows are split at random into G groups of almost equal size, and the vector of random signs z into its parts
    :math:`z_g`, zero outside of group g. With :math:`y_g = H z_g` and p the probability that two rows share a group:

    .. math:: \operatorname{E} \sum_g \|y_g\|^2 = \|H\|_F^2 = M, \qquad
        \operatorname{E} \sum_g \|(y_g)_{\text{group } g}\|^2 = D + p \, (M - D)

    where D is the squared norm of the diagonal blocks. Both are unbiased over signs and splits, and solved for D. For
    as many groups as rows p is zero. The value is the ratio of the means of D and M over the samples; its bias is
    smaller than its standard error by about the root of their number.

    Args:
        operator: symmetric n × n operator on a matrix, flattened row by row.
        rows: number of rows, a divisor of n and at least 2.
        num_groups: G, at least 2; no more than rows are used.
        num_samples: independent signs and splits, at least 2, each for G products.
        seed: of the private generator.

    Raises:
        ValueError: an argument is out of its range.
    """
    value, error = _ratio(_samples(operator, rows, num_groups, num_samples, seed))
    return Estimate(value, error, min(num_groups, rows) * num_samples)


def _samples(operator: LinearOperator, rows: int, num_groups: int, num_samples: int, seed: int) -> Tensor:
    """Return an estimate of D and M in each sample, shape (num_samples, 2), float64."""
    size = require_symmetric_shape(operator)
    if rows < 2 or size % rows:
        raise ValueError(f"`rows` must be at least 2 and divide the size of the operator, {size}, got {rows}")
    if num_groups < 2:
        raise ValueError(f"`num_groups` must be at least 2, got {num_groups}")
    if num_samples < 2:
        raise ValueError(f"`num_samples` must be at least 2, for a standard error, got {num_samples}")
    num_groups = min(num_groups, rows)
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.bincount(torch.arange(rows) % num_groups).double()
    coincidence = float((sizes * (sizes - 1)).sum()) / (rows * (rows - 1))
    samples = []
    with held(operator):
        for _ in range(num_samples):
            signs = rademacher(operator, (size,), generator).view(rows, -1)
            groups = torch.randperm(rows, generator=generator).to(operator.device) % num_groups
            within = mass = 0.0
            for group in range(num_groups):
                member = groups == group
                image = operator @ (signs * member[:, None]).reshape(-1)
                squares = image.view(rows, -1).square().sum(1, dtype=torch.float64)
                within += float(squares[member].sum())
                mass += float(squares.sum())
            samples.append(((within - coincidence * mass) / (1 - coincidence), mass))
    return torch.tensor(samples, dtype=torch.float64)


def _ratio(samples: Tensor) -> tuple[float, float]:
    """Return the ratio of the means of two columns, and its standard error to first order."""
    mean = samples.mean(0)
    if mean[1] == 0:
        return math.nan, math.nan
    ratio = float(mean[0] / mean[1])
    deviations = samples[:, 0] - ratio * samples[:, 1]
    count = len(samples)
    return ratio, math.sqrt(float(deviations.square().sum()) / (count * (count - 1))) / float(mean[1])


def _literally(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
