import math
import warnings

import pytest
import torch
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score, roc_curve
from torch_geometric.data import Data, HeteroData
from torch_geometric.transforms import Compose
from torch_geometric.utils import is_undirected

from lightning_regimes.graph import (
    KCES,
    CosinePrune,
    JaccardPrune,
    LowRankSVD,
    RandomEdges,
    kc_scores,
    train_surrogate,
)
from lightning_regimes.graph.detection import area_under_curve, operating_curve
from lightning_regimes.graph.edge_suspicion import rank_together
from lightning_regimes.graph.kernel_ridge import kernel_ridge
from lightning_regimes.graph.surrogate import node_accuracy
from lightning_regimes.graph.undirected_edges import undirected_edges


def pairs_of(data):
    return {tuple(sorted(pair)) for pair in data.edge_index.T.tolist()}


def test_the_edges_with_the_highest_scores_go_and_the_graph_stays(block_graph):
    data = block_graph()
    before = data.edge_index.clone()
    result = KCES(0.2, score="signed", labels="train")(data)
    scores = kc_scores(data.edge_index, data.x, data.y, data.train_mask)
    count = round(0.2 * scores.num_edges)
    gone = {tuple(pair) for pair in scores.edges[scores.top(count)].tolist()}
    assert pairs_of(data) - pairs_of(result) == gone
    assert torch.equal(data.edge_index, before)
    assert result.kces.num_pruned == count
    assert result.kces.gkc_before == pytest.approx(scores.gkc)
    after = kc_scores(result.edge_index, data.x, data.y, data.train_mask).gkc
    assert result.kces.gkc_after == pytest.approx(after)
    assert after < scores.gkc


def test_attributes_of_edges_follow_self_loops_stay_and_repetitions_go(block_graph):
    data = block_graph()
    loop = torch.tensor([[4], [4]])
    data.edge_index = torch.cat([data.edge_index, loop, data.edge_index[:, :3]], 1)
    data.edge_attr = (data.edge_index[0] * 1000 + data.edge_index[1])[:, None].float()
    result = KCES(0.3)(data)
    assert torch.equal(result.edge_attr[:, 0], (result.edge_index[0] * 1000 + result.edge_index[1]).float())
    assert (result.edge_index[0] == result.edge_index[1]).sum() == 1
    assert result.edge_index.unique(dim=1).shape == result.edge_index.shape
    assert is_undirected(result.edge_index)


def test_a_broadcast_mask_gives_the_same_graph(block_graph):
    data = block_graph()
    transform = KCES(0.2)
    report = transform.sanitize(data)
    assert torch.equal(transform.apply(data, report.keep_columns).edge_index, transform(data).edge_index)


def test_test_labels_change_no_bit(block_graph):
    data = block_graph()
    other = data.clone()
    other.y = torch.where(data.test_mask, data.y.flip(0), data.y)
    for transform in (KCES("kernel-val"), KCES("gmm"), KCES(0.1, score="combined+cosine")):
        first, second = transform.sanitize(data), transform.sanitize(other)
        assert torch.equal(first.suspicion, second.suspicion)
        assert torch.equal(first.keep, second.keep)


def test_chosen_ratios_keep_their_bounds(block_graph):
    data = RandomEdges(1.0, inter_class=True)(block_graph(200, noise=0.5))
    chosen = KCES("kernel-val").sanitize(data)
    assert chosen.curve.ratios == (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
    assert chosen.ratio == chosen.curve.ratios[max(range(6), key=lambda i: (chosen.curve.accuracies[i], -i))]
    assert KCES("kernel-val", min_ratio=0.15).sanitize(data).ratio >= 0.15
    assert 0.25 <= KCES("gmm", min_ratio=0.25, max_ratio=0.3).sanitize(data).ratio <= 0.3


def test_edges_between_classes_are_found(block_graph):
    clean = block_graph(300, features=32, noise=1.5)
    attacked = RandomEdges(0.6, inter_class=True)(clean)
    report = KCES(0.2, score="signed").sanitize(attacked)
    found = report.detection(clean.edge_index)
    assert found.num_adversarial == round(0.6 * clean.num_edges / 2)
    assert found.auc > 0.7
    assert found.precision > 0.5
    top = report.top_edges(5, x=attacked.x, y=attacked.y, train_mask=attacked.train_mask)
    assert [row["suspicion"] for row in top] == sorted((row["suspicion"] for row in top), reverse=True)
    assert all(row["pruned"] for row in top)
    assert report.figure().axes
    curve = found.figure().axes[1].lines
    assert curve[0].get_label() == f"area under the curve {found.auc:.3f}"
    false = float((~report.keep & ~found.is_added).sum() / (~found.is_added).sum())
    assert curve[2].get_xydata()[0] == pytest.approx([false, found.recall])


def test_area_under_curve_is_that_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(10, (200,), generator=generator).double()
    is_positive = torch.rand(200, generator=generator) < 0.3
    assert area_under_curve(values, is_positive) == pytest.approx(roc_auc_score(is_positive, values), abs=1e-12)
    assert math.isnan(area_under_curve(values, is_positive & False))
    false, true = operating_curve(values, is_positive)
    expected = roc_curve(is_positive, values, drop_intermediate=False)
    assert false.numpy() == pytest.approx(expected[0], abs=1e-12)
    assert true.numpy() == pytest.approx(expected[1], abs=1e-12)


def test_a_connected_graph_stays_connected(block_graph):
    from scipy.sparse.csgraph import connected_components
    from torch_geometric.utils import to_scipy_sparse_matrix

    def components(data):
        return connected_components(to_scipy_sparse_matrix(data.edge_index, num_nodes=data.num_nodes))[0]

    data = block_graph()
    assert components(KCES(0.4)(data)) > components(data)
    assert components(KCES(0.4, keep_connected=True)(data)) == components(data)


@pytest.mark.parametrize("kind", ["identity", "constant"])
def test_features_that_say_nothing_leave_training_labels(block_graph, kind):
    data = block_graph()
    data.x = torch.eye(data.num_nodes) if kind == "identity" else torch.ones(data.num_nodes, 3)
    assert KCES(0.1).sanitize(data).score == "absolute"
    with pytest.warns(UserWarning, match="takes its place"):
        report = KCES(0.1, score="signed", labels="pseudo").sanitize(data)
    assert list(report.results) == ["train"]


def test_a_directed_graph_is_refused_or_symmetrized(block_graph):
    data = block_graph()
    data.edge_weight = torch.rand(data.edge_index.shape[1])
    half = data.edge_index[0] < data.edge_index[1]
    arcs = Data(**{**data.to_dict(), "edge_index": data.edge_index[:, half], "edge_weight": data.edge_weight[half]})
    with pytest.raises(ValueError, match="arcs alone"):
        KCES(0.1)(arcs)
    result = KCES(0.1, directed="symmetrize")(arcs)
    assert pairs_of(result) == pairs_of(KCES(0.1)(data))
    assert result.edge_weight.shape == result.edge_index.shape[1:]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 1.0}, "below 1"),
        ({"ratio": -0.1}, "at least 0"),
        ({"ratio": "best"}, "kernel-val"),
        ({"min_ratio": 0.5}, "min_ratio"),
        ({"score": "kc"}, "`score` is one of"),
        ({"score": "signed", "labels": "oracle"}, "allow_leak"),
        ({"directed": "ignore"}, "`directed`"),
        ({"labels": "test"}, "`labels` is one of"),
        ({"aggregation": "max"}, "`aggregation` is one of"),
        ({"solver": "gradient"}, "`solver` is one of"),
        ({"lam": -1.0}, "`lam` is not negative"),
        ({"rank": 0}, "`rank` is at least 1"),
    ],
)
def test_wrong_settings_raise_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        KCES(**settings)


def test_labels_that_leak_are_warned_of(block_graph):
    with pytest.warns(UserWarning, match="reads the labels of test nodes"):
        KCES(score="signed", labels="oracle", allow_leak=True)(block_graph())


@pytest.mark.parametrize("x", ["dense", "identity", "none"])
def test_an_ordinary_graph_gives_no_warning(block_graph, x):
    data = block_graph()
    if x != "dense":
        data.x = torch.eye(data.num_nodes) if x == "identity" else None
        data.num_nodes = len(data.y)
    # PyTorch gives its warnings about sparse tensors once in a process.
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            KCES("kernel-val")(data)
    finally:
        torch.set_warn_always(False)


def test_features_that_are_no_dense_matrix_raise(block_graph):
    data = block_graph()
    dense = data.x
    for x, message in ((dense.to_sparse(), "to_dense"), (dense[:, 0], "shape")):
        data.x = x
        with pytest.raises(ValueError, match=message):
            KCES()(data)


def test_wrong_graphs_raise(block_graph):
    with pytest.raises(TypeError, match="HeteroData"):
        KCES()(HeteroData())
    for name in ("y", "train_mask", "val_mask"):
        data = block_graph()
        del data[name]
        with pytest.raises(ValueError, match=f"data.{name}"):
            KCES("kernel-val")(data)


def test_similarity_prunes_what_it_says():
    x = torch.tensor([[1.0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
    edge_index = torch.tensor([[0, 1, 0, 2, 1, 3], [1, 0, 2, 0, 3, 1]])
    data = Data(x=x, edge_index=edge_index)
    assert pairs_of(JaccardPrune(0.01)(data)) == {(0, 1)}
    assert pairs_of(JaccardPrune(0.6)(data)) == set()
    assert pairs_of(CosinePrune(0.7)(data)) == {(0, 1)}
    assert pairs_of(CosinePrune(0.71)(data)) == set()
    assert len(pairs_of(CosinePrune(ratio=0.34)(data))) == 2


def test_low_rank_is_the_truncated_decomposition(block_graph):
    data = block_graph(60)
    dense = torch.zeros(60, 60, dtype=torch.float64)
    dense[data.edge_index[0], data.edge_index[1]] = 1
    left, values, right = torch.linalg.svd(dense)
    expected = (left[:, :10] * values[:10]) @ right[:10]
    result = LowRankSVD(10, threshold=0.05)(data)
    found = torch.zeros(60, 60)
    found[result.edge_index[0], result.edge_index[1]] = result.edge_weight
    expected.fill_diagonal_(0)
    torch.testing.assert_close(found, torch.where(expected > 0.05, expected, 0).float(), atol=1e-5, rtol=1e-4)


def test_sanitizers_compose(block_graph):
    data = block_graph()
    result = Compose([KCES(0.1), CosinePrune(ratio=0.1)])(data)
    count = undirected_edges(data.edge_index, data.num_nodes).num_edges
    left = count - round(0.1 * count)
    assert result.edge_index.shape[1] == 2 * (left - round(0.1 * left))


def test_a_recipe_is_the_sum_of_the_ranks_that_it_names(block_graph):
    data = block_graph()
    settings = (data.edge_index, data.x, data.y, data.train_mask)
    train, pseudo = (kc_scores(*settings, labels=labels) for labels in ("train", "pseudo"))
    first, second = train.edges.T
    outputs = kernel_ridge(data.x.double(), data.y, data.train_mask, lam=0.1)
    outputs = outputs - outputs.mean(0)
    cosines = [torch.cosine_similarity(rows[first], rows[second]) for rows in (data.x.double(), outputs)]
    ranks = [rankdata(values) for values in (train.scores.abs(), pseudo.scores, -cosines[0], -cosines[1])]
    expected = sum(ranks) / train.num_edges
    found = KCES(score="combined+cosine+agreement").sanitize(data).suspicion
    assert found.numpy() == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_training_on_what_is_left_is_better_after_many_random_edges(block_graph, seed):
    clean = block_graph(1500, features=64, classes=5, train=0.1, seed=seed)
    attacked = RandomEdges(0.6, inter_class=True, seed=seed)(clean)
    sanitized = KCES(0.2, score="signed", solver="nystrom")(attacked)
    before, after = (node_accuracy(train_surrogate(data), data, data.test_mask) for data in (attacked, sanitized))
    assert after >= before + 0.02
    assert sanitized.kces.detection(clean.edge_index).auc >= 0.70


@pytest.mark.slow
def test_metattack_on_cora_is_detected(attacked_graph):
    data = attacked_graph("cora", 0.2)
    combined = KCES("kernel-val", min_ratio=0.2, max_ratio=0.2).sanitize(data)
    assert combined.detection(data.clean_graph).auc >= 0.92
    settings = (data.x, data.y, data.train_mask)
    similar = rank_together(combined.results, *settings, score="combined+cosine+agreement")
    pseudo = combined.results["pseudo"]
    is_added = ~torch.isin(pseudo.edges @ torch.tensor([10**5, 1]), data.clean_graph.T @ torch.tensor([10**5, 1]))
    assert area_under_curve(pseudo.scores, is_added) >= 0.77
    assert area_under_curve(similar, is_added) >= 0.90
