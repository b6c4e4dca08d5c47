"""The adapter to The Well, on a stand-in for the data sets of its package."""

import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from lightning_regimes.datamodules import TheWell

NUM_FRAMES, NUM_FIELDS, SHAPE = 7, 2, (4, 6)


class StandIn(torch.utils.data.Dataset):
    """Two trajectories; field f has the value 100 · trajectory + 10 · frame + f, and a spread over the grid."""

    made: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **options: Any) -> None:
        self.made.append(options)
        self.given, self.following = options["n_steps_input"], options["n_steps_output"]
        self.whole = options.get("full_trajectory_mode", False)
        self.windows = 1 if self.whole else NUM_FRAMES - self.given - self.following + 1

    def __len__(self) -> int:
        return 2 * self.windows

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        trajectory, start = divmod(index, self.windows)
        times = torch.arange(NUM_FRAMES)
        values = 100.0 * trajectory + 10 * times[:, None] + torch.arange(NUM_FIELDS)
        frames = values[:, None, None] + torch.linspace(-0.4, 0.4, 24).view(*SHAPE)[None, :, :, None]
        end = NUM_FRAMES if self.whole else start + self.given + self.following
        middle = start + self.given
        return {"input_fields": frames[start:middle], "output_fields": frames[middle:end]}


@pytest.fixture
def the_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    package, data = types.ModuleType("the_well"), types.ModuleType("the_well.data")
    data.WellDataset = StandIn  # type: ignore[attr-defined]
    package.data = data  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "the_well", package)
    monkeypatch.setitem(sys.modules, "the_well.data", data)
    monkeypatch.setattr(StandIn, "made", [])
    (tmp_path / "flow").mkdir()
    return tmp_path


def test_batches_have_time_before_fields(the_well: Path) -> None:
    datamodule = TheWell("flow", path=str(the_well), history=3, horizon=2, batch_size=2, num_train=5)
    datamodule.setup("fit")
    assert [made["well_split_name"] for made in StandIn.made] == ["train", "valid", "valid", "test", "test"]
    assert StandIn.made[0]["restrict_num_samples"] == 5
    windows, rollout = datamodule.val_dataloader()
    first = next(iter(windows))
    assert first["x"].shape == (2, 6, *SHAPE)
    assert first["y"].shape == (2, 4, *SHAPE)
    means = first["x"].mean(dim=(2, 3))
    torch.testing.assert_close(means[0], torch.tensor([0.0, 1.0, 10.0, 11.0, 20.0, 21.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(means[1], means[0] + 10, atol=1e-5, rtol=0)
    assert datamodule.dataloader_names("val") == ("pairs", "rollout")
    whole = next(iter(rollout))
    assert whole["trajectory"].shape == (1, 8, *SHAPE)
    assert torch.equal(whole["y"], whole["trajectory"][:, :4])
    assert (datamodule.input_channels, datamodule.output_channels) == (6, 4)


def test_normalizers_are_those_of_a_field_over_all_frames(the_well: Path) -> None:
    datamodule = TheWell("flow", path=str(the_well), history=2)
    with pytest.raises(RuntimeError, match="before `setup`"):
        _ = datamodule.normalizers
    datamodule.setup()
    frames = torch.cat([StandIn(n_steps_input=2, n_steps_output=1)[index]["input_fields"] for index in range(10)])
    mean, std = frames.mean(dim=(0, 1, 2)), frames.std(dim=(0, 1, 2), correction=0)
    torch.testing.assert_close(datamodule.normalizers["x"].mean, mean.repeat(2))
    torch.testing.assert_close(datamodule.normalizers["y"].std, std)


def test_what_is_missing_is_named(the_well: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="the-well-download"):
        TheWell("other", path=str(the_well)).setup()
    with pytest.raises(ValueError, match="`history` must be at least 1, got 0"):
        TheWell("flow", path=str(the_well), history=0)
    monkeypatch.setitem(sys.modules, "the_well", None)
    monkeypatch.delitem(sys.modules, "the_well.data")
    with pytest.raises(ModuleNotFoundError, match="pip install the_well"):
        TheWell("flow", path=str(the_well)).setup()


def write_simulation(path: Path, frames: np.ndarray) -> None:
    """Write trajectories (N, T, H, W) of one scalar in the layout of The Well."""
    import h5py

    num_trajectories, num_frames, height, width = frames.shape
    with h5py.File(path, "w") as file:
        file.attrs.update(
            grid_type="cartesian",
            n_trajectories=num_trajectories,
            n_spatial_dims=2,
            dataset_name="turbulent_radiative_layer_2D",
        )
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x", "y"]
        for name, size in (("time", num_frames), ("x", height), ("y", width)):
            dimensions[name] = np.arange(size, dtype=np.float32)
            dimensions[name].attrs["sample_varying"] = False
        file.create_group("scalars").attrs["field_names"] = []
        file.create_group("boundary_conditions")
        for order in range(3):
            file.create_group(f"t{order}_fields").attrs["field_names"] = ["density"] if order == 0 else []
        density = file["t0_fields"].create_dataset("density", data=frames)
        density.attrs.update(dim_varying=[True, True], sample_varying=True, time_varying=True)


@pytest.mark.peer
def test_with_the_package_itself(tmp_path: Path) -> None:
    pytest.importorskip("the_well")
    name = "turbulent_radiative_layer_2D"
    random = np.random.default_rng(0)
    frames = {}
    for part in ("train", "valid", "test"):
        folder = tmp_path / name / "data" / part
        folder.mkdir(parents=True)
        frames[part] = random.random((2, 7, 4, 6), dtype=np.float32)
        write_simulation(folder / "simulation.hdf5", frames[part])
    datamodule = TheWell(name, path=str(tmp_path), history=3, batch_size=2)
    datamodule.setup()
    windows, rollout = datamodule.val_dataloader()
    first = next(iter(windows))
    assert np.array_equal(first["x"][1], frames["valid"][0, 1:4])
    assert np.array_equal(first["y"][1], frames["valid"][0, 4:5])
    whole = list(rollout)
    assert len(whole) == 2
    assert np.array_equal(whole[1]["x"][0], frames["valid"][1, :3])
    assert np.array_equal(whole[1]["trajectory"][0], frames["valid"][1, 3:])
    assert datamodule.normalizers["x"].mean.shape == (3,)
