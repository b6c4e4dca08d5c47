"""What datamodules of fields have in common: parts, resolutions, normalizers, loaders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import lightning as L
from torch.utils.data import DataLoader, Dataset

from lightning_regimes.datamodules.field_batches import Batch, FieldPairs, field_loader
from lightning_regimes.datamodules.field_cache import Fields
from lightning_regimes.datamodules.field_normalization import FieldNormalizer

PARTS = ("train", "val", "test")


class FieldDataModule(L.LightningDataModule, ABC):
    """Pairs of fields on one grid to train on, and on several to validate and test.

    Batches are ``{"x": (B, C, …), "y": (B, C, …)}`` in float32 and in the units of the data. ``normalizers`` holds
    what brings "x" and "y" to mean zero and variance one, fitted to the training part; using it is up to the module.
    Validation and test have a loader for each resolution, named by ``dataloader_names``.

    Args:
        resolution: nodes on a side of the grid to train on.
        test_resolutions: further grids to validate and test on.
        batch_size: samples in a batch.

    Raises:
        ValueError: a number is out of range.
    """

    input_channels = 1
    output_channels = 1

    def __init__(self, *, resolution: int, test_resolutions: Sequence[int], batch_size: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        smallest = min([resolution, *test_resolutions])
        if smallest < 3:
            raise ValueError(f"`resolution` and `test_resolutions` must be at least 3, got {smallest}.")
        self.resolution = resolution
        self.test_resolutions = tuple(entry for entry in dict.fromkeys(test_resolutions) if entry != resolution)
        self.batch_size = batch_size
        self._parts: dict[str, Fields] = {}
        self._normalizers: dict[str, FieldNormalizer] = {}

    @abstractmethod
    def _read(self) -> dict[str, Fields]:
        """Return the samples of each part, under the names ``<field>_<resolution>``."""

    @property
    def normalizers(self) -> dict[str, FieldNormalizer]:
        """What normalizes "x" and "y", fitted to the training part.

        Raises:
            RuntimeError: before ``setup``.
        """
        if not self._normalizers:
            raise RuntimeError(f"{type(self).__name__} has no normalizers before `setup`.")
        return self._normalizers

    def resolutions(self, part: str) -> tuple[int, ...]:
        """Return the grids of a part, that of the training first."""
        return (self.resolution,) if part == "train" else (self.resolution, *self.test_resolutions)

    def dataloader_names(self, part: str) -> tuple[str, ...]:
        """Return the names of the loaders of "val" or "test", in their order."""
        return tuple(str(resolution) for resolution in self.resolutions(part))

    def fields(self, part: str, resolution: int | None = None) -> Fields:
        """Return all samples of a part, ``{"x": (N, C, …), "y": (N, C, …)}``.

        Args:
            part: "train", "val" or "test".
            resolution: of the grid; by default the first of the part.

        Raises:
            ValueError: there is no such part or resolution.
            RuntimeError: before ``setup``.
        """
        if part not in PARTS:
            raise ValueError(f'`part` must be "train", "val" or "test", got {part!r}.')
        if part not in self._parts:
            raise RuntimeError(f"{type(self).__name__} has no samples before `setup`.")
        grids = self.resolutions(part)
        chosen = grids[0] if resolution is None else resolution
        if chosen not in grids:
            raise ValueError(f"the {part} part has the resolutions {', '.join(map(str, grids))}, got {chosen}.")
        ending = f"_{chosen}"
        return {name.removesuffix(ending): f for name, f in self._parts[part].items() if name.endswith(ending)}

    def setup(self, stage: str | None = None) -> None:
        """Read the samples, and fit the normalizers."""
        if self._parts:
            return
        self._parts = self._read()
        self._normalizers = self._fitted()

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled batches of the training part."""
        return field_loader(self._dataset("train", self.resolution), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """Return a loader for each of ``dataloader_names("val")``."""
        return self._loaders("val")

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Return a loader for each of ``dataloader_names("test")``."""
        return self._loaders("test")

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """Return the loaders of the test part."""
        return self._loaders("test")

    def _loaders(self, part: str) -> list[DataLoader[Batch]]:
        datasets = [self._dataset(part, resolution) for resolution in self.resolutions(part)]
        return [field_loader(dataset, batch_size=self.batch_size) for dataset in datasets]

    def _dataset(self, part: str, resolution: int) -> Dataset[Batch]:
        return FieldPairs(self.fields(part, resolution))

    def _fitted(self) -> dict[str, FieldNormalizer]:
        return {name: FieldNormalizer.fit(field) for name, field in self.fields("train").items()}
