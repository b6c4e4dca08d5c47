"""Seventeen trained networks, over physical difficulty and number of points, and the regime each is known to be in."""

from collections.abc import Iterator
from dataclasses import dataclass

import lightning as L
import pytest
import torch

from lightning_regimes.datamodules import Collocation
from lightning_regimes.modules import PINN
from lightning_regimes.networks import MLP
from lightning_regimes.optim import LBFGSFactory
from lightning_regimes.pde import Convection
from lightning_regimes.regimes import Regime, RegimeReport, RegimeThresholds, classify

pytestmark = pytest.mark.slow

WELL, UNDER, OVER = Regime.WELL_TRAINED, Regime.UNDER_TRAINED, Regime.OVER_TRAINED

# Speed and number of points to regime, judged by the training loss and the error against the solution.
LABELS = {
    (1, 50): WELL,
    (1, 200): WELL,
    (1, 1000): WELL,
    (5, 50): OVER,
    (5, 1000): WELL,
    (10, 50): OVER,
    (10, 200): OVER,
    (10, 1000): WELL,
    (20, 50): OVER,
    (20, 200): UNDER,
    (20, 1000): UNDER,
    (30, 50): OVER,
    (30, 200): UNDER,
    (30, 1000): UNDER,
    (50, 50): UNDER,
    (50, 200): UNDER,
    (50, 1000): UNDER,
}


@dataclass(frozen=True)
class Cell:
    """The numbers that a trained network is judged by."""

    loss: float
    reference_loss: float
    heldout_loss: float
    error: float

    def report(self, *, with_reference: bool = True, thresholds: RegimeThresholds | None = None) -> RegimeReport:
        return classify(
            self.loss,
            reference_loss=self.reference_loss,
            heldout_loss=self.heldout_loss,
            error=self.error if with_reference else None,
            thresholds=thresholds,
        )


def trained_cell(beta: int, num_interior: int) -> Cell:
    L.seed_everything(0, verbose=False)
    network = MLP(2, 1, hidden_sizes=(32, 32, 32))
    module = PINN(Convection(beta=float(beta)), network, optimizer=LBFGSFactory(max_iter=20))
    datamodule = Collocation(num_interior=num_interior)
    trainer = L.Trainer(
        max_steps=30,
        # Runs of 600 iterations amplify rounding until single cells change their regime; in float32 more of them do.
        precision="64-true",
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule)
    batch = {name: points.double() for name, points in datamodule.training_batch().items()}
    return Cell(
        loss=module.diagnostic_loss(batch).item(),
        reference_loss=module.trivial_loss(batch).item(),
        heldout_loss=module.heldout_loss().item(),
        error=module.reference_error().item(),
    )


@pytest.fixture(scope="module")
def cells() -> Iterator[dict[tuple[int, int], Cell]]:
    # Rounding follows the number of threads that sums are split over.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {key: trained_cell(*key) for key in LABELS}
    torch.set_num_threads(threads)


def test_labels_are_those_of_the_table(cells: dict[tuple[int, int], Cell]) -> None:
    found = {key: cell.report().label for key, cell in cells.items()}
    assert sum(found[key] is LABELS[key] for key in LABELS) >= 16, found


def test_label_needs_no_reference(cells: dict[tuple[int, int], Cell]) -> None:
    agreeing = [cell.report().label is cell.report(with_reference=False).label for cell in cells.values()]
    assert sum(agreeing) >= 16


def test_label_hardly_depends_on_the_thresholds(cells: dict[tuple[int, int], Cell]) -> None:
    default = RegimeThresholds()
    moved = [
        RegimeThresholds(fit=default.fit * fit, error=default.error * error)
        for fit in (0.8, 1.2)
        for error in (0.8, 1.2)
    ]
    changed = [
        key
        for key, cell in cells.items()
        if any(cell.report(thresholds=thresholds).label is not cell.report().label for thresholds in moved)
    ]
    assert len(changed) <= 1, changed
    assert sum(cell.report().agreement < 1 for cell in cells.values()) <= 1


def test_difficulty_raises_the_loss_and_scarcity_the_error(cells: dict[tuple[int, int], Cell]) -> None:
    def fit(beta: int) -> float:
        return cells[beta, 1000].loss / cells[beta, 1000].reference_loss

    assert fit(1) < fit(10) < 0.025 < min(fit(20), fit(30), fit(50))
    # Not at β = 10, where rounding alone moves the error with 1000 points between 0.01 and 0.13.
    assert cells[5, 50].error > 10 * cells[5, 1000].error
    assert cells[5, 50].heldout_loss > 1000 * cells[5, 50].loss
