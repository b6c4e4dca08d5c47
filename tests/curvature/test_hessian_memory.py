"""What a Hessian operator keeps in memory, and that it lets go of it."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

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
        graph = weakref.ref(operator._graphs[0][0])
        del operator
        assert graph() is None
        with HessianOperator(make_probe()) as operator:
            graph = weakref.ref(operator._graphs[0][0])
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
