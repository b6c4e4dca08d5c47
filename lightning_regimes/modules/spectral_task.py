"""What a spectral algorithm is trained for, and how it is told on real operators."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lightning_regimes.spectral.operator_forms import TensorOperator
from lightning_regimes.spectral.spectrum_batch import SpectrumBatch


class SpectralTask(ABC):
    """A loss of the coefficients that an engine writes for a batch of spectra, and measures on real operators.

    Attributes:
        engine: the network that is trained.
        base: the same network before training, which is a classical rule.
    """

    engine: nn.Module
    base: nn.Module

    @abstractmethod
    def loss(self, engine: nn.Module, batch: SpectrumBatch, generator: torch.Generator | None = None) -> Tensor:
        """Return the loss of an engine on a batch.

        Args:
            engine: the trained one or the base.
            batch: spectra and probes.
            generator: of what the loss draws in training; None for the fixed loss of validation.
        """

    @abstractmethod
    def measure(self, operator: TensorOperator, vector: Tensor, seed: int) -> dict[str, float]:
        """Return what the engine does for a real operator.

        Args:
            operator: positive definite, on the CPU, float64.
            vector: to try it with, shape (n,).
            seed: of the probe.
        """

    def trivial_loss(self, batch: SpectrumBatch) -> Tensor:
        """Return the loss of doing without: that of the base, unless a task knows better."""
        return self.loss(self.base, batch)
