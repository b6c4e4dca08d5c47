"""How many products with the Hessian the largest eigenvalues of the benchmark's networks take."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lightning_regimes.curvature import HessianOperator, eigsh
from lightning_regimes.probe import LossProbe


@pytest.fixture(scope="module")
def models() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "models.py"
    specification = importlib.util.spec_from_file_location("benchmark_models", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "most"), [("MLP", 18), ("CNN", 28), pytest.param("GPT", 36, marks=pytest.mark.slow)])
def test_products_for_five_eigenvalues(models: ModuleType, name: str, most: int) -> None:
    case = models.CASES[name]()
    operator = HessianOperator(LossProbe(case.module, case.batches, loss=models.loss))
    pairs = eigsh(operator, 5, tol=1e-3)
    assert pairs.converged
    assert pairs.num_matvecs == operator.num_matvecs
    assert pairs.num_matvecs <= most
