"""The callbacks in trainings that know nothing of them."""

import pytest
import pytorch_lightning
import torch
from pytorch_lightning.demos.boring_classes import BoringModel, ManualOptimBoringModel

from lightning_regimes.callbacks import HessianSpectrum, RegimeDetection
from lightning_regimes.recording import read_records


class ManualWithDiagnosticLoss(ManualOptimBoringModel):
    def diagnostic_loss(self, batch):
        return self.step(batch)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("make_model", [BoringModel, ManualWithDiagnosticLoss])
def test_a_pytorch_lightning_trainer_takes_the_callbacks_as_they_are(tmp_path, make_model):
    torch.manual_seed(0)
    trainer = pytorch_lightning.Trainer(
        default_root_dir=tmp_path,
        max_steps=8,
        limit_val_batches=2,
        logger=pytorch_lightning.loggers.CSVLogger(tmp_path),
        enable_progress_bar=False,
        callbacks=[HessianSpectrum(2, every_n_steps=4), RegimeDetection(every_n_steps=4)],
    )
    model = make_model()
    trainer.fit(model)
    records = read_records(trainer.log_dir)
    assert [record.global_step for record in records if record.diagnostic == "hessian"] == [4, 8]
    spectrum = [record for record in records if record.diagnostic == "hessian"][-1]
    # The loss is a mean of squares of an affine map: its Hessian is the second moment of (x, 1), once per output.
    batch = torch.cat(_captured(trainer))
    augmented = torch.cat([batch, torch.ones(len(batch), 1)], dim=1).double()
    second_moment = augmented.T @ augmented / len(batch)
    expected = torch.linalg.eigvalsh(second_moment)[-1].item()
    assert spectrum.scalars["hessian/lambda_1"] == pytest.approx(expected, rel=1e-4)
    rows = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text()
    assert "hessian/lambda_1" in rows.splitlines()[0]
    state = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)
    assert {key for key in state["callbacks"] if "Hessian" in key or "Regime" in key}


def _captured(trainer):
    callback = next(callback for callback in trainer.callbacks if isinstance(callback, HessianSpectrum))
    return callback.batches.kept
