"""The Hessian of a case as the operators of other packages, each with a count of its products."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import models
from models import Case
from torch import Tensor, nn


@dataclass
class Counted:
    """An operator of another package, and how many products with a vector it has made."""

    operator: Any
    num_matvecs: int = 0


def curvlinops_hessian(case: Case) -> Counted:
    """Return the operator of curvlinops; a product with a matrix counts once a column."""
    from curvlinops import HessianLinearOperator

    class CrossEntropy(nn.CrossEntropyLoss):
        def forward(self, output: Tensor, target: Tensor) -> Tensor:
            return models.cross_entropy(output, target)

    counted = Counted(None)

    class Operator(HessianLinearOperator):
        def _matmat(self, columns: list[Tensor]) -> list[Tensor]:
            counted.num_matvecs += columns[0].shape[-1]
            return super()._matmat(columns)

    counted.operator = Operator(
        case.module, CrossEntropy(), list(case.module.parameters()), case.batches, check_deterministic=False
    )
    return counted


def eigenthings_hessian(case: Case) -> Counted:
    """Return the operator of hessian-eigenthings."""
    from hessian_eigenthings import HessianOperator

    counted = Counted(None)

    class Operator(HessianOperator):
        def matvec(self, v: Tensor) -> Tensor:
            counted.num_matvecs += 1
            return super().matvec(v)

    counted.operator = Operator(case.module, case.batches, models.loss)
    return counted


@contextlib.contextmanager
def pyhessian_hessian(case: Case) -> Iterator[Counted]:
    """Give the solver of PyHessian on the first batch, and leave the package and the module as they were."""
    implementation: Any = importlib.import_module("pyhessian.hessian")  # the package hides it behind a class
    product: Callable[..., Any] = implementation.hessian_vector_product
    counted = Counted(implementation.hessian(case.module, models.cross_entropy, data=case.batches[0], cuda=False))

    def call(*arguments: Any) -> Any:
        counted.num_matvecs += 1
        return product(*arguments)

    implementation.hessian_vector_product = call
    try:
        yield counted
    finally:
        implementation.hessian_vector_product = product
        case.module.zero_grad()
