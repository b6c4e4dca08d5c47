"""What all matrix optimizers have in common: the AdamW part, groups, decay, batches, state, and errors."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from lightning_regimes.optim import (
    RMNP,
    HTMuon,
    MatrixOptimizer,
    Muon,
    learning_rate_scale,
    polar_factor,
    tag_parameters,
)

OPTIMIZERS = {
    "muon": Muon,
    "muon with normalized neurons": lambda params, **options: Muon(params, normuon_beta2=0.95, **options),
    "rmnp": RMNP,
    "htmuon": HTMuon,
    "htmuon, streaming": lambda params, **options: HTMuon(params, method="streaming", **options),
    "htmuon at intervals": lambda params, **options: HTMuon(params, interval=3, normuon_beta2=0.9, **options),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


class Plain(MatrixOptimizer):
    """The update is the momentum, so that everything around it can be computed by hand."""

    def __init__(self, params, lr=0.1, **settings):
        bare = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "adjust_lr_fn": None}
        super().__init__(params, lr=lr, **(bare | settings))
        self.seen = []

    def update(self, matrices, group):
        self.seen.append(tuple(matrices.shape))
        return matrices.clone()


def parameter(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    made = nn.Parameter(torch.randn(*shape, generator=generator, dtype=dtype))
    made.grad = torch.randn(*shape, generator=generator, dtype=dtype)
    return made


def matrix_group(*parameters, **settings):
    return {"params": list(parameters), "algorithm": "matrix"} | settings


def network():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Embedding(7, 6), nn.Flatten(), nn.Linear(12, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 1)
    )
    tag_parameters(module)
    return module


def train(module, optimizer, steps):
    tokens = torch.cartesian_prod(torch.arange(7), torch.arange(7))

    def closure():
        optimizer.zero_grad()
        loss = (module(tokens).squeeze(1) - tokens.float().sin().prod(1)).square().mean()
        loss.backward()
        return loss

    return [optimizer.step(closure).item() for _ in range(steps)]


def flat(module):
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


@every_optimizer
def test_the_loss_falls_and_gradients_are_not_written_to(make):
    module = network()
    optimizer = make(module.parameters(), lr=0.02)
    losses = train(module, optimizer, 100)
    assert losses[-1] < 0.05 * losses[0]
    gradients = [p.grad.clone() for p in module.parameters()]
    optimizer.step()
    assert all(torch.equal(p.grad, gradient) for p, gradient in zip(module.parameters(), gradients, strict=True))


@every_optimizer
@pytest.mark.parametrize("lr", [0.01, "tensor"])
def test_the_other_part_is_adamw(make, lr):
    ours, torchs = (
        [parameter(5, seed=1), parameter(4, 3, seed=2), parameter(3, seed=3, dtype=torch.complex64)] for _ in range(2)
    )
    rates = [torch.tensor(0.01) if lr == "tensor" else lr for _ in range(2)]
    optimizer = make(
        [matrix_group(parameter(2, 2)), {"params": ours, "algorithm": "adamw"}],
        adamw_lr=rates[0],
        adamw_betas=(0.8, 0.9),
        adamw_eps=1e-6,
        adamw_weight_decay=0.3,
    )
    expected = torch.optim.AdamW(torchs, lr=rates[1], betas=(0.8, 0.9), eps=1e-6, weight_decay=0.3)
    for step in range(20):
        for ours_, torchs_ in zip(ours, torchs, strict=True):
            ours_.grad = torchs_.grad = torch.randn_like(torchs_, generator=None) * (step + 1)
        optimizer.step()
        expected.step()
    for ours_, torchs_ in zip(ours, torchs, strict=True):
        torch.testing.assert_close(ours_, torchs_, rtol=1e-6, atol=1e-6)


def test_momentum_looks_ahead_and_is_that_of_torch():
    ours, torchs = parameter(4, 3), parameter(4, 3)
    optimizer = Plain([matrix_group(ours)], lr=0.1, momentum=0.9, nesterov=True)
    # Classical momentum is 1/(1-μ) times the running mean, from the first step on.
    classical = torch.optim.SGD([torchs], lr=0.1 * (1 - 0.9), momentum=0.9, nesterov=True)
    for _ in range(5):
        ours.grad = torch.randn(4, 3)
        torchs.grad = ours.grad.clone()
        optimizer.step()
        classical.step()
    torch.testing.assert_close(ours, torchs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("lr", [0.1, "tensor"])
def test_decay_is_decoupled_and_if_cautious_only_where_the_update_shrinks(maximize, lr):
    sign = -1.0 if maximize else 1.0
    for is_cautious in (False, True):
        tried = parameter(5, 4)
        before = tried.detach().clone()
        rate = torch.tensor(0.1) if lr == "tensor" else lr
        options = {"weight_decay": 0.5, "cautious_weight_decay": is_cautious, "maximize": maximize}
        Plain([matrix_group(tried)], lr=rate, **options).step()
        is_decayed = (sign * tried.grad * before > 0).float() if is_cautious else 1.0
        expected = before * (1 - 0.1 * 0.5 * is_decayed) - sign * 0.1 * tried.grad
        torch.testing.assert_close(tried.detach(), expected, rtol=1e-6, atol=1e-6)


@every_optimizer
def test_the_learning_rate_may_be_a_tensor(make):
    number, tensor = parameter(6, 4), parameter(6, 4)
    make([matrix_group(number)], lr=0.1).step()
    optimizer = make([matrix_group(tensor)], lr=torch.tensor(0.1))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    torch.testing.assert_close(tensor, number, rtol=1e-6, atol=1e-6)
    scheduler.step()
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.05)


@every_optimizer
def test_maximizing_is_minimizing_the_opposite(make):
    up, down = parameter(6, 4), parameter(6, 4)
    climber, optimizer = make([matrix_group(up)], maximize=True), make([matrix_group(down)])
    for _ in range(4):
        up.grad = torch.randn(6, 4)
        down.grad = -up.grad
        climber.step()
        optimizer.step()
    torch.testing.assert_close(up, down, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("original", {(8, 2): 2.0, (2, 8): 1.0}),
        ("spectral_unclamped", {(8, 2): 2.0, (2, 8): 0.5}),
        ("match_rms_adamw", {(8, 2): 0.2 * math.sqrt(8), (2, 8): 0.2 * math.sqrt(8)}),
        (None, {(8, 2): 1.0, (2, 8): 1.0}),
    ],
)
def test_the_learning_rate_follows_from_the_shape(rule, expected):
    for shape, scale in expected.items():
        assert learning_rate_scale(rule, *shape) == pytest.approx(scale, rel=1e-12)
        tried = parameter(*shape)
        before = tried.detach().clone()
        Plain([matrix_group(tried)], lr=0.1, adjust_lr_fn=rule).step()
        torch.testing.assert_close(before - tried.detach(), 0.1 * scale * tried.grad, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="adjust_lr_fn"):
        learning_rate_scale("most", 1, 1)


@every_optimizer
def test_matched_to_adamw_an_update_has_a_root_mean_square_of_a_fifth(make):
    for shape in ((24, 8), (8, 24)):
        tried = parameter(*shape)
        before = tried.detach().clone()
        options = {"power": 0.0} if make is HTMuon else {}
        make([matrix_group(tried)], lr=1.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw", **options).step()
        # Newton-Schulz leaves singular values between 0.7 and 1.2.
        tolerance = 1e-5 if make in (RMNP, HTMuon) else 0.15
        if make is not OPTIMIZERS["htmuon at intervals"]:
            assert float((before - tried.detach()).square().mean().sqrt()) == pytest.approx(0.2, rel=tolerance)


def test_matrices_of_one_shape_are_worked_on_together_and_as_one_by_one():
    together, alone = ([parameter(6, 4, seed=seed) for seed in range(3)] + [parameter(4, 6)] for _ in range(2))
    optimizer = Plain([matrix_group(*together)])
    optimizer.step()
    assert optimizer.seen == [(3, 6, 4), (1, 4, 6)]
    batched, looped = Muon([matrix_group(*together)]), [Muon([matrix_group(p)]) for p in alone]
    for p, q in zip(together, alone, strict=True):
        q.data.copy_(p)
    for each in (batched, *looped):
        each.step()
    for p, q in zip(together, alone, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-6)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@every_optimizer
def test_a_kernel_is_the_matrix_of_its_outputs(make, memory_format):
    kernel, matrix = parameter(6, 3, 2, 2), parameter(6, 12)
    matrix.data.copy_(kernel.flatten(1))
    gradient = kernel.grad
    matrix.grad = gradient.flatten(1).clone()
    kernel = nn.Parameter(kernel.detach().to(memory_format=memory_format))
    kernel.grad = gradient.to(memory_format=memory_format)
    for tried in (kernel, matrix):
        optimizer = make([matrix_group(tried)], lr=0.1)
        optimizer.step()
        optimizer.step()
    torch.testing.assert_close(kernel.flatten(1), matrix, rtol=1e-6, atol=1e-6)


def test_heads_and_fused_projections_are_matrices_of_their_own():
    def change(tried, **settings):
        before = tried.detach().clone()
        HTMuon([matrix_group(tried, **settings)], lr=1.0, power=0.0, weight_decay=0.0).step()
        return before - tried.detach()

    fused = parameter(12, 4)
    direction = fused.grad
    for settings, sizes in (
        ({"num_heads": 3}, [4, 4, 4]),
        ({"split_sizes": [4, 4, 4]}, [4, 4, 4]),
        ({"split_sizes": [8, 2, 2]}, [8, 2, 2]),
    ):
        expected = torch.cat(
            [learning_rate_scale("original", len(block), 4) * polar_factor(block) for block in direction.split(sizes)]
        )
        torch.testing.assert_close(change(parameter(12, 4), **settings), expected, rtol=1e-4, atol=1e-5)
    whole = math.sqrt(3) * polar_factor(direction)
    torch.testing.assert_close(change(fused), whole, rtol=1e-4, atol=1e-5)


@every_optimizer
def test_resumes_bitwise(make):
    module = network()
    optimizer = make(module.parameters(), lr=0.02)
    train(module, optimizer, 4)
    stored = copy.deepcopy((module.state_dict(), optimizer.state_dict()))
    train(module, optimizer, 4)

    again = network()
    resumed = make(again.parameters(), lr=0.5)
    again.load_state_dict(stored[0])
    resumed.load_state_dict(stored[1])
    train(again, resumed, 4)
    assert torch.equal(flat(again), flat(module))


@every_optimizer
def test_can_be_copied_and_pickled(make):
    module = network()
    optimizer = make(module.parameters(), lr=0.02)
    train(module, optimizer, 2)
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert twin.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
        twin.step()


@every_optimizer
def test_settings_are_in_the_groups_that_they_concern(make):
    optimizer = make(network().parameters(), lr=0.02, adamw_lr=0.003)
    matrix, adamw = optimizer.param_groups
    assert (matrix["algorithm"], adamw["algorithm"]) == ("matrix", "adamw")
    assert (matrix["lr"], adamw["lr"]) == (0.02, 0.003)
    assert set(adamw) == {"params", "algorithm", "lr", "betas", "eps", "weight_decay", "maximize"}
    assert not any(name.startswith("adamw_") or name == "betas" for name in matrix)


def test_schedulers_of_momentum_and_gradient_scalers_work():
    module = network()
    optimizer = RMNP(module.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[0.1, 0.01], total_steps=10)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = flat(module)
    for factor in (math.inf, 1.0):
        optimizer.zero_grad()
        scaler.scale(module(torch.ones(2, 2, dtype=torch.long)).sum() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        # The step with gradients that are not finite is left out by the scaler.
        assert torch.equal(flat(module), before) == (factor == math.inf)
    scheduler.step()
    assert 0.85 < optimizer.param_groups[0]["momentum"] < 0.95
    assert optimizer.param_groups[0]["lr"] == pytest.approx(10 * optimizer.param_groups[1]["lr"])


def test_groups_of_others_are_understood():
    matrix, vector = parameter(3, 3), parameter(3)
    optimizer = RMNP([{"params": [vector], "use_muon": False, "lr": 0.1}, {"params": [matrix], "use_muon": True}])
    assert [group["algorithm"] for group in optimizer.param_groups] == ["adamw", "matrix"]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 5e-3]


def test_names_stay_with_their_parameters():
    module = nn.Linear(3, 3)
    tag_parameters(module)
    optimizer = RMNP(module.named_parameters())
    assert [group["param_names"] for group in optimizer.param_groups] == [["weight"], ["bias"]]


def test_without_marks_dimensions_decide_with_a_warning():
    parameters = [parameter(3, 3), parameter(3), parameter(2, 2, dtype=torch.complex64), parameter(4, 2, 3)]
    with pytest.warns(UserWarning, match=r"RMNP takes 2 parameters .*tag_parameters\(module\)") as record:
        optimizer = RMNP(parameters)
    assert record[0].filename == __file__
    chosen = [[p.ndim for p in group["params"]] for group in optimizer.param_groups]
    assert chosen == [[2, 3], [1, 2]]


@every_optimizer
def test_parameters_without_a_gradient_and_zero_gradients_stay(make):
    without, zero, vector = parameter(4, 3, seed=1), parameter(4, 3, seed=2), parameter(3)
    without.grad, vector.grad = None, None
    zero.grad.zero_()
    before = without.detach().clone(), zero.detach().clone()
    optimizer = make([matrix_group(without, zero), {"params": [vector], "algorithm": "adamw"}], weight_decay=0.0)
    optimizer.step()
    optimizer.step()
    assert torch.equal(without, before[0])
    assert torch.equal(zero, before[1])
    assert without not in optimizer.state


@every_optimizer
def test_a_gradient_that_is_not_finite_is_an_error_before_anything_changes(make):
    good, bad = parameter(4, 3, seed=1), parameter(3, 4, seed=2)
    optimizer = make([matrix_group(good, bad)])
    optimizer.step()
    stored = copy.deepcopy((good.detach(), optimizer.state_dict()["state"]))
    bad.grad[1, 1] = math.inf
    with pytest.raises(RuntimeError, match="parameter 1 is not finite"):
        optimizer.step()
    assert torch.equal(good, stored[0])
    for index, state in optimizer.state_dict()["state"].items():
        assert torch.equal(state["momentum_buffer"], stored[1][index]["momentum_buffer"])
    broken = copy.deepcopy(optimizer.state_dict())
    broken["state"][1]["momentum_buffer"][0, 0] = math.nan
    with pytest.raises(ValueError, match="momentum of parameter 1 is not finite"):
        optimizer.load_state_dict(broken)


def test_huge_gradients_are_finite():
    tried = parameter(4, 3)
    tried.grad.mul_(1e30)
    Plain([matrix_group(tried)], lr=0.0).step()


def test_wrong_parameters_are_refused():
    with pytest.raises(ValueError, match=r"'bias' in a matrix group has shape \(3,\)"):
        RMNP([{"params": [("bias", parameter(3))], "algorithm": "matrix"}])
    with pytest.raises(ValueError, match="parameter 1 in a matrix group is complex"):
        RMNP([matrix_group(parameter(2, 2), parameter(2, 2, dtype=torch.complex64))])
    with pytest.raises(ValueError, match="RMNP got no matrix"):
        RMNP([parameter(3), parameter(4)])
    flattened = parameter(12)
    flattened._is_flat_param = True
    with pytest.raises(ValueError, match="flattened by FSDP1"):
        RMNP([flattened, parameter(2)])
    with pytest.raises(ValueError, match="`algorithm` of a group"):
        RMNP([{"params": [parameter(2, 2)], "algorithm": "sgd"}])


def test_sparse_gradients_are_refused():
    embedding = nn.Embedding(4, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="parameter 0 is sparse"):
        RMNP([matrix_group(embedding.weight)]).step()
    with pytest.raises(RuntimeError, match="`sparse=False`"):
        RMNP([matrix_group(parameter(2, 2)), {"params": embedding.weight, "algorithm": "adamw"}]).step()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "`lr`"),
        ({"momentum": 1.0}, "`momentum`"),
        ({"weight_decay": -0.1}, "`weight_decay`"),
        ({"adjust_lr_fn": "most"}, "`adjust_lr_fn`"),
        ({"num_heads": 4}, "`num_heads` divides the 6 rows"),
        ({"split_sizes": [4, 4]}, "`split_sizes` add up to the 6 rows"),
        ({"split_sizes": [3, 3], "num_heads": 2}, "got both"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RMNP([matrix_group(parameter(6, 2), **settings)])


def test_a_state_distributed_otherwise_is_refused():
    optimizer = RMNP([matrix_group(parameter(2, 2)), {"params": [parameter(2, 2)], "algorithm": "adamw"}])
    other = RMNP([{"params": [parameter(2, 2)], "algorithm": "adamw"}, matrix_group(parameter(2, 2))])
    with pytest.raises(ValueError, match="a group for matrix where this optimizer has one for adamw"):
        other.load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@every_optimizer
def test_other_precisions_do_the_same_step(make, dtype):
    exact, tried = parameter(8, 6), parameter(8, 6)
    low = nn.Parameter(tried.detach().to(dtype))
    low.grad = tried.grad.to(dtype)
    exact.data.copy_(low.detach())
    exact.grad.copy_(low.grad)
    before = exact.detach().clone()
    for each in (exact, low):
        make([matrix_group(each)], lr=1.0, weight_decay=0.0).step()
    assert low.dtype == dtype
    change = (exact.detach() - before).norm()
    assert float((low.detach().float() - exact.detach()).norm() / change) <= (1e-5 if dtype == torch.float64 else 2e-2)
