"""The weight matrices of a training and what its optimizers remember of their gradients."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

# Running means of the gradient, by the names that optimizers keep them under.
_MOMENTA = ("momentum_buffer", "exp_avg")


def weight_matrices(
    leaves: Mapping[str, Tensor], patterns: str | Sequence[str] | None, *, smallest: int, complex_leaves: Iterable[str]
) -> list[str]:
    """Return the names of the real parameters that are matrices, (out, everything else), large enough on both sides.

    Args:
        leaves: parameters by name.
        patterns: glob patterns on the names; None for all.
        smallest: number of rows and of columns that a matrix has at least.
        complex_leaves: names that are left out.
    """
    patterns = [patterns] if isinstance(patterns, str) else patterns
    left_out = set(complex_leaves)
    return [
        name
        for name, leaf in leaves.items()
        if leaf.ndim >= 2
        and min(leaf.shape[0], leaf.shape[1:].numel()) >= smallest
        and name not in left_out
        and (patterns is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
    ]


def momenta_of(optimizers: Iterable[Any], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the running means of gradients that optimizers keep, by the name of the parameter.

    Args:
        optimizers: of the training; they are only read, and what is returned must not be written to.
        parameters: those of the module, which optimizers know by identity.
    """
    found: dict[str, Tensor] = {}
    for optimizer in optimizers:
        states = getattr(optimizer, "state", {})
        for name, parameter in parameters.items():
            # A lookup in a default dictionary would add an entry.
            state = states.get(parameter) if isinstance(states, Mapping) else None
            if not isinstance(state, Mapping):
                continue
            momentum = next((state[key] for key in _MOMENTA if isinstance(state.get(key), Tensor)), None)
            if momentum is not None and momentum.shape == parameter.shape:
                found[name] = momentum.detach()
    return found


def decomposition_cost(matrix: Tensor) -> int:
    """Return what decomposing a matrix costs beside others, the product of its sides and the smaller one."""
    rows, columns = matrix.shape[0], matrix.shape[1:].numel()
    return rows * columns * min(rows, columns)
