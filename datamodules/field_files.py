"""Pairs of fields from files that the user has."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from lightning_regimes.datamodules.field_cache import Fields
from lightning_regimes.datamodules.field_datamodule import FieldDataModule
from lightning_regimes.datamodules.field_formats import read_fields


class FieldFiles(FieldDataModule):
    """Pairs of fields from neuraloperator's ``.pt``, from PDEBench's HDF5 files, or from ``.npz`` with "x" and "y".

    Batches are ``{"x": (B, C, …), "y": (B, C, …)}``. The last ``num_val`` samples of the training file validate. Test
    files may have other resolutions; each is a loader, and its resolution is its name. Without test files the
    validation samples test as well.

    Args:
        train_file: see :func:`read_fields` for what is understood.
        test_files: each of another resolution.
        num_train: samples to train on, from the beginning; by default all that don't validate.
        num_val: samples to validate on, from the end.
        frames: of trajectories, the numbers of the frames that are "x" and "y".
        batch_size: samples in a batch.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a number is out of range, or a file can't be understood.
        ModuleNotFoundError: HDF5 files need the package ``h5py``.
    """

    def __init__(
        self,
        train_file: str | os.PathLike[str],
        *,
        test_files: Sequence[str | os.PathLike[str]] = (),
        num_train: int | None = None,
        num_val: int = 100,
        frames: tuple[int, int] = (0, -1),
        batch_size: int = 32,
    ) -> None:
        # The grids are known when the files are read.
        super().__init__(resolution=3, test_resolutions=(), batch_size=batch_size)
        for name, value in (("num_train", 1 if num_train is None else num_train), ("num_val", num_val)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        for file in (train_file, *test_files):
            if not os.path.isfile(file):
                raise FileNotFoundError(f"the file of fields {os.fspath(file)!r} does not exist")
        self.save_hyperparameters()
        self.train_file = train_file
        self.test_files = tuple(test_files)
        self.num_train = num_train
        self.num_val = num_val
        self.frames = (frames[0], frames[1])

    def resolutions(self, part: str) -> tuple[int, ...]:
        """Return the grids of a part."""
        return self.test_resolutions if part == "test" else (self.resolution,)

    def _read(self) -> dict[str, Fields]:
        whole = read_fields(self.train_file, frames=self.frames)
        self.resolution = whole["x"].shape[-1]
        self.input_channels, self.output_channels = whole["x"].shape[1], whole["y"].shape[1]
        count = len(whole["x"])
        num_train = count - self.num_val if self.num_train is None else self.num_train
        if num_train < 1 or num_train + self.num_val > count:
            raise ValueError(
                f"{self.train_file} has {count} samples, too few for {max(num_train, 1)} to train on and "
                f"{self.num_val} to validate on."
            )
        train = {name: field[:num_train] for name, field in whole.items()}
        val = {name: field[count - self.num_val :] for name, field in whole.items()}
        tests = [read_fields(file, frames=self.frames) for file in self.test_files] or [val]
        self.test_resolutions = tuple(test["x"].shape[-1] for test in tests)
        if len(set(self.test_resolutions)) < len(tests):
            raise ValueError(f"`test_files` must differ in resolution, got {self.test_resolutions}.")
        for test, file in zip(tests, self.test_files, strict=False):
            if (test["x"].shape[1], test["y"].shape[1]) != (self.input_channels, self.output_channels):
                raise ValueError(f"{file} must have the channels of {self.train_file}, and has others.")
        joined = {f"{name}_{test['x'].shape[-1]}": field for test in tests for name, field in test.items()}
        return {"train": self._named(train), "val": self._named(val), "test": joined}

    def _named(self, fields: Fields) -> Fields:
        return {
            f"{name}_{self.resolution}": field.clone(memory_format=torch.contiguous_format)
            for name, field in fields.items()
        }
