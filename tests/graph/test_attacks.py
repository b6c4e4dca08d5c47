import pytest
import torch

from lightning_regimes.graph import (
    DICE,
    GRBCD,
    PGD,
    PRBCD,
    MetattackLite,
    RandomEdges,
    graph_kernel_complexity,
    train_surrogate,
)
from lightning_regimes.graph.dense_attacks import project
from lightning_regimes.graph.surrogate import node_accuracy

RATE = 0.2


@pytest.fixture
def graph(block_graph):
    return block_graph(150, features=24, noise=1.5)


def attacks():
    short = {"epochs": 8, "block_size": 2000}
    return [
        RandomEdges(RATE),
        DICE(RATE),
        PRBCD(RATE, **short),
        GRBCD(RATE, **short),
        PGD(RATE, steps=20),
        MetattackLite(RATE, steps=5),
    ]


@pytest.mark.parametrize("attack", attacks(), ids=lambda attack: type(attack).__name__)
def test_the_budget_is_kept_and_the_report_is_true(graph, attack):
    before = {tuple(pair) for pair in graph.edge_index.T.tolist()}
    if hasattr(attack, "model"):
        attack.model = train_surrogate(graph, epochs=20)
    state = torch.get_rng_state()
    result = attack(graph)
    assert torch.equal(torch.get_rng_state(), state)
    after = {tuple(pair) for pair in result.edge_index.T.tolist()}
    assert {tuple(pair) for pair in graph.edge_index.T.tolist()} == before
    changed = {tuple(sorted(pair)) for pair in before ^ after}
    assert 0 < len(changed) <= round(RATE * len(before) / 2)
    report = result.attack
    assert {tuple(pair) for pair in report.added.tolist() + report.removed.tolist()} == changed
    assert result.is_undirected()
    assert not result.has_self_loops()
    again = attack(graph)
    assert torch.equal(again.edge_index, result.edge_index)


def test_dice_disconnects_inside_and_connects_outside(graph):
    report = DICE(RATE)(graph).attack
    assert (graph.y[report.removed[:, 0]] == graph.y[report.removed[:, 1]]).all()
    assert (graph.y[report.added[:, 0]] != graph.y[report.added[:, 1]]).all()


@pytest.mark.slow
def test_gradients_hurt_more_than_chance(graph):
    model = train_surrogate(graph)
    clean = node_accuracy(model, graph, graph.test_mask)
    chance = node_accuracy(model, RandomEdges(RATE)(graph), graph.test_mask)
    for attack in (PRBCD, GRBCD):
        hurt = node_accuracy(model, attack(RATE, model=model, epochs=30, block_size=4000)(graph), graph.test_mask)
        assert hurt < min(chance, clean - 0.1)
    # These two read no test label.
    for attack in (PGD(RATE, steps=25), MetattackLite(RATE, steps=8)):
        assert node_accuracy(model, attack(graph), graph.test_mask) < clean - 0.05


def losses_of_adjacency(model, data, adjacency):
    """The tanh margin of the test nodes for a batch of dense adjacency matrices, from the weights of a two-layer GCN."""
    closed = adjacency + torch.eye(len(data.y))
    scale = closed.sum(-1).rsqrt()
    normalized = scale[:, :, None] * closed * scale[:, None]
    hidden = (normalized @ (data.x @ model.first.lin.weight.T) + model.first.bias).relu()
    scores = (normalized @ (hidden @ model.second.lin.weight.T) + model.second.bias)[:, data.test_mask]
    own = torch.nn.functional.one_hot(data.y[data.test_mask], scores.shape[-1]).bool()
    scores = scores.log_softmax(-1)
    return (scores.masked_fill(own, -torch.inf).amax(-1) - scores[:, own]).tanh().mean(-1)


@torch.no_grad()
def best_flips(model, data, count):
    """Flip the best of all pairs, so many times; return the loss before and after."""
    adjacency = torch.zeros(len(data.y), len(data.y))
    adjacency[data.edge_index[0], data.edge_index[1]] = 1
    first, second = torch.triu_indices(len(data.y), len(data.y), 1)
    place = torch.arange(len(first))
    before = float(losses_of_adjacency(model, data, adjacency[None])[0])
    for _ in range(count):
        candidates = adjacency.repeat(len(first), 1, 1)
        candidates[place, first, second] = candidates[place, second, first] = 1 - adjacency[first, second]
        losses = losses_of_adjacency(model, data, candidates)
        adjacency = candidates[losses.argmax()]
    return before, float(losses.max())


@pytest.mark.parametrize(
    ("attack", "count", "share"),
    [(PRBCD, 1, 0.75), (GRBCD, 1, 0.6), (GRBCD, 4, 0.6)],
    ids=["PRBCD", "GRBCD", "GRBCD-4"],
)
def test_block_descent_finds_what_a_search_of_all_pairs_finds(block_graph, attack, count, share):
    reached = possible = 0.0
    for seed in range(3):
        data = block_graph(40, features=8, classes=3, noise=1.0, seed=seed)
        model = train_surrogate(data, epochs=40)
        before, best = best_flips(model, data, count)
        rate = 2 * count / data.edge_index.shape[1]
        result = attack(rate, model=model, loss="tanh_margin", epochs=20, block_size=1000)(data)
        adjacency = torch.zeros(1, 40, 40)
        adjacency[0, result.edge_index[0], result.edge_index[1]] = 1
        reached += float(losses_of_adjacency(model, data, adjacency).detach()) - before
        possible += best - before
    assert reached >= share * possible


def test_labels_of_test_nodes_are_not_read_by_attacks_that_guess_them(graph):
    other = graph.clone()
    other.y = torch.where(graph.test_mask, 0, graph.y)
    for attack in (PGD(RATE, steps=5), MetattackLite(RATE, steps=3)):
        assert torch.equal(attack(graph).edge_index, attack(other).edge_index)


def test_an_attack_that_knows_the_defence_leaves_less_complexity(graph):
    short = {"epochs": 20, "block_size": 3000, "model": train_surrogate(graph, epochs=50)}

    def complexity(data):
        return float(graph_kernel_complexity(data.edge_index, data.x, data.y, data.train_mask))

    plain, adaptive = PRBCD(RATE, **short)(graph), PRBCD(RATE, kernel_penalty=1.0, **short)(graph)
    assert complexity(adaptive) < complexity(plain)


def test_settings_of_one_attack_do_not_reach_another(graph):
    from torch_geometric.contrib.nn import PRBCDAttack

    before = dict(PRBCDAttack.coeffs)
    PRBCD(RATE, epochs=2, block_size=3000, model=train_surrogate(graph, epochs=2))(graph)
    assert before == PRBCDAttack.coeffs


def test_projection_is_the_nearest_point():
    values = torch.tensor([2.0, 0.9, 0.5, -1.0], dtype=torch.float64)
    found = project(values, 1.5)
    assert found.sum() == pytest.approx(1.5)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.45, 0.05, 0.0], dtype=torch.float64), atol=1e-8, rtol=0)


def test_wrong_settings_raise():
    for attack in (RandomEdges, DICE, PRBCD, PGD, MetattackLite):
        with pytest.raises(ValueError, match="`rate`"):
            attack(0.0)
    with pytest.raises(ValueError, match="`nodes`"):
        PRBCD(0.1, nodes="some")
