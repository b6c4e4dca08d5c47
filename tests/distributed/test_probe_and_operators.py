"""The same loss, gradient and curvature in two processes with half of the batches each as in one with all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from lightning_regimes.curvature import (
    EmpiricalFisherOperator,
    GaussNewtonOperator,
    HessianOperator,
    block_operators,
    eigsh,
    trace,
)
from lightning_regimes.probe import LossProbe

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

ENGINES = ("reverse", "forward_over_reverse", "finite_difference")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))


def squared_error(module: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.mse_loss(module(batch[0]), batch[1])


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    sizes = (20, 7, 33)
    return [(torch.randn(n, 4, generator=generator), torch.randn(n, 3, generator=generator)) for n in sizes]


def share(rank: int) -> slice:
    """Unequal numbers of unequal batches."""
    return slice(0, 1) if rank == 0 else slice(1, 3)


def gauss_newton(probe: LossProbe) -> GaussNewtonOperator:
    return GaussNewtonOperator(
        probe,
        outputs=lambda module, batch: module(batch[0]),
        loss_of_outputs=lambda outputs, batch: functional.mse_loss(outputs, batch[1]),
    )


def fisher(probe: LossProbe) -> EmpiricalFisherOperator:
    return EmpiricalFisherOperator(
        probe, sample_losses=lambda module, batch: (module(batch[0]) - batch[1]).square().mean(1)
    )


def measure(probe: LossProbe) -> dict[str, Any]:
    vector = torch.linspace(-1, 1, probe.num_parameters, dtype=probe.dtype)
    found: dict[str, Any] = {
        "loss": probe.loss(),
        "average": probe.average(lambda batch: batch[1].square().mean()),
        "gradient": probe.gradient(),
        "batch gradients": probe.batch_gradients(),
        "weights": torch.tensor(probe.all_weights),
        "Gauss-Newton": gauss_newton(probe) @ vector,
        "Fisher": fisher(probe) @ vector,
    }
    for engine in ENGINES:
        found[engine] = eigsh(HessianOperator(probe, engine=engine), 4, tol=1e-5).values  # type: ignore[arg-type]
    operator = HessianOperator(probe)
    found["start vector"] = operator.start_vector()
    found["trace"] = torch.tensor(trace(operator, method="hutchinson", num_samples=5).value)
    return found


def failure(action: Callable[[], object]) -> str:
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def failures(rank: int) -> dict[str, str]:
    """Errors that arise in the second process alone."""
    group, own = dist.group.WORLD, batches()[share(rank)]

    def probe(loss: Any, **options: Any) -> LossProbe:
        return LossProbe(network(), own, loss=loss, process_group=group, **options)

    def raises(module: Any, batch: Any) -> Tensor:
        if rank == 1:
            raise FileNotFoundError("no such file")
        return squared_error(module, batch)

    def not_finite(module: Any, batch: Any) -> Tensor:
        return squared_error(module, batch) * (float("nan") if rank == 1 else 1.0)

    num_calls = 0

    def raises_later(module: Any, batch: Any) -> Tensor:
        nonlocal num_calls
        num_calls += 1
        if rank == 1 and num_calls > 2:
            raise FileNotFoundError("no such file")
        return squared_error(module, batch)

    return {
        "construction": failure(lambda: probe(squared_error, weights=[-1.0] * len(own) if rank else None)),
        "loss": failure(lambda: probe(raises).loss()),
        "operator": failure(lambda: HessianOperator(probe(not_finite))),
        "product": failure(
            lambda: HessianOperator(probe(raises_later), engine="forward_over_reverse") @ torch.ones(131)
        ),
        "blocks": failure(lambda: block_operators(probe(squared_error))),
        "afterwards": failure(lambda: probe(squared_error).loss()),
    }


def work() -> dict[str, Any]:
    rank = dist.get_rank()
    found: dict[str, Any] = {}
    for dtype in (torch.float32, torch.float64):
        probe = LossProbe(
            network(), batches()[share(rank)], loss=squared_error, dtype=dtype, process_group=dist.group.WORLD
        )
        found[str(dtype)] = measure(probe)
    operator = HessianOperator(probe)
    num_messages = 0
    all_reduce = dist.all_reduce

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal num_messages
        num_messages += 1
        return all_reduce(*arguments, **options)

    dist.all_reduce = counted
    try:
        num_matvecs = eigsh(operator, 4).num_matvecs
    finally:
        dist.all_reduce = all_reduce
    return found | {"counts": (num_messages, num_matvecs), "failures": failures(rank)}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-9)])
def test_numbers_are_those_of_one_process(two_processes: list[Any], dtype: torch.dtype, tolerance: float) -> None:
    expected = measure(LossProbe(network(), batches(), loss=squared_error, dtype=dtype))
    first, second = (found[str(dtype)] for found in two_processes)
    for name, value in expected.items():
        assert torch.equal(first[name], second[name]), name
        # What finite differences leave of an eigenvalue is not the same for another order of the sums.
        bound = 1e-4 if name == "finite_difference" and dtype == torch.float32 else tolerance
        error = (first[name].double() - value.double()).abs().max() / value.double().abs().max()
        assert float(error) <= bound, name


def test_a_product_takes_one_message(two_processes: list[Any]) -> None:
    for found in two_processes:
        num_messages, num_matvecs = found["counts"]
        assert num_messages == num_matvecs > 4


def test_a_failure_in_one_process_is_an_error_in_both(two_processes: list[Any]) -> None:
    first, second = (found["failures"] for found in two_processes)
    assert second["construction"].startswith("ValueError: `weights` are non-negative")
    for name in ("loss", "product"):
        assert second[name] == "FileNotFoundError: no such file"
        assert first[name] == "ProbeError: process 1 failed, and with it all others: FileNotFoundError: no such file"
    assert second["operator"].startswith("ProbeError: the loss of probe batch 0 is nan")
    for name in ("construction", "operator"):
        assert first[name].startswith("ProbeError: process 1 failed, and with it all others: ")
    assert first["blocks"] == second["blocks"]
    assert "computed in one process" in first["blocks"]
    assert first["afterwards"] == second["afterwards"] == "none"


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.save(work(), Path(sys.argv[1]))
    dist.destroy_process_group()
