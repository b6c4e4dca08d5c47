"""What datamodules of computed fields have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from lightning_regimes.datamodules.field_cache import Fields
from lightning_regimes.datamodules.field_datamodule import PARTS, FieldDataModule
from lightning_regimes.datamodules.generated_fields import Recipe, generated_fields


class GeneratedDataModule(FieldDataModule):
    """Samples of a differential equation that are computed when they are first needed, and kept on disk.

    A sample depends on the seed, its part and its number only: with more samples, or with another number of processes
    that compute them, those that were there stay what they are. It is the same function at every resolution.

    Args:
        num_train, num_val, num_test: samples in each part.
        resolution: nodes on a side of the grid to train on.
        test_resolutions: further grids to validate and test on.
        batch_size: samples in a batch.
        seed: of the samples.
        cache_dir: where samples are kept; by default ``~/.cache/lightning-regimes/fields``.
        num_workers: processes that compute samples; 0 computes them in this one.
        progress: show a bar while samples are computed.

    Raises:
        ValueError: a number is out of range.
    """

    #: Samples that are computed together and kept in a file.
    chunk_size = 64

    def __init__(
        self,
        *,
        num_train: int,
        num_val: int,
        num_test: int,
        resolution: int,
        test_resolutions: Sequence[int],
        batch_size: int,
        seed: int,
        cache_dir: str | None,
        num_workers: int,
        progress: bool,
    ) -> None:
        super().__init__(resolution=resolution, test_resolutions=test_resolutions, batch_size=batch_size)
        for name, value in (("num_train", num_train), ("num_val", num_val), ("num_test", num_test)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        for name, value in (("seed", seed), ("num_workers", num_workers)):
            if value < 0:
                raise ValueError(f"`{name}` must not be negative, got {value}.")
        self.counts = {"train": num_train, "val": num_val, "test": num_test}
        self.seed = seed
        self.cache_dir = cache_dir
        self.num_workers = num_workers
        self.progress = progress

    @abstractmethod
    def _recipe(self, part: str, resolutions: tuple[int, ...]) -> Recipe:
        """Return what computes the samples of a part, under the names ``<field>_<resolution>``."""

    def prepare_data(self) -> None:
        """Compute the samples, as far as they aren't on disk."""
        self._read()

    def _read(self) -> dict[str, Fields]:
        requests = [(self._recipe(part, self.resolutions(part)), self.counts[part]) for part in PARTS]
        found = generated_fields(
            requests,
            folder=None if self.cache_dir is None else Path(self.cache_dir),
            chunk_size=self.chunk_size,
            num_workers=self.num_workers,
            progress=self.progress,
        )
        return dict(zip(PARTS, found, strict=True))

    def _sample_seed(self, part: str) -> tuple[int, int]:
        return self.seed, PARTS.index(part)
