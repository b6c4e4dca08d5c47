import math

import lightning as L
import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn
from torch.nn import functional as F
from torch_geometric.utils import to_dense_adj

from lightning_regimes.callbacks import HessianSpectrum, LossLandscape, RegimeDetection
from lightning_regimes.curvature import HessianOperator
from lightning_regimes.datamodules import GraphNodes, StochasticBlockModel
from lightning_regimes.modules import GNN
from lightning_regimes.networks import GraphNetwork
from lightning_regimes.probe import LossProbe
from lightning_regimes.recording import read_records

SOURCE = StochasticBlockModel(num_nodes=120, num_classes=3, num_features=6)


def trainer(tmp_path, **options):
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "log_every_n_steps": 1,
    }
    return L.Trainer(default_root_dir=tmp_path, **{**quiet, **options})


def graph():
    data = GraphNodes(SOURCE)
    data.setup("fit")
    return next(iter(data.train_dataloader()))


def test_the_gcn_is_kipfs_formula():
    batch = graph()
    torch.manual_seed(0)
    network = GraphNetwork(6, 3).double().eval()
    adjacency = to_dense_adj(batch.edge_index, max_num_nodes=120)[0].double() + torch.eye(120)
    scale = adjacency.sum(dim=1).rsqrt()
    smooth = scale[:, None] * adjacency * scale
    x = batch.x.double()
    first, second = network.layers
    hidden = F.relu(smooth @ x @ first.lin.weight.T + first.bias)
    expected = smooth @ hidden @ second.lin.weight.T + second.bias
    torch.testing.assert_close(network(x, batch.edge_index), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("convolution", ["GCN", "GraphSAGE"])
def test_it_learns_and_logs_the_metrics_of_its_predictions(convolution, tmp_path):
    torch.manual_seed(0)
    data = GraphNodes(SOURCE, train_fraction=0.4)
    model = GNN(6, 3, convolution=convolution)
    run = trainer(tmp_path, max_epochs=60, check_val_every_n_epoch=20)
    run.fit(model, data)
    metrics = run.test(model, data, verbose=False)[0]
    predictions = torch.cat(run.predict(model, data))
    mask, labels = data.data.test_mask, data.data.y
    share = (predictions[mask] != labels[mask]).double().mean().item()
    assert metrics["test/error"] == pytest.approx(share, abs=1e-6)
    assert metrics["test/accuracy"] == pytest.approx(1 - share, abs=1e-6)
    assert metrics["test/f1"] == pytest.approx(f1_score(labels[mask], predictions[mask], average="macro"), abs=1e-6)
    assert metrics["test/calibration_error"] == pytest.approx(calibration_error(model, data.data), abs=1e-5)
    assert share < 0.4


@torch.no_grad()
def calibration_error(model, data):
    probabilities = torch.softmax(model.eval()(data.x, data.edge_index), dim=-1)[data.test_mask]
    confidence, predicted = probabilities.max(dim=-1)
    correct = (predicted == data.y[data.test_mask]).float()
    bins = torch.clamp((confidence * 15).long(), max=14)
    gaps = [(correct[bins == b].sum() - confidence[bins == b].sum()).abs() for b in range(15)]
    return (torch.stack(gaps).sum() / confidence.numel()).item()


def test_training_on_all_neighbours_of_all_nodes_is_training_on_the_graph(tmp_path):
    weights = []
    for options in ({}, {"num_neighbors": [-1, -1], "batch_size": 1000}):
        torch.manual_seed(0)
        model = GNN(6, 3, convolution="GraphSAGE", dropout=0.0).double()
        data = GraphNodes(SOURCE, transform=None, **options)
        data.setup("fit")
        data.data.x = data.data.x.double()
        trainer(tmp_path, max_epochs=5, limit_val_batches=0, precision="64-true").fit(model, data)
        weights.append(nn.utils.parameters_to_vector(model.parameters()).detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("convolution", ["GCN", "GAT", "GraphSAGE", "GIN", "TAGConv", "torch_geometric.nn.SGConv"])
def test_curvature_of_every_convolution_is_the_dense_hessian(convolution):
    torch.manual_seed(0)
    batch = graph()
    batch.x = batch.x.double()
    model = GNN(6, 3, convolution=convolution, hidden_features=2).double()
    probe = LossProbe(model, [batch])
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    sizes = [p.numel() for p in parameters.values()]

    def loss(vector):
        pieces = [piece.view_as(p) for piece, p in zip(vector.split(sizes), parameters.values(), strict=True)]
        named = dict(zip(parameters, pieces, strict=True))
        logits = torch.func.functional_call(model.eval(), named, (batch.x, batch.edge_index))
        return F.cross_entropy(logits[batch.train_mask], batch.y[batch.train_mask])

    point = torch.cat([p.reshape(-1) for p in parameters.values()])
    dense = torch.autograd.functional.hessian(loss, point)
    vector = torch.randn(point.numel(), dtype=torch.float64)
    with probe.isolated():
        product = HessianOperator(probe) @ vector
    torch.testing.assert_close(product, dense @ vector, rtol=1e-8, atol=1e-10)


def test_hessian_landscape_and_regime_are_recorded(tmp_path):
    torch.manual_seed(0)
    callbacks = [
        HessianSpectrum(k=2, at_end=True, overhead_budget=0),
        LossLandscape(at_end=True, overhead_budget=0, points=5),
        RegimeDetection(at_end=True, overhead_budget=0, error_metric="val/error"),
    ]
    logger = L.pytorch.loggers.CSVLogger(tmp_path)
    run = trainer(tmp_path, max_epochs=3, callbacks=callbacks, logger=logger)
    run.fit(GNN(6, 3), GraphNodes(SOURCE))
    records = {record.diagnostic: record for record in read_records(logger.log_dir)}
    assert records["hessian"].scalars["hessian/converged"] == 1
    assert records["landscape"].scalars["landscape/num_nonfinite"] == 0
    assert records["regime"].scalars["regime/reference_loss"] == pytest.approx(math.log(3), rel=1e-6)
    assert records["regime"].scalars["regime/test_error"] == pytest.approx(
        run.callback_metrics["val/error"].item(), abs=1e-6
    )


def test_a_checkpoint_makes_the_module_again(tmp_path):
    torch.manual_seed(0)
    model = GNN(6, 3, convolution="GAT", convolution_options={"heads": 2}, hidden_features=8)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(model, GraphNodes(SOURCE))
    run.save_checkpoint(tmp_path / "last.ckpt")
    loaded = GNN.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    batch = graph()
    assert torch.equal(loaded.eval()(batch.x, batch.edge_index), model.eval()(batch.x, batch.edge_index))


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(ValueError, match="num_classes"):
        GNN(6, 1)
    with pytest.raises(ValueError, match="no_such"):
        GNN(6, 3, convolution="no_such")
    with pytest.raises(ValueError, match="heads"):
        GNN(6, 3, convolution="GAT", convolution_options={"heads": 3})
    for options in ({"num_layers": 0}, {"hidden_features": 0}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            GNN(6, 3, **options)
    with pytest.raises(ValueError, match="`num_features` is 6"):
        trainer(tmp_path, max_epochs=1).fit(GNN(7, 3), GraphNodes(SOURCE))
    with pytest.raises(ValueError, match="`num_classes` is at least 3"):
        trainer(tmp_path, max_epochs=1).fit(GNN(6, 2), GraphNodes(SOURCE))
    batch = graph()
    with pytest.raises(ValueError, match="no edge weights"):
        GNN(6, 3, convolution="GAT")(batch.x, batch.edge_index, torch.ones(batch.edge_index.shape[1]))
    del batch.train_mask
    with pytest.raises(ValueError, match="train_mask"):
        GNN(6, 3).diagnostic_loss(batch)
