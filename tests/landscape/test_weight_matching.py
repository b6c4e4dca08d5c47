import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_regimes.landscape.permutation_specification import PermutationSpecification, infer_specification
from lightning_regimes.landscape.weight_matching import weight_matching
from lightning_regimes.modules.classifier import Classifier
from lightning_regimes.networks.mlp import MLP


def perceptron(seed, activation=nn.Tanh, sizes=(5, 7, 6, 3)):
    torch.manual_seed(seed)
    layers = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1]).double()


def convolutional(seed, activation=nn.ReLU):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), activation(), nn.Dropout(0.5)),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 4, 3, bias=False),
        activation(),
        nn.Flatten(),
        nn.Linear(4 * 2 * 2, 5),
        nn.BatchNorm1d(5),
        activation(),
        nn.Linear(5, 3),
    ).double()
    for layer in (net[0][1], net[6]):
        for tensor in (layer.weight.data, layer.running_var):
            tensor.uniform_(0.5, 2.0)
        for tensor in (layer.bias.data, layer.running_mean):
            tensor.uniform_(-1.0, 1.0)
    return net.eval()


def images():
    return torch.randn(7, 2, 10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def loaded(net, state):
    other = copy.deepcopy(net)
    other.load_state_dict(state)
    return other.eval()


def shuffled(net, seed, *, sign=False):
    """The same function with its hidden units in another order and, with `sign`, with other signs."""
    generator = torch.Generator().manual_seed(seed)
    net = copy.deepcopy(net)
    linears = [layer for layer in net if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for before, after in itertools.pairwise(linears):
            order = torch.randperm(before.out_features, generator=generator)
            flips = torch.ones(len(order)).double()
            if sign:
                flips = torch.randint(2, (len(order),), generator=generator).double() * 2 - 1
            before.weight.copy_(flips[:, None] * before.weight[order])
            before.bias.copy_(flips * before.bias[order])
            after.weight.copy_(after.weight[:, order] * flips)
    return net


@given(seed=st.integers(0, 1000), sign=st.booleans(), depth=st.integers(1, 3), width=st.integers(2, 12))
@settings(max_examples=40, deadline=None)
def test_permuted_copy_is_recovered_exactly(seed, sign, depth, width):
    net = perceptron(seed, sizes=(6, *[width] * depth, 3))
    result = weight_matching(net, shuffled(net, seed, sign=sign), sign=sign)
    # One hidden layer is one assignment; deeper networks start from an unmatched neighbour and may stop elsewhere.
    if depth == 1:
        for name, tensor in net.state_dict().items():
            assert torch.equal(tensor, result.state[name])
    assert result.converged


def test_permuted_copy_of_a_deep_network_is_recovered_exactly():
    net = perceptron(0, sizes=(20, 32, 32, 32, 5))
    for sign in (False, True):
        result = weight_matching(net, shuffled(net, 1, sign=sign), sign=sign)
        for name, tensor in net.state_dict().items():
            assert torch.equal(tensor, result.state[name])
        total = sum(float(tensor.square().sum()) for name, tensor in net.state_dict().items() if name != "6.bias")
        assert result.similarity == pytest.approx(total, rel=1e-12)


@given(seeds=st.tuples(st.integers(0, 1000), st.integers(0, 1000)), sign=st.booleans())
@settings(max_examples=25, deadline=None)
def test_function_stays_the_same_and_the_distance_falls(seeds, sign):
    first, second = perceptron(seeds[0]), perceptron(seeds[1] + 1001)
    result = weight_matching(first, second, sign=sign)
    inputs = torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    permuted = loaded(second, result.state)
    torch.testing.assert_close(permuted(inputs), second(inputs), rtol=1e-12, atol=1e-12)
    distances = [
        sum((a - b).square().sum().item() for a, b in zip(first.parameters(), net.parameters(), strict=True))
        for net in (second, permuted)
    ]
    assert distances[1] <= distances[0]


def test_one_layer_is_matched_as_well_as_by_trying_all_orders():
    first, second = perceptron(0, sizes=(3, 5, 2)), perceptron(1, sizes=(3, 5, 2))
    units = [
        torch.cat([net[0].weight, net[0].bias[:, None], net[2].weight.T], dim=1).detach() for net in (first, second)
    ]
    products = units[0] @ units[1].T
    for sign, gains in ((False, products), (True, products.abs())):
        best = max(sum(gains[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(5)))
        assert weight_matching(first, second, sign=sign).similarity == pytest.approx(float(best), rel=1e-12)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_convolutions_normalisation_and_blocks_behind_flatten(activation):
    first, second = convolutional(0, activation), convolutional(1, activation)
    sign = activation is nn.Tanh
    result = weight_matching(first, second, sign=sign)
    assert {name: len(order) for name, order in result.permutations.items()} == {"0.0": 6, "2": 4, "5": 5}
    assert any(not torch.equal(order, torch.arange(len(order))) for order in result.permutations.values())
    assert sign == any(bool((signs < 0).any()) for signs in result.signs.values())
    permuted = loaded(second, result.state)
    torch.testing.assert_close(permuted(images()), second(images()), rtol=1e-10, atol=1e-10)
    # The copy that was just made, matched back, is the network again.
    back = weight_matching(second, permuted, sign=sign)
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, back.state[name])


def test_signs_are_those_of_the_activation():
    odd = {nn.Tanh: True, nn.ReLU: False, nn.GELU: False, nn.Softsign: True, nn.Identity: True, nn.Sigmoid: False}
    for activation, expected in odd.items():
        assert bool(infer_specification(perceptron(0, activation)).odd) == expected, activation
    for name, expected in {"tanh": True, "sin": True, "gelu": False}.items():
        assert bool(infer_specification(MLP(hidden_sizes=(4, 4), activation=name)).odd) == expected, name


def test_wrapped_networks_are_found():
    torch.manual_seed(0)
    module = Classifier(network=MLP(64, 10, hidden_sizes=(8,)))
    specification = infer_specification(module)
    prefix = "network.layers"
    assert specification.axes == {
        f"{prefix}.0.weight": (f"{prefix}.0", None),
        f"{prefix}.0.bias": (f"{prefix}.0",),
        f"{prefix}.2.weight": (None, f"{prefix}.0"),
    }
    other = Classifier(network=MLP(64, 10, hidden_sizes=(8,)))
    result = weight_matching(module, other)
    inputs = torch.rand(4, 64)
    torch.testing.assert_close(loaded(other, result.state)(inputs), other(inputs), rtol=1e-4, atol=1e-5)


def test_layer_norm_keeps_orders_but_not_signs():
    torch.manual_seed(0)
    nets = [
        nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2), nn.Softmax(dim=1)).double()
        for _ in range(2)
    ]
    nn.init.normal_(nets[1][1].weight)
    result = weight_matching(*nets)
    inputs = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(loaded(nets[1], result.state)(inputs), nets[1](inputs), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="no hidden unit of this network has an odd activation"):
        weight_matching(*nets, sign=True)


class Residual(nn.Module):
    """The units before and behind the middle layer have to keep one order."""

    def __init__(self):
        super().__init__()
        self.enter, self.middle, self.leave = nn.Linear(4, 16), nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, inputs):
        hidden = torch.relu(self.enter(inputs))
        return self.leave(hidden + torch.relu(self.middle(hidden)))


def test_explicit_specification_of_a_residual_network():
    torch.manual_seed(0)
    first, second = Residual().double(), Residual().double()
    with pytest.raises(ValueError, match="3 of its children have parameters; pass `specification`"):
        weight_matching(first, second)
    specification = PermutationSpecification(
        {
            "enter.weight": ("units", None),
            "enter.bias": ("units",),
            "middle.weight": ("units", "units"),
            "middle.bias": ("units",),
            "leave.weight": (None, "units"),
        }
    )
    result = weight_matching(first.state_dict(), second.state_dict(), specification)
    assert result.converged
    inputs = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(loaded(second, result.state)(inputs), second(inputs), rtol=1e-12, atol=1e-12)
    same = weight_matching(second.state_dict(), result.state, specification)
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, same.state[name])


def test_tensors_keep_their_dtype_and_share_no_memory():
    first, second = perceptron(0).float(), perceptron(1).float()
    state = weight_matching(first, second).state
    before = {name: tensor.clone() for name, tensor in second.state_dict().items()}
    for tensor in state.values():
        assert tensor.dtype == torch.float32
        tensor.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in second.state_dict().items())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Linear(4, 6), nn.Softmax(dim=1), nn.Linear(6, 2)], "Softmax '1' acts on hidden units together"),
        ([nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=2)], "'1' isn't a layer of a known kind"),
        ([nn.Conv2d(4, 4, 3), nn.Linear(8, 2)], "'1' doesn't act on the units before it"),
        ([nn.Linear(4, 6), nn.Flatten(), nn.Linear(18, 2)], "'2' doesn't act on the units before it"),
        ([nn.Linear(4, 6), nn.MaxPool1d(2), nn.Linear(3, 2)], "'1' mixes the units before it"),
        ([nn.Linear(4, 6)], "no hidden units to permute"),
    ],
)
def test_chains_without_this_symmetry_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        infer_specification(nn.Sequential(*layers))


class Each(nn.Module):
    """A function without parameters; `scale` is a buffer."""

    def __init__(self, function, scale=1.0):
        super().__init__()
        self.function = function
        self.register_buffer("scale", torch.as_tensor(scale))

    def forward(self, inputs):
        return self.function(inputs, self.scale)


@pytest.mark.parametrize(
    ("function", "scale"),
    [
        (lambda inputs, scale: inputs * scale, torch.arange(1.0, 7.0)),
        (lambda inputs, scale: inputs * scale, torch.tensor([1.0, 1, 1, 1, 1, 2])),
        (lambda inputs, scale: inputs.cumsum(1), 1.0),
        (lambda inputs, scale: inputs + inputs.roll(1, 1) * (inputs.shape[1] > 1), 1.0),
        (lambda inputs, scale: torch.cat([inputs[:, :1], inputs[:, 1:].abs()], 1), 1.0),
    ],
)
@pytest.mark.parametrize("channels", [False, True])
def test_layers_that_tell_the_units_apart_are_refused(function, scale, channels):
    if channels and isinstance(scale, torch.Tensor):
        scale = scale[:, None, None]
    make = (lambda *sizes: nn.Conv2d(*sizes, 1)) if channels else nn.Linear
    with pytest.raises(ValueError, match="Each '1' acts on hidden units together, or not on all of them alike"):
        infer_specification(nn.Sequential(make(4, 6), Each(function, scale), make(6, 2)))


def test_a_function_of_each_unit_alone_may_have_a_buffer():
    torch.manual_seed(0)
    nets = [
        nn.Sequential(nn.Linear(4, 6), Each(lambda inputs, scale: (scale * inputs).sin(), 3.0), nn.Linear(6, 2))
        for _ in range(2)
    ]
    result = weight_matching(*nets, sign=True)
    inputs = torch.randn(5, 4)
    torch.testing.assert_close(loaded(nets[1], result.state)(inputs), nets[1](inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_layers_that_share_a_parameter_are_refused(name):
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    setattr(second, name, getattr(first, name))
    with pytest.raises(ValueError, match="the layer '2' occurs twice in the chain, or shares a parameter with one"):
        infer_specification(nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Linear(6, 2)))


def test_layer_that_occurs_twice_is_refused():
    shared = nn.Linear(6, 6)
    with pytest.raises(ValueError, match="occurs twice"):
        infer_specification(nn.Sequential(shared, nn.Tanh(), shared))


def test_wrong_input_is_named():
    net = perceptron(0)
    state = net.state_dict()
    with pytest.raises(ValueError, match="`specification` is needed for two state dicts"):
        weight_matching(state, state)
    with pytest.raises(ValueError, match="`iterations` is at least 1"):
        weight_matching(net, state, iterations=0)
    with pytest.raises(ValueError, match=r"only one of them has '4\.bias'"):
        weight_matching(net, {name: tensor for name, tensor in state.items() if name != "4.bias"})
    with pytest.raises(ValueError, match=r"'0\.weight' has the shapes \(7, 5\) and \(8, 5\)"):
        weight_matching(net, {**state, "0.weight": torch.zeros(8, 5)})
    for axes, message in (
        ({"9.weight": ("a", None)}, r"names '9\.weight', which the state dict lacks"),
        ({"0.weight": ("a",)}, r"has 1 axes for '0\.weight'"),
        ({"0.weight": ("a", None), "2.weight": ("a", None)}, r"'a' act on axes of lengths \[6, 7\]"),
    ):
        with pytest.raises(ValueError, match=message):
            weight_matching(net, net, PermutationSpecification(axes))
    with pytest.raises(ValueError, match="names no permutation"):
        weight_matching(net, net, PermutationSpecification({"0.bias": ("a",)}, frozenset({"b"})))
