"""The trust region against its formula."""

import numpy as np
import pytest
import torch

from lightning_regimes.modules.region_sampling import RegionSampling, TrustRegion


def test_radius_is_the_formula() -> None:
    region = TrustRegion(6, RegionSampling(initial_radius=1e-3, max_radius=1.0, window=4))
    gradients = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    for index, gradient in enumerate(gradients):
        if index < 4:
            assert region.radius().item() == pytest.approx(1e-3)
        region.observe(gradient)
    last = gradients[-4:].double().numpy()
    spread = np.mean(last.std(axis=0) / np.abs(last).mean(axis=0))
    assert region.radius().item() == pytest.approx(1e-3 / spread, rel=1e-5)


def test_radius_is_bounded() -> None:
    region = TrustRegion(2, RegionSampling(initial_radius=1e-3, max_radius=0.01, window=2))
    for _ in range(2):
        region.observe(torch.tensor([1.0, 0.0]))
    assert region.radius().item() == pytest.approx(0.01)
    for _ in range(2):
        region.observe(torch.zeros(2))
    assert region.radius().item() == pytest.approx(0.01)


def test_points_stay_in_their_region_and_follow_the_step() -> None:
    region = TrustRegion(2, RegionSampling(initial_radius=1e-3))
    points = torch.rand(100, 2)
    state = torch.get_rng_state()
    offset = region.sample(points, step=4) - points
    assert offset.min() >= 0
    assert offset.max() <= 1.001e-3
    assert offset.mean().item() == pytest.approx(5e-4, rel=0.1)
    assert torch.equal(region.sample(points, step=4), region.sample(points, step=4))
    assert not torch.equal(region.sample(points, step=4), region.sample(points, step=5))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"initial_radius": 0.0}, "initial_radius"), ({"max_radius": 1e-9}, "max_radius"), ({"window": 1}, "window")],
)
def test_wrong_options_raise(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RegionSampling(**options)
