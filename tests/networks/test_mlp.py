"""The network against its formula, its initialisation and its symmetries."""

import math

import pytest
import torch

from lightning_regimes.networks import MLP


def test_forward_is_the_formula() -> None:
    network = MLP(2, 1, hidden_sizes=(7, 5)).double()
    first, second, last = (layer for layer in network.layers if isinstance(layer, torch.nn.Linear))
    points = torch.rand(11, 2, dtype=torch.float64)
    hidden = torch.tanh(points @ first.weight.T + first.bias)
    hidden = torch.tanh(hidden @ second.weight.T + second.bias)
    torch.testing.assert_close(network(points), hidden @ last.weight.T + last.bias)


def test_initial_values() -> None:
    torch.manual_seed(0)
    network = MLP(2, 1, hidden_sizes=(400, 300))
    for layer in network.layers:
        if isinstance(layer, torch.nn.Linear):
            assert (layer.bias == 0).all()
            expected = math.sqrt(2 / (layer.in_features + layer.out_features))
            if layer.weight.numel() > 10_000:
                assert layer.weight.std().item() == pytest.approx(expected, rel=0.02)


def test_benchmark_network_has_the_usual_size() -> None:
    assert sum(parameter.numel() for parameter in MLP().parameters()) == 5301


def test_domain_is_mapped_to_the_unit_box() -> None:
    torch.manual_seed(0)
    scaled = MLP(2, 1, hidden_sizes=(8,), domain=[(0.0, 4.0), (-3.0, 1.0)])
    plain = MLP(2, 1, hidden_sizes=(8,))
    plain.load_state_dict(scaled.state_dict())
    points = torch.tensor([[0.0, 1.0], [4.0, -3.0], [3.0, -1.0]])
    torch.testing.assert_close(scaled(points), plain(torch.tensor([[-1.0, 1.0], [1.0, -1.0], [0.5, 0.0]])))


def test_periodic_input() -> None:
    torch.manual_seed(0)
    network = MLP(2, 1, hidden_sizes=(8,), periods=[2 * math.pi, None]).double()
    points = torch.rand(20, 2, dtype=torch.float64)
    shifted = points + torch.tensor([2 * math.pi, 0.0], dtype=torch.float64)
    torch.testing.assert_close(network(shifted), network(points), rtol=1e-6, atol=1e-12)
    assert (network(points + torch.tensor([0.0, 0.5], dtype=torch.float64)) - network(points)).abs().max() > 1e-3


def test_arguments_rebuild_it() -> None:
    network = MLP(2, 3, hidden_sizes=(4,), activation="sin", domain=[(0.0, 1.0), (0.0, 2.0)])
    again = MLP(**network.arguments)
    again.load_state_dict(network.state_dict())
    points = torch.rand(5, 2)
    assert torch.equal(network(points), again(points))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_sizes": (0,)}, "at least 1"),
        ({"activation": "relu"}, "must be one of"),
        ({"domain": [(0.0, 1.0)]}, "one entry for each"),
        ({"domain": [(0.0, 1.0), (1.0, 1.0)]}, "lower < upper"),
        ({"periods": [-1.0, None]}, "positive or None"),
    ],
)
def test_wrong_arguments_raise(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLP(2, 1, **arguments)
