"""Pre-training of a LLaMA language model as a LightningModule."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from lightning_regimes.modules.token_rate import TokenRate
from lightning_regimes.networks import Llama as Network
from lightning_regimes.networks import LlamaConfiguration, llama_preset
from lightning_regimes.optim import AdamFactory, OptimizerFactory, cosine_with_warmup


class Llama(L.LightningModule):
    r"""A LLaMA network trained to predict the next token, by cross-entropy in nats.

    A batch is token ids ``(B, T + 1)``: the loss is the mean over all T positions of all sequences, without padding.
    Logged are ``train/loss``, ``train/tokens_per_second`` (all processes together, over the last 50 batches),
    ``val/loss``, ``val/perplexity`` :math:`= e^{\text{loss}}`, and the same two for ``test``.

    The learning rate rises linearly and then falls along a cosine
    (:func:`~lightning_regimes.optim.cosine_with_warmup`) over the steps that the trainer is going to take.

    Args:
        configuration: sizes of the network, or the name of a preset: ``"20M"``, ``"60M"``, ``"135M"``, ``"350M"``,
            ``"1B"``.
        vocab_size: number of token ids, in place of the configuration's.
        tie_embeddings: whether the output head is the embedding's matrix, in place of the configuration's.
        activation_checkpointing: evaluate each block again in the backward pass, to save memory.
        warmup: the part of all steps in which the learning rate rises; None for no schedule but the optimizer's own.
        min_lr_ratio: the part of the learning rate that is left in the end.
        optimizer: by default AdamW with rate 1e-3 and weight decay 0.1.

    Raises:
        ValueError: the preset is unknown, the vocabulary isn't the datamodule's, or a number is out of range.

    References:
        H. Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023, arXiv:2302.13971.
    """

    model_family = "language_model"

    def __init__(
        self,
        configuration: LlamaConfiguration | str = "60M",
        *,
        vocab_size: int | None = None,
        tie_embeddings: bool | None = None,
        activation_checkpointing: bool = False,
        warmup: float | None = 0.1,
        min_lr_ratio: float = 0.1,
        optimizer: OptimizerFactory | None = None,
    ) -> None:
        super().__init__()
        if warmup is not None and not 0 <= warmup < 1:
            raise ValueError(f"`warmup` is in [0, 1) or None, got {warmup}")
        if not 0 <= min_lr_ratio <= 1:
            raise ValueError(f"`min_lr_ratio` is between 0 and 1, got {min_lr_ratio}")
        if isinstance(configuration, str):
            configuration = llama_preset(configuration)
        given = {"vocab_size": vocab_size, "tie_embeddings": tie_embeddings}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        self.configuration = dataclasses.replace(configuration, **changes)
        self.network = Network(self.configuration, activation_checkpointing=activation_checkpointing)
        self.warmup = warmup
        self.min_lr_ratio = min_lr_ratio
        self.optimizer_factory = optimizer or AdamFactory(lr=1e-3, weight_decay=0.1)
        # Sums of losses and numbers of targets; a metric's state would be rounded to the network's precision.
        self._evaluated: list[Tensor] = []
        self._token_rate = TokenRate()

    def setup(self, stage: str) -> None:
        """Hold the vocabulary against that of the data."""
        vocab_size = getattr(self._datamodule, "vocab_size", None)
        if vocab_size is not None and vocab_size != self.configuration.vocab_size:
            raise ValueError(
                f"`vocab_size` of the network is {self.configuration.vocab_size}, the data has {vocab_size} tokens: "
                f"set `vocab_size={vocab_size}`"
            )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the token after each position, (B, T, vocab_size)."""
        logits: Tensor = self.network(tokens)
        return logits

    def training_step(self, batch: Tensor, batch_idx: int = 0) -> Tensor:
        """Return and log the cross-entropy."""
        loss = self._loss(batch)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_train_start(self) -> None:
        """Start the clock."""
        self._token_rate = TokenRate()

    def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        """Log tokens per second."""
        rate = self._token_rate.add(self.trainer.world_size * _num_targets(batch))
        self.log("train/tokens_per_second", rate, prog_bar=True)

    def on_validation_end(self) -> None:
        """Leave the validation out of tokens per second."""
        self._token_rate.resume()

    def on_validation_epoch_start(self) -> None:
        """Start from no losses."""
        self._evaluated.clear()

    def validation_step(self, batch: Tensor, batch_idx: int = 0) -> None:
        """Add the loss of a batch."""
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Log loss and perplexity over the whole validation set."""
        self._log_perplexity("val")

    def on_test_epoch_start(self) -> None:
        """Start from no losses."""
        self._evaluated.clear()

    def test_step(self, batch: Tensor, batch_idx: int = 0) -> None:
        """Add the loss of a batch."""
        self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        """Log loss and perplexity over the whole test set."""
        self._log_perplexity("test")

    def predict_step(self, batch: Tensor, batch_idx: int = 0) -> Tensor:
        """Return the most likely token after each position, (B, T)."""
        return self(batch).argmax(dim=-1)

    def configure_optimizers(self) -> Any:
        """Return what the optimizer factory makes of this module, with the schedule where it brings none."""
        made = self.optimizer_factory(self)
        if self.warmup is None or not isinstance(made, Optimizer):
            return made
        total_steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(total_steps):
            raise ValueError(
                "the schedule of the learning rate needs to know when the training ends: set the trainer's `max_steps` "
                "or `max_epochs`, or `warmup` to None for no schedule"
            )
        schedule = cosine_with_warmup(
            made, total_steps=int(total_steps), warmup=self.warmup, min_lr_ratio=self.min_lr_ratio
        )
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def trivial_loss(self, batch: Tensor) -> Tensor:
        """Return the loss of predicting tokens by how often they occur, or of a uniform guess where that isn't known.

        The first is ``unigram_entropy`` of the datamodule, in nats.
        """
        entropy = getattr(self._datamodule, "unigram_entropy", None)
        value = math.log(self.configuration.vocab_size) if entropy is None else float(entropy)
        return torch.tensor(value, device=batch.device)

    @property
    def _datamodule(self) -> Any:
        return None if self._trainer is None else getattr(self._trainer, "datamodule", None)

    def _loss(self, batch: Tensor) -> Tensor:
        if not isinstance(batch, Tensor) or batch.ndim != 2 or batch.is_floating_point() or batch.shape[1] < 2:
            found = f"{tuple(batch.shape)} {batch.dtype}" if isinstance(batch, Tensor) else type(batch).__name__
            raise ValueError(f"a batch is integer token ids of shape (B, T + 1) with T at least 1, got {found}")
        tokens = batch.long()
        logits = self(tokens[:, :-1])
        # Two digits of a loss are too few, and bfloat16 has no more.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    def _evaluate(self, batch: Tensor) -> None:
        loss, count = self._loss(batch), _num_targets(batch)
        self._evaluated.append(torch.stack([loss * count, torch.full_like(loss, count)]))

    def _log_perplexity(self, stage: str) -> None:
        sums = torch.stack(self._evaluated).sum(dim=0)
        total, count = self.trainer.strategy.reduce(sums, reduce_op="sum")
        self._evaluated.clear()
        self.log(f"{stage}/loss", total / count, prog_bar=True)
        self.log(f"{stage}/perplexity", (total / count).exp(), prog_bar=True)


def _num_targets(batch: Tensor) -> int:
    return batch[:, 1:].numel()
