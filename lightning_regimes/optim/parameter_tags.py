"""Marks on parameters that tell an optimizer which of its two algorithms they are for."""

from __future__ import annotations

import warnings
from typing import Any, Literal, TypeAlias

from torch import Tensor

Algorithm: TypeAlias = Literal["matrix", "adamw"]
"""The part of a matrix optimizer that a parameter belongs to."""

_TAG = "matrix_optimizer_algorithm"


def tag(parameter: Tensor, algorithm: Algorithm) -> None:
    """Mark a parameter; the mark stays as long as the object does, also when the module moves to another device."""
    setattr(parameter, _TAG, algorithm)


def tagged_algorithm(parameter: Tensor) -> Algorithm | None:
    """Return the mark of a parameter, None if it has none."""
    return getattr(parameter, _TAG, None)


def split_by_algorithm(param_group: dict[str, Any], *, optimizer: str) -> list[dict[str, Any]]:
    """Return a parameter group as one or two, each with the key ``algorithm``.

    A group that has the key ``algorithm``, or ``use_muon`` as with others, stays whole. Any other is split by the marks
    of its parameters, and those without a mark by their number of dimensions, which is a guess and is warned of:
    an embedding has two as well.

    Args:
        param_group: with the key ``params``, an iterable of tensors or of pairs (name, tensor).
        optimizer: its name, for the warning.
    """
    group = dict(param_group)
    if "use_muon" in group:
        group.setdefault("algorithm", "matrix" if group.pop("use_muon") else "adamw")
    if "algorithm" in group:
        return [group]
    params = group["params"]
    members = [params] if isinstance(params, Tensor) else list(params)
    parts: dict[Algorithm, list[Any]] = {"matrix": [], "adamw": []}
    guessed = 0
    for member in members:
        parameter = member[1] if isinstance(member, tuple) else member
        algorithm = tagged_algorithm(parameter)
        if algorithm is None:
            is_matrix = parameter.ndim >= 2 and not parameter.is_complex()
            guessed += is_matrix
            algorithm = "matrix" if is_matrix else "adamw"
        parts[algorithm].append(member)
    if guessed:
        warnings.warn(
            f"{optimizer} takes {guessed} parameters for matrices by their number of dimensions alone, embeddings and "
            "output heads among them: call `lightning_regimes.optim.tag_parameters(module)` before the optimizer is "
            "built, or hand it `matrix_param_groups(module, lr=...)`.",
            # That of whoever builds the optimizer.
            stacklevel=6,
        )
    return [group | {"algorithm": algorithm, "params": chosen} for algorithm, chosen in parts.items() if chosen]
