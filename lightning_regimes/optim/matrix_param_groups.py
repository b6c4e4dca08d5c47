"""Which parameters of a module a matrix optimizer treats as matrices, and which it leaves to AdamW."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_regimes.optim.parameter_tags import Algorithm, tag

EXCLUDED_NAMES = ("embed", "wte", "wpe", "lm_head")
"""Parts of names of embeddings and output heads."""

NO_DECAY = ("bias", "norm")
"""Parts of names that are not decayed in the AdamW part."""

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)


@dataclass(frozen=True)
class RoutedParameter:
    """One parameter and where it goes.

    Attributes:
        name: its first name in the module.
        parameter: the parameter.
        algorithm: ``"matrix"`` or ``"adamw"``.
        reason: why.
        is_decayed: whether weight decay applies.
    """

    name: str
    parameter: nn.Parameter
    algorithm: Algorithm
    reason: str
    is_decayed: bool


@dataclass(frozen=True)
class ParameterRouting:
    """Every parameter of a module that requires a gradient, once, and where it goes. Printed, it is a table.

    Attributes:
        entries: in the order of the module.
    """

    entries: tuple[RoutedParameter, ...]

    def named(self, algorithm: Algorithm, *, is_decayed: bool | None = None) -> list[tuple[str, nn.Parameter]]:
        """Return names and parameters of one algorithm, if asked only those that are decayed or not."""
        return [
            (entry.name, entry.parameter)
            for entry in self.entries
            if entry.algorithm == algorithm and is_decayed in (None, entry.is_decayed)
        ]

    def num_entries(self, algorithm: Algorithm) -> int:
        """Return how many numbers the parameters of one algorithm have together."""
        return sum(parameter.numel() for _, parameter in self.named(algorithm))

    def table(self) -> Table:
        """Return the table for a rich console."""
        sizes = {algorithm: self.num_entries(algorithm) for algorithm in get_args(Algorithm)}
        total = sum(sizes.values())
        caption = ", ".join(f"{name} {size:,} ({size / total:.1%})" for name, size in sizes.items())
        table = Table("parameter", "shape", "algorithm", "decayed", "reason", caption=caption)
        for entry in self.entries:
            shape = " × ".join(map(str, entry.parameter.shape))
            table.add_row(entry.name, shape, entry.algorithm, "yes" if entry.is_decayed else "no", entry.reason)
        return table

    def __str__(self) -> str:
        console = Console(width=120, no_color=True)
        with console.capture() as capture:
            console.print(self.table())
        return capture.get()


def route_parameters(
    module: nn.Module,
    *,
    exclude: Sequence[str] = EXCLUDED_NAMES,
    include_embeddings: bool = False,
    no_decay: Sequence[str] = NO_DECAY,
) -> ParameterRouting:
    """Decide for every parameter that requires a gradient whether it is treated as a matrix.

    Left to AdamW are, in this order, what has fewer than two dimensions or is complex, what belongs to a normalization,
    what belongs to an embedding or is tied to one, and what has a name with one of ``exclude`` in it. A parameter with
    several names counts once.

    Args:
        module: the module.
        exclude: parts of names, upper and lower case the same.
        include_embeddings: whether embeddings, and what ``exclude`` names, are matrices as well.
        no_decay: parts of names of what is not decayed in the AdamW part, matched from the start of a word on. What has
            fewer than two dimensions or belongs to a normalization is not decayed either.

    Raises:
        ValueError: nothing requires a gradient, a parameter has no shape yet, or the module is sharded by FSDP1.

    Example:
        >>> from torch import nn
        >>> routing = route_parameters(nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4), nn.LayerNorm(4)))
        >>> {entry.name: entry.algorithm for entry in routing.entries}
        {'0.weight': 'adamw', '1.weight': 'matrix', '1.bias': 'adamw', '2.weight': 'adamw', '2.bias': 'adamw'}
    """
    refuse_flat_parameters(module)
    entries = []
    for names, owners, parameter in _named_owners(module):
        if is_lazy(parameter):
            raise ValueError(f"parameter {names[0]!r} has no shape yet: run a batch through the module first")
        reason = _reason(names, owners, parameter, () if include_embeddings else exclude, include_embeddings)
        is_kept = parameter.ndim < 2 or any(isinstance(owner, _NORMS) for owner in owners)
        is_decayed = not reason or not (is_kept or any(_word_starts(name, no_decay) for name in names))
        algorithm: Algorithm = "adamw" if reason else "matrix"
        entries.append(RoutedParameter(names[0], parameter, algorithm, reason or _shape(parameter), is_decayed))
    if not entries:
        raise ValueError(
            f"{type(module).__name__} has no parameter that requires a gradient, so there is nothing to optimize"
        )
    return ParameterRouting(tuple(entries))


def matrix_param_groups(
    module: nn.Module,
    *,
    lr: float | Tensor,
    adamw_lr: float | Tensor | None = None,
    weight_decay: float | None = None,
    adamw_weight_decay: float | None = None,
    exclude: Sequence[str] = EXCLUDED_NAMES,
    include_embeddings: bool = False,
    no_decay: Sequence[str] = NO_DECAY,
) -> list[dict[str, Any]]:
    """Return the groups of a matrix optimizer: matrices, what AdamW decays, and what it does not decay.

    Every parameter that requires a gradient is in one group, with its name. :func:`route_parameters` has the rules, and
    tells who goes where: ``print(route_parameters(module))``.

    Args:
        module: the module.
        lr: learning rate of matrices.
        adamw_lr: learning rate of all else; by default ``lr``.
        weight_decay: of matrices; by default that of the optimizer.
        adamw_weight_decay: of all else; by default that of the optimizer.
        exclude: see :func:`route_parameters`.
        include_embeddings: see :func:`route_parameters`.
        no_decay: see :func:`route_parameters`.

    Raises:
        ValueError: as :func:`route_parameters`.
    """
    routing = route_parameters(module, exclude=exclude, include_embeddings=include_embeddings, no_decay=no_decay)
    adamw = {"algorithm": "adamw", "lr": lr if adamw_lr is None else adamw_lr}
    groups: list[dict[str, Any]] = [
        {"algorithm": "matrix", "lr": lr, "params": routing.named("matrix")} | _given(weight_decay=weight_decay),
        adamw | {"params": routing.named("adamw", is_decayed=True)} | _given(weight_decay=adamw_weight_decay),
        adamw | {"params": routing.named("adamw", is_decayed=False), "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def tag_parameters(
    module: nn.Module, *, exclude: Sequence[str] = EXCLUDED_NAMES, include_embeddings: bool = False
) -> ParameterRouting:
    """Mark the parameters of a module, so that a matrix optimizer that gets nothing but them knows which are matrices.

    ``LightningCLI --optimizer lightning_regimes.optim.RMNP`` hands an optimizer ``module.parameters()``; call this at
    the end of the module's ``__init__``. A copy of a parameter, and one that FSDP2 has sharded, has no mark: tag after
    that.

    Args:
        module: the module.
        exclude: see :func:`route_parameters`.
        include_embeddings: see :func:`route_parameters`.

    Returns:
        Who goes where. Weight decay then is that of the optimizer for all.

    Raises:
        ValueError: as :func:`route_parameters`.
    """
    routing = route_parameters(module, exclude=exclude, include_embeddings=include_embeddings, no_decay=())
    for entry in routing.entries:
        tag(entry.parameter, entry.algorithm)
    return routing


def refuse_flat_parameters(module: nn.Module) -> None:
    """Raise ValueError if FSDP1 has flattened the parameters of a module: no matrices are left then."""
    if not torch.distributed.is_available():
        return
    from torch.distributed.fsdp import FullyShardedDataParallel

    if any(isinstance(submodule, FullyShardedDataParallel) for submodule in module.modules()):
        raise ValueError(
            f"{type(module).__name__} is sharded by FSDP1, which leaves no matrix: shard with `fully_shard` (FSDP2)"
        )


def _named_owners(module: nn.Module) -> Iterator[tuple[list[str], list[nn.Module], nn.Parameter]]:
    found: dict[int, tuple[list[str], list[nn.Module], nn.Parameter]] = {}
    for prefix, owner in module.named_modules(remove_duplicate=False):
        for name, parameter in owner.named_parameters(recurse=False, remove_duplicate=False):
            if parameter.requires_grad:
                names, owners, _ = found.setdefault(id(parameter), ([], [], parameter))
                names.append(f"{prefix}.{name}" if prefix else name)
                owners.append(owner)
    yield from found.values()


def _reason(
    names: list[str],
    owners: list[nn.Module],
    parameter: nn.Parameter,
    exclude: Sequence[str],
    include_embeddings: bool,
) -> str:
    """Return why a parameter is no matrix, nothing if it is one."""
    if parameter.ndim < 2:
        return "fewer than two dimensions"
    if parameter.is_complex():
        return "complex"
    if any(isinstance(owner, _NORMS) for owner in owners):
        return "normalization"
    if not include_embeddings and any(isinstance(owner, _EMBEDDINGS) for owner in owners):
        return "embedding" if all(isinstance(owner, _EMBEDDINGS) for owner in owners) else "tied to an embedding"
    for part in exclude:
        if any(part.lower() in name.lower() for name in names):
            return f"name has {part!r}"
    return ""


def _shape(parameter: nn.Parameter) -> str:
    return f"{parameter.shape[0]} × {parameter.shape[1:].numel()} matrix"


def _word_starts(name: str, parts: Sequence[str]) -> bool:
    return any(re.search(rf"(^|[^a-z]){re.escape(part.lower())}", name.lower()) for part in parts)


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}
