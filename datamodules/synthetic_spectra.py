"""Spectra to learn spectral algorithms from, and real operators to try them on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor

from lightning_regimes.datamodules.collocation import Steps
from lightning_regimes.datamodules.resumable_steps import ResumableSteps
from lightning_regimes.spectral.matrix_files import read_matrix, sparse_operator, unit_diagonal
from lightning_regimes.spectral.operator_forms import TensorOperator
from lightning_regimes.spectral.spectrum_batch import SpectrumBatch, draw_spectra
from lightning_regimes.spectral.spectrum_families import FAMILIES

_HELDOUT = 1_000_000_007


class OperatorSample(NamedTuple):
    """A real operator, and a vector to try it with.

    Attributes:
        name: of the matrix.
        operator: scaled to a unit diagonal, on the CPU, float64.
        vector: shape (n,), normal random numbers.
        seed: of what else is drawn for it.
    """

    name: str
    operator: TensorOperator
    vector: Tensor
    seed: int


class SyntheticSpectra(L.LightningDataModule):
    r"""Random spectra of seven families with probes of Lanczos steps; a batch is a :class:`SpectrumBatch`.

    No matrix is made for training: an operator is its eigenvalues, log-uniform, decaying as a power, of Laplacians,
    with outliers above or below a bulk, in clusters, or of random matrices, and its condition number is log-uniform.
    Half of the probes have Ritz values that are off. Every batch follows from ``seed`` and its number alone, so that a
    resumed training goes on with the one that comes next.

    Validation sees one batch of spectra that training does not, and then real operators, one by one, as
    :class:`OperatorSample`. They are on the CPU, scaled to a unit diagonal.

    Args:
        families: names out of ``lightning_regimes.spectral.spectrum_families.FAMILIES``, or ``"all"``.
        condition_min: least condition number.
        condition_max: largest condition number.
        size: eigenvalues of an operator, or the fewest and the most: each batch then has a number between, log-uniform.
        batch_size: operators in a batch.
        steps_per_epoch: batches in an epoch.
        probe_size: Lanczos steps of a probe.
        probe_noise: by how much, relative, the Ritz values of half of the probes are off.
        validation: real operators: ``494_bus``, ``bcsstk01``, ``gr_30_30``, ``lund_b``, ``nos5``, which come with the
            package, ``poisson_<points>``, or paths of Matrix Market files.
        num_validation: spectra in the batch for validation.
        seed: of the private generators.

    Raises:
        ValueError: a number is out of range, or there is no such family or matrix.
    """

    def __init__(
        self,
        *,
        families: Sequence[str] | str = "all",
        condition_min: float = 3.0,
        condition_max: float = 1e7,
        size: int | tuple[int, int] = 256,
        batch_size: int = 64,
        steps_per_epoch: int = 250,
        probe_size: int = 10,
        probe_noise: float = 0.05,
        validation: Sequence[str] = ("gr_30_30", "nos5", "494_bus", "poisson_32"),
        num_validation: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        counts = {"batch_size": batch_size, "steps_per_epoch": steps_per_epoch, "num_validation": num_validation}
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"`{name}` is at least 1, got {value}")
        sizes = (size, size) if isinstance(size, int) else (size[0], size[1])
        if not 1 <= probe_size <= sizes[0] <= sizes[1]:
            raise ValueError(f"`size` is at least `probe_size` = {probe_size}, a number or a range, got {size}")
        if not 1 < condition_min <= condition_max:
            raise ValueError(
                f"`condition_min` is above 1 and at most `condition_max`, got {condition_min} and {condition_max}"
            )
        if not 0 <= probe_noise < 0.5:
            raise ValueError(f"`probe_noise` is at least 0 and below one half, got {probe_noise}")
        self.save_hyperparameters()
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.num_validation = num_validation
        self.seed = seed
        self._drawing: dict[str, Any] = {
            "families": tuple(FAMILIES) if families == "all" else tuple(families),
            "condition": (condition_min, condition_max),
            "size": sizes,
            "probe_size": probe_size,
            "probe_noise": probe_noise,
        }
        draw_spectra(1, seed=seed, **self._drawing)
        self._operators = [
            OperatorSample(name, sparse_operator(unit_diagonal(matrix)), _normal(matrix.shape[0], seed), seed)
            for name, matrix in ((name, read_matrix(name)) for name in validation)
        ]

    def training_batch(self, number: int) -> SpectrumBatch:
        """Return the batch with this number, counted from the beginning of training."""
        return draw_spectra(self.batch_size, seed=self.seed + 7919 * (number + 1), **self._drawing)

    def validation_batch(self) -> SpectrumBatch:
        """Return spectra that are in no training batch."""
        return draw_spectra(self.num_validation, seed=self.seed + _HELDOUT, **self._drawing)

    def train_dataloader(self) -> ResumableSteps:
        """Return the batches of the present epoch."""
        return ResumableSteps(self.steps_per_epoch, self._batches)

    def val_dataloader(self) -> list[Steps]:
        """Return the batch of spectra, and the real operators."""
        loaders = [ResumableSteps(1, lambda: iter([self.validation_batch()]))]
        if self._operators:
            loaders.append(ResumableSteps(len(self._operators), lambda: iter(self._operators)))
        return list(loaders)

    def test_dataloader(self) -> list[Steps]:
        """Return what validation sees."""
        return self.val_dataloader()

    def _batches(self) -> Iterator[SpectrumBatch]:
        first = self._batches_done()
        for number in range(first, first - first % self.steps_per_epoch + self.steps_per_epoch):
            yield self.training_batch(number)

    def _batches_done(self) -> int:
        # Counted by the trainer, so that a resumed run goes on where the uninterrupted one would be.
        if self.trainer is None:
            return 0
        total: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return int(total.processed)


def _normal(size: int, seed: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
