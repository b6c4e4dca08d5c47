import copy
import random
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_regimes.landscape.independence_criterion import centered, independence_criterion
from lightning_regimes.landscape.similarity import cka


def net(seed, width=12):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 3)).double()


def samples(count=96, seed=0):
    return torch.randn(count, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gram_criterion(x, y, estimator):
    """HSIC by its definition in n × n kernel matrices."""
    k, kernel_l = x @ x.T, y @ y.T
    n = len(x)
    one = torch.ones(n, dtype=torch.float64)
    if estimator == "biased":
        h = torch.eye(n, dtype=torch.float64) - 1 / n
        return torch.trace(k @ h @ kernel_l @ h) / (n - 1) ** 2
    k, kernel_l = k - torch.diag(k.diag()), kernel_l - torch.diag(kernel_l.diag())
    sums = (one @ k @ one) * (one @ kernel_l @ one) / ((n - 1) * (n - 2))
    return (torch.trace(k @ kernel_l) + sums - 2 / (n - 2) * (one @ k @ kernel_l @ one)) / (n * (n - 3))


def quadruple_criterion(x, y):
    """The unbiased HSIC as a mean over all quadruples of different samples."""
    k, kernel_l = (x @ x.T).numpy(), (y @ y.T).numpy()
    n, total, count = len(x), 0.0, 0
    for i, j, q, r in np.ndindex(n, n, n, n):
        if len({i, j, q, r}) == 4:
            total += k[i, j] * (kernel_l[i, j] + kernel_l[q, r] - 2 * kernel_l[i, q])
            count += 1
    return total / count


@given(
    count=st.integers(4, 20), sizes=st.tuples(st.integers(1, 30), st.integers(1, 30)), seed=st.integers(0, 1000),
    estimator=st.sampled_from(["biased", "unbiased"]), offset=st.sampled_from([0.0, 1.0, 10.0]),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_criterion_equals_its_definition_in_kernel_matrices(count, sizes, seed, estimator, offset):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(count, size, dtype=torch.float64, generator=generator) + offset for size in sizes)
    scale = float(x.square().sum() * y.square().sum()) / count**2
    found = independence_criterion(centered(x), centered(y), estimator)
    assert found == pytest.approx(float(gram_criterion(x, y, estimator)), abs=1e-12 * scale)


def test_unbiased_criterion_is_the_mean_over_quadruples():
    x, y = samples(7)[:, :4], samples(7, seed=1)[:, 2:]
    found = independence_criterion(centered(x), centered(y), "unbiased")
    assert found == pytest.approx(quadruple_criterion(x, y), rel=1e-10)


def test_unbiased_criterion_of_independent_features_is_zero_on_average():
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randn(2, 8, 5, dtype=torch.float64, generator=generator) for _ in range(2000)]
    found = {
        kind: np.array([independence_criterion(centered(x), centered(y), kind) for x, y in pairs])
        for kind in ("biased", "unbiased")
    }
    error = found["unbiased"].std() / np.sqrt(len(pairs))
    assert abs(found["unbiased"].mean()) < 3 * error
    assert found["biased"].mean() > 100 * error


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize("pairs", ["matching", "all"])
def test_network_equals_itself(estimator, pairs):
    one = net(0)
    for other in (one, copy.deepcopy(one)):
        result = cka(one, other, list(samples().split(24)), estimator=estimator, pairs=pairs)
        values = result.values if pairs == "matching" else result.values.diagonal()
        assert result.layers == result.layers_b == ("0", "1", "2")
        assert result.num_samples == 96
        assert values == pytest.approx(np.ones(3), abs=1e-12)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_all_pairs_equal_the_ratio_of_kernel_matrices(estimator):
    first, second, batches = net(0), net(1, width=40), list(samples().split(32))

    def activations(network, batch):
        hidden = network[0](batch)
        return [hidden, network[1](hidden), network(batch)]

    def total(one, i, other, j):
        return sum(
            gram_criterion(activations(one, b)[i].detach(), activations(other, b)[j].detach(), estimator)
            for b in batches
        )

    expected = np.array(
        [
            [
                float(
                    total(first, i, second, j)
                    / torch.sqrt(total(first, i, first, i) * total(second, j, second, j))
                )
                for j in range(3)
            ]
            for i in range(3)
        ]
    )  # fmt: skip
    result = cka(first, second, batches, pairs="all", estimator=estimator)
    assert result.values == pytest.approx(expected, rel=1e-9)
    assert result.value("0", "2") == result.values[0, 2]
    matching = cka(first, second, batches, estimator=estimator)
    assert matching.values == pytest.approx(expected.diagonal(), rel=1e-9)
    assert matching.value("1") == matching.values[1]


class Transformed(nn.Module):
    def __init__(self, inner, matrix, shift):
        super().__init__()
        self.inner, self.matrix, self.shift = inner, matrix, shift
        self.out = nn.Identity()

    def forward(self, inputs):
        return self.out(self.inner(inputs) @ self.matrix + self.shift)


@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), estimator=st.sampled_from(["biased", "unbiased"]))
@settings(max_examples=20, deadline=None)
def test_rotation_scale_and_shift_change_nothing(seed, scale, estimator):
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator)).Q
    first, second, batches = net(seed), net(seed + 1), list(samples().split(32))
    turned = Transformed(second, scale * rotation, torch.randn(3, dtype=torch.float64, generator=generator))
    plain = cka(first, second, batches, "2", estimator=estimator)
    other = cka(first, turned, batches, "2", layers_b="out", estimator=estimator)
    assert other.values == pytest.approx(plain.values, rel=1e-8, abs=1e-10)


def test_unbiased_value_does_not_depend_on_the_split():
    inputs = samples(1024)
    values = {
        kind: [cka(net(0), net(1), inputs.split(size), "1", estimator=kind).value("1") for size in (1024, 256, 32, 16)]
        for kind in ("unbiased", "biased")
    }
    assert values["unbiased"] == pytest.approx([values["unbiased"][0]] * 4, rel=0.02)
    # The biased one tells sample sizes apart, which is why it is not the default.
    assert values["biased"][-1] > 1.05 * values["biased"][0]


def test_features_of_any_size_of_numbers_work():
    class Scaled(nn.Module):
        def __init__(self, factor, offset):
            super().__init__()
            self.factor, self.offset = factor, offset
            self.out = nn.Identity()

        def forward(self, inputs):
            return self.out(inputs * self.factor + self.offset)

    plain = cka(Scaled(1.0, 0.0), net(0), [samples()], "out", layers_b="1").values
    for factor, offset in ((1e-12, 0.0), (1e20, 0.0), (1.0, 1e5)):
        found = cka(Scaled(factor, offset), net(0), [samples()], "out", layers_b="1").values
        assert found == pytest.approx(plain, rel=1e-7)


def test_constant_layer_is_nan_and_named():
    second = net(1)
    nn.init.zeros_(second[0].weight)
    with pytest.warns(UserWarning, match=r"undefined \(NaN\) for 0, 1, 2"):
        result = cka(net(0), second, samples().split(32))
    assert np.isnan(result.values).all()
    nn.init.normal_(second[0].weight)
    nn.init.zeros_(second[2].weight)
    with pytest.warns(UserWarning, match=r"undefined \(NaN\) for 2:"):
        result = cka(net(0), second, samples().split(32), pairs="all")
    assert np.isnan(result.values[:, 2]).all()
    assert np.isfinite(result.values[:, :2]).all()


def test_layer_that_is_not_finite_is_nan_and_named():
    second = net(1)
    nn.init.constant_(second[2].bias, torch.inf)
    with pytest.warns(UserWarning, match=r"undefined \(NaN\) for 2:"):
        result = cka(net(0), second, [samples()])
    assert np.isnan(result.value("2"))
    assert np.isfinite(result.value("1"))


class Noisy(nn.Module):
    """Changes whatever a forward pass can change."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(6, 4)
        self.register_buffer("calls", torch.zeros(()))
        self.count = 0

    def forward(self, inputs):
        self.calls += 1
        self.count += 1
        torch.rand(1)
        random.random()
        return self.linear(self.drop(self.norm(inputs))).relu_()


def test_nothing_changes_even_when_it_raises():
    module, other = Noisy(), net(0)
    module.norm.eval()
    before = copy.deepcopy(module.state_dict())
    modes = [each.training for each in module.modules()]
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    batches = [samples().float()]
    identities = {name: id(tensor) for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    cka(module, other, batches, "linear", layers_b="2", forward=lambda m, b: m(b.to(next(m.parameters()).dtype)))
    with pytest.raises(RuntimeError):
        cka(module, module, [samples(5)[:, :3].float()])
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert identities == {name: id(tensor) for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    assert [each.training for each in module.modules()] == modes
    assert module.count == 0
    assert not any(each._forward_hooks for each in module.modules())
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert (np.random.get_state()[1] == state[2]).all()


def test_activations_are_kept_from_later_changes_in_place():
    module = Noisy()
    alone = cka(module, module, [samples().float()], "linear", layers_b="norm").values
    module.eval()
    expected_linear = module.linear(module.norm(samples().float())).detach().double()
    expected_norm = module.norm(samples().float()).detach().double()
    x, y = expected_linear, expected_norm
    expected = gram_criterion(x, y, "unbiased") / torch.sqrt(
        gram_criterion(x, x, "unbiased") * gram_criterion(y, y, "unbiased")
    )
    assert alone == pytest.approx([float(expected)], rel=1e-5)


def test_patterns_batches_and_forward():
    first, second = nn.Sequential(net(0), net(2)[2:3]), net(1)
    first = nn.ModuleDict({"encoder": net(0), "decoder": nn.Linear(3, 2).double()})

    def forward(module, batch):
        return module["encoder"](batch["inputs"]) if isinstance(module, nn.ModuleDict) else module(batch["inputs"])

    result = cka(first, second, [{"inputs": samples()}], "encoder.*", layers_b=["0", "1", "2"], forward=forward)
    assert result.layers == ("encoder.0", "encoder.1", "encoder.2")
    assert result.layers_b == ("0", "1", "2")
    plain = cka(net(0), second, [(samples(), torch.zeros(96))])
    assert result.values == pytest.approx(plain.values, rel=1e-12)
    # What the forward pass doesn't reach isn't there by default, and an error when it is asked for.
    every = cka(first, second, [{"inputs": samples()}], pairs="all", layers_b=["1"], forward=forward)
    assert every.layers == ("encoder.0", "encoder.1", "encoder.2")
    with pytest.raises(ValueError, match="doesn't run through the layer 'decoder'"):
        cka(first, second, [{"inputs": samples()}], "decoder", layers_b="1", forward=forward)


def test_wrong_input_is_named():
    one = net(0)
    with pytest.raises(ValueError, match="unbiased estimator needs at least 4 samples a batch, batch 1 of `batches`"):
        cka(one, one, [samples(8), samples(3)])
    assert cka(one, one, [samples(8), samples(3)], estimator="biased").num_samples == 11
    with pytest.raises(ValueError, match="`batches` is empty"):
        cka(one, one, [])
    with pytest.raises(ValueError, match="put it into a list"):
        cka(one, one, samples())
    with pytest.raises(ValueError, match="`estimator` is one of"):
        cka(one, one, [samples()], estimator="linear")
    with pytest.raises(ValueError, match="`pairs` is one of"):
        cka(one, one, [samples()], pairs="some")
    with pytest.raises(ValueError, match="`layers` has '7', which matches no submodule of Sequential; there are 0, 1"):
        cka(one, one, [samples()], "7")
    with pytest.raises(ValueError, match="3 layers meet 1"):
        cka(one, one, [samples()], layers_b="1")
    with pytest.raises(KeyError, match="use `pairs='all'`"):
        cka(one, one, [samples()]).value("0", "1")
    with pytest.raises(KeyError, match="no layer '5'"):
        cka(one, one, [samples()]).value("5")
    recurrent = nn.Sequential(nn.LSTM(6, 2)).double()
    with pytest.raises(TypeError, match="'0' returns tuple"):
        cka(recurrent, one, [samples()], "0")


def test_figures_show_the_values():
    one, two = net(0), net(1)
    matching = cka(one, two, [samples()])
    assert matching.figure().axes[0].lines[0].get_xdata() == pytest.approx(matching.values)
    heat = cka(one, two, [samples()], pairs="all")
    assert np.array_equal(heat.figure().axes[0].images[0].get_array(), heat.values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        constant = net(2)
        nn.init.zeros_(constant[0].weight)
        assert cka(one, constant, [samples()]).figure().axes
