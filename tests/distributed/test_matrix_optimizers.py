"""Matrix optimizers on a module sharded over two processes against the same module in one process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

from lightning_regimes.optim import RMNP, HTMuon, MatrixOptimizer, Muon, matrix_param_groups

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

STEPS = 4
OPTIMIZERS: dict[str, Callable[[Any], MatrixOptimizer]] = {
    "rmnp": lambda groups: RMNP(groups, cautious_weight_decay=True),
    "rmnp with power": lambda groups: RMNP(groups, power=0.5, nesterov=False),
    "muon": lambda groups: Muon(groups, normuon_beta2=0.95),
    "htmuon": lambda groups: HTMuon(groups, interval=2, normalize="rms"),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    # Five rows in two shards of unequal size, and an output with one row, of which a process holds nothing.
    return nn.Sequential(
        nn.Conv1d(2, 6, 2), nn.Flatten(), nn.Linear(18, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 1)
    )


def build(module: nn.Module, make: Callable[[Any], MatrixOptimizer]) -> MatrixOptimizer:
    return make(matrix_param_groups(module, lr=0.05, adamw_lr=0.01))


def backward(module: nn.Module, seed: int) -> None:
    inputs = torch.randn(8, 2, 4, generator=torch.Generator().manual_seed(seed))
    module.zero_grad()
    (module(inputs).squeeze(1) - inputs.prod(1).sum(1)).square().mean().backward()


def whole(tensor: Any) -> Tensor:
    found: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return found.detach().clone()


def train(module: nn.Module, optimizer: MatrixOptimizer, *, start: int = 0) -> int:
    """Train some steps and return the number of collectives within the steps of the optimizer."""
    collectives = 0
    for seed in range(start, start + STEPS):
        backward(module, seed)
        with CommDebugMode() as mode:
            optimizer.step()
        collectives += mode.get_total_counts()
    return collectives


def sharded() -> nn.Sequential:
    module = network()
    fully_shard(module[2])
    fully_shard(module)
    return module


def measure(make: Callable[[Any], MatrixOptimizer]) -> dict[str, Any]:
    module = sharded()
    optimizer = build(module, make)
    collectives = train(module, optimizer)
    found = {"collectives": collectives, "parameters": [whole(parameter) for parameter in module.parameters()]}
    folder: list[Any] = [TemporaryDirectory() if dist.get_rank() == 0 else None]
    names: list[Any] = [folder[0].name if folder[0] else None]
    dist.broadcast_object_list(names)
    dcp.save({"optimizer": get_optimizer_state_dict(module, optimizer)}, checkpoint_id=names[0])
    kept = [whole(parameter) for parameter in module.parameters()]
    train(module, optimizer, start=STEPS)
    found["later"] = [whole(parameter) for parameter in module.parameters()]

    again = sharded()
    with torch.no_grad():
        for parameter, value in zip(again.parameters(), kept, strict=True):
            parameter.copy_(distribute_tensor(value, parameter.device_mesh, parameter.placements))
    resumed = build(again, make)
    state = {"optimizer": get_optimizer_state_dict(again, resumed)}
    dcp.load(state, checkpoint_id=names[0])
    set_optimizer_state_dict(again, resumed, state["optimizer"])
    train(again, resumed, start=STEPS)
    found["resumed"] = [whole(parameter) for parameter in again.parameters()]
    dist.barrier()
    return found


def sharded_by_columns() -> dict[str, Any]:
    """One step of RMNP on a matrix whose rows are distributed, so that their norms have to be added up."""
    generator = torch.Generator().manual_seed(0)
    matrix, gradient = torch.randn(5, 6, generator=generator), torch.randn(5, 6, generator=generator)
    mesh = init_device_mesh("cpu", (2,))
    parameter = nn.Parameter(distribute_tensor(matrix, mesh, [Shard(1)]))
    parameter.grad = distribute_tensor(gradient, mesh, [Shard(1)])
    optimizer = RMNP([{"params": [parameter], "algorithm": "matrix"}], lr=0.1)
    with CommDebugMode() as mode:
        optimizer.step()
    return {"found": whole(parameter), "collectives": mode.get_total_counts(), "start": (matrix, gradient)}


def failures() -> dict[str, str]:
    found = {}
    for kept in (False, True):
        module = FullyShardedDataParallel(network(), device_id=torch.device("cpu"), use_orig_params=kept)
        attempts: dict[str, Callable[[], Any]] = {
            "bare": partial(RMNP, list(module.parameters())),
            "groups": partial(matrix_param_groups, module, lr=0.1),
        }
        for name, attempt in attempts.items():
            try:
                attempt()
            except ValueError as error:
                found[f"{name} {kept}"] = str(error)
    return found


def work() -> dict[str, Any]:
    measured = {name: measure(make) for name, make in OPTIMIZERS.items()}
    return measured | {"columns": sharded_by_columns(), "failures": failures()}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_are_those_of_one_process(two_processes: list[Any], name: str) -> None:
    module = network()
    optimizer = build(module, OPTIMIZERS[name])
    for found, start in (("parameters", 0), ("later", STEPS)):
        train(module, optimizer, start=start)
        for process in two_processes:
            for value, expected in zip(process[name][found], map(whole, module.parameters()), strict=True):
                assert float((value - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_processes_agree_to_the_last_bit(two_processes: list[Any], name: str) -> None:
    first, second = (process[name]["later"] for process in two_processes)
    assert all(torch.equal(value, other) for value, other in zip(first, second, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_distributed_checkpoint_goes_on_bitwise(two_processes: list[Any], name: str) -> None:
    for process in two_processes:
        later, resumed = process[name]["later"], process[name]["resumed"]
        assert all(torch.equal(value, other) for value, other in zip(later, resumed, strict=True))


def test_rows_need_no_communication_and_whole_matrices_one_gathering_each(two_processes: list[Any]) -> None:
    for process in two_processes:
        assert process["rmnp"]["collectives"] == 0
        assert process["rmnp with power"]["collectives"] == 0
        # Four matrices.
        assert process["muon"]["collectives"] == 4 * STEPS
        assert process["htmuon"]["collectives"] == 4 * STEPS


def test_distributed_rows_are_normalized_as_wholes(two_processes: list[Any]) -> None:
    matrix, gradient = two_processes[0]["columns"]["start"]
    parameter = nn.Parameter(matrix)
    parameter.grad = gradient
    RMNP([{"params": [parameter], "algorithm": "matrix"}], lr=0.1).step()
    for process in two_processes:
        torch.testing.assert_close(process["columns"]["found"], parameter.detach(), rtol=1e-6, atol=1e-6)
        assert process["columns"]["collectives"] == 1


def test_matrices_that_fsdp1_has_flattened_are_refused(two_processes: list[Any]) -> None:
    for process in two_processes:
        assert set(process["failures"]) == {"bare False", "groups False", "bare True", "groups True"}
        for error in process["failures"].values():
            assert "FSDP1" in error
            assert "`fully_shard`" in error


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.save(work(), Path(sys.argv[1]))
    dist.destroy_process_group()
