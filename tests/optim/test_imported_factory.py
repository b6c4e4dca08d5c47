"""Optimizers by the path of their class."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR

from lightning_regimes.modules.stored_configuration import as_class_path
from lightning_regimes.optim import AdamFactory, ImportedOptimizerFactory


def test_it_steps_as_the_class_itself() -> None:
    torch.manual_seed(0)
    module, twin = nn.Linear(2, 1), nn.Linear(2, 1)
    twin.load_state_dict(module.state_dict())
    found = ImportedOptimizerFactory(optimizer="torch.optim.NAdam", options={"lr": 0.1, "betas": [0.5, 0.6]})(module)
    assert type(found) is torch.optim.NAdam
    theirs = torch.optim.NAdam(twin.parameters(), lr=0.1, betas=(0.5, 0.6))
    for _ in range(3):
        for optimizer, network in ((found, module), (theirs, twin)):
            optimizer.zero_grad()
            network(torch.ones(1, 2)).square().sum().backward()
            optimizer.step()
    assert torch.equal(module.weight, twin.weight)


def test_frozen_parameters_are_left_out_and_a_schedule_is_made() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    module[0].requires_grad_(False)
    schedule = partial(ExponentialLR, gamma=0.5)
    made = ImportedOptimizerFactory(optimizer="torch.optim.RMSprop", lr_scheduler=schedule)(module)
    assert isinstance(made, dict)
    assert isinstance(made["lr_scheduler"]["scheduler"], ExponentialLR)
    assert sum(len(group["params"]) for group in made["optimizer"].param_groups) == 2


def test_soap_of_another_library_lowers_a_loss() -> None:
    pytest.importorskip("pytorch_optimizer", reason="needs the extra [optimizers]")
    torch.manual_seed(0)
    points = torch.randn(64, 8, dtype=torch.float64) * torch.logspace(0, -2, 8, dtype=torch.float64)
    target = points @ torch.ones(8, 1, dtype=torch.float64)
    losses = {}
    for name, factory in {
        "adam": AdamFactory(lr=3e-2),
        "soap": ImportedOptimizerFactory(optimizer="pytorch_optimizer.SOAP", options={"lr": 3e-2, "weight_decay": 0.0}),
    }.items():
        torch.manual_seed(1)
        module = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double()
        optimizer = factory(module)
        assert isinstance(optimizer, torch.optim.Optimizer)
        for _ in range(200):
            optimizer.zero_grad()
            loss = (module(points) - target).square().mean()
            loss.backward()
            optimizer.step()
        losses[name] = loss.item()
    assert losses["soap"] < losses["adam"]


def test_it_is_plain_data() -> None:
    factory = ImportedOptimizerFactory(optimizer="torch.optim.NAdam", options={"lr": 0.1, "betas": (0.5, 0.6)})
    described = as_class_path(factory)
    assert described == {
        "class_path": "lightning_regimes.optim.imported_factory.ImportedOptimizerFactory",
        "init_args": {
            "optimizer": "torch.optim.NAdam",
            "options": {"lr": 0.1, "betas": [0.5, 0.6]},
            "lr_scheduler": None,
        },
    }


@pytest.mark.parametrize(
    ("optimizer", "options", "kind", "message"),
    [
        ("NAdam", {}, ValueError, "path of a class"),
        ("no_such_library.Optimizer", {}, ImportError, "pip install no-such-library"),
        ("torch.optim.NoSuch", {}, ValueError, "which is None"),
        ("torch.nn.Linear", {}, ValueError, "which is <class"),
        ("torch.optim.NAdam", {"rate": 1.0}, ValueError, "`options` are not those of torch.optim.NAdam.*rate"),
    ],
)
def test_what_cannot_be_imported_is_said(
    optimizer: str, options: dict[str, float], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        ImportedOptimizerFactory(optimizer=optimizer, options=options)(nn.Linear(2, 1))
