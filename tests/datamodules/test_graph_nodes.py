import math
import os
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import scipy.sparse
import torch
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform, LargestConnectedComponents

from lightning_regimes.datamodules import GraphNodes, PyGDataset, RobustnessGraph, StochasticBlockModel
from lightning_regimes.datamodules.graph_nodes import split_by_class
from lightning_regimes.datamodules.graph_source import GraphSource, SourceGraph
from lightning_regimes.datamodules.neighbor_sampling import NeighborSampler
from lightning_regimes.networks import GraphNetwork

GRAPHS = Path(os.environ.get("REGIMES_TEST_DATA", "/nonexistent"), "graphs")
needs_graphs = pytest.mark.skipif(not GRAPHS.is_dir(), reason="REGIMES_TEST_DATA names no folder with graphs")


def test_the_block_model_has_the_edges_classes_and_means_that_were_asked_for():
    model = StochasticBlockModel(num_nodes=2000, num_classes=4, num_features=8, mean_degree=6, homophily=0.7, seed=1)
    data = model.load().data
    source, target = data.edge_index
    assert data.edge_index.shape[1] == 2000 * 6
    codes = source * 2000 + target
    assert torch.unique(codes).numel() == codes.numel()
    assert torch.equal(torch.sort(codes).values, torch.sort(target * 2000 + source).values)
    assert (source != target).all()
    assert torch.bincount(data.y).tolist() == [500] * 4
    # 6000 edges: the share within a class has standard error 0.006.
    assert (data.y[source] == data.y[target]).double().mean().item() == pytest.approx(0.7, abs=0.024)
    means = torch.stack([data.x[data.y == label].mean(dim=0) for label in range(4)])
    # Each of 8 coordinates of a mean of 500 has variance 1/500: the squared norm is 4 + 8/500.
    assert means.square().sum(dim=1).mean().item() == pytest.approx(4.0, abs=0.4)
    assert torch.equal(model.load().data.x, data.x)


@pytest.mark.parametrize(
    "options",
    [{"num_classes": 1}, {"num_nodes": 5}, {"num_features": 0}, {"homophily": 1.5}, {"mean_degree": 400.0}],
)
def test_impossible_block_models_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        StochasticBlockModel(**options)


def test_the_split_takes_its_share_of_each_class_and_leaves_out_the_unlabelled():
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 3 + [-1] * 7)
    state = torch.get_rng_state()
    train, val, test = split_by_class(labels, (0.1, 0.2), seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert [torch.bincount(labels[mask], minlength=3).tolist() for mask in (train, val, test)] == [
        [5, 3, 1],
        [10, 6, 1],
        [35, 21, 1],
    ]
    assert torch.equal(train.int() + val.int() + test.int(), (labels >= 0).int())


class Reversed(BaseTransform):
    """Keeps the first half of the edges."""

    def forward(self, data):
        data.edge_index = data.edge_index[:, : data.edge_index.shape[1] // 2]
        data.report = {"some": "report"}
        return data


def batches(data):
    return [next(iter(loader())) for loader in (data.train_dataloader, data.val_dataloader, data.test_dataloader)]


def test_poisoning_reaches_every_stage_and_evasion_the_test_alone():
    source = StochasticBlockModel(num_nodes=60, num_features=4)
    clean = source.load().data.edge_index.shape[1]
    poisoned = GraphNodes(source, attack=Reversed())
    poisoned.setup("fit")
    assert [batch.edge_index.shape[1] for batch in batches(poisoned)] == [clean // 2] * 3
    evaded = GraphNodes(source, attack=Reversed(), attack_scope="evasion")
    evaded.setup("fit")
    assert [batch.edge_index.shape[1] for batch in batches(evaded)] == [clean, clean, clean // 2]
    for module in (poisoned, evaded):
        assert module.clean_edge_index.shape[1] == clean
        assert "report" not in batches(module)[2]


def test_a_sanitizer_comes_after_the_attack_and_works_without_one():
    source = StochasticBlockModel(num_nodes=60, num_features=4)
    clean = source.load().data.edge_index.shape[1]
    both = GraphNodes(source, attack=Reversed(), sanitizer=Reversed())
    both.setup("fit")
    assert both.data.edge_index.shape[1] == clean // 2 // 2
    alone = GraphNodes(source, sanitizer=Reversed())
    alone.setup("test")
    assert alone.data.edge_index.shape[1] == clean // 2
    assert alone.clean_edge_index is None


class Given(GraphSource):
    def __init__(self, **entries):
        self.entries = entries

    def load(self):
        return SourceGraph(Data(**self.entries))


@pytest.mark.parametrize("missing", ["x", "y", "edge_index"])
def test_an_incomplete_graph_is_named(missing):
    entries = {"x": torch.ones(4, 2), "y": torch.zeros(4, dtype=torch.int64), "edge_index": torch.zeros(2, 1).long()}
    del entries[missing]
    with pytest.raises(ValueError, match=f"as `{missing}`"):
        GraphNodes(Given(**entries)).setup("fit")


def graph_entries(**changes):
    mask = torch.tensor([True, False, False])
    entries = {
        "x": torch.ones(3, 2),
        "y": torch.tensor([0, 1, 0]),
        "edge_index": torch.tensor([[0, 1], [1, 0]]),
        **{f"{part}_mask": mask.roll(place) for place, part in enumerate(("train", "val", "test"))},
    }
    return {name: value for name, value in (entries | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # A split of its own would train on nodes that the source tests on.
        ({"val_mask": None}, "none as val_mask"),
        ({"train_mask": torch.tensor([0])}, "boolean `train_mask`"),
        ({"val_mask": torch.zeros(3, dtype=torch.bool)}, "labelled nodes in `val_mask`"),
        ({"y": torch.tensor([0.0, 1.0, 0.0])}, "integers"),
    ],
)
def test_a_graph_that_no_step_could_use_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        GraphNodes(Given(**graph_entries(**changes))).setup("fit")


def test_features_of_any_number_type_are_read():
    datamodule = GraphNodes(Given(**graph_entries(x=torch.tensor([[0, 1], [1, 0], [1, 1]]))))
    datamodule.setup("fit")
    assert datamodule.data.x.dtype == torch.float32


class AttackedStar(GraphSource):
    """A star around node 1 with an edge more, and node 0 apart."""

    def load(self):
        clean = torch.tensor([[1, 1, 1, 2, 3, 4], [2, 3, 4, 1, 1, 1]])
        attacked = torch.cat([clean, torch.tensor([[2, 3], [3, 2]])], dim=1)
        return SourceGraph(Data(x=torch.ones(5, 2), y=torch.arange(5) // 3, edge_index=attacked), clean)


def test_clean_edges_are_not_known_by_the_numbers_of_other_nodes():
    options = {"train_fraction": 0.3, "val_fraction": 0.3}
    whole, cut = (
        GraphNodes(AttackedStar(), **options),
        GraphNodes(AttackedStar(), transform=LargestConnectedComponents(), **options),
    )
    whole.setup("fit")
    cut.setup("fit")
    assert whole.clean_edge_index.shape == (2, 6)
    assert cut.data.num_nodes == 4
    assert cut.clean_edge_index is None


def test_unusable_options_are_named():
    for options in (
        {"attack_scope": "both"},
        {"split": "none"},
        {"train_fraction": 0.0},
        {"val_fraction": 0.95},
        {"batch_size": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            GraphNodes(**options)
    with pytest.raises(ValueError, match="num_neighbors"):
        NeighborSampler(Data(x=torch.ones(2, 1), edge_index=torch.tensor([[0], [1]])), [0])
    with pytest.raises(ValueError, match="no_such"):
        PyGDataset(dataset="no_such").load()


@pytest.mark.parametrize("convolution", ["GraphSAGE", "GIN", "GAT"])
def test_all_neighbours_give_the_seeds_exactly_what_the_whole_graph_gives(convolution):
    data = StochasticBlockModel(num_nodes=300, num_features=6).load().data
    torch.manual_seed(0)
    network = GraphNetwork(6, 5, convolution=convolution).double().eval()
    data.x = data.x.double()
    whole = network(data.x, data.edge_index)
    seeds = [17, 3, 250]
    part = NeighborSampler(data, [-1, -1])(seeds)
    assert part.batch_size == 3
    assert part.num_nodes < 300
    assert torch.equal(part.y[:3], data.y[seeds])
    torch.testing.assert_close(network(part.x, part.edge_index)[:3], whole[seeds], rtol=1e-12, atol=1e-12)


def test_a_node_brings_no_more_neighbours_than_allowed_each_as_often_as_the_others():
    # A star: node 0 hears 12 others.
    data = Data(x=torch.arange(13.0)[:, None], edge_index=torch.stack([torch.arange(1, 13), torch.zeros(12).long()]))
    sampler = NeighborSampler(data, [3])
    torch.manual_seed(0)
    counts = torch.zeros(13)
    for _ in range(2000):
        part = sampler([0])
        assert part.edge_index.shape == (2, 3)
        assert torch.unique(part.x).numel() == 4
        counts[part.x.flatten().long()] += 1
    # Binomial(2000, 1/4): standard deviation 19.4.
    assert counts[0] == 2000
    assert (counts[1:] - 500).abs().max() < 4.5 * math.sqrt(2000 * 0.25 * 0.75)


def test_sampled_parts_cover_the_training_nodes_once_an_epoch():
    data = GraphNodes(StochasticBlockModel(num_nodes=200), num_neighbors=[2, 2], batch_size=6)
    L.seed_everything(0, verbose=False)
    data.setup("fit")
    parts = list(data.train_dataloader())
    assert sum(part.batch_size for part in parts) == int(data.data.train_mask.sum())
    seeds = torch.cat([part.x[: part.batch_size] for part in parts])
    expected = data.data.x[data.data.train_mask]
    assert sorted(map(tuple, seeds.tolist())) == sorted(map(tuple, expected.tolist()))


def test_a_graph_in_the_files_of_the_literature_is_read_as_it_was_written(tmp_path):
    # A triangle and a path beside it; node 5 stands alone, and node 3 has a self-loop.
    adjacency = np.zeros((6, 6))
    for a, b in [(0, 1), (1, 2), (2, 0), (2, 3), (3, 3), (3, 4)]:
        adjacency[a, b] = 1
    parts = {}
    features = np.eye(6)[:, :4]
    for name, matrix in (("adj", adjacency), ("attr", features)):
        sparse = scipy.sparse.csr_matrix(matrix)
        parts |= {f"{name}_{key}": getattr(sparse, key) for key in ("data", "indices", "indptr", "shape")}
    np.savez(tmp_path / "toy.npz", labels=np.array([0, 0, 0, 1, 1, 1], dtype=np.int8), **parts)
    attacked = adjacency[:5, :5].copy()
    attacked[0, 4] = 1
    scipy.sparse.save_npz(tmp_path / "toy_meta_adj_0.2.npz", scipy.sparse.csr_matrix(attacked))
    (tmp_path / "toy_prognn_splits.json").write_text('{"idx_train": [0], "idx_val": [3], "idx_test": [1, 2, 4]}')

    clean = RobustnessGraph(folder=str(tmp_path), name="toy").load()
    assert clean.clean_edge_index is None
    assert clean.data.num_nodes == 5
    pairs = {(a, b) for a, b in clean.data.edge_index.T.tolist() if a < b}
    assert pairs == {(0, 1), (1, 2), (0, 2), (2, 3), (3, 4)}
    assert torch.equal(clean.data.x, torch.as_tensor(features[:5], dtype=torch.float32))
    assert clean.data.test_mask.tolist() == [False, True, True, False, True]
    poisoned = RobustnessGraph(folder=str(tmp_path), name="toy", attack="metattack", rate=0.2).load()
    added = {(a, b) for a, b in poisoned.data.edge_index.T.tolist() if a < b} - pairs
    assert added == {(0, 4)}
    assert torch.equal(poisoned.clean_edge_index, clean.data.edge_index)
    scipy.sparse.save_npz(tmp_path / "toy_nettack_adj_1.0.npz", scipy.sparse.csr_matrix(attacked))
    targeted = RobustnessGraph(folder=str(tmp_path), name="toy", attack="nettack", rate=1).load()
    assert torch.equal(targeted.data.edge_index, poisoned.data.edge_index)
    with pytest.raises(FileNotFoundError, match=r"toy_meta_adj_0\.3"):
        RobustnessGraph(folder=str(tmp_path), name="toy", attack="metattack", rate=0.3).load()
    with pytest.raises(ValueError, match="rate"):
        RobustnessGraph(folder=str(tmp_path), attack="metattack")
    with pytest.raises(ValueError, match="attack"):
        RobustnessGraph(folder=str(tmp_path), attack="unknown", rate=0.1)


@needs_graphs
def test_cora_and_its_attack_have_the_published_sizes():
    clean = RobustnessGraph(folder=str(GRAPHS), name="cora").load().data
    assert (clean.num_nodes, clean.edge_index.shape[1] // 2, clean.num_features) == (2485, 5069, 1433)
    assert [int(clean[f"{part}_mask"].sum()) for part in ("train", "val", "test")] == [247, 249, 1988]
    homophily = (clean.y[clean.edge_index[0]] == clean.y[clean.edge_index[1]]).double().mean().item()
    assert homophily == pytest.approx(0.804, abs=5e-4)
    attacked = RobustnessGraph(folder=str(GRAPHS), name="cora", attack="metattack", rate=0.2).load()
    before, after = ({tuple(e) for e in g.T.tolist()} for g in (attacked.clean_edge_index, attacked.data.edge_index))
    assert (len(after - before) // 2, len(before - after) // 2) == (992, 21)


@needs_graphs
def test_planetoid_is_read_from_its_raw_files(tmp_path):
    import shutil

    shutil.copytree(GRAPHS / "planetoid" / "Cora", tmp_path / "Cora")
    data = PyGDataset(dataset="Planetoid", root=str(tmp_path), options={"name": "Cora"}).load().data
    assert (data.num_nodes, data.edge_index.shape[1], int(data.train_mask.sum())) == (2708, 10556, 140)
