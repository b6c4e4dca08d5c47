import csv
import warnings

import lightning as L
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.data.lightning import LightningNodeData

from lightning_regimes.callbacks import KCESPreprocessing
from lightning_regimes.callbacks.graph_fingerprint import graph_fingerprint
from lightning_regimes.datamodules import GraphNodes, StochasticBlockModel
from lightning_regimes.graph import KCES, RandomEdges
from lightning_regimes.modules import GNN
from lightning_regimes.recording import describe, read_records

SOURCE = StochasticBlockModel(num_nodes=100, num_classes=3, num_features=6)
ATTACK = RandomEdges(0.4, inter_class=True)


class Watch(L.Callback):
    """Notes how many edges each stage sees."""

    def __init__(self):
        self.seen = {}

    def note(self, stage, batch):
        self.seen.setdefault(stage, set()).add(batch.edge_index.shape[1])

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.note("train", batch)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.note("sanity" if trainer.sanity_checking else "val", batch)

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.note("test", batch)

    def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.note("predict", batch)


class Counting(KCES):
    """Counts how often it scores."""

    calls = 0

    def sanitize(self, data):
        type(self).calls += 1
        return super().sanitize(data)


@pytest.fixture(autouse=True)
def reset():
    Counting.calls = 0


def trainer(tmp_path, *callbacks, **options):
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "log_every_n_steps": 1,
        "max_epochs": 2,
    }
    return L.Trainer(default_root_dir=tmp_path, callbacks=list(callbacks), **{**quiet, **options})


def nodes(**options):
    data = GraphNodes(SOURCE, attack=ATTACK, **options)
    data.setup("fit")
    return data


def test_every_stage_sees_the_graph_that_the_transform_would_give(tmp_path):
    data, watch = nodes(), Watch()
    given = data.data
    expected = KCES(0.2)(given.clone()).edge_index
    callback = KCESPreprocessing(Counting(0.2))
    model = GNN(6, 3)
    trainer(tmp_path, callback, watch).fit(model, data)
    for stage in ("validate", "test", "predict"):
        getattr(trainer(tmp_path, callback, watch), stage)(model, datamodule=data)
    pruned = expected.shape[1]
    assert pruned < given.edge_index.shape[1]
    assert watch.seen == {stage: {pruned} for stage in ("sanity", "train", "val", "test", "predict")}
    (findings,) = callback.findings.values()
    assert torch.equal(given.edge_index[:, findings.keep_columns], expected)
    assert Counting.calls == 1
    assert data.data is given


def test_the_graph_stays_where_it_is_to_be_kept_and_is_not_pruned_twice(tmp_path):
    data = nodes()
    callback = KCESPreprocessing(Counting(0.2), keep=True)
    run = trainer(tmp_path, callback)
    run.fit(GNN(6, 3), data)
    once = data.data
    run.fit(GNN(6, 3), data)
    KCESPreprocessing(Counting(0.2)).setup(run, GNN(6, 3), "fit")
    assert data.data is once
    assert Counting.calls == 1
    # Nor is what a sanitizer of the datamodule has pruned.
    own = nodes(sanitizer=KCES(0.2))
    before = own.data
    trainer(tmp_path, callback).fit(GNN(6, 3), own)
    assert own.data is before
    assert Counting.calls == 1


def test_evasion_leaves_training_alone(tmp_path):
    for options in ({}, {"attack_scope": "evasion"}):
        data, watch = nodes(**options), Watch()
        attacked = data.data if data.test_data is None else data.test_data
        callback = KCESPreprocessing(KCES(0.2), scope="evasion")
        model = GNN(6, 3)
        trainer(tmp_path, callback, watch).fit(model, data)
        trainer(tmp_path, callback, watch).test(model, data, verbose=False)
        assert watch.seen["train"] == watch.seen["val"] == {data.data.edge_index.shape[1]}
        assert watch.seen["test"] == {KCES(0.2)(attacked.clone()).edge_index.shape[1]}


def test_pygs_own_datamodule_is_served(tmp_path):
    data, watch = nodes(), Watch()
    graph = data.data
    del graph.attack
    foreign = LightningNodeData(graph, loader="full", num_workers=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(tmp_path, KCESPreprocessing(KCES(0.2)), watch).fit(GNN(6, 3), datamodule=foreign)
    assert watch.seen["train"] == watch.seen["val"] == {KCES(0.2)(graph.clone()).edge_index.shape[1]}
    assert foreign.data is graph


def test_a_resumed_run_takes_its_mask_from_the_checkpoint(tmp_path):
    model = GNN(6, 3)
    first = trainer(tmp_path, KCESPreprocessing(Counting(0.2)))
    first.fit(model, nodes())
    first.save_checkpoint(tmp_path / "last.ckpt")
    assert Counting.calls == 1
    watch, callback = Watch(), KCESPreprocessing(Counting(0.2))
    resumed = trainer(tmp_path, callback, watch, max_epochs=4)
    resumed.fit(GNN(6, 3), nodes(), ckpt_path=tmp_path / "last.ckpt", weights_only=False)
    assert Counting.calls == 1
    assert watch.seen["train"] == {int(next(iter(callback.findings.values())).keep_columns.sum())}
    assert resumed.global_step == 4
    # Another graph is another matter.
    other = trainer(tmp_path, KCESPreprocessing(Counting(0.3)), max_epochs=4)
    other.fit(GNN(6, 3), nodes(), ckpt_path=tmp_path / "last.ckpt", weights_only=False)
    assert Counting.calls == 2


@pytest.mark.parametrize("ratio", [0.2, "kernel-val"])
def test_what_was_found_is_recorded_and_logged(ratio, tmp_path):
    data = nodes()
    sanitizer = KCES(ratio, min_ratio=0.1)
    report = sanitizer.sanitize(data.data)
    logger = L.pytorch.loggers.CSVLogger(tmp_path, name="csv")
    run = trainer(tmp_path, KCESPreprocessing(sanitizer, num_edges=7), logger=logger)
    run.fit(GNN(6, 3), data)
    (record,) = [record for record in read_records(logger.log_dir) if record.diagnostic == "kces"]
    detection = report.detection(data.clean_edge_index)
    assert record.scalars["kces/gkc_before"] == report.gkc_before
    assert record.scalars["kces/gkc_after"] == report.gkc_after
    assert record.scalars["kces/pruned"] == report.num_pruned
    assert record.scalars["kces/detection_auc"] == detection.auc
    assert record.scalars["kces/detection_recall"] == detection.recall
    assert record.arrays["kces/kept_counts"].sum() == report.num_edges - report.num_pruned
    assert record.arrays["kces/pruned_counts"].sum() == report.num_pruned
    assert len(record.tables["kces/top_edges"].rows) == 7
    assert ("kces/curve_ratios" in record.arrays) == (ratio == "kernel-val")
    for key in (*record.scalars, *record.text, *record.arrays):
        assert describe(key).meaning
    with open(f"{logger.log_dir}/metrics.csv") as handle:
        columns = set(csv.DictReader(handle).fieldnames)
    assert set(record.scalars) <= columns
    assert run.callback_metrics["kces/gkc_before"].item() == pytest.approx(report.gkc_before, rel=1e-6)


def test_the_fingerprint_knows_edges_and_training_labels_but_no_test_labels():
    data = nodes().data
    fingerprint = graph_fingerprint(data, ("KCES", 0.2))
    assert graph_fingerprint(data.clone(), ("KCES", 0.2)) == fingerprint
    assert graph_fingerprint(data, ("KCES", 0.3)) != fingerprint
    hidden, known, fewer = data.clone(), data.clone(), data.clone()
    hidden.y[hidden.test_mask] = 0
    known.y[known.train_mask] = (known.y[known.train_mask] + 1) % 3
    fewer.edge_index = fewer.edge_index[:, 2:]
    assert graph_fingerprint(hidden, ("KCES", 0.2)) == fingerprint
    assert graph_fingerprint(known, ("KCES", 0.2)) != fingerprint
    assert graph_fingerprint(fewer, ("KCES", 0.2)) != fingerprint


def test_the_graph_comes_back_when_training_fails(tmp_path):
    class Failing(GNN):
        def training_step(self, batch, batch_idx=0):
            raise RuntimeError("no step")

    data = nodes()
    given = data.data
    with pytest.raises(RuntimeError, match="no step"):
        trainer(tmp_path, KCESPreprocessing(KCES(0.2))).fit(Failing(6, 3), data)
    assert data.data is given


def test_what_cannot_be_served_is_named(tmp_path):
    with pytest.raises(ValueError, match="scope"):
        KCESPreprocessing(scope="both")
    with pytest.raises(ValueError, match="num_edges"):
        KCESPreprocessing(num_edges=0)
    graph = nodes().data
    loader = torch.utils.data.DataLoader([graph], collate_fn=lambda graphs: graphs[0])
    with pytest.raises(ValueError, match="holds one graph"):
        trainer(tmp_path, KCESPreprocessing()).fit(GNN(6, 3), loader)

    class Sampled(L.LightningDataModule):
        data = Data(edge_index=torch.zeros(2, 1).long())
        graph_sampler = object()

    with pytest.raises(ValueError, match="copy of the graph"):
        trainer(tmp_path, KCESPreprocessing()).fit(GNN(6, 3), Sampled())

    class Unlabelled(L.LightningDataModule):
        data = Data(x=torch.ones(2, 6), y=torch.zeros(2).long(), edge_index=torch.tensor([[0, 1], [1, 0]]))

    with pytest.raises(ValueError, match=r"data\.train_mask"):
        trainer(tmp_path, KCESPreprocessing()).fit(GNN(6, 3), Unlabelled())
