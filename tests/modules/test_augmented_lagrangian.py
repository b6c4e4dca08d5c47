"""The method of multipliers against its formulas and a problem with a known multiplier."""

import pytest
import torch

from lightning_regimes.modules.augmented_lagrangian import AugmentedLagrangian, Multipliers


def test_term_and_update_are_the_formulas() -> None:
    multipliers = Multipliers(["initial"], AugmentedLagrangian(penalty=2.0, growth=3.0, max_updates=2))
    multipliers.double()
    first, second = (torch.tensor(row, dtype=torch.float64) for row in ([[1.0], [2.0]], [[0.5], [-1.0]]))
    assert multipliers.term("initial", first).item() == pytest.approx(0.5 * 2 * 2.5)
    multipliers.update({"initial": first})
    # λ = 2 r = (2, 4), μ = 6.
    assert multipliers.term("initial", second).item() == pytest.approx((1.0 - 4.0) / 2 + 0.5 * 6 * 0.625)
    multipliers.update({"initial": second})
    # λ = (2 + 3, 4 − 6), μ = 18.
    assert multipliers.get_buffer("multiplier_initial").flatten().tolist() == [5.0, -2.0]
    assert multipliers.penalty.item() == 18.0
    multipliers.update({"initial": second})
    assert multipliers.penalty.item() == 18.0


def test_finds_the_multiplier_of_a_constrained_minimum() -> None:
    # min ½ (x − 3)² subject to x = 1: gradient x − 3 + λ = 0, hence λ = 2.
    multipliers = Multipliers(["boundary"], AugmentedLagrangian(penalty=1.0, growth=1.0, max_updates=50))
    multipliers.double()
    x = torch.tensor(0.0, dtype=torch.float64)
    for _ in range(50):
        multiplier = multipliers.get_buffer("multiplier_boundary")
        value = multiplier.item() if multiplier.numel() else 0.0
        # The minimum of ½ (x − 3)² + λ (x − 1) + ½ μ (x − 1)² with μ = 1.
        x = torch.tensor((3 - value + 1) / 2, dtype=torch.float64)
        multipliers.update({"boundary": (x - 1).reshape(1, 1)})
    assert x.item() == pytest.approx(1.0, abs=1e-9)
    assert multipliers.get_buffer("multiplier_boundary").item() == pytest.approx(2.0, abs=1e-9)


def test_state_is_restored_into_a_fresh_object() -> None:
    trained = Multipliers(["initial", "periodic"], AugmentedLagrangian())
    trained.update({"initial": torch.rand(5, 1), "periodic": torch.rand(3, 1)})
    fresh = Multipliers(["initial", "periodic"], AugmentedLagrangian())
    fresh.load_state_dict(trained.state_dict())
    for name, entry in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], entry)


def test_other_points_raise() -> None:
    multipliers = Multipliers(["initial"], AugmentedLagrangian())
    multipliers.update({"initial": torch.rand(5, 1)})
    with pytest.raises(ValueError, match="same condition points"):
        multipliers.term("initial", torch.rand(4, 1))


@pytest.mark.parametrize("options", [{"penalty": 0.0}, {"growth": 0.5}, {"every_n_steps": 0}, {"max_updates": -1}])
def test_wrong_options_raise(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        AugmentedLagrangian(**options)
