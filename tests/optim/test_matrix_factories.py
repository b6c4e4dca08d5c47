"""Factories build the optimizer that they say, with its schedule."""

import math
from functools import partial

import pytest
from jsonargparse import ArgumentParser
from torch import nn

from lightning_regimes.optim import (
    RMNP,
    HTMuon,
    HTMuonFactory,
    Muon,
    MuonFactory,
    OptimizerFactory,
    RMNPFactory,
    cosine_with_warmup,
)

CLASSES = {MuonFactory: Muon, RMNPFactory: RMNP, HTMuonFactory: HTMuon}


def module():
    return nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4))


@pytest.mark.parametrize("factory", CLASSES)
def test_settings_arrive_in_their_groups(factory):
    made = factory(
        lr=0.1, adamw_lr=0.2, weight_decay=0.3, adamw_weight_decay=0.4, momentum=0.5, adjust_lr_fn=None, adamw_eps=1e-5
    )(module())
    assert type(made) is CLASSES[factory]
    matrix, decayed, kept = made.param_groups
    assert [matrix[name] for name in ("lr", "weight_decay", "momentum", "adjust_lr_fn")] == [0.1, 0.3, 0.5, None]
    assert [decayed[name] for name in ("lr", "weight_decay", "eps")] == [0.2, 0.4, 1e-5]
    assert [kept[name] for name in ("lr", "weight_decay", "eps")] == [0.2, 0.0, 1e-5]
    assert [len(group["params"]) for group in made.param_groups] == [1, 1, 3]


def test_own_settings_arrive():
    muon = MuonFactory(ns_steps=3, ns_dtype="bfloat16", normuon_beta2=0.9)(module()).param_groups[0]
    assert (muon["ns_steps"], muon["ns_dtype"], muon["normuon_beta2"]) == (3, "bfloat16", 0.9)
    rmnp = RMNPFactory(power=0.5, eps=1e-9)(module()).param_groups[0]
    assert (rmnp["power"], rmnp["eps"]) == (0.5, 1e-9)
    htmuon = HTMuonFactory(power=0.25, normalize="rms", method="svd", interval=4)(module()).param_groups[0]
    assert [htmuon[name] for name in ("power", "normalize", "method", "interval")] == [0.25, "rms", "svd", 4]


def test_the_schedule_drives_both_parts():
    schedule = partial(cosine_with_warmup, total_steps=10, warmup=0.2, min_lr_ratio=0.1)
    made = RMNPFactory(lr=1.0, adamw_lr=0.1, lr_scheduler=schedule)(module())
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    ratios = []
    for _ in range(13):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([rates[0], 0.1 * rates[0], 0.1 * rates[0]])
        ratios.append(rates[0])
        optimizer.step()
        scheduler.step()
    cosine = [0.1 + 0.45 * (1 + math.cos(math.pi * step / 8)) for step in range(9)]
    assert ratios == pytest.approx([0.5, 1.0, *cosine, 0.1, 0.1])


@pytest.mark.parametrize(
    "settings", [{"total_steps": 0}, {"total_steps": 5, "warmup": 1.0}, {"total_steps": 5, "min_lr_ratio": 2.0}]
)
def test_schedules_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=list(settings)[-1]):
        cosine_with_warmup(Muon([{"params": [nn.Linear(2, 2).weight], "algorithm": "matrix"}]), **settings)


def test_they_can_be_written_in_a_configuration(tmp_path):
    file = tmp_path / "optimizer.yaml"
    file.write_text(
        """
optimizer:
  class_path: lightning_regimes.optim.HTMuonFactory
  init_args:
    lr: 0.03
    power: 0.25
    exclude: [head]
    lr_scheduler:
      class_path: lightning_regimes.optim.CosineWithWarmup
      init_args:
        total_steps: 100
        warmup: 0.5
"""
    )
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--optimizer", type=OptimizerFactory)
    factory = parser.instantiate(parser.parse_args([f"--config={file}"])).optimizer
    optimizer = factory(module())["optimizer"]
    assert isinstance(optimizer, HTMuon)
    assert optimizer.param_groups[0]["power"] == 0.25
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.03 / 50)
