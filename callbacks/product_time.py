"""What one product with the Hessian costs, for diagnostics whose work is counted in products."""

from __future__ import annotations

import time

import torch

from lightning_regimes.curvature import HessianOperator
from lightning_regimes.probe import LossProbe


def seconds_of_product(probe: LossProbe) -> float:
    """Take two products, and the time of the second: the first meets cold caches and lazy initializations."""
    with HessianOperator(probe) as operator:
        vector = torch.ones(probe.num_parameters, dtype=probe.dtype, device=probe.device)
        operator @ vector
        start = time.perf_counter()
        operator @ vector
        return time.perf_counter() - start
