"""What a Hessian operator keeps in memory, and that it lets go of it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from functools import partial
from itertools import accumulate

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from lightning_regimes.curvature import HessianOperator, eigsh
from lightning_regimes.curvature.gradient_graph import graph_bytes
from lightning_regimes.probe import LossProbe


def make_probe(*, num_samples: int = 64, width: int = 128, num_batches: int = 1) -> LossProbe:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.BatchNorm1d(width), nn.Linear(width, 1))
    batches = [torch.randn(num_samples, 4) for _ in range(num_batches)]
    return LossProbe(module, batches, loss=lambda m, b: m(b).square().mean())


def num_tensors() -> int:
    return sum(isinstance(item, Tensor) for item in gc.get_objects())


def allocated_bytes(compute: Callable[[], object]) -> list[int]:
    """What torch holds on the CPU beyond the start, after each allocation and release, as its allocator reports it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        compute()
    assert profiler.profiler is not None
    # The events of the profiler itself: its public list leaves out what belongs to an operation.
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return list(accumulate((event.nbytes() for event in events), initial=0))


NETWORKS = {
    "dense": (
        lambda: nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 1)),
        (512, 64),
    ),
    "convolutional": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.Tanh(), nn.Flatten()
        ),
        (64, 1, 14, 14),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_peak_of_kept_graph_is_near_that_of_a_fresh_double_backward(name: str) -> None:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    module, batch = make(), torch.randn(shape)
    parameters = list(module.parameters())
    probe = LossProbe(module, [batch], loss=lambda m, b: m(b).square().mean())
    vector = torch.randn(probe.num_parameters)

    def fresh() -> Tensor:
        gradient = torch.autograd.grad(module(batch).square().mean(), parameters, create_graph=True)
        pieces = vector.split([parameter.numel() for parameter in parameters])
        directions = [piece.view_as(parameter) for piece, parameter in zip(pieces, parameters, strict=True)]
        products = torch.autograd.grad(gradient, parameters, grad_outputs=directions)
        return torch.cat([product.flatten() for product in products])

    def kept() -> None:
        with HessianOperator(probe) as operator:
            assert operator.num_cached_batches == 1
            for _ in range(3):
                operator @ vector  # not held on to: a second product alive would count against the graph

    torch.testing.assert_close(HessianOperator(probe) @ vector, fresh())
    peak = max(allocated_bytes(fresh))
    assert peak > batch.nbytes
    assert max(allocated_bytes(kept)) <= 1.2 * peak


def test_fifty_products_and_fifty_probes_leave_no_bytes_behind() -> None:
    operator = HessianOperator(make_probe(num_batches=2))
    vector = torch.ones(operator.shape[0])

    def multiply(count: int) -> None:
        for _ in range(count):
            operator @ vector

    def look(count: int) -> None:
        for _ in range(count):
            with HessianOperator(make_probe(num_batches=2)) as fresh:
                fresh @ vector

    gc.disable()  # a reference cycle would survive
    try:
        for repeat in (multiply, look):
            repeat(1)
            once, often = allocated_bytes(partial(repeat, 1)), allocated_bytes(partial(repeat, 50))
            assert once[-1] == often[-1] == 0
            assert max(often) <= 1.01 * max(once)
    finally:
        gc.enable()


@pytest.mark.parametrize("max_cache_bytes", [None, 0])
def test_no_growth_over_fifty_probes(max_cache_bytes: int | None) -> None:
    def look_once() -> None:
        operator = HessianOperator(make_probe(num_batches=2), max_cache_bytes=max_cache_bytes)
        eigsh(operator, 1, max_matvecs=3)

    look_once()
    gc.collect()
    before = num_tensors()
    gc.disable()  # a reference cycle would survive
    try:
        for _ in range(50):
            look_once()
        assert num_tensors() <= before
    finally:
        gc.enable()


def test_graph_goes_with_the_operator_and_on_close() -> None:
    gc.disable()
    try:
        operator = HessianOperator(make_probe())
        graph = weakref.ref(operator._engine.graphs[0][0])
        del operator
        assert graph() is None
        with HessianOperator(make_probe()) as operator:
            graph = weakref.ref(operator._engine.graphs[0][0])
            assert operator.num_cached_batches == 1
        assert graph() is None
        assert operator.num_cached_batches == 0
    finally:
        gc.enable()


def test_graph_bytes_follow_the_activations() -> None:
    # Hidden activations of 64 × 1000 float32: the graph of the gradient holds a few of them, and nothing of that order
    # besides; the parameters are not counted.
    hidden = 64 * 1000 * 4
    probe, doubled = make_probe(width=1000), make_probe(width=1000, num_samples=128)
    with probe.isolated(), doubled.isolated():
        size = graph_bytes(probe, 0)
        assert 3 * hidden <= size <= 12 * hidden
        assert graph_bytes(doubled, 0) == pytest.approx(2 * size, rel=0.1)


def test_batches_are_kept_up_to_the_bound() -> None:
    probe = make_probe(num_batches=5)
    with probe.isolated():
        size = graph_bytes(probe, 0)
    vector = torch.ones(probe.num_parameters)
    expected = HessianOperator(probe) @ vector
    for count in (0, 2, 5):
        operator = HessianOperator(probe, max_cache_bytes=int(size * (count + 0.5)))
        assert operator.num_cached_batches == count
        torch.testing.assert_close(operator @ vector, expected)


def test_module_is_left_alone() -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)).train()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    generator_state = torch.get_rng_state()
    probe = LossProbe(module, [torch.randn(16, 4)], loss=lambda m, b: m(b).square().mean(), mode="train")
    torch.set_rng_state(generator_state)
    eigsh(HessianOperator(probe), 2)
    assert torch.equal(torch.get_rng_state(), generator_state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(submodule.training for submodule in module.modules())
