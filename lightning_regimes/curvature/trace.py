"""The trace of a symmetric operator from its products with random vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_regimes.curvature.krylov import Eigenpairs
from lightning_regimes.curvature.linear_operator import LinearOperator, held, require_symmetric_shape

Method = Literal["deflated", "hutchinson", "hutch++"]


@dataclass(frozen=True)
class Estimate:
    """A random estimate.

    Attributes:
        value: unbiased estimate.
        standard_error: estimated standard deviation of ``value``.
        num_matvecs: products with the operator that were spent.
    """

    value: float
    standard_error: float
    num_matvecs: int


def trace(
    operator: LinearOperator,
    *,
    method: Method | None = None,
    num_samples: int = 15,
    eigenpairs: Eigenpairs | None = None,
    seed: int = 0,
) -> Estimate:
    r"""Estimate the trace with Rademacher vectors :math:`z_i` outside a subspace that is treated exactly.

    With orthonormal columns V and :math:`P = I - V V^T`:

    .. math:: \operatorname{tr} H = \operatorname{tr} V^T H V + \operatorname{E}[(P z)^T H (P z)]

    - ``"hutchinson"``: V is empty.
    - ``"deflated"``: V holds known eigenvectors, whose values make up the first term at no cost. The best at small
      budgets, where a few large eigenvalues dominate the variance.
    - ``"hutch++"``: V is an orthonormal basis of H applied to a third of the samples as random vectors.

    All three are unbiased for any V, converged eigenvectors or not.

    Args:
        operator: symmetric n × n operator.
        method: default ``"deflated"`` with ``eigenpairs``, ``"hutch++"`` without.
        num_samples: products to spend, at least 2; at least 6 for ``"hutch++"``.
        eigenpairs: known pairs, for ``"deflated"``.
        seed: of the private generator of random vectors.

    Raises:
        ValueError: an argument is out of its range, or does not go with the method.

    References:
        R. Meyer, C. Musco, C. Musco, D. Woodruff, Hutch++: optimal stochastic trace estimation, arXiv:2010.09649,
        Algorithm 1.
    """
    size = require_symmetric_shape(operator)
    method = method or ("hutch++" if eigenpairs is None else "deflated")
    if method not in get_args(Method):
        raise ValueError(f"`method` is one of {', '.join(get_args(Method))}, got {method!r}")
    if (method == "deflated") != (eigenpairs is not None):
        raise ValueError(f"`eigenpairs` go with method 'deflated' and no other, got method {method!r}")
    smallest = 6 if method == "hutch++" else 2
    if num_samples < smallest:
        raise ValueError(f"`num_samples` must be at least {smallest} for method {method!r}, got {num_samples}")

    generator = torch.Generator().manual_seed(seed)
    basis: Tensor | None = None
    known, spent = 0.0, 0
    with held(operator):
        if eigenpairs is not None:
            basis = eigenpairs.vectors.to(operator.device, operator.dtype)
            known = float(eigenpairs.values.double().sum())
        elif method == "hutch++":
            sketch = _rademacher(operator, (size, min(num_samples // 3, size)), generator)
            basis = torch.linalg.qr(operator @ sketch).Q
            known = _inner(basis, operator @ basis)
            spent = 2 * basis.shape[1]
        samples = []
        for _ in range(num_samples - spent):
            vector = _rademacher(operator, (size,), generator)
            if basis is not None:
                vector = vector - basis @ (basis.T @ vector)
            samples.append(_inner(vector, operator @ vector))
    mean = math.fsum(samples) / len(samples)
    variance = math.fsum((sample - mean) ** 2 for sample in samples) / (len(samples) - 1)
    return Estimate(
        value=known + mean, standard_error=math.sqrt(variance / len(samples)), num_matvecs=spent + len(samples)
    )


def _rademacher(operator: LinearOperator, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, shape, generator=generator, dtype=torch.int8)
    return signs.to(operator.device, operator.dtype).mul_(2).sub_(1)


def _inner(left: Tensor, right: Tensor) -> float:
    return float((left * right).sum(dtype=torch.float64))
