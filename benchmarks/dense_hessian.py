"""The whole Hessian of a small network, by double backward in float64: a truth that no package under test computes."""

from __future__ import annotations

import copy

import models
import torch
from models import Case
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def dense_hessian(case: Case) -> Tensor:
    """Return the Hessian of the mean loss over all samples, shape (n, n), float64 and symmetric."""
    module = copy.deepcopy(case.module).double()
    parameters = list(module.parameters())
    counts = [len(batch[0]) for batch in case.batches]
    total = torch.zeros(case.num_parameters, case.num_parameters, dtype=torch.float64)
    for (inputs, targets), count in zip(case.batches, counts, strict=True):
        batch = (inputs.double() if inputs.is_floating_point() else inputs, targets)
        with sdpa_kernel(SDPBackend.MATH):
            gradients = torch.autograd.grad(models.loss(module, batch), parameters, create_graph=True)
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            for row, entry in zip(total, flat, strict=True):
                parts = torch.autograd.grad(entry, parameters, retain_graph=True)
                row.add_(torch.cat([part.flatten() for part in parts]), alpha=count / sum(counts))
    return (total + total.T) / 2
