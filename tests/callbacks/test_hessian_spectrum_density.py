import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes import LossProbe
from lightning_regimes.callbacks import HessianSpectrum
from lightning_regimes.callbacks.density_measurement import draw_density_map
from lightning_regimes.curvature import HessianOperator
from lightning_regimes.modules import PINN
from lightning_regimes.networks import MLP
from lightning_regimes.pde import Convection
from lightning_regimes.recording import read_records
from lightning_regimes.signed_log_density import signed_log_density


class TwoTerms(L.LightningModule):
    """A fit and a penalty, as terms and as their sum."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))

    def loss_components(self, batch):
        x, y = batch
        output = self.net(x)
        return {"fit": F.mse_loss(output, y), "smooth": 0.1 * output.square().square().mean()}

    def training_step(self, batch, batch_idx):
        return sum(self.loss_components(batch).values())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 4, generator=generator)
    return TensorDataset(x, x[:, :1] * x[:, 1:2])


def fit(tmp_path, callback, *, module=None, max_steps=4):
    torch.manual_seed(0)
    module = module or TwoTerms()
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        max_steps=max_steps,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(module, DataLoader(data(), batch_size=32))
    (path,) = tmp_path.rglob("records.jsonl")
    return read_records(path.parent.parent), module


def dense(module, loss=None):
    """All eigenvalues at the module's weights, from the full matrix in float64."""
    probe = LossProbe(module, [list(data()[:])], loss=loss, dtype=torch.float64)
    operator = HessianOperator(probe)
    return torch.linalg.eigvalsh(operator @ torch.eye(probe.num_parameters, dtype=torch.float64)).numpy()


def distance(nodes, weights, eigenvalues):
    """L1 distance of the densities that a quadrature and the true eigenvalues give on the same ruler."""
    estimate = signed_log_density(nodes, weights, positions=2000)
    truth = signed_log_density(
        eigenvalues[None],
        np.full((1, len(eigenvalues)), 1 / len(eigenvalues)),
        threshold=estimate.threshold,
        width=estimate.width,
        positions=estimate.positions,
    )
    return np.trapezoid(np.abs(estimate.density - truth.density), estimate.positions)


def test_the_recorded_density_is_that_of_the_dense_hessian(tmp_path):
    callback = HessianSpectrum(2, at_end=True, overhead_budget=0, double_precision=True, density_vectors=100)
    callback.density_steps = 37  # as many as parameters: then only the choice of starts is random
    records, module = fit(tmp_path, callback)
    (record,) = records
    eigenvalues = dense(module)
    nodes, weights = (record.arrays[f"hessian/density_{part}"] for part in ("nodes", "weights"))
    assert distance(nodes, weights, eigenvalues) < 0.08
    assert nodes.max() == pytest.approx(eigenvalues.max(), rel=1e-8)
    assert nodes.min() == pytest.approx(eigenvalues.min(), rel=1e-8)
    density, error = record.arrays["hessian/density"], record.arrays["hessian/density_standard_error"]
    shown = signed_log_density(nodes, weights)
    np.testing.assert_array_equal(record.arrays["hessian/density_grid"], shown.grid)
    np.testing.assert_array_equal(density, shown.density)
    np.testing.assert_array_equal(error, shown.standard_error)
    assert record.context["density_threshold"] == pytest.approx(1e-3 * np.abs(nodes).max())


def test_the_density_is_paid_for_in_the_count_of_products_and_in_the_prediction(tmp_path):
    plain, dense_too = (
        HessianSpectrum(2, at_end=True, overhead_budget=0, num_trace_samples=0, **options)
        for options in ({}, {"density_vectors": 3, "density_steps": 5})
    )
    assert dense_too.expected_units() == plain.expected_units() + 15
    (without,), _ = fit(tmp_path / "without", plain)
    (with_density,), _ = fit(tmp_path / "with", dense_too)
    assert with_density.scalars["hessian/num_matvecs"] == without.scalars["hessian/num_matvecs"] + 15
    assert with_density.context["density_num_matvecs"] == 15
    assert not [key for key in without.arrays if "density" in key]


def test_each_term_has_the_spectrum_of_its_own_hessian(tmp_path):
    callback = HessianSpectrum(
        2,
        at_end=True,
        overhead_budget=0,
        double_precision=True,
        num_trace_samples=0,
        density_vectors=100,
        density_steps=37,
        component_densities=True,
    )
    (record,), module = fit(tmp_path, callback)
    assert record.context["components"] == ["fit", "smooth"]
    nodes, weights = (record.arrays[f"hessian/component_density_{part}"] for part in ("nodes", "weights"))
    table = {row[0]: row for row in record.tables["hessian/components"].rows}
    for index, name in enumerate(("fit", "smooth")):

        def loss(module, batch, name=name):
            return module.loss_components(batch)[name]

        eigenvalues = dense(module, loss)
        assert distance(nodes[index], weights[index], eigenvalues) < 0.08
        assert record.scalars[f"hessian/lambda_1_of_{name}"] == pytest.approx(eigenvalues.max(), rel=1e-8)
        error = record.scalars[f"hessian/trace_standard_error_of_{name}"]
        assert 0 < abs(record.scalars[f"hessian/trace_of_{name}"] - eigenvalues.sum()) < 4 * error
        assert table[name][5] == error < 0.2 * eigenvalues.sum()
        assert table[name][1] == pytest.approx(loss(module, data()[:]).item(), rel=1e-5)
        assert table[name][3] == pytest.approx(eigenvalues.min(), rel=1e-6)
    grid = record.arrays["hessian/component_density_grid"]
    assert record.arrays["hessian/component_density"].shape == (2, *grid.shape)
    assert record.scalars["hessian/num_matvecs"] >= 3 * 100 * 37 * 0.5


def test_the_terms_of_a_pinn_sum_to_its_curvature():
    torch.manual_seed(0)
    module = PINN(Convection(beta=1.0), MLP(2, 1, hidden_sizes=[5])).double()
    points = {name: torch.rand(20, 2, dtype=torch.float64) for name in module.terms.names}
    components = module.loss_components(points)
    assert [*components] == ["interior", "initial", "periodic"]
    assert sum(components.values()).item() == pytest.approx(module.diagnostic_loss(points).item(), rel=1e-12)
    probe = LossProbe(module, [points])
    vector = torch.randn(probe.num_parameters, dtype=torch.float64)
    total = torch.zeros_like(vector)
    for name in components:
        of_term = probe.with_loss(lambda owner, batch, name=name: owner.loss_components(batch)[name])
        total += HessianOperator(of_term) @ vector
    torch.testing.assert_close(total, HessianOperator(probe) @ vector, rtol=1e-10, atol=1e-12)


def test_a_module_without_terms_is_refused_before_training(tmp_path):
    class Whole(TwoTerms):
        loss_components = None

        def training_step(self, batch, batch_idx):
            return F.mse_loss(self.net(batch[0]), batch[1])

    with pytest.raises(ValueError, match=r"loss_components\(batch\)` of Whole"):
        fit(tmp_path, HessianSpectrum(2, density_vectors=2, component_densities=True), module=Whole())


@pytest.mark.parametrize(
    "options",
    [{"density_vectors": 1}, {"density_vectors": -1}, {"density_steps": 1}, {"component_densities": True}],
)
def test_unusable_options_are_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
        HessianSpectrum(**options)


def test_the_history_of_densities_travels_in_checkpoints_and_stays_small(tmp_path):
    callback = HessianSpectrum(2, every_n_steps=1, num_trace_samples=0, density_vectors=2, density_steps=4)
    fit(tmp_path, callback, max_steps=70)
    entries = callback.state_dict()["density_history"]
    assert len(entries) <= 64
    assert (entries[0][0], entries[-1][0]) == (1, 70)
    restored = HessianSpectrum(2, density_vectors=2, density_steps=4)
    restored.load_state_dict(callback.state_dict())
    assert [step for step, _, _ in restored._density_history.entries] == [step for step, _, _ in entries]
    axes = draw_density_map(entries).axes[0]
    assert axes.get_xlabel() == "optimizer step"
