"""Factories build what they say, for the parameters that are trained."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR

from lightning_regimes.optim import (
    AdamFactory,
    AdamThenLBFGS,
    AdamThenLBFGSFactory,
    LBFGSFactory,
    OptimizerFactory,
    trainable_parameters,
)

FACTORIES = [AdamFactory(), LBFGSFactory(), AdamThenLBFGSFactory()]


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: type(factory).__name__)
def test_frozen_parameters_are_left_out(factory: OptimizerFactory) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    module[0].requires_grad_(False)
    optimizer = factory(module)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in module[1].parameters()]
    module.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to optimize"):
        factory(module)


def test_settings_arrive() -> None:
    module = nn.Linear(2, 1)
    adam = AdamFactory(lr=0.1, betas=(0.8, 0.9), weight_decay=0.01)(module)
    assert isinstance(adam, torch.optim.AdamW)
    assert adam.defaults["betas"] == (0.8, 0.9)
    lbfgs = LBFGSFactory(max_iter=7, history_size=3)(module)
    assert isinstance(lbfgs, torch.optim.LBFGS)
    assert (lbfgs.defaults["max_iter"], lbfgs.defaults["max_eval"], lbfgs.defaults["history_size"]) == (7, 70, 3)
    staged = AdamThenLBFGSFactory(switch_step=0, lbfgs_lr=0.3)(module)
    assert isinstance(staged, AdamThenLBFGS)
    assert staged.stage == "lbfgs"
    assert staged.param_groups[0]["lr"] == 0.3


def test_adam_without_decay_is_adam() -> None:
    torch.manual_seed(0)
    module, twin = nn.Linear(2, 1), nn.Linear(2, 1)
    twin.load_state_dict(module.state_dict())
    ours, torchs = AdamFactory(lr=0.1)(module), torch.optim.Adam(twin.parameters(), lr=0.1)
    assert isinstance(ours, torch.optim.Optimizer)
    for _ in range(3):
        for optimizer, network in ((ours, module), (torchs, twin)):
            optimizer.zero_grad()
            network(torch.ones(1, 2)).square().sum().backward()
            optimizer.step()
    assert torch.equal(module.weight, twin.weight)


def test_schedule_is_stepped_with_the_optimizer() -> None:
    configuration = AdamFactory(lr_scheduler=partial(ExponentialLR, gamma=0.5))(nn.Linear(2, 1))
    assert isinstance(configuration, dict)
    assert configuration["lr_scheduler"]["interval"] == "step"
    scheduler = configuration["lr_scheduler"]["scheduler"]
    configuration["optimizer"].step()
    scheduler.step()
    assert configuration["optimizer"].param_groups[0]["lr"] == pytest.approx(5e-4)


def test_trainable_parameters() -> None:
    module = nn.Linear(2, 1)
    assert len(trainable_parameters(module)) == 2
