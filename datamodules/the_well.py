"""Simulations of The Well, as batches of fields."""

from __future__ import annotations

import os
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_regimes.datamodules.field_batches import Batch
from lightning_regimes.datamodules.field_normalization import FieldNormalizer


class TheWell(L.LightningDataModule):
    """Windows of the simulations of The Well: a history of fields ("x") and the frames that follow ("y").

    Batches are ``{"x": (B, history · F, …), "y": (B, horizon · F, …)}`` for F fields, the oldest frame first.
    Validation and test have a second loader, "rollout", with "x" and "y" at the beginning of a trajectory, and all
    frames that follow "x" as "trajectory".

    Args:
        dataset: its name, such as "turbulent_radiative_layer_2D".
        path: the folder in which the package ``the_well`` has put its data.
        history: frames that are given.
        horizon: frames that follow.
        num_train: samples to train on, chosen at random; by default all.
        num_normalization: training samples, at equal distances, that the normalizers are fitted to.
        max_rollout_steps: longest trajectory.
        batch_size: samples in a batch.
        num_workers: processes that read.

    Raises:
        ModuleNotFoundError: the package ``the_well`` is needed and not installed.
        FileNotFoundError: there is no such folder.
        ValueError: a number is out of range.

    References:
        R. Ohana et al., "The Well: a large-scale collection of diverse physics simulations for machine learning",
        NeurIPS 2024, arXiv:2412.00568.
    """

    def __init__(
        self,
        dataset: str,
        *,
        path: str,
        history: int = 4,
        horizon: int = 1,
        num_train: int | None = None,
        num_normalization: int = 128,
        max_rollout_steps: int = 100,
        batch_size: int = 16,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        for argument, value in (
            ("history", history),
            ("horizon", horizon),
            ("num_train", 1 if num_train is None else num_train),
            ("num_normalization", num_normalization),
            ("max_rollout_steps", max_rollout_steps),
            ("batch_size", batch_size),
        ):
            if value < 1:
                raise ValueError(f"`{argument}` must be at least 1, got {value}.")
        self.save_hyperparameters()
        self.dataset = dataset
        self.path = path
        self.history = history
        self.horizon = horizon
        self.num_train = num_train
        self.num_normalization = num_normalization
        self.max_rollout_steps = max_rollout_steps
        self.batch_size = batch_size
        self.num_workers = num_workers
        self._datasets: dict[str, Dataset[Any]] = {}
        self._normalizers: dict[str, FieldNormalizer] = {}

    @property
    def normalizers(self) -> dict[str, FieldNormalizer]:
        """What normalizes "x" and "y", each field by its own mean and standard deviation over all frames.

        Raises:
            RuntimeError: before ``setup``.
        """
        if not self._normalizers:
            raise RuntimeError("TheWell has no normalizers before `setup`.")
        return self._normalizers

    @property
    def input_channels(self) -> int:
        """Fields times frames that are given; known after ``setup``."""
        return len(self.normalizers["x"].mean)

    @property
    def output_channels(self) -> int:
        """Fields times frames that follow; known after ``setup``."""
        return len(self.normalizers["y"].mean)

    def dataloader_names(self, part: str) -> tuple[str, ...]:
        """Return the names of the loaders of "val" or "test", in their order."""
        return ("pairs", "rollout")

    def setup(self, stage: str | None = None) -> None:
        """Open the files, and fit the normalizers."""
        if self._datasets:
            return
        try:
            from the_well.data import WellDataset
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("TheWell needs the package the_well: pip install the_well") from error
        if not os.path.isdir(os.path.join(self.path, self.dataset)):
            raise FileNotFoundError(
                f"there is no folder {os.path.join(self.path, self.dataset)!r}: "
                f"get the data by `the-well-download --base-path … --dataset {self.dataset}`."
            )
        options: dict[str, Any] = {
            "well_base_path": self.path,
            "well_dataset_name": self.dataset,
            "n_steps_input": self.history,
            "n_steps_output": self.horizon,
            "use_normalization": False,
            "return_grid": False,
            "boundary_return_type": None,
        }
        whole = {"full_trajectory_mode": True, "max_rollout_steps": self.max_rollout_steps}
        self._datasets = {
            "train": WellDataset(well_split_name="train", restrict_num_samples=self.num_train, **options),
            "val": WellDataset(well_split_name="valid", **options),
            "val_rollout": WellDataset(well_split_name="valid", **options, **whole),
            "test": WellDataset(well_split_name="test", **options),
            "test_rollout": WellDataset(well_split_name="test", **options, **whole),
        }
        self._normalizers = self._fitted(self._datasets["train"])

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled windows."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """Return windows, and whole trajectories."""
        return [self._loader("val"), self._loader("val_rollout")]

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Return windows, and whole trajectories."""
        return [self._loader("test"), self._loader("test_rollout")]

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """Return the loaders of the test part."""
        return self.test_dataloader()

    def _loader(self, part: str, *, shuffle: bool = False) -> DataLoader[Batch]:
        rollout = part.endswith("_rollout")
        return DataLoader(
            self._datasets[part],
            # Trajectories differ in length.
            batch_size=1 if rollout else self.batch_size,
            shuffle=shuffle,
            collate_fn=_Collation(self.horizon if rollout else None),
            num_workers=self.num_workers,
        )

    def _fitted(self, dataset: Any) -> dict[str, FieldNormalizer]:
        count = min(self.num_normalization, len(dataset))
        samples = [dataset[number * len(dataset) // count] for number in range(count)]
        # One mean and deviation for a field, whatever its frame: (N · T, F, …).
        frames = torch.cat([sample["input_fields"].movedim(-1, 1) for sample in samples])
        fitted = FieldNormalizer.fit(frames)
        return {
            name: FieldNormalizer(fitted.mean.repeat(length), fitted.std.repeat(length))
            for name, length in (("x", self.history), ("y", self.horizon))
        }


class _Collation:
    """Makes batches of the samples of The Well; a class, so that other processes can have it."""

    def __init__(self, horizon: int | None) -> None:
        self.horizon = horizon

    def __call__(self, samples: list[dict[str, Tensor]]) -> Batch:
        given = torch.stack([_channels(sample["input_fields"]) for sample in samples])
        following = [sample["output_fields"] for sample in samples]
        if self.horizon is None:
            return {"x": given, "y": torch.stack([_channels(frames) for frames in following])}
        return {
            "x": given,
            "y": torch.stack([_channels(frames[: self.horizon]) for frames in following]),
            "trajectory": torch.stack([_channels(frames) for frames in following]),
        }


def _channels(frames: Tensor) -> Tensor:
    """Return frames ``(T, …, F)`` as ``(T · F, …)``."""
    return frames.movedim(-1, 1).flatten(0, 1)
