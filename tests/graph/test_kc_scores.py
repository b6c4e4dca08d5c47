import itertools

import pytest
import torch
from scipy.stats import spearmanr

from lightning_regimes.graph import graph_kernel_complexity, kc_scores
from lightning_regimes.graph.arc_cosine import arc_cosine_gram
from lightning_regimes.graph.regularized_cholesky import regularized_cholesky

pytestmark = pytest.mark.filterwarnings("ignore:.*reads the labels of test nodes")


def relative_error(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("labels", ["train", "oracle"])
@pytest.mark.parametrize("aggregation", ["mean", "sum", "gcn"])
@pytest.mark.parametrize(("lam", "normalize"), [(1e-3, "aggregated"), (0.1, "none"), (10.0, "features")])
def test_scores_are_those_of_graphs_without_the_edge(
    block_model, scores_by_definition, labels, aggregation, lam, normalize
):
    edge_index, x, y, train_mask = block_model(90)
    found = kc_scores(
        edge_index,
        x,
        y,
        train_mask,
        labels=labels,
        lam=lam,
        normalize=normalize,
        aggregation=aggregation,
        solver="exact",
        allow_leak=True,
    )
    used = torch.arange(len(y)) if labels == "oracle" else train_mask.nonzero().squeeze(1)
    rows = range(0, found.num_edges, 9)
    settings = {"lam": lam, "normalize": normalize, "aggregation": aggregation}
    expected = scores_by_definition(edge_index, x, y, used, rows, **settings)
    assert relative_error(found.scores[::9], expected) < 1e-9


def test_guessed_labels_are_the_outputs_of_a_ridge_regression_on_features(block_model, scores_by_definition):
    edge_index, x, y, train_mask = block_model(90)
    found = kc_scores(edge_index, x, y, train_mask, labels="pseudo", solver="exact")
    unit = x / x.norm(dim=1, keepdim=True)
    angle = (unit @ unit.T).clamp(-1, 1).acos()
    kernel = angle.cos() * (torch.pi - angle) / (2 * torch.pi)
    labels = torch.nn.functional.one_hot(y[train_mask]).double()
    ridge = kernel[train_mask][:, train_mask] + 0.1 * torch.eye(len(labels), dtype=torch.float64)
    outputs = kernel[:, train_mask] @ torch.linalg.solve(ridge, labels - labels.mean(0)) + labels.mean(0)
    settings = {"lam": 30.0, "normalize": "features", "targets": outputs}
    rows = range(0, found.num_edges, 9)
    expected = scores_by_definition(edge_index, x, y, torch.arange(len(y)), rows, **settings)
    # Angles of equal rows lose half of the digits.
    assert relative_error(found.scores[::9], expected) < 1e-6
    assert found.settings.normalize == "features"


def test_an_unknown_way_to_normalize_is_refused(block_model):
    with pytest.raises(ValueError, match="`normalize` is one of features, aggregated, none, got 'rows'"):
        kc_scores(*block_model(30), normalize="rows")


def test_every_edge_of_a_larger_graph(block_model, scores_by_definition):
    edge_index, x, y, train_mask = block_model(200, train=0.1)
    found = kc_scores(edge_index, x, y, train_mask, lam=1e-3)
    used = train_mask.nonzero().squeeze(1)
    expected = scores_by_definition(edge_index, x, y, used, range(found.num_edges), lam=1e-3)
    assert relative_error(found.scores, expected) < 1e-9
    is_apart = ~train_mask[found.edges].any(1)
    assert is_apart.any()
    assert not found.scores[is_apart].any()


def test_low_rank_scores_are_near_the_exact_ones(block_model):
    edge_index, x, y, train_mask = block_model(600, features=24)
    settings = {"labels": "pseudo", "lam": 10.0}
    exact = kc_scores(edge_index, x, y, train_mask, solver="exact", **settings)
    near = kc_scores(edge_index, x, y, train_mask, solver="nystrom", rank=250, **settings)
    assert near.gkc == pytest.approx(exact.gkc, rel=1e-2)
    assert spearmanr(near.scores, exact.scores).statistic > 0.97
    tenth = exact.num_edges // 10
    assert torch.isin(near.top(tenth), exact.top(tenth)).double().mean() > 0.9


def test_low_rank_scores_are_differences_of_the_same_low_rank_kernel(block_model, definition):
    # With all rows as landmarks, the complexity of the whole graph is exact.
    edge_index, x, y, train_mask = block_model(80)
    used = torch.arange(len(y))
    found = kc_scores(
        edge_index, x, y, train_mask, labels="oracle", lam=1.0, solver="nystrom", rank=80, allow_leak=True
    )
    expected = definition(found.edges, x, used, y, lam=1.0, normalize="features")
    assert found.gkc == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("labels", ["train", "pseudo"])
def test_names_and_order_of_nodes_and_edges_have_no_part(block_model, labels):
    edge_index, x, y, train_mask = block_model(100)
    found = kc_scores(edge_index, x, y, train_mask, labels=labels)
    generator = torch.Generator().manual_seed(3)
    name = torch.randperm(len(y), generator=generator)
    back = name.argsort()
    order = torch.randperm(edge_index.shape[1], generator=generator)
    moved = kc_scores(name[edge_index][:, order].flip(0), x[back], y[back], train_mask[back], labels=labels)
    renamed = {
        tuple(sorted(name[pair].tolist())): float(score) for pair, score in zip(found.edges, found.scores, strict=True)
    }
    largest = float(found.magnitude.max())
    for pair, score in zip(moved.edges.tolist(), moved.scores.tolist(), strict=True):
        assert renamed[tuple(pair)] == pytest.approx(score, abs=1e-9 * largest)


@pytest.mark.parametrize("labels", ["train", "pseudo"])
def test_labels_outside_the_training_nodes_are_not_read(block_model, labels):
    edge_index, x, y, train_mask = block_model(100)
    before = kc_scores(edge_index, x, y, train_mask, labels=labels)
    hidden = torch.where(train_mask, y, -1)
    assert torch.equal(kc_scores(edge_index, x, hidden, train_mask, labels=labels).scores, before.scores)


def test_missing_features_are_the_identity_matrix(block_model):
    edge_index, _, y, train_mask = block_model(60)
    dense = kc_scores(edge_index, torch.eye(60), y, train_mask)
    sparse = kc_scores(edge_index, None, y, train_mask)
    torch.testing.assert_close(sparse.scores, dense.scores, rtol=1e-10, atol=1e-14)
    low_rank = kc_scores(edge_index, None, y, train_mask, solver="nystrom", rank=10)
    expected = kc_scores(edge_index, torch.eye(60), y, train_mask, solver="nystrom", rank=10)
    torch.testing.assert_close(low_rank.scores, expected.scores, rtol=1e-10, atol=1e-14)


def test_self_loops_and_repetitions_change_nothing(block_model):
    edge_index, x, y, train_mask = block_model(60)
    loops = torch.tensor([[0, 3], [0, 3]])
    found = kc_scores(torch.cat([edge_index, edge_index[:, :7], loops], 1), x, y, train_mask)
    assert torch.equal(found.scores, kc_scores(edge_index, x, y, train_mask).scores)


def test_isolated_nodes_and_empty_rows_are_fine(block_model):
    edge_index, x, y, train_mask = block_model(60)
    x[:5] = 0
    edge_index = edge_index[:, (edge_index != 7).all(0)]
    for solver, labels in itertools.product(("exact", "nystrom"), ("train", "pseudo")):
        assert kc_scores(edge_index, x, y, train_mask, lam=1.0, solver=solver, labels=labels).scores.isfinite().all()


def test_rows_of_the_same_direction_have_an_angle_of_exactly_zero():
    rows = torch.tensor([[1.0, 2, 3], [2, 4, 6], [1, 0, 1]], dtype=torch.float64) / 7
    gram = arc_cosine_gram(rows, normalize=True)
    # An angle from the rounded cosine would be off by a hundred million roundings.
    assert float(gram[0, 1]) == pytest.approx(0.5, abs=1e-15)
    assert gram[0, 0] == 0.5
    rows.requires_grad_()
    (gradient,) = torch.autograd.grad(arc_cosine_gram(rows, rows.detach(), normalize=True).sum(), rows)
    assert gradient.isfinite().all()


def test_no_ridge_is_needed_while_rows_differ(block_model, scores_by_definition):
    edge_index, x, y, train_mask = block_model(60)
    found = kc_scores(edge_index, x, y, train_mask, lam=0.0)
    used = train_mask.nonzero().squeeze(1)
    expected = scores_by_definition(edge_index, x, y, used, range(found.num_edges), lam=0.0)
    assert relative_error(found.scores, expected) < 1e-9


def test_half_precision_features_are_computed_in_double(block_model):
    edge_index, x, y, train_mask = block_model(60)
    for dtype in (torch.float16, torch.bfloat16):
        found = kc_scores(edge_index, x.to(dtype), y, train_mask)
        assert torch.equal(found.scores, kc_scores(edge_index, x.to(dtype).double(), y, train_mask).scores)


@pytest.mark.parametrize("aggregation", ["mean", "sum", "gcn"])
def test_weights_of_one_give_the_complexity_and_its_gradient(block_model, definition, aggregation):
    edge_index, x, y, train_mask = block_model(40)
    weight = torch.ones(edge_index.shape[1], dtype=torch.float64, requires_grad=True)
    settings = {"lam": 0.1, "aggregation": aggregation}
    found = graph_kernel_complexity(edge_index, x, y, train_mask, edge_weight=weight, **settings)
    plain = graph_kernel_complexity(edge_index, x, y, train_mask, **settings)
    used = train_mask.nonzero().squeeze(1)
    expected = definition(edge_index.T, x, used, y, **settings)
    assert found.item() == pytest.approx(expected.item(), rel=1e-10)
    assert float(plain) == pytest.approx(float(expected), rel=1e-10)
    (gradient,) = torch.autograd.grad(found, weight)
    step = torch.zeros_like(weight)
    step[::5] = 1e-5
    ends = [
        float(
            graph_kernel_complexity(edge_index, x, y, train_mask, edge_weight=weight.detach() + sign * step, **settings)
        )
        for sign in (1, -1)
    ]
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float(gradient[::5].sum()), rel=1e-5)


def test_the_figure_draws(block_model):
    edge_index, x, y, train_mask = block_model(60)
    figure = kc_scores(edge_index, x, y, train_mask).figure()
    assert "GKC" in figure.axes[0].get_title()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_mask": None}, "`train_mask` is needed"),
        ({"y": None}, "`y` is needed"),
        ({"train_mask": torch.zeros(60, dtype=torch.bool)}, "at least one node"),
        ({"y": torch.zeros(60, dtype=torch.long)}, "two classes"),
        ({"y": torch.full((60,), -1)}, "class from 0"),
        ({"y": torch.full((60,), torch.nan)}, "NaN"),
        ({"x": torch.full((60, 3), torch.nan)}, "60 of 60 rows"),
        ({"x": torch.eye(60).index_fill(0, torch.tensor([3, 7]), torch.inf)}, "2 of 60 rows"),
        ({"x": None, "labels": "pseudo"}, "needs features"),
        ({"labels": "oracle"}, "allow_leak=True"),
        ({"labels": "test"}, "`labels` is one of"),
        ({"edge_index": torch.tensor([[0, 1, 2], [1, 0, 0]])}, "1 arcs alone"),
        ({"edge_index": torch.tensor([[0, 60], [60, 0]])}, "nodes from 0 to 59"),
        ({"lam": -1.0}, "`lam` is not negative"),
        ({"lam": 0.5, "solver": "nystrom"}, "at least 1 with the Nyström"),
        ({"solver": "exact", "memory_limit": 1e-4}, "memory_limit"),
        ({"solver": "gradient"}, "`solver` is one of"),
        ({"aggregation": "max"}, "`aggregation` is one of"),
    ],
)
def test_wrong_input_raises(block_model, change, message):
    edge_index, x, y, train_mask = block_model(60)
    arguments = {"edge_index": edge_index, "x": x, "y": y, "train_mask": train_mask} | change
    with pytest.raises(ValueError, match=message):
        kc_scores(**arguments)


def test_too_little_memory_changes_the_solver(block_model):
    edge_index, x, y, train_mask = block_model(60)
    found = kc_scores(edge_index, x, y, train_mask, memory_limit=1e-4)
    assert (found.settings.solver, found.settings.lam) == ("nystrom", 1.0)


def test_a_singular_kernel_gets_a_jitter_once_and_an_indefinite_one_is_refused():
    singular = torch.ones(3, 3, dtype=torch.float64)
    factor = regularized_cholesky(singular, 0.0)
    torch.testing.assert_close(factor @ factor.T, singular, atol=1e-14, rtol=0)
    with pytest.raises(ValueError, match="larger `lam`"):
        regularized_cholesky(-singular, 0.0)
