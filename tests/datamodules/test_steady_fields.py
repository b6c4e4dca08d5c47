"""Burgers, Poisson and advection–diffusion data: what batches hold, and that it satisfies the equations."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_regimes.datamodules import AdvectionDiffusion, Burgers1D, PoissonFields
from lightning_regimes.pde import SteadyTransport, ViscousBurgers

SMALL: dict[str, Any] = {"num_train": 5, "num_val": 3, "num_test": 2, "batch_size": 2, "progress": False}


@pytest.mark.parametrize(("kind", "channels"), [(PoissonFields, 4), (AdvectionDiffusion, 6)])
def test_transport_batches_solve_the_equation(kind: Any, channels: int, tmp_path: Path) -> None:
    datamodule = kind(**SMALL, test_resolutions=[32], cache_dir=str(tmp_path))
    datamodule.setup()
    assert datamodule.input_channels == channels
    batch = next(iter(datamodule.train_dataloader()))
    assert batch["x"].shape == (2, channels, 64, 64)
    assert batch["y"].shape == (2, 1, 64, 64)
    x, y = batch["x"].double(), batch["y"].double()
    residual = datamodule.residual(x, y)
    assert residual.shape == (2, 1, 64, 64)
    # Rounding of u to float32, times the largest eigenvalue of the operator.
    assert residual.abs().max() < 1e-2 * x[:, :1].abs().max()
    assert (datamodule.residual(x, 2 * y) - x[:, :1]).abs().max() < 2e-2 * x[:, :1].abs().max()
    assert x[:, 1:].std(dim=(2, 3)).max() == 0
    fine, coarse = datamodule.fields("test"), datamodule.fields("test", 32)
    assert torch.equal(fine["y"][..., ::2, ::2], coarse["y"])
    assert datamodule.normalizers["x"].mean.shape == (channels,)


def test_burgers_batches_are_start_and_end(tmp_path: Path) -> None:
    problem = ViscousBurgers(viscosity=0.02)
    datamodule = Burgers1D(
        problem,
        **SMALL,
        resolution=32,
        solver_resolution=64,
        test_resolutions=[64],
        duration=0.5,
        cache_dir=str(tmp_path),
    )
    datamodule.setup()
    fields = datamodule.fields("test", 64)
    assert fields["x"].shape == (2, 1, 64)
    frames = problem.solve(problem.initial(range(2), resolution=64, seed=(0, 2)), frame_interval=0.5)
    torch.testing.assert_close(torch.cat([fields["x"], fields["y"]], dim=1), frames.float(), atol=1e-6, rtol=0)
    assert torch.equal(fields["y"][..., ::2], datamodule.fields("test")["y"])


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (PoissonFields, {"problem": SteadyTransport(advection=(1.0, 1.0))}, "must have no advection"),
        (AdvectionDiffusion, {"problem": SteadyTransport()}, "must have advection"),
        (AdvectionDiffusion, {"resolution": 48}, "nodes of resolution 48 are no nodes"),
        (Burgers1D, {"duration": 0.0}, "`duration` must be positive"),
        (Burgers1D, {"batch_size": 0}, "`batch_size` must be at least 1"),
    ],
)
def test_wrong_arguments_raise(kind: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)
