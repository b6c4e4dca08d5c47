"""A LightningModule that knows nothing of lightning-regimes; the two marked lines are all that it takes."""

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from lightning_regimes.callbacks import HessianSpectrum, RegimeDetection  # one import ...


class DigitClassifier(L.LightningModule):
    """Somebody's own module."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10)
        )

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self.network(images)
        self.log("val_loss", F.cross_entropy(logits, labels), prog_bar=True)
        self.log("val_error", (logits.argmax(-1) != labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def main() -> None:
    """Train for a few seconds; the records go beside the logger's files."""
    L.seed_everything(0)
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 16.0, dtype=torch.float32), torch.tensor(labels))
    train, val = random_split(data, [1500, 297])
    trainer = L.Trainer(
        max_epochs=20,
        log_every_n_steps=10,
        callbacks=[HessianSpectrum(every_n_epochs=2), RegimeDetection(error_metric="val_error")],  # ... and one line
    )
    trainer.fit(DigitClassifier(), DataLoader(train, batch_size=64, shuffle=True), DataLoader(val, batch_size=297))
    for key in ("regime/normalized_loss", "regime/test_error", "hessian/lambda_1", "hessian/sharpness_ratio"):
        print(f"{key:26} {trainer.callback_metrics[key]:.4g}")


if __name__ == "__main__":
    main()
