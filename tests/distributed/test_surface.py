"""Surfaces over two processes, which share the batches or the points, are those of one process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from lightning_regimes.landscape import Directions, LossSurface, directions, evaluate_surface
from lightning_regimes.probe import LossProbe

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


def squared_error(module: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    value = functional.mse_loss(module(batch[0]), batch[1])
    return value * (2 - value).sqrt()  # NaN far away


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    sizes = (20, 7, 33)
    return [(torch.randn(n, 4, generator=generator), torch.randn(n, 3, generator=generator)) for n in sizes]


def probe_of(own: list[tuple[Tensor, Tensor]], **options: Any) -> LossProbe:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    return LossProbe(network, own, **{"loss": squared_error, **options})


def axes() -> Directions:
    return directions(probe_of(batches()), "random", 2, seed=2)


SHARED_POINTS: dict[str, dict[str, Any]] = {
    "loop": {"backend": "loop", "points": (9, 13)},
    "vmap": {"backend": "vmap", "points": (9, 13), "chunk_size": 10},
    "auto": {"points": 13},
    "even": {"backend": "loop", "points": 6, "chunk_size": 5},
    "one process has nothing to do": {"backend": "loop", "points": 3},
}


def failure(action: Any) -> str:
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def work(folder: Path) -> dict[str, Any]:
    rank, group = dist.get_rank(), dist.group.WORLD
    found: dict[str, Any] = {
        name: evaluate_surface(probe_of(batches()), axes(), span=1.0, process_group=group, **options)
        for name, options in SHARED_POINTS.items()
    }
    own = batches()[:1] if rank == 0 else batches()[1:]
    shared = probe_of(own, process_group=group)
    num_messages = 0
    all_reduce = dist.all_reduce

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal num_messages
        num_messages += 1
        return all_reduce(*arguments, **options)

    dist.all_reduce = counted
    try:
        found["batches"] = evaluate_surface(shared, axes(), span=1.0, points=9, backend="loop")
        resumed = {"span": 1.0, "points": 9, "backend": "loop", "resume": folder / "surface.npz"}
        first = evaluate_surface(probe_of(batches()), axes(), process_group=group, **resumed)
    finally:
        dist.all_reduce = all_reduce
    found["messages"] = num_messages
    dist.barrier()
    found["files"] = sorted(file.name for file in folder.glob("surface*"))
    again = evaluate_surface(probe_of(batches()), axes(), process_group=group, **resumed)
    found["resumed"] = first.values.tobytes() == again.values.tobytes()

    def fails_in_one(module: Any, batch: Any) -> Tensor:
        if rank == 1:
            raise FileNotFoundError("no such file")
        return squared_error(module, batch)

    failing = probe_of(batches(), loss=fails_in_one)
    found["failure"] = failure(lambda: evaluate_surface(failing, axes(), process_group=group, backend="loop"))
    found["both groups"] = failure(lambda: evaluate_surface(shared, axes(), process_group=group))
    found["recompute"] = failure(lambda: evaluate_surface(shared, axes(), batch_norm="recompute"))
    return found


@pytest.mark.parametrize("name", SHARED_POINTS)
def test_shared_points_are_those_of_one_process(two_processes: list[Any], name: str) -> None:
    options = SHARED_POINTS[name]
    first, second = (found[name] for found in two_processes)
    if name == "auto":
        options = {**options, **{key: first.metadata[key] for key in ("backend", "chunk_size")}}
    expected = evaluate_surface(probe_of(batches()), axes(), span=1.0, **options)
    assert expected.num_nonfinite > 0
    for surface in (first, second):
        assert surface.values.tobytes() == expected.values.tobytes()
        assert surface.center_loss == expected.center_loss
        assert surface.metadata == expected.metadata


def test_shared_batches_add_up_to_the_same_surface(two_processes: list[Any]) -> None:
    expected = evaluate_surface(probe_of(batches()), axes(), span=1.0, points=9, backend="loop")
    first, second = (found["batches"] for found in two_processes)
    assert isinstance(first, LossSurface)
    assert first.values.tobytes() == second.values.tobytes()
    np.testing.assert_allclose(first.values, expected.values, rtol=1e-6)


def test_a_surface_takes_one_message(two_processes: list[Any]) -> None:
    assert [found["messages"] for found in two_processes] == [2, 2]


def test_each_process_resumes_from_its_own_file(two_processes: list[Any]) -> None:
    for found in two_processes:
        assert found["files"] == ["surface-0.npz", "surface-1.npz"]
        assert found["resumed"]


def test_failures_are_errors_in_both(two_processes: list[Any]) -> None:
    first, second = (found["failure"] for found in two_processes)
    assert second == "FileNotFoundError: no such file"
    assert first == "ProbeError: process 1 failed, and with it all others: FileNotFoundError: no such file"
    for found in two_processes:
        assert found["both groups"].startswith("ValueError: `process_group` shares out the points of a probe")
        assert found["recompute"].startswith("ValueError: `batch_norm`='recompute' needs all batches in each process")


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.save(work(Path(sys.argv[1]).parent), Path(sys.argv[1]))
    dist.destroy_process_group()
