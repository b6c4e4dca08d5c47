"""The Hessian of a module sharded over two processes against the exact one of the same module in one process."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional

from lightning_regimes.curvature import HessianOperator, ShardedHessianOperator, eigsh
from lightning_regimes.probe import LossProbe, ProbeError

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

DTYPES = (torch.float32, torch.float64)
# Two batches and one, all of other sizes.
SHARES = (slice(0, 2), slice(2, 3))


def network(dtype: torch.dtype, *, activation: Callable[[], nn.Module] = nn.Tanh, width: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    # Five rows in two shards of unequal size, and an output with one row, of which a process holds nothing.
    return nn.Sequential(
        nn.Linear(4, width),
        activation(),
        nn.BatchNorm1d(width),
        nn.Linear(width, width),
        activation(),
        nn.Dropout(0.5),
        nn.Linear(width, 1),
    ).to(dtype)


def sharded(dtype: torch.dtype, **options: Any) -> nn.Sequential:
    module = network(dtype, **options)
    mesh = init_device_mesh("cpu", (2,))
    fully_shard(module[0], mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


def squared_error(module: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.mse_loss(module(batch[0]), batch[1])


def batches(dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    sizes = (20, 7, 33)
    drawn = [(torch.randn(n, 4, generator=generator), torch.randn(n, 1, generator=generator)) for n in sizes]
    return [(inputs.to(dtype), targets.to(dtype)) for inputs, targets in drawn]


def whole(tensor: Any) -> Tensor:
    found: Tensor = tensor.detach().full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach().clone()
    return found


def state(module: nn.Module) -> dict[str, Any]:
    return {
        "parameters": [whole(parameter) for parameter in module.parameters()],
        "gradients": [whole(parameter.grad) for parameter in module.parameters() if parameter.grad is not None],
        "buffers": [whole(buffer) for buffer in module.buffers()],
        "modes": [submodule.training for submodule in module.modules()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1],
        "python": random.getstate(),
    }


def same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def failure(action: Callable[[], object]) -> str:
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def measure(dtype: torch.dtype) -> dict[str, Any]:
    module, own = sharded(dtype), batches(dtype)[SHARES[dist.get_rank()]]
    # In evaluation, so that the running statistics remain the same in both processes.
    squared_error(module.eval(), own[0]).backward()  # type: ignore[no-untyped-call]
    module.train()
    before = state(module)
    gradients = [parameter.grad for parameter in module.parameters()]
    operator = ShardedHessianOperator(module, own, loss=squared_error)
    pairs = eigsh(operator, 2, tol=1e-5)
    block = torch.stack([pairs.vectors[:, 0], torch.linspace(-1, 1, operator.shape[0], dtype=dtype)], dim=1)
    found = {
        "values": pairs.values,
        "product": operator @ block,
        "gradient": operator.start_vector(),
        "num_matvecs": torch.tensor(operator.num_matvecs - pairs.num_matvecs),
    }
    after = state(module)
    kept = {name: same(value, after[name]) for name, value in before.items()}
    kept["gradient tensors"] = all(
        parameter.grad is gradient for parameter, gradient in zip(module.parameters(), gradients, strict=True)
    )
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2)
    found["product of the moment"] = operator @ block
    return {"found": found, "kept": kept, "block": block}


def failures() -> dict[str, str]:
    rank, dtype = dist.get_rank(), torch.float32
    own = batches(dtype)[SHARES[rank]]
    module = sharded(dtype)
    before = state(module)

    def raises(module: Any, batch: Any) -> Tensor:
        value = squared_error(module, batch)
        if rank == 1:
            raise FileNotFoundError("no such file")
        return value

    def not_finite(module: Any, batch: Any) -> Tensor:
        return squared_error(module, batch) * (float("nan") if rank == 1 else 1.0)

    # A network with so many kinks that some lie between any two points.
    kinked = sharded(dtype, activation=nn.ReLU, width=64)
    mixed = sharded(dtype)
    other = nn.Linear(2, 2)
    fully_shard(other, mesh=init_device_mesh("cpu", (2,), mesh_dim_names=("other",)))
    partly = nn.Sequential(network(dtype), nn.Linear(1, 1))
    fully_shard(partly[1])
    half = fully_shard(nn.Linear(4, 1).to(torch.bfloat16))
    found = {
        "whole": failure(lambda: ShardedHessianOperator(network(dtype), own, loss=squared_error)),
        "partly": failure(lambda: ShardedHessianOperator(partly, own, loss=squared_error)),
        "half": failure(lambda: ShardedHessianOperator(half, own, loss=squared_error)),
        "meshes": failure(lambda: ShardedHessianOperator(nn.Sequential(mixed, other), own, loss=squared_error)),
        "batches": failure(lambda: ShardedHessianOperator(module, own if rank == 0 else [], loss=squared_error)),
        "weights": failure(lambda: ShardedHessianOperator(module, own, loss=squared_error, weights=[-1.0] * len(own))),
        "loss": failure(lambda: ShardedHessianOperator(module, own, loss=raises)),
        "not finite": failure(lambda: ShardedHessianOperator(module, own, loss=not_finite)),
        "kinks": failure(lambda: eigsh(ShardedHessianOperator(kinked, own, loss=squared_error), 3)),
        "afterwards": failure(lambda: ShardedHessianOperator(module, own, loss=squared_error)),
    }
    after = state(module)
    module.set_requires_gradient_sync(False)
    found["accumulation"] = failure(lambda: ShardedHessianOperator(module, own, loss=squared_error))
    return found | {"kept": str(all(same(value, after[name]) for name, value in before.items()))}


def work() -> dict[str, Any]:
    return {str(dtype): measure(dtype) for dtype in DTYPES} | {"failures": failures()}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-8)])
def test_curvature_is_the_exact_one_of_one_process(
    two_processes: list[Any], dtype: torch.dtype, tolerance: float
) -> None:
    exact = torch.float64
    operator = HessianOperator(LossProbe(network(exact), batches(exact), loss=squared_error))
    found, block = (two_processes[0][str(dtype)][name] for name in ("found", "block"))
    expected = {
        "values": eigsh(operator, 2, tol=1e-9).values,
        "product": operator @ block.double(),
        "gradient": operator.start_vector(),
    }
    for name, value in expected.items():
        assert value is not None
        error = (found[name].double() - value).abs().max() / value.abs().max()
        assert float(error) <= tolerance, (name, float(error))


@pytest.mark.parametrize("dtype", DTYPES)
def test_processes_agree_to_the_last_bit(two_processes: list[Any], dtype: torch.dtype) -> None:
    first, second = (process[str(dtype)]["found"] for process in two_processes)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert int(first["num_matvecs"]) == 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_operator_stays_where_it_was_made(two_processes: list[Any], dtype: torch.dtype) -> None:
    found = two_processes[0][str(dtype)]["found"]
    torch.testing.assert_close(found["product of the moment"], found["product"], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_module_is_as_before(two_processes: list[Any], dtype: torch.dtype) -> None:
    for process in two_processes:
        assert all(process[str(dtype)]["kept"].values()), process[str(dtype)]["kept"]


def test_failures_are_errors_in_both(two_processes: list[Any]) -> None:
    first, second = (process["failures"] for process in two_processes)
    for found in (first, second):
        assert found["whole"].startswith("ProbeError: parameter '0.weight' is not sharded")
        assert found["partly"].startswith("ProbeError: parameter '0.0.weight' is not sharded")
        assert found["half"].startswith("TypeError: all parameters are to be float32 or all float64")
        assert "is on another mesh" in found["meshes"]
        assert "is one non-negative number for each" in found["weights"]
        assert "not finite in one of the processes" in found["not finite"]
        assert found["kinks"].startswith("ProbeError: finite differences at two step sizes disagree")
        assert "FSDP is accumulating gradients" in found["accumulation"]
        assert found["afterwards"] == "none"
        assert found["kept"] == "True"
    assert second["batches"].startswith("ValueError: `batches` is a non-empty sequence")
    assert second["loss"] == "FileNotFoundError: no such file"
    for name in ("batches", "loss"):
        assert first[name].startswith("ProbeError: process 1 failed, and with it all others: ")


def test_refuses_to_work_without_processes() -> None:
    with pytest.raises(ProbeError, match="there is no process group"):
        ShardedHessianOperator(network(torch.float32), batches(torch.float32), loss=squared_error)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.save(work(), Path(sys.argv[1]))
    dist.destroy_process_group()
