import itertools
import random
import types

import numpy as np
import pytest
import torch
from torch import nn

from lightning_regimes import LossProbe, ProbeError
from lightning_regimes.module_state import ModuleState


class WithSlots:
    __slots__ = ("count",)

    def __init__(self):
        self.count = 0


class Counter:
    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return self.count


def resize(module):
    module.state.resize_(3).fill_(1.0)


def reassign_data(module):
    module.state.data = module.state.data + 1


# What a module keeps, how its step changes it, and what shows the change.
CASES = {
    "torch generator": (
        lambda: torch.Generator().manual_seed(0),
        lambda m: torch.randn(2, generator=m.state),
        lambda m: m.state.get_state().tolist(),
    ),
    "numpy generator": (
        lambda: np.random.default_rng(0),
        lambda m: m.state.normal(),
        lambda m: str(m.state.bit_generator.state),
    ),
    "numpy legacy": (lambda: np.random.RandomState(0), lambda m: m.state.rand(), lambda m: m.state.get_state()[2]),
    "python generator": (lambda: random.Random(0), lambda m: m.state.random(), lambda m: m.state.getstate()),
    "namespace": (lambda: types.SimpleNamespace(n=0), lambda m: setattr(m.state, "n", 1), lambda m: m.state.n),
    "slots": (WithSlots, lambda m: setattr(m.state, "count", 1), lambda m: m.state.count),
    "callable": (Counter, lambda m: m.state(), lambda m: m.state.count),
    "bound method": (lambda: Counter().__call__, lambda m: m.state(), lambda m: m.state.__self__.count),
    "nested containers": (
        lambda: {"a": [[1], {2}]},
        lambda m: (m.state["a"][0].append(5), m.state["a"][1].add(7), m.state.update(b=1)),
        lambda m: repr(m.state),
    ),
    "array": (lambda: np.zeros(2), lambda m: m.state.__iadd__(1), lambda m: m.state.tolist()),
    "tensor": (lambda: torch.zeros(2), lambda m: m.state.add_(1), lambda m: m.state.tolist()),
    "tensor through data": (lambda: torch.zeros(2), lambda m: m.state.data.add_(1), lambda m: m.state.tolist()),
    "tensor with new data": (lambda: torch.zeros(2), reassign_data, lambda m: m.state.tolist()),
    "resized tensor": (lambda: torch.zeros(2), resize, lambda m: m.state.tolist()),
    "module in a list": (
        lambda: [nn.BatchNorm1d(2)],
        lambda m: m.state[0](torch.randn(5, 2)),
        lambda m: m.state[0].running_mean.tolist(),
    ),
    "parameter in a list": (
        lambda: [nn.Linear(1, 1)],
        lambda m: m.state[0].weight.data.add_(1),
        lambda m: m.state[0].weight.tolist(),
    ),
    "new attribute": (lambda: None, lambda m: setattr(m, "extra", 1), lambda m: hasattr(m, "extra")),
    "mode": (lambda: None, lambda m: m.eval(), lambda m: m.training),
}


def in_closure():
    calls = []
    count = 0

    def hook(*_):
        nonlocal count
        count += 1
        calls.append(count)

    return hook, lambda: (count, list(calls))


@pytest.mark.parametrize("name", CASES)
def test_everything_is_put_back_in_place(name):
    make, change, show = CASES[name]
    module = nn.Linear(2, 2)
    module.state = make()
    kept, before = module.state, show(module)
    state = ModuleState(module)
    change(module)
    assert show(module) != before
    state.restore()
    assert show(module) == before
    assert module.state is kept


def test_closures_of_hooks_are_put_back():
    module = nn.Linear(2, 2)
    hook, show = in_closure()
    module.register_forward_hook(hook)
    state = ModuleState(module)
    module(torch.zeros(1, 2))
    assert show() == (1, [1])
    state.restore()
    assert show() == (0, [])


def test_one_failure_does_not_keep_the_rest_from_being_put_back():
    module = nn.Linear(2, 2)
    module.items = [1]
    module.array = np.zeros(2)
    state = ModuleState(module)
    module.items.append(2)
    module.array.flags.writeable = False
    with pytest.raises(ProbeError, match="could not be put back entirely"):
        state.restore()
    assert module.items == [1]


def test_learning_rates_and_schedulers_of_the_trainer_are_put_back():
    module = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    module._trainer = types.SimpleNamespace(
        optimizers=[optimizer], lr_scheduler_configs=[types.SimpleNamespace(scheduler=scheduler)]
    )
    state = ModuleState(module)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.1
    state.restore()
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert scheduler.last_epoch == 0


def test_iterators_are_not_advanced():
    module = nn.Linear(1, 1)
    module.noise = itertools.count()
    probe = LossProbe(module, [torch.ones(3, 1)], loss=lambda m, b: m(b).mean() + next(m.noise))
    with pytest.raises(ProbeError, match="next item of the iterator `noise`"):
        probe.loss()
    assert next(module.noise) == 0


def test_large_tensors_are_watched_instead_of_copied(monkeypatch):
    monkeypatch.setattr("lightning_regimes.module_state._MAX_COPIED_BYTES", 4)
    module = nn.Linear(2, 2)
    module.data = torch.zeros(10)
    ModuleState(module).restore()
    state = ModuleState(module)
    module.data.add_(1)
    with pytest.warns(UserWarning, match=r"attribute of shape \(10,\) in place"):
        state.restore()
