"""What all problems share: coefficients, equality, refusals."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import lightning as L
import pytest
import torch

from lightning_regimes.callbacks import RegimeDetection
from lightning_regimes.datamodules import Collocation
from lightning_regimes.modules import PINN
from lightning_regimes.networks import MLP
from lightning_regimes.optim import LBFGSFactory
from lightning_regimes.pde import (
    AllenCahn,
    Burgers,
    Condition,
    Convection,
    Domain,
    Field,
    Helmholtz,
    Poisson,
    Problem,
    Reaction,
    ReactionDiffusion,
    Value,
    Wave,
    gradient,
    sobol_sampler,
    uniform_sampler,
)
from lightning_regimes.pde.derivatives import differentiable
from lightning_regimes.recording import read_records

ALL = [Convection(), Reaction(), Wave(), ReactionDiffusion(), Burgers(), Helmholtz(), Poisson(), AllenCahn()]


@pytest.mark.parametrize("problem", ALL, ids=repr)
def test_coefficient_can_be_changed(problem: Convection) -> None:
    changed = problem.with_coefficient(0.5)
    assert changed.coefficient_value == 0.5
    assert type(changed) is type(problem)
    assert changed.with_coefficient(problem.coefficient_value) == problem


@pytest.mark.parametrize("problem", ALL, ids=repr)
def test_shapes_agree(problem: Convection) -> None:
    points = problem.evaluation_points()[:7]
    assert points.shape == (7, len(problem.coordinates))
    assert problem.solution(points).shape == (7, problem.num_fields)
    linear = torch.nn.Linear(2, 1).double()
    assert problem.residual(linear, points).shape == (7, problem.num_fields)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Wave(beta=0), "whole number"),
        (lambda: Burgers(nu=0.0), "nu"),
        (lambda: AllenCahn(nu=-1.0), "nu"),
        (lambda: ReactionDiffusion(nu=-1.0), "ill-posed"),
        (lambda: Reaction(width=0.0), "width"),
    ],
)
def test_impossible_coefficients_raise(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


class Equation(Problem):
    """As little as an equation of one's own needs."""

    @property
    def domain(self) -> Domain:
        return ((0.0, 1.0), (0.0, 1.0))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return (Value("boundary", self.domain, axis=0, ends=(0, 1)),)

    def residual(self, field: Field, points: torch.Tensor) -> torch.Tensor:
        return field(points) - 1


@dataclasses.dataclass(frozen=True)
class Decay(Problem):
    """u' = -rate u with u(0) = 1, whose conditions hold at single points."""

    rate: float = 2.0
    coordinates: ClassVar[tuple[str, ...]] = ("t",)
    collocation_grid: ClassVar[tuple[int, ...]] = (65,)
    evaluation_grid: ClassVar[tuple[int, ...]] = (33,)

    @property
    def domain(self) -> Domain:
        return ((0.0, 1.0),)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return (Value("initial", self.domain, axis=0, target=torch.ones_like),)

    def residual(self, field: Field, points: torch.Tensor) -> torch.Tensor:
        points = differentiable(points)
        values = field(points)
        return gradient(values, points) + self.rate * values

    def solution(self, points: torch.Tensor) -> torch.Tensor:
        return torch.exp(-self.rate * points)


def test_an_equation_on_an_interval_trains_and_its_error_is_estimated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    problem = Decay()
    both = Value("both", problem.domain, axis=0, ends=(0, 1))
    for sampler in (sobol_sampler(0), uniform_sampler(torch.Generator().manual_seed(0))):
        assert both.sample(5, sampler).tolist() == [[0.0], [1.0]]
    assert both.grid((9,)).tolist() == [[0.0], [1.0]]
    module = PINN(problem, MLP(1, 1, hidden_sizes=(8, 8)), optimizer=LBFGSFactory())
    detection = RegimeDetection(estimate_error=True, on_error="raise")
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        max_steps=40,
        callbacks=[detection],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Collocation(problem, num_interior=32))
    (record,) = read_records(tmp_path / "regime_runs" / "run_0")
    assert record.text["regime/label"] == "WELL_TRAINED"
    at = problem.evaluation_points()
    error = (module(at.float()).double() - problem.solution(at)).norm() / problem.solution(at).norm()
    assert record.scalars["regime/test_error"] == pytest.approx(error.item(), rel=1e-3)
    assert record.scalars["regime/estimated_error"] == pytest.approx(error.item(), rel=0.05)


def test_what_an_equation_lacks_is_said_where_it_is_needed() -> None:
    problem = Equation()
    assert problem.solution(problem.evaluation_points()) is None
    with pytest.raises(ValueError, match="Equation names no `coefficient`"):
        problem.with_coefficient(2.0)
    with pytest.raises(ValueError, match="Equation has no ansatz"):
        problem.ansatz(torch.nn.Linear(2, 1))
    with pytest.raises(ValueError, match="Equation has none"):
        PINN(problem, constraints="hard")
