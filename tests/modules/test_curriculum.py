"""The schedule from easy to hard."""

import pytest

from lightning_regimes.modules import Curriculum
from lightning_regimes.pde import Convection


def test_schedule() -> None:
    curriculum = Curriculum(start=10.0, num_stages=4, steps_per_stage=5)
    target = Convection(beta=30.0)
    values = [curriculum.problem(target, curriculum.stage(step)).coefficient_value for step in range(0, 30, 5)]
    assert values == [15.0, 20.0, 25.0, 30.0, 30.0, 30.0]
    assert curriculum.stage(4) == 0
    assert curriculum.stage(5) == 1
    assert curriculum.problem(target, 3) is target


@pytest.mark.parametrize("name", ["num_stages", "steps_per_stage"])
def test_wrong_numbers_raise(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Curriculum(**{name: 0})
