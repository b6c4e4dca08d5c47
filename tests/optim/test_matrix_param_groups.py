"""Every parameter goes to one algorithm, by what it is and what it is called."""

import pytest
import torch
from torch import nn

from lightning_regimes.optim import RMNP, matrix_param_groups, route_parameters, tag_parameters


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)
        self.ln_1 = nn.LayerNorm((4, 8))
        self.custom_norm = nn.Module()
        self.custom_norm.scale = nn.Parameter(torch.ones(2, 8))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(10, 8)
        self.wpe = nn.Parameter(torch.zeros(4, 8))
        self.stem = nn.Conv2d(3, 8, 3)
        self.block = Block()
        self.spectral = nn.Parameter(torch.zeros(8, 8, dtype=torch.complex64))
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.shared = self.block.attention.out_proj
        self.decoder = nn.Linear(8, 10, bias=False)
        self.decoder.weight = self.tokens.weight
        self.lm_head_2 = nn.Linear(8, 10)


EXPECTED = {
    "tokens.weight": ("adamw", "tied to an embedding", True),
    "wpe": ("adamw", "name has 'wpe'", True),
    "spectral": ("adamw", "complex", True),
    "stem.weight": ("matrix", "8 × 27 matrix", True),
    "stem.bias": ("adamw", "fewer than two dimensions", False),
    "block.attention.in_proj_weight": ("matrix", "24 × 8 matrix", True),
    "block.attention.in_proj_bias": ("adamw", "fewer than two dimensions", False),
    "block.attention.out_proj.weight": ("matrix", "8 × 8 matrix", True),
    "block.attention.out_proj.bias": ("adamw", "fewer than two dimensions", False),
    "block.ln_1.weight": ("adamw", "normalization", False),
    "block.ln_1.bias": ("adamw", "normalization", False),
    "block.custom_norm.scale": ("matrix", "2 × 8 matrix", True),
    "lm_head_2.weight": ("adamw", "name has 'lm_head'", True),
    "lm_head_2.bias": ("adamw", "fewer than two dimensions", False),
}


def routes(routing):
    return {entry.name: (entry.algorithm, entry.reason, entry.is_decayed) for entry in routing.entries}


def test_who_goes_where():
    assert routes(route_parameters(Model())) == EXPECTED


def test_embeddings_and_heads_can_be_matrices():
    found = routes(route_parameters(Model(), include_embeddings=True))
    for name in ("tokens.weight", "wpe", "lm_head_2.weight"):
        assert found[name][0] == "matrix"
    assert found["block.ln_1.weight"][0] == "adamw"


def test_names_to_leave_out_are_free():
    found = routes(route_parameters(Model(), exclude=("STEM", "custom"), no_decay=("custom",)))
    assert found["stem.weight"][:2] == ("adamw", "name has 'STEM'")
    assert found["block.custom_norm.scale"] == ("adamw", "name has 'custom'", False)
    assert found["wpe"][0] == "matrix"
    assert found["tokens.weight"][0] == "adamw"


def test_groups_hold_every_trainable_parameter_once():
    model = Model()
    groups = matrix_param_groups(model, lr=0.1, adamw_lr=0.01, weight_decay=0.2, adamw_weight_decay=0.3)
    settings = [(group["algorithm"], group["lr"], group["weight_decay"]) for group in groups]
    assert settings == [("matrix", 0.1, 0.2), ("adamw", 0.01, 0.3), ("adamw", 0.01, 0.0)]
    held = [id(parameter) for group in groups for _, parameter in group["params"]]
    trainable = [id(parameter) for parameter in model.parameters() if parameter.requires_grad]
    assert sorted(held) == sorted(trainable)
    assert len(set(held)) == len(held)
    optimizer = RMNP(groups)
    assert optimizer.param_groups[0]["param_names"][0] == "stem.weight"
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.3, 0.0]


def test_decay_and_rate_are_those_of_the_optimizer_by_default():
    optimizer = RMNP(matrix_param_groups(Model(), lr=0.1), weight_decay=0.4)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.4, 0.4, 0.0]
    assert {group["lr"] for group in optimizer.param_groups} == {0.1}


def test_the_table_says_who_goes_where():
    routing = route_parameters(Model())
    lines = str(routing).splitlines()
    (line,) = (line for line in lines if "in_proj_weight" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "block.attention.in_proj_weight",
        "24 × 8",
        "matrix",
        "yes",
        "24 × 8 matrix",
    ]
    assert routing.num_entries("matrix") == 8 * 27 + 24 * 8 + 8 * 8 + 2 * 8
    assert "matrix 488" in str(routing)


def test_marks_route_bare_parameters(recwarn):
    model = Model()
    routing = tag_parameters(model)
    model.double()
    optimizer = RMNP(parameter for parameter in model.parameters() if parameter.requires_grad)
    assert not recwarn.list
    for group in optimizer.param_groups:
        expected = {id(parameter) for _, parameter in routing.named(group["algorithm"])}
        assert {id(parameter) for parameter in group["params"]} == expected


def test_modules_that_cannot_be_routed_are_refused():
    with pytest.raises(ValueError, match="nothing to optimize"):
        route_parameters(nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(ValueError, match="has no shape yet"):
        route_parameters(nn.LazyLinear(2))
