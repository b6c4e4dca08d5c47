import itertools

import pytest
import torch

from lightning_regimes.networks import DeepLinear


def target(rank=2, rows=4, columns=5):
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(size, rank, generator=generator, dtype=torch.float64)).Q for size in (rows, columns)
    )
    return left @ right.T


def test_aligned_layers_are_balanced_in_the_singular_vectors_of_the_target():
    network = DeepLinear((5, 6, 7, 4)).double()
    matrix = target()
    network.align(matrix)
    weights = [weight.detach() for weight in network.weights]
    for below, above in itertools.pairwise(weights):
        torch.testing.assert_close(above.T @ above, below @ below.T)
    found = network.modes(matrix)
    assert found is not None
    s, rho = found
    torch.testing.assert_close(torch.linalg.svdvals(weights[1])[:4], s)
    errors = torch.linalg.svdvals(network.product() - matrix)
    torch.testing.assert_close(rho.abs().sort(descending=True).values, errors)


def test_forward_is_the_product_of_the_weights():
    network = DeepLinear((5, 6, 4))
    inputs = torch.randn(3, 5)
    torch.testing.assert_close(network(inputs), inputs @ network.product().T)
    bent = DeepLinear((5, 6, 4), activation="tanh")
    torch.testing.assert_close(bent(inputs), torch.tanh(inputs @ bent.weights[0].T) @ bent.weights[1].T)


def test_gaussian_layers_and_bent_ones_have_no_modes():
    assert DeepLinear((5, 6, 4)).modes(target()) is None
    bent = DeepLinear((5, 6, 4), activation="tanh")
    bent.align(target())
    assert bent.modes(target()) is None


def test_what_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="rank 3, which the narrowest"):
        DeepLinear((5, 2, 4)).align(target(rank=3))
    with pytest.raises(ValueError, match="`target` must have shape"):
        DeepLinear((5, 2, 4)).modes(torch.eye(4))
    with pytest.raises(ValueError, match="`dims`"):
        DeepLinear((5,))
    with pytest.raises(ValueError, match="`activation`"):
        DeepLinear(activation="relu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`standard_deviation`"):
        DeepLinear(standard_deviation=0.0)
