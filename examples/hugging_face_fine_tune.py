"""A Hugging Face model in somebody's LightningModule, watched by two callbacks. It needs transformers, and no network.

    python examples/hugging_face_fine_tune.py [--checkpoint NAME]

A small BERT with random weights learns to tell Python's source code from Python's documentation, byte by byte; with
``--checkpoint`` the weights and the sizes are those of a model on disk or on the Hub whose tokenizer reads bytes. About
a minute on one core.
"""

from __future__ import annotations

import argparse
import pydoc_data.topics
import sysconfig
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset, random_split
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from lightning_regimes.callbacks import HessianSpectrum, RegimeDetection

LENGTH = 64


class TextClassifier(L.LightningModule):
    """The loss is the one that the model returns."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def _step(self, batch: tuple[Tensor, Tensor], name: str) -> Tensor:
        text, labels = batch
        output = self.model(input_ids=text, labels=labels)
        error = (output.logits.argmax(-1) != labels).float().mean()
        self.log_dict({f"{name}_loss": output.loss, f"{name}_error": error}, prog_bar=True)
        loss: Tensor = output.loss
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(batch, "val")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def passages(text: str, count: int) -> Tensor:
    """Return pieces of a text, evenly spread, as bytes."""
    data = torch.tensor(list(text.encode()))
    starts = torch.linspace(0, len(data) - LENGTH, count).long()
    return torch.stack([data[start : start + LENGTH] for start in starts])


def corpus(count: int = 2000) -> TensorDataset:
    """Return passages of source code (0) and of documentation (1)."""
    library = Path(sysconfig.get_paths()["stdlib"])
    code = "".join(path.read_text(errors="ignore") for path in sorted(library.glob("*.py"))[:60])
    documentation = "".join(pydoc_data.topics.topics.values())
    return TensorDataset(
        torch.cat([passages(code, count), passages(documentation, count)]),
        torch.arange(2).repeat_interleave(count),
    )


def main() -> None:
    """Train, and print what the callbacks found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="a model on disk or on the Hub")
    parser.add_argument("--max_epochs", type=int, default=3)
    arguments = parser.parse_args()
    L.seed_everything(0)
    model: Any
    if arguments.checkpoint is None:
        sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
        model = BertForSequenceClassification(BertConfig(vocab_size=256, max_position_embeddings=LENGTH, **sizes))
    else:
        model = AutoModelForSequenceClassification.from_pretrained(arguments.checkpoint, num_labels=2)
    train, val = random_split(corpus(), [3600, 400])
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=arguments.max_epochs,
        log_every_n_steps=10,
        callbacks=[HessianSpectrum(every_n_epochs=1), RegimeDetection(error_metric="val_error")],
    )
    trainer.fit(TextClassifier(model), DataLoader(train, batch_size=32, shuffle=True), DataLoader(val, batch_size=200))
    for key in ("regime/normalized_loss", "regime/test_error", "hessian/lambda_1", "hessian/sharpness_ratio"):
        print(f"{key:26} {trainer.callback_metrics[key]:.4g}")


if __name__ == "__main__":
    main()
