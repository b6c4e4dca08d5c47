"""Optimizers of other libraries, by the path of their class."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_regimes.optim.factory import (
    OptimizerConfiguration,
    OptimizerFactory,
    scheduled,
    trainable_parameters,
)


@dataclass(frozen=True, kw_only=True)
class ImportedOptimizerFactory(OptimizerFactory):
    """An optimizer of torch or of another library, with what its class takes beside the parameters.

    Attributes:
        optimizer: where to import the class from, such as ``"pytorch_optimizer.SOAP"``.
        options: of the class, by name.
        lr_scheduler: class or function that builds a scheduler from the optimizer, stepped after each optimizer step.
    """

    optimizer: str
    options: Mapping[str, Any] = field(default_factory=dict)
    lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None

    def __call__(self, module: nn.Module) -> OptimizerConfiguration:
        """Return the optimizer, with its scheduler if there is one.

        Raises:
            ImportError: the library is not installed.
            ValueError: there is no such class, it is no optimizer, or it does not take these options.
        """
        kind = _imported(self.optimizer)
        parameters = trainable_parameters(module)
        try:
            made = kind(parameters, **self.options)
        except TypeError as error:
            raise ValueError(f"`options` are not those of {self.optimizer}: {error}") from error
        return scheduled(made, self.lr_scheduler)


def _imported(path: str) -> type[Optimizer]:
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise ValueError(f"`optimizer` is the path of a class, such as 'torch.optim.NAdam', got {path!r}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        library = module_name.partition(".")[0]
        raise ImportError(
            f"`optimizer` is {path}, and there is no module {error.name}: install the library that has it, such as by "
            f"`pip install {library.replace('_', '-')}`"
        ) from error
    kind = getattr(module, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Optimizer)):
        raise ValueError(f"`optimizer` is the path of a torch.optim.Optimizer, got {path}, which is {kind!r}")
    return kind
