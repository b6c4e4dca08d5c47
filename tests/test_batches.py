import collections
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_regimes import LossProbe
from lightning_regimes.batches import num_samples, tensors_of


def mean_square(module, batch):
    inputs, targets = batch
    return F.mse_loss(module(inputs), targets)


def regression_batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 4, generator=generator), torch.randn(16, 2, generator=generator)


def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


@dataclasses.dataclass
class Pair:
    inputs: torch.Tensor
    targets: torch.Tensor


class Store:
    """Tensors behind attributes, with the interface of PyG's Data."""

    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets
        self.num_graphs = 3

    def apply(self, function):
        self.inputs, self.targets = function(self.inputs), function(self.targets)
        return self

    def to(self, device):
        return self.apply(lambda tensor: tensor.to(device))


class Attributes(dict):
    """A dictionary whose items are attributes; it cannot be made without its items."""

    def __init__(self, inputs, targets):
        super().__init__(inputs=inputs, targets=targets)

    def __getattr__(self, name):
        return self[name]


class Movable:
    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def to(self, device):
        return self


@dataclasses.dataclass(frozen=True)
class FrozenPair:
    inputs: torch.Tensor
    targets: torch.Tensor


NamedPair = collections.namedtuple("NamedPair", ["inputs", "targets"])


@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        *((kind, lambda b: (b.inputs, b.targets)) for kind in (Attributes, Movable, FrozenPair, NamedPair)),
        (lambda x, y: collections.UserDict(x=x, y=y), lambda b: (b["x"], b["y"])),
        (lambda x, y: (x, y), lambda b: b),
        (lambda x, y: {"x": x, "more": [y, "label"]}, lambda b: (b["x"], b["more"][0])),
        (Pair, lambda b: (b.inputs, b.targets)),
        (Store, lambda b: (b.inputs, b.targets)),
    ],
    ids=["attributes", "movable", "frozen", "named", "user dict", "tuple", "dict", "dataclass", "store"],
)
def test_batches_of_any_structure(pack, unpack):
    module = mlp()
    x, y = regression_batch()
    probe = LossProbe(module, [pack(x, y)], loss=lambda m, b: mean_square(m, unpack(b)), dtype=torch.float64)
    assert probe.loss().item() == pytest.approx(mean_square(module, (x, y)).item(), rel=1e-6)
    assert [tuple(t.shape) for t in tensors_of(pack(x, y))] == [(16, 4), (16, 2)]
    assert x.dtype == torch.float32


def test_number_of_samples():
    x, y = regression_batch()
    assert num_samples({"a": "text", "x": x}) == 16
    assert num_samples(Store(x, y)) == 3
    assert num_samples([torch.tensor(1.0)]) == num_samples("text") == 1


class Labelled(torch.Tensor):
    """A tensor that knows the names of its columns, and keeps them when it is copied."""

    def clone(self, *args, **kwargs):
        copy = torch.Tensor.clone(self, *args, **kwargs).as_subclass(Labelled)
        copy.labels = list(self.labels)
        return copy

    def detach(self):
        return self.clone()

    def to(self, *args, **kwargs):
        return self.clone()


def test_tensors_of_another_kind_are_copied_by_their_own_methods():
    inputs = torch.randn(5, 2).as_subclass(Labelled)
    inputs.labels = ["x", "y"]

    def column(module, batch):
        return module(batch[0].as_subclass(torch.Tensor)[:, [batch[0].labels.index("y")]]).square().mean()

    module = nn.Linear(1, 1)
    # A module may hold one whose names were lost on the way.
    module.left_behind = (inputs * 2).as_subclass(Labelled)
    probe = LossProbe(module, [(inputs,)], loss=column)
    with probe.isolated():
        assert probe.loss().item() == pytest.approx(column(module, (inputs,)).item())
