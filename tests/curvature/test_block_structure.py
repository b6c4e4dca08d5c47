"""Blocks of the Hessian and the share of their rows against dense float64 Hessians."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_regimes.curvature import block_operators, block_structure, parameters_of, row_block_share
from lightning_regimes.probe import LossProbe


def network() -> tuple[nn.Sequential, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return module, (torch.randn(40, 4, dtype=torch.float64), torch.arange(40) % 3)


def probe_of(module: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> LossProbe:
    return LossProbe(module, batches, loss=lambda m, b: functional.cross_entropy(m(b[0]), b[1]))


def dense(module: nn.Module, batch: tuple[Tensor, Tensor], names: list[str]) -> Tensor:
    values = {name: parameter.detach() for name, parameter in module.named_parameters()}
    sizes = [values[name].numel() for name in names]

    def loss(weights: Tensor) -> Tensor:
        moved = {name: piece.view_as(values[name]) for name, piece in zip(names, weights.split(sizes), strict=True)}
        return functional.cross_entropy(torch.func.functional_call(module, values | moved, (batch[0],)), batch[1])

    return torch.autograd.functional.hessian(loss, torch.cat([values[name].flatten() for name in names]))


def share(matrix: Tensor, rows: int) -> float:
    blocks = matrix.view(rows, len(matrix) // rows, rows, -1)
    return float(sum(blocks[row, :, row].square().sum() for row in range(rows)) / matrix.square().sum())


def test_blocks_are_those_of_the_hessian() -> None:
    module, (inputs, targets) = network()
    probe = probe_of(module, [(inputs[:30], targets[:30]), (inputs[30:], targets[30:])])
    operators = block_operators(probe)
    assert list(operators) == ["0", "2", "4"]
    for layer, operator in operators.items():
        truth = dense(module, (inputs, targets), [f"{layer}.weight", f"{layer}.bias"])
        torch.testing.assert_close(operator @ torch.eye(len(truth), dtype=torch.float64), truth)
        assert operator.num_matvecs == len(truth)
    chosen = block_operators(probe, {"biases": "*.bias", "ends": ["0.*", "4.*"]})
    assert chosen["biases"].names == ("0.bias", "2.bias", "4.bias")
    truth = dense(module, (inputs, targets), ["0.bias", "2.bias", "4.bias"])
    torch.testing.assert_close(chosen["biases"] @ torch.eye(14, dtype=torch.float64), truth)
    with pytest.raises(ValueError, match="block 'x' matches no parameter"):
        block_operators(probe, {"x": "9.*"})


def test_parameters_of_an_optimizer() -> None:
    module, batch = network()
    optimizer = torch.optim.SGD(module[2].parameters(), lr=0.1)
    probe = LossProbe(
        module,
        [batch],
        loss=lambda m, b: functional.cross_entropy(m(b[0]), b[1]),
        parameters=parameters_of(optimizer),
    )
    assert list(probe.parameters) == ["2.weight", "2.bias"]


def test_as_many_groups_as_rows_are_exact_but_for_the_signs() -> None:
    # A diagonal operator sends every sign vector to the same squares.
    entries = torch.linspace(1, 3, 12, dtype=torch.float64)
    found = row_block_share(torch.diag(entries), 4, num_groups=4)
    assert found.value == pytest.approx(1)
    assert found.standard_error == pytest.approx(0, abs=1e-12)
    assert found.num_matvecs == 16


def test_estimate_is_unbiased_with_its_standard_error() -> None:
    module, batch = network()
    matrix = dense(module, batch, ["0.weight"])
    truth = share(matrix, 6)
    assert 0.3 < truth < 0.95
    for groups in (2, 4, 6):  # of 6 rows: equal, unequal and single
        found = [row_block_share(matrix, 6, num_groups=groups, num_samples=16, seed=seed) for seed in range(150)]
        values = torch.tensor([estimate.value for estimate in found])
        claimed = torch.tensor([estimate.standard_error for estimate in found]).square().mean().sqrt()
        assert float(values.std()) == pytest.approx(float(claimed), rel=0.25)
        # The ratio of two means is biased by a fraction of its standard error.
        assert abs(float(values.mean()) - truth) <= 3 * float(values.std()) / 150**0.5 + 0.15 * float(values.std())


def test_structure_of_a_network() -> None:
    module, batch = network()
    found = block_structure(probe_of(module, [batch]), num_groups=6, num_samples=60)
    assert found.names == ("0.weight", "2.weight", "4.weight")
    assert found.rows == (6, 5, 3)
    assert found.total.num_matvecs == 60 * (6 + 5 + 3)
    matrices = [dense(module, batch, [name]) for name in found.names]
    truths = [share(matrix, rows) for matrix, rows in zip(matrices, found.rows, strict=True)]
    for value, error, truth in zip(found.shares, found.standard_errors, truths, strict=True):
        assert abs(value - truth) <= 4 * error
        assert error < 0.1
    masses = [float(matrix.square().sum()) for matrix in matrices]
    total = sum(mass * truth for mass, truth in zip(masses, truths, strict=True)) / sum(masses)
    assert abs(found.total.value - total) <= 4 * found.total.standard_error
    assert found.chance == (1 / 6, 1 / 5, 1 / 3)
    assert found.figure().axes[0].get_yticklabels()[1].get_text() == "2.weight"


def test_dominance_is_one_for_equal_blocks() -> None:
    found = row_block_share(torch.ones(12, 12, dtype=torch.float64), 4, num_groups=4, num_samples=400)
    assert abs(found.value - 1 / 4) <= 4 * found.standard_error


def test_arguments_are_checked() -> None:
    matrix = torch.eye(6)
    for options, message in (
        ({"rows": 4}, "`rows` must be at least 2 and divide"),
        ({"rows": 3, "num_groups": 1}, "`num_groups`"),
        ({"rows": 3, "num_samples": 1}, "`num_samples`"),
    ):
        with pytest.raises(ValueError, match=message):
            row_block_share(matrix, **options)  # type: ignore[arg-type]
