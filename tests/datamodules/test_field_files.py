"""Files of others: the formats that are read, and what is said about those that aren't."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_regimes.datamodules import FieldFiles
from lightning_regimes.datamodules.field_formats import read_fields

RANDOM = torch.Generator().manual_seed(0)


def darcy_small(path: Path, size: int, count: int) -> dict[str, torch.Tensor]:
    """A file in the layout of neuraloperator's small Darcy data: a boolean coefficient, a float solution."""
    content = {
        "x": torch.rand(count, size, size, generator=RANDOM) > 0.5,
        "y": torch.rand(count, size, size, generator=RANDOM),
    }
    torch.save(content, path)
    return content


def test_darcy_files_of_two_resolutions(tmp_path: Path) -> None:
    train = darcy_small(tmp_path / "train.pt", 8, 10)
    tests = [darcy_small(tmp_path / f"test{size}.pt", size, 4) for size in (8, 16)]
    datamodule = FieldFiles(
        tmp_path / "train.pt", test_files=[tmp_path / "test8.pt", tmp_path / "test16.pt"], num_val=3, batch_size=4
    )
    datamodule.prepare_data()
    datamodule.setup("fit")
    assert torch.equal(datamodule.fields("train")["x"], train["x"][:7].unsqueeze(1).float())
    assert torch.equal(datamodule.fields("val")["y"], train["y"][7:].unsqueeze(1))
    assert datamodule.dataloader_names("test") == ("8", "16")
    for loader, content in zip(datamodule.test_dataloader(), tests, strict=True):
        (batch,) = loader
        assert torch.equal(batch["y"], content["y"].unsqueeze(1))
    assert datamodule.normalizers["y"].mean.item() == pytest.approx(train["y"][:7].mean().item(), rel=1e-5)
    assert [len(batch["x"]) for batch in datamodule.train_dataloader()] == [4, 3]


def test_validation_samples_test_without_test_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "fields.npz", x=np.random.rand(6, 2, 9), y=np.random.rand(6, 1, 9))
    datamodule = FieldFiles(tmp_path / "fields.npz", num_train=2, num_val=3)
    # (N, C, n) can't be told from (N, H, W): a file of it must have four dimensions or two.
    with pytest.raises(ValueError, match="on one grid"):
        datamodule.setup()
    np.savez(tmp_path / "fields.npz", x=np.random.rand(6, 9), y=np.random.rand(6, 9))
    datamodule = FieldFiles(tmp_path / "fields.npz", num_train=2, num_val=3)
    datamodule.setup()
    assert datamodule.fields("train")["x"].shape == (2, 1, 9)
    assert torch.equal(datamodule.fields("test")["x"], datamodule.fields("val")["x"])


def test_pdebench_formats(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    random = np.random.default_rng(0)
    nu, solution = random.random((3, 6, 6), dtype=np.float32), random.random((3, 1, 6, 6), dtype=np.float32)
    with h5py.File(tmp_path / "darcy.hdf5", "w") as file:
        file["nu"], file["tensor"], file["x-coordinate"] = nu, solution, np.arange(6)
    fields = read_fields(tmp_path / "darcy.hdf5")
    assert np.array_equal(fields["x"][:, 0], nu)
    assert np.array_equal(fields["y"], solution)
    burgers = random.random((3, 5, 8), dtype=np.float32)
    with h5py.File(tmp_path / "burgers.hdf5", "w") as file:
        file["tensor"], file["t-coordinate"] = burgers, np.arange(5)
    fields = read_fields(tmp_path / "burgers.hdf5", frames=(1, -2))
    assert np.array_equal(fields["x"][:, 0], burgers[:, 1])
    assert np.array_equal(fields["y"][:, 0], burgers[:, 3])
    reaction = random.random((2, 4, 6, 7, 2), dtype=np.float32)
    with h5py.File(tmp_path / "reaction.h5", "w") as file:
        for number, trajectory in enumerate(reaction):
            file[f"{number:04d}/data"] = trajectory
            file[f"{number:04d}/grid/t"] = np.arange(4)
    fields = read_fields(tmp_path / "reaction.h5")
    assert fields["x"].shape == (2, 2, 6, 7)
    assert np.array_equal(fields["x"][1, 1], reaction[1, 0, :, :, 1])
    assert np.array_equal(fields["y"][0, 0], reaction[0, -1, :, :, 0])
    with pytest.raises(ValueError, match=r"`frames` must lie in the 4 of .*reaction\.h5, got 9"):
        read_fields(tmp_path / "reaction.h5", frames=(0, 9))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["velocity"] = burgers
    with pytest.raises(ValueError, match=r"must hold \"nu\" and \"tensor\".*got \['velocity'\]"):
        read_fields(tmp_path / "other.h5")


def test_files_that_cannot_be_read_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.pt' does not exist"):
        FieldFiles(tmp_path / "missing.pt")
    with pytest.raises(ValueError, match="a file of fields is one of"):
        read_fields(tmp_path / "fields.csv")
    torch.save({"a": torch.zeros(2)}, tmp_path / "names.pt")
    with pytest.raises(ValueError, match=re.escape('must hold "x" and "y", and it holds [\'a\']')):
        read_fields(tmp_path / "names.pt")
    torch.save({"x": [1.0], "y": torch.ones(1, 4, 4)}, tmp_path / "list.pt")
    with pytest.raises(ValueError, match="must be a tensor, got list"):
        read_fields(tmp_path / "list.pt")
    torch.save({"x": torch.zeros(2, 4, 4), "y": torch.zeros(3, 4, 4)}, tmp_path / "counts.pt")
    with pytest.raises(ValueError, match="on one grid, got"):
        read_fields(tmp_path / "counts.pt")
    torch.save({"x": torch.zeros(2, 4, 4), "y": torch.full((2, 4, 4), torch.nan)}, tmp_path / "nan.pt")
    with pytest.raises(ValueError, match="values that are not finite"):
        read_fields(tmp_path / "nan.pt")
    (tmp_path / "steady.h5").touch()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match="pip install h5py"):
        read_fields(tmp_path / "steady.h5")


def test_samples_must_suffice_and_fit(tmp_path: Path) -> None:
    darcy_small(tmp_path / "train.pt", 8, 5)
    with pytest.raises(ValueError, match="5 samples, too few for 1 to train on and 100 to validate on"):
        FieldFiles(tmp_path / "train.pt").setup()
    with pytest.raises(ValueError, match="must differ in resolution"):
        FieldFiles(tmp_path / "train.pt", test_files=[tmp_path / "train.pt"] * 2, num_val=1).setup()
    torch.save({"x": torch.zeros(2, 3, 4, 4), "y": torch.zeros(2, 1, 4, 4)}, tmp_path / "channels.pt")
    with pytest.raises(ValueError, match="must have the channels of"):
        FieldFiles(tmp_path / "train.pt", test_files=[tmp_path / "channels.pt"], num_val=1).setup()
    arguments: dict[str, Any]
    for arguments in ({"num_val": 0}, {"num_train": 0}, {"batch_size": 0}):
        (name,) = arguments
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
            FieldFiles(tmp_path / "train.pt", **arguments)
