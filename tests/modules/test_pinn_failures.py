"""The published failures and the success of physics-informed training, and the regime each is in."""

from collections.abc import Iterator

import lightning as L
import pytest
import torch

from lightning_regimes.datamodules import Collocation
from lightning_regimes.modules import PINN, Curriculum
from lightning_regimes.optim import AdamFactory, LBFGSFactory, OptimizerFactory
from lightning_regimes.pde import Convection, Problem, Reaction
from lightning_regimes.regimes import Regime, classify

REPRODUCTION = pytest.mark.reproduction


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    # Long L-BFGS runs amplify rounding, which follows the number of threads that sums are split over.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(
    problem: Problem,
    optimizer: OptimizerFactory,
    *,
    steps: int,
    num_interior: int,
    curriculum: Curriculum | None = None,
) -> tuple[PINN, Collocation]:
    L.seed_everything(0, verbose=False)
    module = PINN(problem, optimizer=optimizer, curriculum=curriculum)
    datamodule = Collocation(num_interior=num_interior)
    trainer = L.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule)
    return module, datamodule


def regime(module: PINN, datamodule: Collocation, *, with_reference: bool) -> Regime:
    batch = datamodule.training_batch()
    return classify(
        module.diagnostic_loss(batch).item(),
        reference_loss=module.trivial_loss(batch).item(),
        error=module.reference_error().item() if with_reference else None,
        heldout_loss=module.heldout_loss().item(),
    ).label


@pytest.mark.parametrize(
    ("problem", "optimizer", "steps", "num_interior", "expected", "errors"),
    [
        pytest.param(
            Convection(beta=1.0),
            AdamFactory(),
            3000,
            1000,
            Regime.WELL_TRAINED,
            (0, 0.01),
            id="slow-convection",
            marks=REPRODUCTION,
        ),
        pytest.param(
            Convection(beta=5.0),
            LBFGSFactory(),
            50,
            1000,
            Regime.WELL_TRAINED,
            (0, 0.005),
            id="medium-convection",
            marks=REPRODUCTION,
        ),
        pytest.param(
            Convection(beta=50.0),
            AdamFactory(),
            3000,
            1000,
            Regime.UNDER_TRAINED,
            (0.8, 1.5),
            id="fast-convection",
            marks=REPRODUCTION,
        ),
        pytest.param(
            Convection(beta=30.0),
            LBFGSFactory(),
            100,
            100,
            Regime.OVER_TRAINED,
            (0.8, 2.5),
            id="few-points",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            Reaction(rho=5.0),
            LBFGSFactory(),
            30,
            1000,
            Regime.UNDER_TRAINED,
            (0.9, 1.1),
            id="fast-reaction",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_regimes(
    problem: Problem,
    optimizer: OptimizerFactory,
    steps: int,
    num_interior: int,
    expected: Regime,
    errors: tuple[float, float],
) -> None:
    module, datamodule = trained(problem, optimizer, steps=steps, num_interior=num_interior)
    assert errors[0] <= module.reference_error().item() <= errors[1]
    assert regime(module, datamodule, with_reference=True) is expected
    assert regime(module, datamodule, with_reference=False) is expected


@REPRODUCTION
def test_curriculum_solves_what_plain_training_does_not() -> None:
    curriculum = Curriculum(num_stages=30, steps_per_stage=8)
    module, datamodule = trained(
        Convection(beta=30.0), LBFGSFactory(), steps=300, num_interior=1000, curriculum=curriculum
    )
    assert module.reference_error().item() < 0.05
    assert regime(module, datamodule, with_reference=True) is Regime.WELL_TRAINED
